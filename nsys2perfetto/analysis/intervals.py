"""Intervals on tracks: their union, and how much of any time span they cover.

A *track* is any integer (a GPU, a thread); what lies on different tracks never meets. Times are
int64 ns, intervals are half-open ``[start, end)``. Everything is exact in whole numbers and
vectorised: O(n log n) to prepare (O(n) where the rows already ascend), O(log n) for each question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Int8s = NDArray[np.int8]
Bools = NDArray[np.bool_]
Float64s = NDArray[np.float64]

_AXIS_LIMIT = 1 << 62
_FRACTION_BITS = 20


def distinct(values: Int64s) -> Int64s:
    """The distinct values, ascending; unlike `np.unique` fast where equal values come in runs."""
    values = np.asarray(values, dtype=np.int64)
    if not len(values) or values.strides == (0,):
        return values[:1]
    ascending = np.sort(values[_heads(values)])
    return ascending[_heads(ascending)]


class Axis:
    """Lays tracks one after another on one time axis, so that one search finds (track, time).

    Args:
        track: shape (n,).
        times: arrays of shape (n,), ns; all times that have to keep apart on the axis.
    """

    def __init__(self, track: Int64s, *times: Int64s) -> None:
        self.tracks = distinct(track)
        times = tuple(time for time in times if len(time))
        self.first = min((int(time.min()) for time in times), default=0)
        self.last = max((int(time.max()) for time in times), default=0)
        self._ranks: Int64s | None = None
        self._width = self.last - self.first + 2
        if self._width * len(self.tracks) >= _AXIS_LIMIT:
            # Times so far apart do not fit side by side: their ranks do.
            self._ranks = np.sort(np.concatenate(times))
            self._width = len(self._ranks) + 1

    @property
    def single(self) -> bool:
        """Whether there is one track only."""
        return len(self.tracks) == 1

    def rank(self, track: Int64s | int) -> tuple[Int64s, Bools]:
        """Which of the tracks each one is, and whether it is one of them at all."""
        wanted = np.asarray(track, dtype=np.int64)
        if self.single and wanted.strides == (0,) and len(wanted):
            # One value, however many rows.
            zero, same = np.zeros(1, np.int64), wanted[:1] == self.tracks
            return np.broadcast_to(zero[0], len(wanted)), np.broadcast_to(same[0], len(wanted))
        if not len(self.tracks):
            return np.zeros_like(wanted), np.zeros(wanted.shape, np.bool_)
        found = np.minimum(np.searchsorted(self.tracks, wanted), len(self.tracks) - 1)
        return found, np.asarray(self.tracks[found] == wanted)

    def place(self, rank: Int64s, time: Int64s) -> Int64s:
        """A number >= 0 for each (track, time) that sorts as the two do.

        Times between two known ones may fall onto the earlier one; times before the first known
        one come before it, times after the last fall onto it.
        """
        if self._ranks is not None:
            place: Int64s = np.searchsorted(self._ranks, time, side="right")
        else:
            place = np.clip(time, self.first - 1, self.last)
            place -= self.first - 1
        place += rank * self._width
        return place


@dataclass(frozen=True)
class Intervals:
    """Intervals, ascending by track and start; all arrays of shape (n,), ns."""

    track: Int64s
    start: Int64s
    end: Int64s


def union(track: Int64s, start: Int64s, end: Int64s) -> Intervals:
    """The union of each track's intervals: disjoint, not even touching, none of zero length.

    Args:
        track: shape (n,), any order.
        start: shape (n,), ns.
        end: shape (n,), ns; an interval with ``end <= start`` is empty.
    """
    track, start, end = (np.asarray(a, dtype=np.int64) for a in (track, start, end))
    proper = start < end
    if not proper.all():
        track, start, end = track[proper], start[proper], end[proper]
    axis = Axis(track, start, end)
    rank, _ = axis.rank(track)
    begin, finish = axis.place(rank, start), axis.place(rank, end)
    order = ascending(begin)
    begin, reach = begin[order], np.maximum.accumulate(finish[order])
    head = np.ones(len(order), np.bool_)
    head[1:] = begin[1:] > reach[:-1]
    tail = np.append(head[1:], True)[: len(order)]
    # The row that reaches furthest need not be the last one of its group.
    furthest = running_argmax(finish[order], reach)[tail]
    first = order[head]
    where = np.broadcast_to(track[0], len(first)) if axis.single else track[first]
    return Intervals(where, start[first], end[order[furthest]])


def ascending(key: Int64s) -> Int64s:
    """The stable permutation that sorts the key; free where it ascends already."""
    if len(key) < 2 or not (key[1:] < key[:-1]).any():
        return np.arange(len(key), dtype=np.int64)
    return np.argsort(key, kind="stable")


def running_argmax(value: Int64s, reach: Int64s) -> Int64s:
    """Index of the largest value so far, the later of equal ones; `reach` is that value."""
    rows = np.arange(len(value), dtype=np.int64)
    return np.maximum.accumulate(np.where(value == reach, rows, 0))


class _Cumulative:
    """A function of time on each track, made of slopes and jumps: 0 before its first interval."""

    def __init__(
        self, track: Int64s, start: Int64s, end: Int64s, slope: Int64s | int, jump: Int64s | None
    ) -> None:
        n = len(track)
        self._axis = Axis(track, start, end)
        rank, _ = self._axis.rank(track)
        begin, finish = self._axis.place(rank, start), self._axis.place(rank, end)
        joined = _merge(begin, finish)

        def broken(at_start: Int64s | int, at_end: Int64s | int) -> Int64s:
            both = np.empty((2, n), np.int64)
            both[0], both[1] = at_start, at_end
            return joined(both)

        # A breakpoint in front of all others spares the question whether there is one.
        self._key = np.append(np.int64(-1), broken(begin, finish))
        self._time = np.append(np.int64(self._axis.first), broken(start, end))
        self._slope = np.append(np.int64(0), np.cumsum(broken(slope, -slope)))
        steps = self._slope[:-1] * np.diff(self._time)
        if jump is not None:
            steps += broken(0, jump)
        # Sums may wrap around; differences of them are right as long as they fit themselves.
        self._value = np.append(np.int64(0), np.cumsum(steps))

    def until(self, track: Int64s | int, time: Int64s) -> Int64s:
        """The function's value; it also counts what the tracks before this one amount to."""
        rank, known = self._axis.rank(track)
        time = np.asarray(time, dtype=np.int64)
        place = np.searchsorted(self._key, self._axis.place(rank, time), side="right") - 1
        since = np.clip(time, self._axis.first, self._axis.last) - self._time[place]
        return np.where(known, self._value[place] + self._slope[place] * since, 0)


