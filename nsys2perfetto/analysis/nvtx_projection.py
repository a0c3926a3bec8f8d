"""Projection of NVTX ranges onto the GPU.

Nsight Systems' rule (its reports nvtx_gpu_proj_sum and nvtx_gpu_proj_trace; schema notes, section
7): a GPU operation belongs to a range when the CUDA call that launched it lies inside the range on
the same thread, ``call.start >= range.start and call.end <= range.end``. The projected range spans
from the first start to the last end of its operations. NVIDIA projects push/pop ranges and those
start/end ranges that ended on the thread where they started; choosing them is the caller's part.

Ranges need not nest. Everything is vectorised, thread by thread; O((n + m) log n) where the
launching calls of a thread do not contain each other, one more factor log n for the groups of calls
which do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nsys2perfetto.analysis.intervals import ascending
from nsys2perfetto.analysis.range_minmax import range_max, range_min

Int64s = NDArray[np.int64]

_MAX = np.iinfo(np.int64).max
_MIN = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Launches:
    """The CUDA calls that launched GPU work, one row a call; all arrays of shape (n,).

    Attributes:
        thread: globalTid.
        start: start of the call, ns.
        end: end of the call, ns.
        first_op_start: earliest start of the operations it launched, ns.
        last_op_end: latest end of the operations it launched, ns.
        op_count: how many operations it launched.
    """

    thread: Int64s
    start: Int64s
    end: Int64s
    first_op_start: Int64s
    last_op_end: Int64s
    op_count: Int64s

    def take(self, rows: Int64s) -> Launches:
        """The calls at the given row indices."""
        return Launches(
            self.thread[rows],
            self.start[rows],
            self.end[rows],
            self.first_op_start[rows],
            self.last_op_end[rows],
            self.op_count[rows],
        )


@dataclass(frozen=True)
class Projection:
    """What each range became on the GPU; all arrays of shape (m,), one row a range.

    Attributes:
        start: earliest start of the range's operations, ns; -1 where it has none.
        end: latest end of the range's operations, ns; -1 where it has none.
        op_count: GPU operations in the range.
        call_count: calls in the range that launched any.
    """

    start: Int64s
    end: Int64s
    op_count: Int64s
    call_count: Int64s


def project(thread: Int64s, start: Int64s, end: Int64s, launches: Launches) -> Projection:
    """Projects ranges onto the GPU.

    Args:
        thread: shape (m,), globalTid of each range.
        start: shape (m,), ns.
        end: shape (m,), ns, ``start <= end``.
        launches: the launching calls, any order.

    Returns:
        One row for each range, in the order of the ranges.
    """
    totals = _Totals.none(len(thread))
    for rows, mine in _by_thread(thread, launches):
        found = _totals_inside(start[rows], end[rows], mine)
        totals.add(rows, found.first, found.last, found.ops, found.calls)
    some = totals.calls > 0
    return Projection(
        np.where(some, totals.first, -1),
        np.where(some, totals.last, -1),
        totals.ops,
        totals.calls,
    )


def _by_thread(thread: Int64s, launches: Launches) -> Iterator[tuple[Int64s, Launches]]:
    """Rows of each thread's ranges, and its launching calls sorted by start."""
    ranges = ascending(thread)
    by_thread = ascending(launches.thread)
    owners = launches.thread[by_thread]
    for first, last in _runs(thread[ranges]):
        rows = ranges[first:last]
        owner = thread[rows[0]]
        low, high = np.searchsorted(owners, owner), np.searchsorted(owners, owner, side="right")
        # With one thread that launches, the usual case, nothing is copied.
        calls = launches if high - low == len(owners) else launches.take(by_thread[low:high])
        if (calls.start[1:] < calls.start[:-1]).any():
            calls = calls.take(np.argsort(calls.start, kind="stable"))
        if len(calls.thread):
            yield rows, calls


def _runs(values: Int64s) -> list[tuple[int, int]]:
    """Where each run of equal values begins and ends."""
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    bounds = [0, *edges.tolist(), len(values)] if len(values) else []
    return list(pairwise(bounds))


@dataclass
class _Totals:
    """Aggregates over the launching calls of each range; all arrays of shape (m,)."""

    first: Int64s
    last: Int64s
    ops: Int64s
    calls: Int64s

    @classmethod
    def none(cls, m: int) -> _Totals:
        """The totals of m ranges without any call."""
        full = np.full
        return cls(full(m, _MAX), full(m, _MIN), full(m, 0), full(m, 0))

    def add(self, rows: Int64s, first: Int64s, last: Int64s, ops: Int64s, calls: Int64s) -> None:
        """Merges further calls into the given rows, which are distinct."""
        self.first[rows] = np.minimum(self.first[rows], first)
        self.last[rows] = np.maximum(self.last[rows], last)
        self.ops[rows] += ops
        self.calls[rows] += calls


