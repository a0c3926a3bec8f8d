"""Minimum and maximum of many index ranges of one array at once.

A sparse table (the extrema of all windows of 2^k elements) answers each range with two overlapping
windows. Its levels are built one after the other and dropped again: the ranges whose length asks
for level k are answered while level k is there, so memory stays O(n) instead of O(n log n).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]


def range_min(values: Int64s, lo: Int64s, hi: Int64s, fill: int) -> Int64s:
    """The smallest of ``values[lo[i]:hi[i]]`` for every i.

    Args:
        values: shape (n,).
        lo: shape (m,), first index of each range, 0 <= lo.
        hi: shape (m,), index after the last one, hi <= n. A range with hi <= lo is empty.
        fill: the answer for empty ranges.

    Returns:
        Shape (m,).

    Raises:
        IndexError: a range that is not empty reaches outside of ``values``.
    """
    return _range_extremum(np.minimum, values, lo, hi, fill)


def range_max(values: Int64s, lo: Int64s, hi: Int64s, fill: int) -> Int64s:
    """The largest of ``values[lo[i]:hi[i]]`` for every i; arguments as for :func:`range_min`."""
    return _range_extremum(np.maximum, values, lo, hi, fill)


def _range_extremum(
    extremum: np.ufunc, values: Int64s, lo: Int64s, hi: Int64s, fill: int
) -> Int64s:
    table = np.asarray(values, dtype=np.int64)
    lo = np.asarray(lo, dtype=np.int64)
    hi = np.asarray(hi, dtype=np.int64)
    length = hi - lo
    filled = length > 0
    if not filled.any():
        return np.full(len(lo), fill, dtype=np.int64)
    all_filled = bool(filled.all())
    if int(lo.min(where=filled, initial=0)) < 0 or (
        int(hi.max(where=filled, initial=0)) > len(table)
    ):
        raise IndexError("range outside of values")

    # frexp: length = m * 2^e with 0.5 <= m < 1, so floor(log2(length)) = e - 1; exact below 2^53.
    level = (np.frexp(np.maximum(length, 1).astype(np.float64))[1] - 1).astype(np.uint8)
    if not all_filled:
        level[~filled] = 255
    by_level = np.argsort(level, kind="stable")  # a radix sort for 8-bit keys
    counts = np.bincount(level, minlength=256)
    answer = np.full(len(lo), fill, dtype=np.int64)
    done = 0
    for k in range(int(np.flatnonzero(counts[:255])[-1]) + 1):
        window = 1 << k
        if k:
            table = extremum(table[: -(window >> 1)], table[window >> 1 :])
        ask = by_level[done : done + counts[k]]
        done += int(counts[k])
        if len(ask):
            answer[ask] = extremum(table[lo[ask]], table[hi[ask] - window])
    return answer
