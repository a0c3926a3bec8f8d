"""`--steps A..B`: the part of a capture that overlaps some decode steps.

Everything is found on the whole capture (steps with their numbers and phases, gaps with their
causes, counters, what calls waited for) and then cut: what the trace says of these steps is what a
trace of the whole capture says of them. With the operations go the calls that launched them, which
may lie before, and the NVTX ranges around these calls.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nsys2perfetto import annotation_tracks, model
from nsys2perfetto.analysis import nvtx_projection, steps
from nsys2perfetto.analysis.causes import Causes
from nsys2perfetto.analysis.gaps import IdleGaps
from nsys2perfetto.analysis.step_measure import Measures
from nsys2perfetto.analysis.steps import Found, Steps
from nsys2perfetto.annotation import AnnotationOptions, Annotations
from nsys2perfetto.errors import UsageError
from nsys2perfetto.model import Model
from nsys2perfetto.nsys import nvtx
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.reading import Progress, Reading
from nsys2perfetto.result import StepPart
from nsys2perfetto.tracks import wake_ups
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.gap_slices import ShownGaps
from nsys2perfetto.tracks.gpu_counters import CounterBlock
from nsys2perfetto.tracks.nvtx import launches_of
from nsys2perfetto.tracks.wake_ups import Waits

I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Numbers = tuple[int | None, int | None]
"""First and last number of steps; None for no bound."""

_WORK = ("kernel", "memcpy", "memset", "graph")
_JOINED = (*_WORK, "cuda_api", "cuda_wait", "nvtx")
_NEEDED = {*_JOINED, "overhead"}
"""What steps, gaps and their causes are found from; of these, only steps from NVTX ranges."""


def read(
    capture: Capture,
    selection: Selection,
    families: Collection[str],
    annotate: AnnotationOptions,
    progress: Progress,
    detail: Detail = FULL,
    numbers: Numbers = (None, None),
) -> Model:
    """Reads the part of a capture that overlaps some decode steps; see `model.read`.

    Args:
        capture: The open capture.
        selection: Processes; no time range.
        families: The families of events to keep. The steps do not depend on them.
        annotate: Where decode steps come from.
        progress: Called between the steps.
        detail: How much a trace will say of each operation.
        numbers: Of the first and the last step, `decode_step.number`.

    Raises:
        CaptureError: The capture cannot be read.
        UsageError: There are no such steps.
    """
    if annotate.steps.rule == steps.NONE:
        raise UsageError("a range of steps needs decode steps: do not switch them off")
    reading = Reading(capture, selection, _NEEDED, progress)
    # Joining uses the correlation ids up.
    events = {**reading.work, "cuda_api": reading.calls, "nvtx": reading.ranges}
    unjoined = {family: replace(e, values=dict(e.values)) for family, e in events.items()}
    unjoined["cuda_wait"] = reading.waits
    progress("finding decode steps", 3, 4)
    whole = model.join(reading, selection, annotate)
    part = _find(whole, numbers)
    taken = _Taken.of(whole, part)
    known = {
        family: unjoined[family].only(mask)
        for family, mask in taken.masks(whole, part).items()
        if family in families
    }
    inside = replace(selection, start=part.start, end=part.end)
    reading = Reading(capture, inside, families, lambda *_: None, known)
    result = model.join(reading, inside, annotate, detail)
    found = result.annotations
    cut = _PartAnnotations(
        result.reading, result.gpu, found.operations, found.calls, result.ranges, result.pools,
        annotate,
    )  # fmt: skip
    cut.table, cut.part = found.table, part
    of_all = set(families) >= _NEEDED - {"nvtx"}
    cut.keep(whole, taken, of_all)
    waits = _waits(whole, taken) if of_all else None
    return replace(result, annotations=cut, known_waits=waits)


def _find(whole: Model, numbers: Numbers) -> StepPart:
    """The steps of these numbers, of all processes and GPUs."""
    found = whole.annotations.steps.steps
    low, high = numbers
    first = 1 if low is None else low
    rows = np.flatnonzero((found.number >= first) & (found.number <= (high or found.number)))
    if len(rows):
        number = found.number[rows]
        return StepPart(
            int(number.min()),
            int(number.max()),
            int(found.t0[rows].min()),
            int(found.t1[rows].max()),
        )
    if not len(found):
        why = "; ".join(whole.annotations.choices())
        raise UsageError(f"there are no decode steps in this capture: {why or 'no GPU work'}")
    last = int(found.number.max())
    wanted = (
        f"{first:,}" if high == first else f"{first:,} to {high:,}" if high else f"{first:,} on"
    )
    raise UsageError(
        f"there are no decode steps {wanted}: this capture has {last:,}, numbered from 1 on"
    )


@dataclass(frozen=True)
class _Taken:
    """Which rows of the whole capture are in the part.

    Attributes:
        steps: Rows of the steps that are shown.
        operations, calls, waits: Of each operation, call and wait.
    """

    steps: I64
    operations: Bools
    calls: Bools
    waits: Bools

    @classmethod
    def of(cls, whole: Model, part: StepPart) -> _Taken:
        """What overlaps the part, the calls that launched it, and what these waited for."""
        found, o, calls = whole.annotations.steps.steps, whole.operations, whole.calls
        shown = (found.number >= part.first) & (found.number <= part.last)
        operations = _overlaps(o.start, o.end, part)
        taken = _overlaps(calls.events.start, calls.events.end, part)
        launching = calls.submitting_call[operations]
        taken[launching[launching >= 0]] = True
        waits = whole.reading.waits
        kept = _overlaps(waits.start, waits.end, part)
        if len(waits):
            call = wake_ups.calls_of(waits, calls, o)
            kept = np.where(call >= 0, taken[np.maximum(call, 0)] if len(taken) else kept, kept)
        return cls(np.flatnonzero(shown), operations, taken, kept)

    def masks(self, whole: Model, part: StepPart) -> dict[str, Bools]:
        """The events to keep, by family."""
        rows = {f: whole.annotations.table.rows(f) for f in _WORK}
        masks = {family: self.operations[rows[family]] for family in _WORK}
        ranges = whole.ranges
        taken = _overlaps(ranges.events.start, ranges.events.end, part)
        outside = np.flatnonzero(~taken & np.isin(ranges.type, nvtx.RANGES) & ranges.on_one_thread)
        launches = launches_of(whole.calls, whole.operations, np.flatnonzero(self.operations))
        if len(outside) and len(launches.start):
            projected = nvtx_projection.project(
                ranges.thread[outside],
                ranges.events.start[outside],
                ranges.events.end[outside],
                launches,
            )
            taken[outside] = projected.op_count > 0
        return masks | {"cuda_api": self.calls, "cuda_wait": self.waits, "nvtx": taken}


def _overlaps(start: I64, end: I64, part: StepPart) -> Bools:
    return np.asarray((end >= part.start) & (start <= part.end), np.bool_)


def _renumbered(mask: Bools, rows: I64) -> I64:
    """Rows in the part, for rows of the whole capture; -1 stays, and stands for what is outside."""
    place = np.append(np.where(mask, np.cumsum(mask) - 1, -1), -1)
    return place[rows]


def _waits(whole: Model, taken: _Taken) -> Waits:
    """What the calls of the part waited for, in its rows."""
    found = whole.find_waits()
    mine = np.flatnonzero(taken.calls[found.call])
    orphans = found.orphans[taken.waits[found.orphans]]
    return Waits(
        _renumbered(taken.calls, found.call[mine]),
        _renumbered(taken.waits, orphans),
        found.kind.gather(mine),
        found.stream[mine],
        found.event[mine],
        _renumbered(taken.operations, found.awaited[mine]),
    )


class _PartAnnotations(Annotations):
    """What was found on the whole capture, as far as it is in the part, in the part's rows."""

    def keep(self, whole: Model, taken: _Taken, of_all: bool) -> None:
        """Takes over what was found.

        Args:
            whole: The whole capture.
            taken: What of it is in the part.
            of_all: Whether the part has all that gaps and counters are computed from. If not, they
                are computed from what it has, as in any other trace.
        """
        found, part = whole.annotations, self.part
        assert part is not None
        unit = {u: i for i, u in enumerate(self.table.units)}
        units = np.array([unit.get(u, -1) for u in found.table.units], np.int64)
        rows = taken.steps[units[found.steps.steps.unit[taken.steps]] >= 0]
        picked = _pick(found.steps.steps, rows)
        self._steps = replace(picked, unit=units[picked.unit], closer=np.full(len(rows), -1))
        self._measures = _pick(found.measures, rows)
        self._choices = found.choices()
        self._several_runs = found.several_runs
        self._gaps: dict[bool, ShownGaps] = {}
        if of_all and self.options.gaps:
            for of_processes in (False, True):
                shown = found.shown_gaps(of_processes)
                self._gaps[of_processes] = _cut_gaps(shown, taken, part, units, of_processes)
        if of_all and self.options.counters and len(found.operations.start):
            blocks = annotation_tracks.counters(found)
            self.counters = [cut for b in blocks if len(cut := _cut_counters(b, part))]

    @cached_property
    def steps(self) -> Found:
        """The steps that are shown."""
        return Found(self._steps, [])

    @property
    def several_runs(self) -> bool:
        """Whether the whole capture has several runs."""
        return self._several_runs

    @cached_property
    def measures(self) -> Measures:
        """What happened in them."""
        return self._measures

    @cached_property
    def gaps(self) -> IdleGaps:
        """Gaps of GPUs."""
        return self._gaps[False].gaps if self._gaps else super().gaps

    @cached_property
    def process_gaps(self) -> IdleGaps:
        """Gaps of processes."""
        return self._gaps[True].gaps if self._gaps else super().process_gaps

    def shown_gaps(self, of_processes: bool = False) -> ShownGaps:
        """The gaps that have a slice."""
        return self._gaps[of_processes] if self._gaps else super().shown_gaps(of_processes)

    def choices(self) -> list[str]:
        """Where the steps of the whole capture come from."""
        return self._choices