class Coverage(_Cumulative):
    """How much of a time span intervals cover; the integral of how many there are at a time.

    For disjoint intervals (see :func:`union`) the covered time, for overlapping ones the sum over
    all of them, each cut to the span. Intervals with ``end <= start`` cover nothing.

    Args:
        track: shape (n,), any order.
        start: shape (n,), ns.
        end: shape (n,), ns.
    """

    def __init__(self, track: Int64s, start: Int64s, end: Int64s) -> None:
        track, start, end = (np.asarray(a, dtype=np.int64) for a in (track, start, end))
        proper = start < end
        if not proper.all():
            track, start, end = track[proper], start[proper], end[proper]
        super().__init__(track, start, end, 1, None)

    def covered(self, track: Int64s | int, t0: Int64s, t1: Int64s) -> Int64s:
        """Covered ns of each ``[t0, t1)``, shape (m,); exact.

        Args:
            track: shape (m,) or one for all; one without intervals is never covered.
            t0: shape (m,), ns.
            t1: shape (m,), ns, ``t0 <= t1``.
        """
        return self.until(track, t1) - self.until(track, t0)

    def covered_between(self, track: int, edges: Int64s) -> Int64s:
        """Covered ns between each edge (ns, ascending, shape (m + 1,)) and the next."""
        return np.diff(self.until(track, edges))


