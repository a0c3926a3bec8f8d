"""Why a GPU was idle: what the launching thread did meanwhile, and a verdict.

The rules, their reasons and their limits are written down in ``docs/causes.md``. In short: each
idle gap ended with an operation, that operation was submitted by a call L, and L was made by a
thread T. The gap's time is divided by what T did in it, and the verdict depends on whether L began
before or after the GPU fell idle.

Times are int64 ns. Everything is vectorised: O((calls + gaps) log calls).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from nsys2perfetto.analysis.activities import ACTIVITIES, Activity, categories
from nsys2perfetto.analysis.columns import narrow, width_of
from nsys2perfetto.analysis.gaps import IdleGaps
from nsys2perfetto.analysis.intervals import Axis, Coverage, Partition, distinct, union
from nsys2perfetto.analysis.nesting import nesting_order

__all__ = [
    "ACTIVITIES",
    "PROFILER_OVERHEAD_TYPES",
    "VERDICTS",
    "Activity",
    "Causes",
    "GpuWork",
    "HostCalls",
    "Overheads",
    "StreamWaits",
    "Verdict",
    "categories",
    "find",
]  # fmt: skip

Int64s = NDArray[np.int64]
Int8s = NDArray[np.int8]
Bools = NDArray[np.bool_]

NONE = -1

_WORTH_A_VERDICT = 10
"""What gives a gap its name must be at least a tenth of it."""
_CHUNK = 1 << 16
_ENOUGH = 8
_USUAL_PCT = 90
"""How many late launches tell the usual launch latency, and the percentile that is taken."""


class Verdict(IntEnum):
    """Why the gap is there."""

    UNKNOWN = 0
    LAUNCH_BOUND = 1
    SYNCHRONIZATION = 2
    ALLOCATION = 3
    COPY = 4
    LAUNCH_LATENCY = 5
    STREAM_DEPENDENCY = 6
    GRAPH_INTERNAL = 7
    PROFILER_OVERHEAD = 8


VERDICTS = tuple(verdict.name.lower() for verdict in Verdict)
"""Names of the verdicts."""


@dataclass(frozen=True)
class HostCalls:
    """CUDA calls of all threads, any order; arrays of shape (calls,).

    Attributes:
        thread: any number of the thread (globalTid).
        start: ns.
        end: ns.
        category: from :func:`categories`.
    """

    thread: Int64s
    start: Int64s
    end: Int64s
    category: Int8s


@dataclass(frozen=True)
class GpuWork:
    """The operations whose rows the gaps name; arrays of shape (operations,).

    Attributes:
        call: row of the call that submitted it, `NONE` where it is not in the capture.
        launch: a number for (process, correlation id), `NONE` where there is none.
        graph_node: whether it is a node of a CUDA graph.
        queue: a number >= 0 for its stream, `NONE` where it belongs to none.
        start: ns.
        process: any number of the process (globalPid); see `Overheads`.
    """

    call: Int64s
    launch: Int64s
    graph_node: Bools
    queue: Int64s
    start: Int64s
    process: Int64s


@dataclass(frozen=True)
class StreamWaits:
    """Calls that make a stream wait for an event (cudaStreamWaitEvent); arrays of shape (waits,).

    Attributes:
        queue: the stream that is to wait, in the numbers of `GpuWork.queue`.
        start: when the call began, ns.
    """

    queue: Int64s
    start: Int64s


@dataclass(frozen=True)
class Overheads:
    """When the profiler itself held a thread up; arrays of shape (rows,), may overlap.

    All rows of PROFILER_OVERHEAD, and those of CUPTI_ACTIVITY_KIND_OVERHEAD whose overheadType is
    in `PROFILER_OVERHEAD_TYPES`: the others (module loading, JIT, a full command buffer) would be
    there without the profiler too.

    Attributes:
        thread: the thread as in `HostCalls.thread`, or a process as in `GpuWork.process` where
            all of its threads are meant.
        start: ns.
        end: ns.
    """

    thread: Int64s
    start: Int64s
    end: Int64s


PROFILER_OVERHEAD_TYPES = (3, 4, 5)
"""Of ENUM_CUPTI_OVERHEAD_TYPE those labelled "(Profiler)": buffer flush, instrumentation,
resource creation/destruction."""


@dataclass(frozen=True)
class Causes:
    """Why each gap is there; arrays of shape (gaps,).

    Attributes:
        verdict: `Verdict`.
        call: row of L, the call that submitted the operation which ended the gap; `NONE` if it is
            not in the capture.
        lateness: start of L - start of the gap, ns; negative: L began that long before the GPU
            fell idle. 0 where there is no L.
        split: ns by `Activity` of L's thread, shape (6, gaps); each column adds up to the gap. All
            is `OUTSIDE_CUDA` where there is no L.
        mostly: the `Activity` with the largest share of the gap, of equal ones the first; `NONE`
            where there is no L. With `LAUNCH_BOUND` it tells whether the host was slow in CUDA
            calls or outside of them.
        host_paced: the operation began as soon after L as operations do on an idle GPU: an
            earlier L would have made the gap shorter. Always so where L came late.
        overhead_ns: how much of the gap the profiler held the thread up.
    """

    verdict: Int8s
    call: Int64s
    lateness: Int64s
    split: Int64s
    mostly: Int8s
    host_paced: Bools
    overhead_ns: Int64s


def find(
    gaps: IdleGaps,
    work: GpuWork,
    calls: HostCalls,
    waits: StreamWaits | None = None,
    overheads: Overheads | None = None,
) -> Causes:
    """Divides every gap by what the launching thread did and says why it is there.

    Args:
        gaps: from `gaps.idle`, whose rows are those of `work`.
        work: the GPU operations.
        calls: all CUDA calls, whether they submit work or not.
        waits: calls that make one stream wait for another.
        overheads: when the profiler was at work.
    """
    threads = _thread_time(calls)
    held = _held(overheads)
    n = len(gaps)
    call = work.call[gaps.next]
    verdict, mostly = np.empty(n, np.int8), np.empty(n, np.int8)
    lateness = np.empty(n, np.int64)
    width = width_of(int(gaps.gap.max(initial=0)))
    overhead, split = np.empty(n, width), np.empty((len(Activity), n), width)
    # Piece by piece: what is needed in between stays in the processor's cache.
    for low in range(0, n, _CHUNK):
        part = slice(low, low + _CHUNK)
        verdict[part], mostly[part], lateness[part], split[:, part], overhead[part] = _judge(
            gaps.take(part), call[part], work, calls, waits, threads, held
        )
    paced = _host_paced(gaps, call, lateness, calls, work.graph_node)
    lateness = narrow(lateness, int(np.abs(lateness).max(initial=0)))
    return Causes(verdict, call, lateness, split, mostly, paced, overhead)


def _judge(
    gaps: IdleGaps,
    call: Int64s,
    work: GpuWork,
    calls: HostCalls,
    waits: StreamWaits | None,
    threads: Partition,
    held: Coverage | None,
) -> tuple[Int8s, Int8s, Int64s, Int64s, Int64s]:
    """Verdict, mostly, lateness, split and overhead of some gaps, see `Causes`."""
    known = call >= 0
    launching = _Launching.of(call, calls)
    lateness = np.where(known, launching.start - gaps.start, 0)
    late = known & (lateness >= 0)

    split = threads.split(launching.thread, gaps.start, gaps.end)
    split[:-1, ~known] = 0
    split[-1, ~known] = gaps.gap[~known]
    mostly = np.where(known, split.argmax(axis=0), NONE).astype(np.int8)

    verdict = np.where(known, Verdict.LAUNCH_LATENCY, Verdict.UNKNOWN).astype(np.int8)
    queued = np.flatnonzero(known & ~late)
    if waits is not None and len(waits.queue) and len(queued):
        kept = _waits_between(gaps.next[queued], launching.start[queued], work, calls, waits)
        verdict[queued[kept]] = Verdict.STREAM_DEPENDENCY
    _judge_late(verdict, np.flatnonzero(late), gaps, launching, threads)
    verdict[known & _inside_copy_call(gaps, launching, lateness)] = Verdict.COPY
    overhead = _overhead(gaps, launching, known, work, held)
    verdict[2 * overhead > gaps.gap] = Verdict.PROFILER_OVERHEAD
    verdict[_inside_graph(gaps, work)] = Verdict.GRAPH_INTERNAL
    return verdict, mostly, lateness, split, overhead


def _held(overheads: Overheads | None) -> Coverage | None:
    """When the profiler held each thread or process up."""
    if overheads is None or not len(overheads.thread):
        return None
    found = union(overheads.thread, overheads.start, overheads.end)
    return Coverage(found.track, found.start, found.end)


@dataclass(frozen=True)
class _Launching:
    """L of each gap; meaningless where there is none."""

    thread: Int64s
    start: Int64s
    end: Int64s
    category: Int8s

    @classmethod
    def of(cls, call: Int64s, calls: HostCalls) -> _Launching:
        """The calls in these rows."""
        if not len(calls.start):
            none = np.zeros(len(call), np.int64)
            return cls(none, none, none, none.astype(np.int8))
        row = np.maximum(call, 0)
        return cls(calls.thread[row], calls.start[row], calls.end[row], calls.category[row])


def _thread_time(calls: HostCalls) -> Partition:
    """Every thread's time by its outermost calls: what lies within a call is that call's."""
    thread, start, end = calls.thread, calls.start, calls.end
    order = None if _one_by_one(thread, start, end) else nesting_order(thread, start, end)
    return Partition(order, thread, start, end, calls.category, int(Activity.OUTSIDE_CUDA))


def _one_by_one(thread: Int64s, start: Int64s, end: Int64s) -> bool:
    """Whether the calls are of one thread, disjoint and in order: the usual case, and quicker."""
    if not len(thread) or (thread != thread[0]).any():
        return False
    return bool((start < end).all() and (start[1:] >= end[:-1]).all())


def _judge_late(
    verdict: Int8s, rows: Int64s, gaps: IdleGaps, launching: _Launching, threads: Partition
) -> None:
    """The verdict of gaps whose next launch came late: what took most of the time until then.

    But where that time is next to nothing of the gap, L itself took long: launch-bound.
    """
    begin, launch, gap = gaps.start[rows], launching.start[rows], gaps.gap[rows]
    until = threads.split(launching.thread[rows], begin, launch)
    verdict[rows] = Verdict.LAUNCH_BOUND
    for activity, why in (
        (Activity.SYNC, Verdict.SYNCHRONIZATION),
        (Activity.MEMORY, Verdict.ALLOCATION),
        (Activity.COPY, Verdict.COPY),
    ):
        most = 2 * until[activity] > launch - begin
        verdict[rows[most & (_WORTH_A_VERDICT * until[activity] >= gap)]] = why


def _inside_copy_call(gaps: IdleGaps, launching: _Launching, lateness: Int64s) -> Bools:
    """Whether most of the gap passed within L, a copy call that was not just waiting its turn.

    A copy from pageable memory begins on the GPU long after its call: the host copies first.
    """
    inside = np.minimum(launching.end, gaps.end) - np.maximum(launching.start, gaps.start)
    most = (2 * inside > gaps.gap) & (-lateness < gaps.gap)
    return np.asarray((launching.category == Activity.COPY) & most)


def _inside_graph(gaps: IdleGaps, work: GpuWork) -> Bools:
    """Whether the operations before and after are nodes of the same launch of a CUDA graph."""
    before, after = gaps.previous, gaps.next
    same = (work.launch[before] == work.launch[after]) & (work.launch[after] != NONE)
    return np.asarray(same & work.graph_node[before] & work.graph_node[after])


def _overhead(
    gaps: IdleGaps,
    launching: _Launching,
    known: Bools,
    work: GpuWork,
    held: Coverage | None,
) -> Int64s:
    """How much of each gap the profiler held the launching thread, or all its process, up."""
    if held is None:
        return np.zeros(len(gaps), np.int64)
    of_thread = held.covered(launching.thread, gaps.start, gaps.end)
    of_process = held.covered(work.process[gaps.next], gaps.start, gaps.end)
    return np.maximum(np.where(known, of_thread, 0), of_process)


def _waits_between(
    operation: Int64s, launch: Int64s, work: GpuWork, calls: HostCalls, waits: StreamWaits
) -> Bools:
    """Whether a stream was made to wait between its previous submission and this one.

    Args:
        operation: rows of operations, shape (m,).
        launch: when they were submitted, ns, shape (m,).
        work: all operations.
        calls: all CUDA calls.
        waits: all waits.

    Returns:
        Shape (m,).
    """
    rows = np.flatnonzero(np.isin(work.queue, distinct(waits.queue)))
    by = work.call[rows]
    submitted = work.start[rows]
    submitted[by >= 0] = calls.start[by[by >= 0]]
    axis = Axis(waits.queue, waits.start, submitted, launch)
    submissions = np.sort(axis.place(axis.rank(work.queue[rows])[0], submitted))
    waited = np.sort(axis.place(axis.rank(waits.queue)[0], waits.start))

    rank, answer = axis.rank(work.queue[operation])
    asked = axis.place(rank, launch)
    floor = axis.place(rank, np.full(len(operation), axis.first - 1))
    last_wait = _last_before(waited, asked, floor)
    last_submission = _last_before(submissions, asked, floor)
    return answer & (last_wait > floor) & (last_wait >= last_submission)


def _last_before(ascending_keys: Int64s, asked: Int64s, floor: Int64s) -> Int64s:
    """The largest key below each asked one, but at least `floor`."""
    place = np.searchsorted(ascending_keys, asked) - 1
    if not len(ascending_keys):
        return floor
    return np.where(place >= 0, np.maximum(ascending_keys[np.maximum(place, 0)], floor), floor)


def _host_paced(
    gaps: IdleGaps, call: Int64s, lateness: Int64s, calls: HostCalls, graph_node: Bools
) -> Bools:
    """Whether the next operation began as soon as its launch could reach the GPU.

    How long a launch takes to reach an idle GPU is taken from the late ones of this capture: 9 in
    10 of them start within that time. Kernels, copies and graph launches each have their own time;
    what is rarely late takes that of all but the graph launches, which take longer than others.
    """
    known = call >= 0
    answer = known & (lateness >= 0)
    delay = gaps.gap - lateness
    category = calls.category[np.maximum(call, 0)] if len(calls.category) else call.astype(np.int8)
    graph = graph_node[gaps.next]
    late = answer.copy()
    others = delay[late & ~graph]
    for activity in Activity:
        for in_graph in (False, True):
            of_kind = known & (category == activity) & (graph == in_graph)
            measured = delay[late & of_kind]
            if len(measured) < _ENOUGH and not in_graph:
                measured = others
            if len(measured) >= _ENOUGH:
                answer |= of_kind & (delay <= np.percentile(measured, _USUAL_PCT))
    return answer
