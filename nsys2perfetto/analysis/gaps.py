"""Gaps between GPU operations, in two definitions, and their size classes.

*Consecutive* gaps are those of the nsys manual (section "Step 4", "kernel gaps"): kernels in order
of their start, ``next.start - this.end``; negative where kernels overlap. *Idle* gaps are the
complement of the union of all operations of a GPU. On one stream without overlaps the two agree.

Times are int64 ns. Everything is vectorised, O(n log n), O(n) where the rows already ascend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsys2perfetto.analysis.columns import narrow
from nsys2perfetto.analysis.intervals import Axis, ascending, running_argmax, union

Int64s = NDArray[np.int64]
Int8s = NDArray[np.int8]
Float64s = NDArray[np.float64]

BUCKETS = ("<1us", "1-5us", "5-10us", "10-50us", "50-100us", "0.1-1ms", ">1ms")
"""The manual's size classes, without the blanks that its query puts in front for sorting."""

BUCKET_BOUNDS = np.array([1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000], dtype=np.int64)
"""Where the next class begins, ns: a gap of exactly 1 ms is in `>1ms`, as in the manual's CASE."""


@dataclass(frozen=True)
class ConsecutiveGaps:
    """The manual's gaps in order of time; all arrays of shape (gaps,).

    Attributes:
        gap: ``next.start - previous.end``, ns; negative where the two overlap.
        previous: row of the operation before.
        next: row of the operation after.
    """

    gap: Int64s
    previous: Int64s
    next: Int64s


def consecutive(start: Int64s, end: Int64s, track: Int64s | None = None) -> ConsecutiveGaps:
    """The gaps between kernels in order of start: ``ROW_NUMBER() OVER (ORDER BY start)``.

    The manual does not say what comes first of kernels that start together; SQLite sorts them as
    it finds them, which is the order of the table, and so they stay in row order here.

    Args:
        start: shape (n,), ns, rows in the order of the table.
        end: shape (n,), ns.
        track: shape (n,), a GPU, say: gaps are then counted on each of its own, in order of
            track. Without it all rows count as one track, as in the manual.

    Returns:
        n - 1 gaps (none where there is no row), less where there are several tracks.
    """
    start, end = np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64)
    if track is None:
        order = ascending(start)
        previous, following = order[:-1], order[1:]
    else:
        axis = Axis(track, start)
        rank, _ = axis.rank(track)
        order = ascending(axis.place(rank, start))
        together = rank[order[1:]] == rank[order[:-1]]
        previous, following = order[:-1][together], order[1:][together]
    return ConsecutiveGaps(start[following] - end[previous], previous, following)


@dataclass(frozen=True)
class IdleGaps:
    """When tracks had nothing to do, ascending by track and time; arrays of shape (gaps,).

    Attributes:
        track: the GPU, or whatever the tracks are.
        start: end of the operation before, ns.
        end: start of the operation after, ns.
        previous: row of the operation that ended at the gap's start; of several the one that
            started last.
        next: row of the operation that began at the gap's end; of several the first submitted.
    """

    track: Int64s
    start: Int64s
    end: Int64s
    previous: Int64s
    next: Int64s

    def __len__(self) -> int:
        return len(self.track)

    def take(self, rows: slice | Int64s) -> IdleGaps:
        """Some of the gaps."""
        return IdleGaps(
            self.track[rows],
            self.start[rows],
            self.end[rows],
            self.previous[rows],
            self.next[rows],
        )

    @property
    def gap(self) -> Int64s:
        """Length, ns; never 0."""
        return self.end - self.start


def idle(track: Int64s, start: Int64s, end: Int64s, submitted: Int64s | None = None) -> IdleGaps:
    """The time between each track's first start and last end in which nothing ran on it.

    The gaps and the union of the operations add up to that window exactly. An operation without
    duration is no work, yet it parts a gap in two: it did happen at that time.

    Args:
        track: shape (n,), a GPU, or a (process, GPU).
        start: shape (n,), ns.
        end: shape (n,), ns; where it is before the start, the start counts.
        submitted: shape (n,), when each operation was submitted, ns: the order of those that
            start together. Without it, and where it is equal, the order of the rows decides.
    """
    track, start = np.asarray(track, dtype=np.int64), np.asarray(start, dtype=np.int64)
    end = np.maximum(start, np.asarray(end, dtype=np.int64))
    axis = Axis(track, start, end)
    rank, _ = axis.rank(track)
    begin, finish = axis.place(rank, start), axis.place(rank, end)
    order = ascending(begin)
    begin = begin[order]
    if submitted is not None and (begin[1:] == begin[:-1]).any():
        order = order[np.lexsort((submitted[order], begin))]
    finish = finish[order]
    reach = np.maximum.accumulate(finish)
    idle_before = np.flatnonzero((begin[1:] > reach[:-1]) & (rank[order[1:]] == rank[order[:-1]]))
    previous = narrow(order[running_argmax(finish, reach)[idle_before]], len(order))
    following = narrow(order[idle_before + 1], len(order))
    where = np.broadcast_to(track[0], len(following)) if axis.single else track[following]
    return IdleGaps(where, end[previous], start[following], previous, following)