class Spread(_Cumulative):
    """Amounts (bytes, say) spread evenly over intervals, and how much falls into a time span.

    Kept in whole multiples of 2^-20 (coarser only where the sum of all would overflow), and what
    rounding leaves over is added at each interval's end: a span that holds an interval holds its
    whole amount. What has no duration falls into the span that ends at it or later: ``(t0, t1]``.

    Args:
        track: shape (n,), any order.
        start: shape (n,), ns.
        end: shape (n,), ns; an interval with ``end <= start`` has all its amount at its start.
        amount: shape (n,), >= 0.
    """

    def __init__(self, track: Int64s, start: Int64s, end: Int64s, amount: Int64s) -> None:
        track, start, end, amount = (
            np.asarray(a, dtype=np.int64) for a in (track, start, end, amount)
        )
        end = np.maximum(start, end)
        total = int(amount.sum(dtype=np.float64)) if len(amount) else 0
        bits = max(0, min(_FRACTION_BITS, 61 - total.bit_length()))
        self._unit = float(1 << bits)
        scaled = amount << bits
        duration = end - start
        rate = np.where(duration > 0, scaled // np.maximum(duration, 1), 0)
        super().__init__(track, start, end, rate, scaled - rate * duration)

    def amount(self, track: Int64s | int, t0: Int64s, t1: Int64s) -> Float64s:
        """What falls into each span, shape (m,); arguments as for `Coverage.covered`."""
        return np.asarray((self.until(track, t1) - self.until(track, t0)) / self._unit)

    def amount_between(self, track: int, edges: Int64s) -> Float64s:
        """What falls between each edge (ns, ascending, shape (m + 1,)) and the next."""
        return np.asarray(np.diff(self.until(track, edges)) / self._unit)


class Partition:
    """Disjoint intervals of a few kinds, and how a time span divides between the kinds.

    Where intervals overlap, the one that began first counts, of those the longest: of calls that
    nest the outermost, and of two that overlap in part the second counts from the end of the first.

    Args:
        order: the permutation that sorts the rows by track, start, and longer first, as
            `nesting.nesting_order` gives it; None for rows of one track that are disjoint, have a
            length and stand in order already.
        track: shape (n,).
        start: shape (n,), ns.
        end: shape (n,), ns.
        kind: shape (n,), 0 .. kinds - 1.
        kinds: how many kinds there are.
    """

    def __init__(
        self,
        order: Int64s | None,
        track: Int64s,
        start: Int64s,
        end: Int64s,
        kind: Int8s,
        kinds: int,
    ) -> None:
        self._kinds = kinds
        self._axis = Axis(track, start, end)
        if order is None:
            rank, _ = self._axis.rank(track[:1])
            self._key = self._axis.place(np.broadcast_to(rank, len(start)), start)
            self._end, self._rank, self._kind = end, np.broadcast_to(rank, len(start)), kind
            length = end - start
        else:
            length = self._outermost(order, track, start, end, kind)
        self._begun = np.append(np.int64(0), np.cumsum(length))
        """ns of all kinds before each interval."""
        counts = np.bincount(self._kind, minlength=kinds)
        self._usual = int(counts.argmax())
        """The kind of most intervals: its time is what the other kinds leave."""
        self._rare: dict[int, tuple[Int64s, Int64s]] = {}
        """Of the others the intervals, and ns before each of these."""
        for one in range(kinds):
            if one != self._usual and counts[one]:
                of_kind = np.flatnonzero(self._kind == one)
                self._rare[one] = of_kind, np.append(np.int64(0), np.cumsum(length[of_kind]))

    def _outermost(
        self, order: Int64s, track: Int64s, start: Int64s, end: Int64s, kind: Int8s
    ) -> Int64s:
        """Keeps what lies in nothing else; the length of each, ns."""
        rank, _ = self._axis.rank(track)
        begin = self._axis.place(rank, start)[order]
        reach = np.maximum.accumulate(self._axis.place(rank, end)[order])
        taken = np.append(np.int64(-1), reach[:-1])[: len(order)]
        # A row whose end is no news lies inside of an earlier one, or has no length.
        outer = np.flatnonzero(reach > np.maximum(begin, taken))
        rows = order[outer]
        self._key = begin[outer]
        self._end, self._rank, self._kind = end[rows], rank[rows], kind[rows]
        first = start[rows].copy()
        crossed = np.flatnonzero(begin[outer] < taken[outer])
        if len(crossed):
            first[crossed] = self._end[crossed - 1]
            self._key[crossed] = taken[outer][crossed]
        return self._end - first

    def split(self, track: Int64s, t0: Int64s, t1: Int64s) -> Int64s:
        """How each ``[t0, t1)`` divides.

        Args:
            track: shape (m,); all time of one without intervals is outside.
            t0: shape (m,), ns.
            t1: shape (m,), ns, ``t0 <= t1``.

        Returns:
            ns by kind, shape (kinds + 1, m); the last row is what lies outside of all intervals.
            Each column adds up to ``t1 - t0`` exactly.
        """
        m = len(t0)
        answer = np.zeros((self._kinds + 1, m), np.int64)
        if len(self._key) and m:
            rank, known = self._axis.rank(track)
            # One more than the last interval that has begun, and what of it is still to come.
            (i0, rest0), (i1, rest1) = (self._position(rank, t) for t in (t0, t1))
            usual = answer[self._usual]
            np.subtract(self._begun[i1], self._begun[i0], out=usual)
            for kind, (of_kind, begun) in self._rare.items():
                a, b = (np.searchsorted(of_kind, i) for i in (i0, i1))
                np.subtract(begun[b], begun[a], out=answer[kind])
                usual -= answer[kind]
            column = np.arange(m)
            answer[self._kind[np.maximum(i0 - 1, 0)], column] += rest0
            answer[self._kind[np.maximum(i1 - 1, 0)], column] -= rest1
            if not known.all():
                answer[:, ~known] = 0
        answer[-1] = t1 - t0 - answer[:-1].sum(axis=0)
        return answer

    def _position(self, rank: Int64s, time: Int64s) -> tuple[Int64s, Int64s]:
        index = np.searchsorted(self._key, self._axis.place(rank, time), side="right")
        last = np.maximum(index - 1, 0)
        open_still = (index > 0) & (self._rank[last] == rank) & (self._end[last] > time)
        return index, np.where(open_still, self._end[last] - time, 0)


def _merge(begin: Int64s, finish: Int64s) -> Callable[[Int64s], Int64s]:
    """What puts the rows (starts, ends), shape (2, n), into one ascending row, shape (2n,)."""
    if not (begin[1:] < finish[:-1]).any():
        return lambda both: both.T.reshape(-1)
    order = np.argsort(np.concatenate((begin, finish)), kind="stable")
    return lambda both: both.reshape(-1)[order]


def _heads(values: Int64s) -> Bools:
    head = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=head[1:])
    return head
