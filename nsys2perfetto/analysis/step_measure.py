"""What happened in each decode step: kernels, busy and idle time, copies, calls.

A kernel or copy belongs to a step by the manual's rule, ``start >= t0 and end <= t1``; one that
runs across the border of two steps belongs to neither. Busy time is cut at the borders instead, so
that busy and idle time add up to the wall time. Times are int64 ns, everything is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsys2perfetto.analysis.columns import narrow, width_of
from nsys2perfetto.analysis.intervals import Axis, Coverage, Intervals, ascending, distinct
from nsys2perfetto.analysis.range_minmax import range_max
from nsys2perfetto.analysis.step_tables import rows_of
from nsys2perfetto.analysis.steps import Steps

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]

_CELLS = 1 << 24


@dataclass(frozen=True)
class Measures:
    """One row a step; all arrays of shape (steps,)."""

    kernel_count: Int64s
    kernel_ns: Int64s
    """Sum of the durations of the step's kernels; more than the wall time if they overlap."""
    busy_ns: Int64s
    """How long at least one operation ran."""
    idle_ns: Int64s
    wall_ns: Int64s
    kernel_util_pct: Float64s
    """100 * kernel_ns / wall_ns, the manual's utilization."""
    busy_util_pct: Float64s
    copy_count: Int64s
    copy_bytes: Int64s
    launch_count: Int64s
    """Calls that submitted work and began in ``[t0, t1)``."""
    sync_count: Int64s
    """Waiting calls that began in ``[t0, t1)``."""
    sync_ns: Int64s
    """How much of the step waiting calls cover, each thread's on its own."""
    alloc_count: Int64s
    """Calls that allocate or free memory and began in ``[t0, t1)``."""
    largest_gap_ns: Int64s
    """The longest time in the step in which nothing ran."""


@dataclass(frozen=True)
class Timed:
    """Events; arrays of shape (n,), in any order.

    Attributes:
        track: Number of the unit (operations) or of the process (calls).
        start: ns.
        end: ns.
    """

    track: Int64s
    start: Int64s
    end: Int64s

    def __len__(self) -> int:
        return len(self.track)


NO_EVENTS = Timed(*(np.empty(0, np.int64),) * 3)


def measure(
    steps: Steps,
    kernels: Timed,
    busy: Intervals,
    *,
    copies: Timed = NO_EVENTS,
    copy_bytes: Int64s | None = None,
    process: Int64s | None = None,
    launches: Timed = NO_EVENTS,
    synchronisations: Timed = NO_EVENTS,
    allocations: Timed = NO_EVENTS,
    step_of_kernel: Int64s | None = None,
) -> Measures:
    """Measures all steps.

    Args:
        steps: From `steps.find_steps`.
        kernels: By unit.
        busy: Union of all GPU operations by unit, see `intervals.union`.
        copies: By unit.
        copy_bytes: Of each copy.
        process: Of each unit, shape (units,); its calls count for the unit's steps. Needed with
            calls.
        launches: Calls that submitted work, by process.
        synchronisations: Calls that wait, by process.
        allocations: Calls that allocate or free memory, by process.
        step_of_kernel: From `assign`, if it is at hand.
    """
    n = len(steps)
    if step_of_kernel is None:
        step_of_kernel = assign(steps, kernels)
    count, kernel_ns = _sums(step_of_kernel, kernels.end - kernels.start, n)
    count += _on_the_border(steps, kernels, step_of_kernel)
    copied, total = _sums(
        assign(steps, copies), np.zeros(len(copies)) if copy_bytes is None else copy_bytes, n
    )
    wall = steps.wall_ns
    busy_ns, largest_gap = _busy(steps, busy)
    owner = steps.unit if process is None else process[steps.unit]
    waits = synchronisations
    return Measures(
        kernel_count=count,
        kernel_ns=kernel_ns,
        busy_ns=busy_ns,
        idle_ns=wall - busy_ns,
        wall_ns=wall,
        kernel_util_pct=_percent(kernel_ns, wall),
        busy_util_pct=_percent(busy_ns, wall),
        copy_count=copied,
        copy_bytes=total,
        launch_count=_begun(owner, steps, launches),
        sync_count=_begun(owner, steps, waits),
        sync_ns=Coverage(waits.track, waits.start, waits.end).covered(owner, steps.t0, steps.t1),
        alloc_count=_begun(owner, steps, allocations),
        largest_gap_ns=largest_gap,
    )


def assign(steps: Steps, events: Timed) -> Int64s:
    """The row of the step to which each event belongs, shape (n,); -1 for none.

    An event without duration at the border of two steps belongs to the first, which ends with it.

    Args:
        steps: Those of a unit must not overlap.
        events: By unit.
    """
    answer = np.full(len(events), -1, width_of(len(steps)))
    units = distinct(steps.unit)
    if not len(units) or not len(events):
        return answer
    edges = np.searchsorted(steps.unit, np.append(units, units[-1] + 1))
    for rows, first, last in zip(
        rows_of(events.track, units), edges[:-1].tolist(), edges[1:].tolist(), strict=True
    ):
        start, end = events.start, events.end
        if rows is not None:
            start, end = start[rows], end[rows]
        order = None
        if (start[1:] < start[:-1]).any():
            order = np.argsort(start, kind="stable")
            start, end = start[order], end[order]
        found = narrow(
            _assign(steps.t0[first:last], steps.t1[first:last], start, end, first), len(steps)
        )
        if order is not None:
            found[order] = found.copy()
        if rows is None:
            return found
        answer[rows] = found
    return answer