def _totals_inside(lo_key: Int64s, hi_key: Int64s, calls: Launches) -> _Totals:
    """Aggregates the calls of one thread with ``start >= lo_key and end <= hi_key``.

    Args:
        lo_key: shape (m,), starts of the ranges.
        hi_key: shape (m,), ends of the ranges.
        calls: sorted by start, shape (n,).
    """
    n = len(calls.start)
    totals = _Totals.none(len(lo_key))
    latest_end = np.maximum.accumulate(calls.end)
    lo = np.searchsorted(calls.start, lo_key)
    hi = np.searchsorted(calls.start, hi_key, side="right")
    # When all calls that began before the range ended have ended too, the calls of the range are
    # the run lo .. hi. Else the run goes to the group of overlapping calls that is still going on.
    head = np.ones(n, dtype=np.bool_)
    head[1:] = calls.start[1:] >= latest_end[:-1]
    group_start = np.maximum.accumulate(np.where(head, np.arange(n), 0))
    last = np.maximum(hi - 1, 0)
    straddled = (lo < hi) & (latest_end[last] > hi_key)
    run_end = np.where(straddled, group_start[last], hi)

    rows = np.flatnonzero(lo < run_end)
    a, b = lo[rows], run_end[rows]
    ops_before = np.append(0, np.cumsum(calls.op_count))
    totals.add(
        rows,
        _first(calls.first_op_start, a, b),
        _last(calls.last_op_end, a, b),
        ops_before[b] - ops_before[a],
        b - a,
    )
    # In a group of one call it is that call which does not end in time. In larger ones (calls
    # inside of calls) others may: test each call of those groups.
    rows = np.flatnonzero(straddled & (hi - run_end > 1))
    if len(rows):
        change = np.zeros(n + 1, dtype=np.int64)
        np.add.at(change, run_end[rows], 1)
        np.add.at(change, hi[rows], -1)
        group_calls = calls.take(np.flatnonzero(np.cumsum(change[:n]) > 0))
        before = np.maximum(lo_key[rows], calls.start[run_end[rows]])
        _add_dominated(totals, rows, before, hi_key[rows], group_calls)
    return totals


def _first(values: Int64s, a: Int64s, b: Int64s) -> Int64s:
    """The smallest of ``values[a:b]``, none of them empty."""
    if (values[1:] >= values[:-1]).all():  # one stream: work runs in the order of its launches
        return values[a]
    return range_min(values, a, b, _MAX)


def _last(values: Int64s, a: Int64s, b: Int64s) -> Int64s:
    """The largest of ``values[a:b]``, none of them empty."""
    if (values[1:] >= values[:-1]).all():
        return values[b - 1]
    return range_max(values, a, b, _MIN)


def _add_dominated(
    totals: _Totals, rows: Int64s, lo_key: Int64s, hi_key: Int64s, calls: Launches
) -> None:
    """Adds the calls with ``start >= lo_key and end <= hi_key``, however the calls overlap.

    In order of end, the calls that end in time are a prefix. It is cut into aligned blocks of
    2^k calls, one for each set bit of its length; in a block sorted by start, the calls that begin
    late enough are a suffix, whose aggregates stand ready. One pass a bit, O((n + m) log^2 n).
    """
    n = len(calls.start)
    by_end = np.argsort(calls.end, kind="stable")
    prefix = np.searchsorted(calls.end[by_end], hi_key, side="right")
    earliest = np.searchsorted(calls.start, lo_key)
    bits = n.bit_length()
    padding = np.arange(n, 1 << bits)  # fills the last block, which no prefix contains
    block_calls = np.concatenate((by_end, padding))
    first = np.append(calls.first_op_start, np.full(len(padding), _MAX))
    last = np.append(calls.last_op_end, np.full(len(padding), _MIN))
    ops = np.append(calls.op_count, np.full(len(padding), 0))
    for k in range(bits):
        # Indices of calls ascend with their starts, so this sorts each block by start.
        blocks = np.sort(block_calls.reshape(-1, 1 << k), axis=1, kind="stable")
        block_calls = blocks.reshape(-1)
        ask = np.flatnonzero((prefix >> k) & 1)
        block = (prefix[ask] >> k) - 1
        key = (np.arange(len(blocks)) << bits)[:, None] + blocks
        suffix = np.searchsorted(key.reshape(-1), (block << bits) + earliest[ask])
        block_end = (block + 1) << k
        some = suffix < block_end
        ask, suffix, block_end = ask[some], suffix[some], block_end[some]
        least = np.minimum.accumulate(first[blocks][:, ::-1], axis=1)[:, ::-1].reshape(-1)
        most = np.maximum.accumulate(last[blocks][:, ::-1], axis=1)[:, ::-1].reshape(-1)
        ops_before = np.append(0, np.cumsum(ops[block_calls]))
        totals.add(
            rows[ask],
            least[suffix],
            most[suffix],
            ops_before[block_end] - ops_before[suffix],
            block_end - suffix,
        )
