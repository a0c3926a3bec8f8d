"""Decode steps, GPU gaps and their causes: joins what was read into what the analyses want."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nsys2perfetto import cause_inputs
from nsys2perfetto.analysis import (
    causes,
    gaps,
    kernel_families,
    nvtx_projection,
    step_measure,
    steps,
)
from nsys2perfetto.analysis.activities import Activity
from nsys2perfetto.analysis.causes import Causes
from nsys2perfetto.analysis.columns import spread, width_of
from nsys2perfetto.analysis.gaps import IdleGaps
from nsys2perfetto.analysis.intervals import Intervals, union
from nsys2perfetto.analysis.markers import KernelNames, step_ranges
from nsys2perfetto.analysis.nesting import nesting_order, one_axis
from nsys2perfetto.analysis.step_measure import Measures, Timed
from nsys2perfetto.analysis.step_tables import all_rows_of
from nsys2perfetto.analysis.steps import PHASES, Copies, Found, Kernels, Ranges, Replays, Request
from nsys2perfetto.nsys import nvtx as nsys_nvtx
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.reading import Reading
from nsys2perfetto.result import StepPart
from nsys2perfetto.tracks import gpu_table
from nsys2perfetto.tracks.cuda_api import Calls, Operations
from nsys2perfetto.tracks.gap_slices import ShownGaps
from nsys2perfetto.tracks.gpu_counters import CounterBlock
from nsys2perfetto.tracks.gpu_sequence import GpuSequence
from nsys2perfetto.tracks.gpu_table import GpuTable
from nsys2perfetto.tracks.nvtx import Nvtx, launches_of
from nsys2perfetto.tracks.thread_pools import Pools

I64 = npt.NDArray[np.int64]

_SHAPE = ["gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ"]
MIN_GAP = 1_000
LEAN_MIN_GAP = 10_000
"""Shortest idle gaps that have a slice unless the user says otherwise, ns; of lean traces."""


@dataclass(frozen=True)
class AnnotationOptions:
    """What to add to the trace beside what nsys recorded.

    Attributes:
        steps: Where decode steps come from: rule, patterns, warm-up.
        min_gap: Idle gaps shorter than this have no slice, ns; they count in all sums.
        gaps: Whether to show idle gaps.
        counters: Whether to compute counters (utilization, kernels in flight, ...).
        window: Width of the counters' windows, ns; None to choose by the steps.
    """

    steps: Request = field(default_factory=Request)
    min_gap: int = MIN_GAP
    gaps: bool = True
    counters: bool = True
    window: int | None = None


class Annotations:
    """Steps, gaps and causes of a capture; each is computed when it is first asked for."""

    part: StepPart | None = None
    """The steps that the trace is limited to, see `step_range`."""
    counters: list[CounterBlock] | None = None
    """Counters of the GPUs, where they were computed before."""

    def __init__(
        self,
        reading: Reading,
        gpu: GpuSequence,
        operations: Operations,
        calls: Calls,
        ranges: Nvtx,
        pools: Pools,
        options: AnnotationOptions,
    ) -> None:
        self.options = options
        self.table: GpuTable = gpu_table.of(gpu.families, operations, gpu.names, pools.texts)
        self.operations, self.calls = operations, calls
        self._reading = reading
        self._gpu = gpu
        self._ranges = ranges
        self._shown_gaps: dict[bool, ShownGaps] = {}

    # Steps

    @cached_property
    def steps(self) -> Found:
        """The decode steps of every process on every GPU, and how they were found."""
        table, o = self.table, self.operations
        if not len(o.start):
            nothing = Request(steps.NONE)
            return steps.find_steps(self._kernels(), o.start, o.start, nothing)
        return steps.find_steps(
            self._kernels(),
            table.unit,
            o.start,
            self.options.steps,
            ranges=self._step_ranges(),
            replays=self._replays(),
            copies=self._copies_to_host(),
        )

    @property
    def several_runs(self) -> bool:
        """Whether the capture has several runs."""
        return int(self.steps.steps.run.max(initial=0)) > 1

    @cached_property
    def measures(self) -> Measures:
        """What happened in each step."""
        o, table = self.operations, self.table
        copies = np.flatnonzero(table.copy_kind >= 0)
        events, process = self.calls.events, self._call_process

        def of_calls(rows: I64) -> Timed:
            return Timed(process[rows], events.start[rows], events.end[rows])

        return step_measure.measure(
            self.steps.steps,
            self.kernels,
            self.busy_by_unit,
            copies=Timed(table.unit[copies], o.start[copies], o.end[copies]),
            copy_bytes=table.size[copies],
            process=np.array([u.process for u in table.units], np.int64),
            launches=of_calls(np.flatnonzero(self.calls.submissions.count > 0)),
            synchronisations=of_calls(self._outermost(Activity.SYNC)),
            allocations=of_calls(self._outermost(Activity.MEMORY)),
            step_of_kernel=self.step_of_kernel,
        )

    @cached_property
    def busy_by_unit(self) -> Intervals:
        """When each process did anything on each GPU."""
        return union(self.table.unit, self.operations.start, self.operations.end)

    @cached_property
    def busy_by_gpu(self) -> Intervals:
        """When each GPU did anything."""
        units = self.table.units
        if len({u.gpu for u in units}) == len(units):
            # Each GPU has one process only.
            busy = self.busy_by_unit
            gpus = np.array([u.gpu for u in units], np.int64)
            return Intervals(gpus[busy.track], busy.start, busy.end)
        return union(self.table.gpu, self.operations.start, self.operations.end)

    @cached_property
    def kernels(self) -> Timed:
        """All kernels, by unit."""
        rows = self.table.rows("kernel")
        return Timed(self.table.unit[rows], self.operations.start[rows], self.operations.end[rows])

    @cached_property
    def step_of_kernel(self) -> I64:
        """Row of the step to which each kernel belongs, -1 for none."""
        return step_measure.assign(self.steps.steps, self.kernels)

    @cached_property
    def kernel_families(self) -> tuple[npt.NDArray[np.int16], list[str]]:
        """Number of each kernel's family, and the families' names."""
        events, strings = self._reading.work["kernel"], self._reading.strings
        short, demangled = (
            strings.look_up(events.config[c]) for c in ("shortName", "demangledName")
        )
        families = kernel_families.classify(short, demangled)
        names = sorted(set(families))
        number = np.searchsorted(names, families).astype(np.int16)
        return number[events.code], names

    def _kernels(self) -> Kernels:
        rows = self.table.rows("kernel")
        events = self._reading.work["kernel"]
        strings, config = self._reading.strings, events.config
        names = KernelNames(
            strings.look_up(config["shortName"]),
            strings.look_up(config["demangledName"]),
            strings.look_up(config["mangledName"]),
            config.select(_SHAPE),
        )
        return Kernels(
            self.table.unit[rows],
            self.operations.start[rows],
            self.operations.end[rows],
            events.code,
            names,
        )

    def _step_ranges(self) -> Ranges | None:
        """NVTX ranges that may stand for steps, projected onto each unit of their process."""
        if self.options.steps.rule not in (steps.AUTO, steps.NVTX) or not len(self._ranges.events):
            return None
        events, names = self._ranges.events, self._ranges.names
        single = self._ranges.on_one_thread & np.isin(self._ranges.type, nsys_nvtx.RANGES)
        rows = np.flatnonzero(step_ranges(names, self.options.steps.patterns)[events.code] & single)
        parts = []
        thread = self._ranges.thread[rows]
        units = self.table.units
        ranges = all_rows_of(thread & PROCESS_MASK, np.array([u.process for u in units], np.int64))
        work = all_rows_of(self.table.unit, np.arange(len(units)))
        for number, (mine, own) in enumerate(zip(ranges, work, strict=True)):
            if not len(mine):
                continue
            launches = launches_of(self.calls, self.operations, own)
            if not len(launches.start):
                continue
            found = nvtx_projection.project(
                thread[mine], events.start[rows[mine]], events.end[rows[mine]], launches
            )
            parts.append((np.full(len(mine), number), mine, found))
        if not parts:
            return None
        mine = np.concatenate([m for _, m, _ in parts])
        return Ranges(
            unit=np.concatenate([u for u, _, _ in parts]),
            thread=thread[mine],
            name=events.code[rows[mine]],
            start=events.start[rows[mine]],
            end=events.end[rows[mine]],
            gpu_start=np.concatenate([f.start for _, _, f in parts]),
            gpu_end=np.concatenate([f.end for _, _, f in parts]),
            operations=np.concatenate([f.op_count for _, _, f in parts]),
            names=names,
        )

    def _replays(self) -> Replays | None:
        """Launches of CUDA graphs: by their nodes, or traced as a whole."""
        table, o = self.table, self.operations
        whole = table.rows("graph")
        if whole.stop > whole.start:
            return Replays(
                table.unit[whole],
                self._number_graphs(table.graph[whole]),
                o.start[whole],
                o.end[whole],
                np.ones(whole.stop - whole.start, np.bool_),
            )
        nodes = np.flatnonzero(table.graph_node & (o.key >= 0))
        if not len(nodes):
            return None
        return steps.replays_of(
            table.unit[nodes],
            o.key[nodes],
            self._number_graphs(table.graph[nodes]),
            o.start[nodes],
            o.end[nodes],
        )

    def _number_graphs(self, graph: I64) -> I64:
        """Small numbers for graphs; `_graph_ids` leads back."""
        self._graph_ids, number = np.unique(graph, return_inverse=True)
        return number.astype(np.int64)

    def _copies_to_host(self) -> Copies:
        table, o = self.table, self.operations
        rows = np.flatnonzero(table.copy_kind == gpu_table.DEVICE_TO_HOST)
        return steps.Copies(table.unit[rows], o.start[rows], o.end[rows], table.size[rows])

    # Gaps

    @cached_property
    def gaps(self) -> IdleGaps:
        """Times in which a GPU did nothing for any process."""
        submitted = self._submitted
        return gaps.idle(self.table.gpu, self.operations.start, self.operations.end, submitted)

    @cached_property
    def process_gaps(self) -> IdleGaps:
        """Times in which a GPU that several processes share did nothing for one of them.

        The tracks are rows of `table.units`.
        """
        o = self.operations
        gpus = Counter(u.gpu for u in self.table.units)
        shared = np.array([gpus[u.gpu] > 1 for u in self.table.units], np.bool_)
        rows = np.flatnonzero(shared[self.table.unit]) if gpus else np.empty(0, np.int64)
        found = gaps.idle(self.table.unit[rows], o.start[rows], o.end[rows], self._submitted[rows])
        return IdleGaps(found.track, found.start, found.end, rows[found.previous], rows[found.next])

    def causes_of(self, found: IdleGaps) -> Causes:
        """Why each gap is there."""
        o, events = self.operations, self.calls.events
        work = causes.GpuWork(
            self.calls.submitting_call,
            o.key,
            self.table.graph_node,
            o.stream,
            o.start,
            self.table.unit,  # overheads name threads, so the process is not asked for
        )
        threads = events.config["globalTid"].to_numpy()
        thread = spread(threads, events.code)
        host = causes.HostCalls(thread, events.start, events.end, self.activity)
        waits = cause_inputs.stream_waits(self._reading.waits, self.calls, self.operations)
        return causes.find(found, work, host, waits, cause_inputs.overheads(self._reading))

    def shown_gaps(self, of_processes: bool = False) -> ShownGaps:
        """The gaps of GPUs, or of processes, that have a slice."""
        if of_processes not in self._shown_gaps:
            gaps = self.process_gaps if of_processes else self.gaps
            # The short ones, often half of them, need no verdict either.
            gaps = gaps.take(np.flatnonzero(gaps.gap >= self.options.min_gap))
            found = ShownGaps(gaps, self.causes_of(gaps), self.steps.steps, self.steps_of(gaps))
            self._shown_gaps[of_processes] = found
        return self._shown_gaps[of_processes]

    def steps_of(self, idle: IdleGaps) -> I64:
        """Row of the step in which each gap begins, of the process whose work ended the gap."""
        found = self.steps.steps
        answer = np.full(len(idle), -1, width_of(len(found)))
        if not len(found):
            return answer
        unit = self.table.unit[idle.next]
        numbers = np.unique(found.unit)
        of_steps = all_rows_of(found.unit, numbers)
        for rows, mine in zip(of_steps, all_rows_of(unit, numbers), strict=True):
            place = np.searchsorted(found.t0[rows], idle.start[mine], side="right") - 1
            inside = (place >= 0) & (idle.start[mine] < found.t1[rows[np.maximum(place, 0)]])
            answer[mine[inside]] = rows[place[inside]]
        return answer

    @cached_property
    def activity(self) -> npt.NDArray[np.int8]:
        """What each CUDA call is: `causes.Activity`."""
        return causes.categories(self.calls.name.to_list())[self.calls.events.code]

    def _outermost(self, activity: Activity) -> I64:
        """Rows of the calls of a kind that lie in no other of that kind on their thread.

        A runtime call often contains the driver call that does its work.
        """
        events = self.calls.events
        rows = np.flatnonzero(self.activity == activity)
        if not len(rows):
            return rows
        thread = np.asarray(events.config["globalTid"].to_numpy()[events.code[rows]], np.int64)
        order = nesting_order(thread, events.start[rows], events.end[rows])
        rows, thread = rows[order], thread[order]
        rank = np.cumsum(np.append(False, thread[1:] != thread[:-1])).astype(np.int64)
        begin, finish = one_axis(rank, events.start[rows], events.end[rows])
        reach = np.maximum.accumulate(np.append(np.int64(-1), finish))[:-1]
        return rows[begin >= reach]

    @cached_property
    def _call_process(self) -> I64:
        events = self.calls.events
        threads = events.config["globalTid"].to_numpy() & PROCESS_MASK
        return spread(threads, events.code)

    @cached_property
    def _submitted(self) -> I64:
        """When each operation was submitted; its own start where that is not known."""
        call = self.calls.submitting_call
        when = self.operations.start.copy()
        known = call >= 0
        when[known] = self.calls.events.start[call[known]]
        return when

    def choices(self) -> list[str]:
        """Where the steps of each process on each GPU come from, and doubts about them.

        Processes without steps are not listed beside others; where none has any, one says why.
        """
        chosen = self.steps.choices
        with_steps = [c for c in chosen if c.steps]
        if not with_steps:
            return list(dict.fromkeys(w for c in chosen for w in c.warnings))
        several = len(self.table.units) > 1
        lines = []
        for choice in with_steps:
            unit = self.table.units[choice.unit]
            where = f"process {unit.process >> 24 & 0xFFFFFF} on GPU {unit.gpu}: " * several
            found = self.steps.steps
            count = np.bincount(found.phase[found.unit == choice.unit], minlength=len(PHASES))
            marker = choice.marker
            if choice.rule == steps.GRAPH:
                # The rule knows graphs by their rank; exports before 3.24 do not tell them apart.
                rank = int(marker.rsplit(" ", 1)[1])
                number = int(self._graph_ids[rank])
                marker = f"replays of CUDA graph {number or '(its number is not in the export)'}"
            phases = ", ".join(f"{n:,} {p}" for p, n in zip(PHASES, count, strict=True) if n)
            lines.append(
                f"{where}{choice.steps:,} decode steps, from {choice.count:,} {marker} ({phases})"
            )
            lines += [where + warning for warning in choice.warnings]
        return lines
