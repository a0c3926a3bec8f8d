"""Everything that a conversion reads, as columns, with a count of what was taken and left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from nsys2perfetto.families import FAMILIES
from nsys2perfetto.nsys import (
    cpu_samples,
    cuda_calls,
    gpu_memory,
    gpu_metrics,
    gpu_work,
    gpus,
    metadata,
    nvtx,
    processes,
)
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Events, Selection
from nsys2perfetto.nsys.gpu_metrics import Metrics
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.result import FamilyCount
from nsys2perfetto.tracks import call_tables, scheduling
from nsys2perfetto.tracks.call_tables import CallTable
from nsys2perfetto.tracks.processes import Tracks

SomeEvents = TypeVar("SomeEvents", bound=Events)
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Reading:
    """The events of a capture.

    Attributes:
        metadata, gpus, strings: Of the capture.
        work: GPU work by family.
        calls: CUDA calls.
        ranges: NVTX ranges and marks.
        waits: Waits of CUDA calls.
        scheduling: Times of threads on a CPU.
        samples: CPU samples.
        tables: The other tables of calls on threads.
        memory, memory_pools: Allocations and frees, changes of pools.
        metrics: GPU metric samples.
        counts: What was read, by family; `written` is what will be.
    """

    def __init__(
        self,
        capture: Capture,
        selection: Selection,
        families: Collection[str],
        progress: Progress,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """Reads all chosen families.

        Args:
            capture: The open capture.
            selection: Time range and processes.
            families: The families to read; of the others the rows are counted as filtered.
            progress: Called between the steps.
            known: Events of families of one table that were read and selected before.
        """
        self.capture = capture
        self._known = known or {}
        self._selection = selection
        self._chosen = families
        self._counts: dict[str, FamilyCount] = {}
        self.metadata = metadata.read(capture)
        self.gpus = gpus.read(capture)
        strings = capture.read("StringIds", {"id": "int", "value": "text"})
        self.strings = StringTable(strings["id"], strings["value"])
        progress("reading GPU work", 0, 4)
        self.work: dict[str, Events] = {
            "kernel": self._read("kernel", gpu_work.KERNEL, gpu_work.kernels),
            "memcpy": self._read("memcpy", gpu_work.MEMCPY, gpu_work.copies),
            "memset": self._read("memset", gpu_work.MEMSET, gpu_work.memory_sets),
            "graph": self._read("graph", gpu_work.GRAPH_TRACE, gpu_work.graph_launches),
        }
        progress("reading CUDA calls", 1, 4)
        self.calls = self._read("cuda_api", cuda_calls.CALLS, cuda_calls.calls)
        self.waits = self._read("cuda_wait", cuda_calls.WAITS, cuda_calls.waits, joined=True)
        progress("reading other events", 2, 4)
        self.ranges = self._read("nvtx", nvtx.TABLE, nvtx.read)
        self.tables = [(t, self._read_call_table(t)) for t in call_tables.TABLES]
        self.scheduling = self._read("sched", scheduling.TABLE, scheduling.read)
        self.samples = self._read("cpu_sample", cpu_samples.TABLE, cpu_samples.read)
        self.memory = self._read("memory", gpu_memory.USAGE, gpu_memory.usage)
        self.memory_pools = self._read("memory_pool", gpu_memory.POOLS, gpu_memory.pools)
        self.metrics = self._read_metrics()
        self.messages = [
            m for m in self.metadata.messages if "message" in families and selection.takes(m.time)
        ]
        if total := len(self.metadata.messages):
            shown = len(self.messages)
            self._count(FamilyCount("message", "DIAGNOSTIC_EVENT", shown, shown, total - shown))

    def __iter__(self) -> Iterator[Events]:
        yield from (*self.work.values(), self.calls, self.ranges, self.waits)
        yield from (self.memory, self.memory_pools, self.scheduling, self.samples)
        yield from (events for _, events in self.tables)

    @property
    def counts(self) -> list[FamilyCount]:
        """The counts in the order in which the summary lists them."""
        return [self._counts[family] for family in FAMILIES if family in self._counts]

    @property
    def span(self) -> tuple[int, int]:
        """Start of the first event and end of the last, ns; (0, 0) where there is none."""
        times = [(int(e.start.min()), int(e.end.max())) for e in self if len(e)]
        times += [self.metrics.span] if self.metrics.span else []
        return (min(s for s, _ in times), max(e for _, e in times)) if times else (0, 0)

    def orphaned(self, waits: int) -> None:
        """Counts waits whose call is not in the capture: they became slices of their own."""
        if waits:
            self._counts["cuda_wait"] = self._counts["cuda_wait"].moved_to_written(waits)

    def name_tracks(self) -> Tracks:
        """The processes and threads that have events, with their names."""
        threads: set[int] = set()
        owners: set[int] = set()
        for events in self:
            if "globalTid" in events.config.columns:
                threads.update(events.config["globalTid"].fill_null(0).unique().to_list())
            elif "globalPid" in events.config.columns:
                owners.update(events.config["globalPid"].fill_null(0).unique().to_list())
        owners.update(t & PROCESS_MASK for t in threads)
        tracks = Tracks(
            processes.process_names(self.capture, self.strings, owners),
            processes.thread_names(self.capture, self.strings, threads),
        )
        tracks.use(sorted(owners))
        return tracks

    def _read_call_table(self, table: CallTable) -> Events:
        return self._read(
            table.family,
            table.table,
            lambda capture, selection: call_tables.read(table, capture, selection),
        )

    def _read_metrics(self) -> Metrics:
        metrics = gpu_metrics.read(self.capture, self._selected("gpu_metrics"))
        if metrics.rows_read or metrics.filtered:
            self._count(
                FamilyCount(
                    "gpu_metrics",
                    metrics.table,
                    read=metrics.rows_read,
                    written=metrics.rows_shown,
                    filtered=metrics.filtered,
                    left_out=metrics.dropped,
                )
            )
        return metrics

    def _selected(self, family: str) -> Selection:
        return self._selection if family in self._chosen else Selection(nothing=True)

    def _read(
        self,
        family: str,
        table: str,
        reader: Callable[[Capture, Selection], SomeEvents],
        joined: bool = False,
    ) -> SomeEvents:
        """Reads a table if its family was chosen, and counts it."""
        events: SomeEvents | None = self._known.get(family)
        if events is None:
            events = reader(self.capture, self._selected(family))
        if events.rows_read or events.filtered:
            self._count(
                FamilyCount(
                    family,
                    table,
                    read=events.rows_read,
                    written=0 if joined else len(events),
                    filtered=events.filtered,
                    joined=len(events) if joined else events.joined,
                    left_out=events.dropped,
                    total_ns=_sum(events.end - events.start),
                )
            )
        return events

    def _count(self, new: FamilyCount) -> None:
        old = self._counts.get(new.family)
        self._counts[new.family] = new if old is None else old.plus(new)


def _sum(durations: npt.NDArray[np.int64]) -> int:
    """The sum, which of damaged events can be more than 64 bits hold."""
    if durations.sum(dtype=np.float64) < 1 << 62:
        return int(durations.sum())
    return sum(durations.tolist())
