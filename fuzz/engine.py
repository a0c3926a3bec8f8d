"""The trace processor, and what it says of a trace in a few numbers."""

from __future__ import annotations

import functools
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

from tests.engine import query
from tests.engine.locate import installed_shell
from tests.engine.wasm import TraceProcessor as WasmTraceProcessor


@functools.cache
def _shell() -> str | None:
    return installed_shell()


def opened(trace: Path) -> AbstractContextManager[TraceProcessor]:
    """Loads a trace: into an installed engine, else into the WebAssembly build."""
    config = TraceProcessorConfig(bin_path=_shell())
    if config.bin_path is None:
        return WasmTraceProcessor(trace=str(trace), config=config)
    return TraceProcessor(trace=str(trace), config=config)


Spans = Counter[tuple[int, int]]
"""(start, duration) of events, in ns, and how often each occurs."""

LEVELS = 512
"""Of slices on one track. Deeper slices of a GPU queue keep their times but lose their arrows."""


@dataclass(frozen=True)
class Seen:
    """What the engine made of a trace.

    Attributes:
        losses: What it dropped or could not read.
        gpu: The GPU slices.
        slices: The other slices, by category.
        flows: Number of arrows.
        too_deep: Whether GPU slices lie in each other on more levels than it can take.
    """

    losses: list[dict[str, Any]]
    gpu: Spans
    slices: dict[str | None, Spans]
    flows: int
    too_deep: bool


def look(trace: Path) -> Seen:
    """Loads a trace and counts what is in it."""
    with opened(trace) as tp:
        gpu = query.frame(tp, "select ts, dur, depth from gpu_slice")
        slices = query.frame(
            tp,
            "select category, ts, dur from slice where id not in (select id from gpu_slice)",
        )
        by_category: dict[str | None, Spans] = {}
        for category, ts, dur in slices.iter_rows():
            by_category.setdefault(category, Counter())[ts, dur] += 1
        return Seen(
            losses=query.losses(tp),
            gpu=Counter(gpu.select("ts", "dur").iter_rows()),
            slices=by_category,
            flows=query.scalar(tp, "select count(*) from flow"),
            too_deep=max(gpu["depth"], default=0) >= LEVELS - 1,
        )