def _assign(t0: Int64s, t1: Int64s, start: Int64s, end: Int64s, first: int) -> Int64s:
    """`assign` for one unit, everything in order of start; steps are numbered from `first`."""
    low, high = np.searchsorted(start, t0), np.searchsorted(start, t1)
    number = np.arange(first, first + len(t0))
    # Steps follow each other, perhaps with time between them that belongs to none.
    lengths = np.stack((low - np.append(0, high[:-1]), high - low), axis=1).reshape(-1)
    values = np.stack((np.full(len(t0), -1), number), axis=1).reshape(-1)
    bounds = np.stack((t1, t1), axis=1).reshape(-1)
    rest = len(start) - int(high[-1])
    found = np.append(np.repeat(values, lengths), np.full(rest, -1))
    ends = np.append(np.repeat(bounds, lengths), np.zeros(rest, np.int64))
    found[end > ends] = -1
    instant = np.flatnonzero(start == end)
    if len(instant):
        time = start[instant]
        step = np.minimum(np.searchsorted(t1, time), len(t1) - 1)
        inside = (t0[step] <= time) & (time <= t1[step])
        found[instant] = np.where(inside, number[step], -1)
    return found


def _on_the_border(steps: Steps, kernels: Timed, step_of_kernel: Int64s) -> Int64s:
    """Kernels without duration at the border of two steps: the manual counts them in both."""
    extra = np.zeros(len(steps), np.int64)
    instant = np.flatnonzero((kernels.start == kernels.end) & (step_of_kernel >= 0))
    instant = instant[step_of_kernel[instant] < len(steps) - 1]
    following = step_of_kernel[instant] + 1
    both = (steps.t0[following] == kernels.start[instant]) & (
        steps.unit[following] == kernels.track[instant]
    )
    np.add.at(extra, following[both], 1)
    return extra


def _sums(step: Int64s, amount: Int64s | Float64s, n: int) -> tuple[Int64s, Int64s]:
    """Number and sum of the amounts in each step; exact below 2^53."""
    slot = np.where(step < 0, n, step)
    count = np.bincount(slot, minlength=n + 1)[:n]
    total = np.bincount(slot, weights=amount, minlength=n + 1)[:n]
    return count, total.astype(np.int64)


def _percent(part: Int64s, whole: Int64s) -> Float64s:
    return np.where(whole > 0, 100.0 * part / np.maximum(whole, 1), 0.0)


def _begun(owner: Int64s, steps: Steps, calls: Timed) -> Int64s:
    """How many calls of each step's process began in ``[t0, t1)``."""
    if not len(calls):
        return np.zeros(len(steps), np.int64)
    tracks = np.concatenate((owner, calls.track))
    axis = Axis(tracks, np.concatenate((steps.t0, calls.start)), np.append(steps.t1, calls.start))
    rank, _ = axis.rank(tracks)
    of_step, of_call = rank[: len(steps)], rank[len(steps) :]
    begin = axis.place(of_call, calls.start)
    begin = begin[ascending(begin)]
    low, high = (np.searchsorted(begin, axis.place(of_step, t)) for t in (steps.t0, steps.t1))
    return high - low


def _busy(steps: Steps, busy: Intervals) -> tuple[Int64s, Int64s]:
    """How much of each step the union covers, and the longest stretch that it does not."""
    covered, gap = np.zeros(len(steps), np.int64), steps.wall_ns
    if not len(busy.track) or not len(steps):
        return covered, gap
    tracks = np.concatenate((steps.unit, busy.track))
    axis = Axis(
        tracks, np.concatenate((steps.t0, busy.start)), np.concatenate((steps.t1, busy.end))
    )
    rank, _ = axis.rank(tracks)
    of_step, of_busy = rank[: len(steps)], rank[len(steps) :]
    first = np.searchsorted(
        axis.place(of_busy, busy.end), axis.place(of_step, steps.t0), side="right"
    )
    last = np.searchsorted(axis.place(of_busy, busy.start), axis.place(of_step, steps.t1)) - 1
    some = first <= last
    a, b, t0, t1 = first[some], last[some], steps.t0[some], steps.t1[some]
    before, after = busy.start[a] - t0, t1 - busy.end[b]
    total = np.append(np.int64(0), np.cumsum(busy.end - busy.start))
    covered[some] = total[b + 1] - total[a] + np.minimum(before, 0) + np.minimum(after, 0)
    between = range_max(busy.start[1:] - busy.end[:-1], a, b, 0)
    gap[some] = np.maximum(np.maximum(before, after), between)
    return covered, gap


@dataclass(frozen=True)
class StepKernels:
    """How often each kernel ran in each step, ascending by step and name; shape (rows,)."""

    step: Int64s
    """Row of the step."""
    name: Int64s
    count: Int64s
    total_ns: Int64s


def by_kernel(step_of_kernel: Int64s, name: Int64s, duration: Int64s, steps: int) -> StepKernels:
    """Splits each step's kernels by name.

    Args:
        step_of_kernel: From `assign`, shape (n,).
        name: Number of each kernel's name (or family), 0 and up, shape (n,).
        duration: ns, shape (n,).
        steps: How many there are.
    """
    inside = step_of_kernel >= 0
    names = int(name.max()) + 1 if len(name) else 1
    key = np.where(inside, step_of_kernel, np.int64(steps)) * names + name
    if (steps + 1) * names <= _CELLS:
        count = np.bincount(key, minlength=(steps + 1) * names)
        total = np.bincount(key, weights=duration, minlength=(steps + 1) * names)
        cells = np.flatnonzero(count[: steps * names])
        count, total = count[cells], total[cells]
    else:
        cells, place, count = np.unique(key, return_inverse=True, return_counts=True)
        total = np.bincount(place.reshape(-1), weights=duration)
        kept = cells < steps * names
        cells, count, total = cells[kept], count[kept], total[kept]
    return StepKernels(cells // names, cells % names, count, total.astype(np.int64))
