"""The progress bar: on a terminal only, and only for what takes a while."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from nsys2perfetto.cli.text import fit

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PATIENCE = 0.4
"""Seconds of reading before a bar appears: small captures are done by then, without rich."""


class Progress:
    """Shows how far a conversion is, and takes the time of its stages.

    Args:
        title: The capture.
        visible: Whether there is a terminal that wants a bar.

    Use it as a context manager and pass it as the `progress` of `convert`.
    """

    def __init__(self, title: str, visible: bool) -> None:
        self.seconds: dict[str, float] = {}
        """Stage to seconds, in order; the last is the whole."""
        self._title = fit(title, 20)
        self._visible = visible
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._stage = "starting"

    def __enter__(self) -> Progress:
        self._began = self._stage_began = time.perf_counter()
        self._first_call = 0.0
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Called by `convert`: what is being done, and how much of how much is done."""
        now = time.perf_counter()
        if stage != self._stage:
            self._finish_stage(now)
            self._stage = stage
        self._first_call = self._first_call or now
        if self._visible and (self._bar or now - self._first_call >= PATIENCE):
            self._show(stage, done, total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        now = time.perf_counter()
        self._finish_stage(now)
        self.seconds["in all"] = now - self._began
        if self._bar:
            self._bar.stop()

    def _finish_stage(self, now: float) -> None:
        spent = now - self._stage_began
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + spent
        self._stage_began = now

    def _show(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            self._start()
        assert self._bar is not None and self._task is not None
        self._bar.update(self._task, description=stage, completed=done, total=total or None)

    def _start(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - a tenth of a second, only for a bar
        from rich.markup import escape  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._bar = Progress(
            TextColumn(escape(self._title)),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._bar.start()
