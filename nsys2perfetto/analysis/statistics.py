"""Statistics of durations by group: what `nsys stats` prints, and percentiles.

Sums are exact. Percentiles are computed as the trace processor does, in the same order of
operations, so that a table from a capture and one from its trace agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]

_WIDEST_KEY = 1 << 62


@dataclass(frozen=True)
class Statistics:
    """One row a group that occurs, ascending by group; all arrays of shape (groups,).

    Attributes:
        group: Its number.
        count: How many values.
        total: Their sum.
        mean: `total / count`.
        median: The 50th percentile.
        least: The smallest value.
        most: The largest.
        deviation: Standard deviation of the sample (divided by `count - 1`), as `nsys stats` has
            it; 0 where there is one value.
        percentiles: In the order asked for.
    """

    group: Int64s
    count: Int64s
    total: Int64s
    mean: Float64s
    median: Float64s
    least: Int64s
    most: Int64s
    deviation: Float64s
    percentiles: tuple[Float64s, ...]


def by_group(group: Int64s, value: Int64s, percentiles: Sequence[float] = ()) -> Statistics:
    """Describes the values of each group.

    Args:
        group: Small numbers, 0 and up, shape (n,).
        value: Shape (n,).
        percentiles: Each between 0 and 100.
    """
    counts = np.bincount(group)
    groups = np.flatnonzero(counts)
    count = counts[groups].astype(np.int64)
    ordered = _sorted(group, value, groups, count)
    first = np.cumsum(count) - count
    last = first + count - 1
    if not len(groups):
        none = np.empty(0)
        nothing = (groups, count, ordered, none, none, ordered, ordered, none)
        return Statistics(*nothing, tuple(none for _ in percentiles))
    total = np.add.reduceat(ordered, first)
    mean = total / count
    return Statistics(
        group=groups,
        count=count,
        total=total,
        mean=mean,
        median=_percentile(ordered, first, count, 50),
        least=ordered[first],
        most=ordered[last],
        deviation=_deviation(ordered, first, count, mean),
        percentiles=tuple(_percentile(ordered, first, count, p) for p in percentiles),
    )


def _sorted(group: Int64s, value: Int64s, groups: Int64s, count: Int64s) -> Int64s:
    """The values by group, ascending in each: one sort of one key where that fits into 63 bits."""
    if not len(value):
        return np.empty(0, np.int64)
    low, high = int(value.min()), int(value.max())
    span = high - low + 1
    if (int(groups[-1]) + 1) * span > _WIDEST_KEY:
        return value[np.lexsort((value, group))]
    key = np.sort(group * np.int64(span) + (value - low))
    return key - np.repeat(groups * np.int64(span), count) + low


def _percentile(ordered: Int64s, first: Int64s, count: Int64s, percent: float) -> Float64s:
    """Between the two values next to it, linearly (SQLite's ext/misc/percentile.c, 3.50)."""
    place = (percent / 100.0) * (count - 1)
    below = place.astype(np.int64)
    above = np.where((place == below) | (below == count - 1), below, below + 1)
    low, high = ordered[first + below].astype(np.float64), ordered[first + above].astype(np.float64)
    return low + (high - low) * (place - below)


def _deviation(ordered: Int64s, first: Int64s, count: Int64s, mean: Float64s) -> Float64s:
    """Of the sample. The second sum takes away what is left of the mean's rounding."""
    away = ordered - np.repeat(mean, count)
    squares = np.add.reduceat(away * away, first) - np.add.reduceat(away, first) ** 2 / count
    return np.sqrt(np.maximum(squares, 0.0) / np.maximum(count - 1, 1))