Row = TypeVar("Row", Steps, Measures, Causes)


def _pick(table: Row, rows: I64) -> Row:
    """Some of the steps, or causes of some of the gaps."""
    return replace(table, **{f.name: getattr(table, f.name)[..., rows] for f in fields(table)})


def _cut_gaps(
    shown: ShownGaps, taken: _Taken, part: StepPart, units: I64, of_processes: bool
) -> ShownGaps:
    """The gaps that begin in the part and whose operations before and after are in it."""
    gaps, inside = shown.gaps, taken.operations
    rows = np.flatnonzero(
        (gaps.start >= part.start)
        & (gaps.start < part.end)
        & inside[gaps.previous]
        & inside[gaps.next]
    )
    gaps = gaps.take(rows)
    return ShownGaps(
        IdleGaps(
            units[gaps.track] if of_processes else gaps.track,
            gaps.start,
            gaps.end,
            _renumbered(inside, gaps.previous),
            _renumbered(inside, gaps.next),
        ),
        _pick(shown.causes, rows),
        shown.steps,
        shown.step_of_gap[rows],
    )


def _cut_counters(block: CounterBlock, part: StepPart) -> CounterBlock:
    """The windows that overlap the part."""
    begin = np.append(np.int64(block.start), block.time[:-1])
    mine = np.flatnonzero((block.time > part.start) & (begin < part.end))
    start = int(begin[mine[0]]) if len(mine) else block.start
    values = [column[mine] for column in block.values]
    return CounterBlock(block.gpu, block.specs, block.time[mine], values, start)
