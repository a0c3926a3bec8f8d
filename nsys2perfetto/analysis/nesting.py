"""Nesting of intervals on tracks: write order, crossings, lanes, depth and parent.

Perfetto's trace processor sorts the events of a sequence by timestamp, keeping the order of the
file where timestamps are equal, and an END event closes the innermost open slice of its track
(``SliceTracker::End`` without a name). When each slice is written as BEGIN directly followed by
its END, slices in :func:`nesting_order`, then at a time t the ends of slices that started before t
come first, then the begins at t from the longest to the shortest, each zero-length slice as
BEGIN, END in place. Read like this every slice comes back with its own start and end exactly if no
two slices *cross*: a and b cross when ``a.start < b.start < a.end < b.end``. Slices that only
touch, equal slices, and zero-length slices anywhere never cross.

Times are int64 ns, ``start <= end``. Everything is vectorised and O(n log n) for any input.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nsys2perfetto.analysis.range_minmax import range_max, range_min

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Bools = NDArray[np.bool_]

# Levels of nesting among crossing rows for which `crossing` chooses the rows to keep one by one.
_GREEDY_LEVELS = 8


def nesting_order(
    track: Int64s, start: Int64s, end: Int64s, priority: NDArray[np.integer] | None = None
) -> Int64s:
    """The permutation that sorts rows by (track, start, longer first, priority, row).

    Args:
        track: shape (n,), any integer key of a track, of 32 or 64 bits.
        start: shape (n,), ns.
        end: shape (n,), ns.
        priority: shape (n,), decides between equal intervals of a track: the smaller is outside.

    Returns:
        Row indices, shape (n,). Fast when the starts of each track already ascend.
    """
    track, start, end = np.asarray(track), _int64(start), _int64(end)
    order = _sorted_by_track(track, None)
    same_track, times = _runs(track[order]), start[order]
    if (same_track & (times[1:] < times[:-1])).any():
        del times
        order = _sorted_by_track(track, np.argsort(start, kind="stable"))
        same_track, times = _runs(track[order]), start[order]
    tie = same_track & (times[1:] == times[:-1])
    del same_track, times
    if tie.any():
        _sort_ties(order, tie, end, priority)
    return order


def crossing(track: Int64s, start: Int64s, end: Int64s) -> Bools:
    """Marks rows so that the rows not marked nest properly on every track.

    Of two crossing rows the later-starting one is marked; a row that only crosses marked rows is
    kept, except in chains of crossing rows nested more than eight levels deep, where every row is
    marked that has an earlier crossing partner. Rows with ``end < start`` are marked always.

    Args:
        track: shape (n,); all three in the order of :func:`nesting_order`.
        start: shape (n,), ns.
        end: shape (n,), ns.

    Returns:
        Shape (n,), true for the rows to take off the track.
    """
    marked: Bools = _int64(end) < _int64(start)
    if marked.any():
        good = np.flatnonzero(~marked)
        marked[good] = crossing(track[good], start[good], end[good])
        return marked
    begin, finish = _on_one_axis(track, start, end)
    rest = _rows_that_cross(begin, finish)
    for _ in range(_GREEDY_LEVELS):
        if len(rest) == 0:
            return marked
        b, f = begin[rest], finish[rest]
        keep = _outermost(b, f)
        owner = np.maximum.accumulate(np.where(keep, np.arange(len(rest)), 0))
        cut = f > f[owner]
        marked[rest[cut]] = True
        rest = rest[~(keep | cut)]
        rest = rest[_rows_that_cross(begin[rest], finish[rest])]
    if len(rest):
        marked[rest[_crosses_earlier(begin[rest], finish[rest])]] = True
    return marked


def depth(track: Int64s, start: Int64s, end: Int64s) -> Int32s:
    """How many rows of its track are open when each row begins, read as Perfetto does.

    A zero-length row at the end of another lies outside of it, at its start inside.

    Args:
        track: shape (n,); all three in nesting order, without crossings.
        start: shape (n,), ns.
        end: shape (n,), ns.

    Returns:
        Shape (n,), 0 at the top.
    """
    begin, finish = _on_one_axis(track, start, end)
    return _depth(begin, finish).astype(np.int32)


def parent(track: Int64s, start: Int64s, end: Int64s) -> Int64s:
    """The row index of the innermost enclosing row of the same track, -1 at the top.

    Args:
        track: shape (n,); all three in nesting order, without crossings.
        start: shape (n,), ns.
        end: shape (n,), ns.

    Returns:
        Shape (n,).
    """
    begin, finish = _on_one_axis(track, start, end)
    level = _depth(begin, finish)
    n = len(level)
    # The parent is the last earlier row one level up: the stack has no other entry there.
    by_level = _stable_argsort(level)
    key = level[by_level] * n + by_level
    inside = np.flatnonzero(level > 0)
    found = np.searchsorted(key, (level[inside] - 1) * n + inside) - 1
    answer = np.full(n, -1, dtype=np.int64)
    answer[inside] = by_level[found]
    return answer


def too_deep(track: Int64s, start: Int64s, end: Int64s, most: int) -> tuple[Int64s, Int64s]:
    """Rows that have so many others around them that a reader gives up.

    Args:
        track: shape (n,); all three in nesting order, without crossings.
        start: shape (n,), ns.
        end: shape (n,), ns.
        most: how many levels a track may have, > 1.

    Returns:
        Their row numbers, ascending, and for each on which storey it stands: 1 for the levels
        from `most` on, 2 for those from twice `most` on, and so on. The rows of a storey have
        fewer than `most` levels among themselves.
    """
    # Half of the rows around such a row begin at least half as many rows before it: only rows that
    # are still open so much later count, and there are hardly any.
    far = most // 2
    long = np.flatnonzero((end[:-far] > start[far:]) & (track[:-far] == track[far:]))
    if len(long) <= far or int(depth(track[long], start[long], end[long]).max()) < far - 1:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    storey = depth(track, start, end) // most
    rows = np.flatnonzero(storey)
    return rows, storey[rows].astype(np.int64)


def lanes(track: Int64s, start: Int64s, end: Int64s) -> Int32s:
    """Spreads the rows of each track over as few lanes as possible without overlap.

    Rows of one lane may touch, and a zero-length row may lie at the border of others or share its
    instant with other zero-length rows; it never lies inside another row of its lane. The number
    of lanes of a track is its largest overlap. A row takes the lane that was freed last.

    Args:
        track: shape (n,), any order of rows.
        start: shape (n,), ns.
        end: shape (n,), ns, ``start <= end``.

    Returns:
        Shape (n,), lanes from 0 on each track.
    """
    track, start, end = _int64(track), _int64(start), _int64(end)
    n = len(track)
    rows = nesting_order(track, start, end)
    t = track[rows]
    begin, finish = _on_one_axis(t, start[rows], end[rows])
    lane = np.zeros(n, dtype=np.int64)
    zero = begin == finish
    if not zero.any() and len(_crosses_later(begin, finish)) == 0:
        lane[rows] = _depth(begin, finish)
        return lane.astype(np.int32)

    # At one time: ends of proper intervals, then zero-length rows, then begins of proper ones.
    if zero.any():
        begin, finish = begin * 3 + np.where(zero, 1, 2), finish * 3 + zero
        resorted = np.argsort(begin, kind="stable")
        rows, t, zero = rows[resorted], t[resorted], zero[resorted]
        begin, finish = begin[resorted], finish[resorted]
    by_end = np.argsort(finish, kind="stable")
    ends_before = np.searchsorted(finish[by_end], begin, side="right")
    # Zero-length rows of one instant follow each other: begin, end, begin, end.
    position = np.empty(n, dtype=np.int64)
    position[by_end] = np.arange(n)
    ends_before[zero] = position[zero]
    begins_before = np.cumsum(np.bincount(ends_before, minlength=n + 1))[:n]
    begin_level = np.arange(n) - ends_before  # open rows before the begin
    end_level = begins_before - np.arange(n) - 1  # open rows after the end

    # On each level begins and ends alternate, so the i-th begin of a level pairs with its i-th
    # end, and the begin after that one takes over the lane which this end frees.
    begins = _stable_argsort(begin_level)
    ends = by_end[_stable_argsort(end_level)]
    level = begin_level[begins]
    fresh = np.ones(n, dtype=np.bool_)
    fresh[1:] = (level[1:] != level[:-1]) | (t[begins[1:]] != t[begins[:-1]])
    source = np.arange(n)
    source[begins[1:][~fresh[1:]]] = ends[:-1][~fresh[1:]]
    lane[rows] = begin_level[_roots(source)]
    return lane.astype(np.int32)


def one_axis(rank: Int64s, *times: Int64s) -> list[Int64s]:
    """Lays the tracks one after another on one time axis, where no two tracks touch.

    Args:
        rank: shape (n,), position of each row's track, 0 <= rank.
        times: arrays of shape (n,), ns.

    Returns:
        One array for each of ``times``, values in 0 .. 2^61. Within a track the order is that of
        the times; all values of a track are smaller than all of the next.
    """
    if len(rank) == 0:
        return list(times)
    tracks = int(rank.max()) + 1
    first = min(int(time.min()) for time in times)
    span = max(int(time.max()) for time in times) - first + 1
    if tracks * span >= 1 << 61:
        times = tuple(_dense(*times))
        first, span = 0, max(int(time.max()) for time in times) + 1
    if tracks == 1:
        return [time - first for time in times]
    offset = rank * span - first
    return [offset + time for time in times]


def _on_one_axis(track: Int64s, start: Int64s, end: Int64s) -> tuple[Int64s, Int64s]:
    """`one_axis` for rows that are sorted by track."""
    start, end = _int64(start), _int64(end)
    rank = np.zeros(len(track), dtype=np.int64)
    np.cumsum(~_runs(track), out=rank[1:])
    begin, finish = one_axis(rank, start, end)
    return begin, finish


def _runs(track: Int64s) -> Bools:
    """Whether each row is of the same track as the one before it, shape (n - 1,)."""
    return np.asarray(track[1:] == track[:-1])


def _depth(begin: Int64s, finish: Int64s) -> Int64s:
    """`depth` on one axis: the rows before each row, less those that have ended."""
    zero = begin == finish
    any_zero = bool(zero.any())
    ended = np.searchsorted(np.sort(finish[~zero] if any_zero else finish), begin, side="right")
    if any_zero:
        # A zero-length row ends before the next row begins, a later one at that instant does not.
        ended[1:] += np.cumsum(zero[:-1])
    level: Int64s = np.arange(len(begin)) - ended
    return level


def _crosses_later(begin: Int64s, finish: Int64s) -> Int64s:
    """Indices of the rows that a later row crosses; rows in nesting order on one axis."""
    # Only a row that is still open when the next one begins can be crossed.
    row = np.flatnonzero(finish[:-1] > begin[1:])
    after = np.searchsorted(begin, finish[row])
    found: Int64s = row[range_max(finish, row + 1, after, -1) > finish[row]]
    return found


def _crosses_earlier(begin: Int64s, finish: Int64s) -> Int64s:
    """Indices of the rows that cross an earlier row: one that ends inside but begins before."""
    by_end = np.argsort(finish, kind="stable")
    ends = finish[by_end]
    lo = np.searchsorted(ends, begin, side="right")
    hi = np.searchsorted(ends, finish)
    return np.flatnonzero(range_min(begin[by_end], lo, hi, np.iinfo(np.int64).max) < begin)


def _rows_that_cross(begin: Int64s, finish: Int64s) -> Int64s:
    """Indices, ascending, of the rows that cross any other row."""
    crossed = _crosses_later(begin, finish)
    if len(crossed) == 0:
        return crossed
    involved = np.zeros(len(begin), dtype=np.bool_)
    involved[crossed] = True
    involved[_crosses_earlier(begin, finish)] = True
    return np.flatnonzero(involved)


def _outermost(begin: Int64s, finish: Int64s) -> Bools:
    """Marks the first row, then the first row that begins after it has ended, and so on."""
    n = len(begin)
    follows = np.append(np.searchsorted(begin, finish), n)
    chosen = np.zeros(1, dtype=np.int64)
    # Doubling: the first 2^k rows of the chain, and for every row the one 2^k steps on.
    while True:
        further = follows[chosen]
        chosen = np.concatenate((chosen, further[further < n]))
        if further[-1] == n:
            break
        follows = follows[follows]
    keep = np.zeros(n, dtype=np.bool_)
    keep[chosen] = True
    return keep


def _sorted_by_track(track: Int64s, order: Int64s | None) -> Int64s:
    """Sorts rows by track, stable with respect to `order`: a radix sort over varying digits."""
    if order is None:
        order = np.arange(len(track))
        if not (track[1:] < track[:-1]).any():
            return order
    bits = 8 * track.dtype.itemsize
    varying = int(np.bitwise_or.reduce(track ^ track[:1], initial=0))
    for shift in range(0, bits, 16):
        if (varying >> shift) & 0xFFFF == 0:
            continue
        digit = ((track >> shift) & 0xFFFF).astype(np.uint16)
        if shift == bits - 16:
            digit ^= 0x8000  # the sign bit: negative keys come first
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def _sort_ties(
    order: Int64s, tie: Bools, end: Int64s, priority: NDArray[np.integer] | None
) -> None:
    """Sorts, in place, runs of rows of equal track and start by (longer first, priority)."""
    tied = np.zeros(len(order), dtype=np.bool_)
    tied[1:] = tie
    tied[:-1] |= tie
    place = np.flatnonzero(tied)
    rows = order[place]
    run = np.cumsum(~np.append(False, tie)[place])
    keys = [~end[rows], run]  # ~end descends where end ascends, and cannot overflow
    if priority is not None:
        keys.insert(0, priority[rows])
    order[place] = rows[np.lexsort(keys)]


def _roots(source: Int64s) -> Int64s:
    """Follows `source` from every element to the one that is its own source."""
    while True:
        further = source[source]
        if np.array_equal(further, source):
            return source
        source = further


def _stable_argsort(level: Int64s) -> Int64s:
    """A stable argsort of numbers >= 0; a radix sort where they fit into 16 bits."""
    small = len(level) == 0 or int(level.max()) < 1 << 16
    return np.argsort(level.astype(np.uint16) if small else level, kind="stable")


def _dense(*values: Int64s) -> list[Int64s]:
    """Replaces values by their ranks among all of `values`."""
    rank = np.unique(np.concatenate(values), return_inverse=True)[1].reshape(-1)
    return np.split(rank, np.cumsum([len(v) for v in values])[:-1])


def _int64(values: Int64s) -> Int64s:
    return np.asarray(values, dtype=np.int64)