@dataclass(frozen=True)
class Balance:
    """How each track's time was spent; arrays of shape (tracks,), ascending by track.

    Attributes:
        track: the GPU, or whatever the tracks are.
        first: first start, ns.
        last: last end, ns.
        busy_ns: length of the union of its operations.
        idle_ns: ``last - first - busy_ns``, the sum of its idle gaps.
    """

    track: Int64s
    first: Int64s
    last: Int64s
    busy_ns: Int64s
    idle_ns: Int64s


def balance(track: Int64s, start: Int64s, end: Int64s) -> Balance:
    """Busy and idle time of each track; arguments as for :func:`idle`."""
    track, start = np.asarray(track, dtype=np.int64), np.asarray(start, dtype=np.int64)
    end = np.maximum(start, np.asarray(end, dtype=np.int64))
    axis = Axis(track)
    tracks = axis.tracks
    rank, _ = axis.rank(track)
    first = np.full(len(tracks), np.iinfo(np.int64).max)
    last = np.full(len(tracks), np.iinfo(np.int64).min)
    np.minimum.at(first, rank, start)
    np.maximum.at(last, rank, end)
    work = union(track, start, end)
    busy = np.zeros(len(tracks), np.int64)
    np.add.at(busy, axis.rank(work.track)[0], work.end - work.start)
    return Balance(tracks, first, last, busy, last - first - busy)


@dataclass(frozen=True)
class Totals:
    """What the manual's query "total gap" computes (there in ms, rounded), ns."""

    gap_ns: int
    kernel_ns: int
    wall_ns: int


def totals(start: Int64s, end: Int64s, track: Int64s | None = None) -> Totals:
    """Sum of the consecutive gaps, of the durations, and ``MAX(end) - MIN(start)``.

    Arguments as for :func:`consecutive`; all 0 where there is no kernel (the manual's are NULL).
    """
    if not len(start):
        return Totals(0, 0, 0)
    return Totals(
        int(consecutive(start, end, track).gap.sum()),
        int((end - start).sum()),
        int(end.max()) - int(start.min()),
    )


def bucket(gap: Int64s) -> Int8s:
    """The size class of each gap (ns, shape (n,)): indices into `BUCKETS`; negative is `<1us`."""
    return np.searchsorted(BUCKET_BOUNDS, gap, side="right").astype(np.int8)


@dataclass(frozen=True)
class BucketTable:
    """Gaps by size class, all classes whether empty or not; arrays of shape (7,).

    Attributes:
        count: how many gaps.
        total_ns: their sum; that of consecutive gaps of `<1us` may be negative.
        pct: percent of the number of gaps, not rounded; 0 where there is none at all.
    """

    count: Int64s
    total_ns: Int64s
    pct: Float64s


def bucket_table(gap: Int64s) -> BucketTable:
    """Counts and sums by size class, as the manual's query "gaps by size" gives them."""
    code = bucket(gap)
    count = np.bincount(code, minlength=len(BUCKETS)).astype(np.int64)
    # Sums in whole numbers: bincount's weights would be rounded to 53 bits.
    total = np.array([gap[code == k].sum() for k in range(len(BUCKETS))], dtype=np.int64)
    return BucketTable(count, total, 100.0 * count / max(len(gap), 1))


def longer_than(gap: Int64s, nanoseconds: int) -> Int64s:
    """Rows of the gaps above a length, the longest first, equal ones in row order.

    With 1,000,000 the manual's query "large gaps", which leaves out a gap of exactly 1 ms.
    """
    rows = np.flatnonzero(gap > nanoseconds)
    return rows[np.argsort(-gap[rows], kind="stable")]
