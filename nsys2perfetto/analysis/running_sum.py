"""Running sums by group: how much is in use after each of many allocations and frees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Levels:
    """The level of each group after each of its events.

    Attributes:
        order: The events, group by group and by time within, shape (n,).
        level: The level after each event of `order`, never below 0, shape (n,).
        first: Where each group's events begin in `order`, shape (groups,).
        base: What each group holds before its first event, shape (groups,): 0, or the least that
            keeps it from falling below 0.
    """

    order: npt.NDArray[np.intp]
    level: I64
    first: npt.NDArray[np.intp]
    base: I64


def levels(group: I64, time: I64, change: I64, groups: int) -> Levels:
    """Adds up changes.

    What falls below 0 gave back more than it took: it held that much before the first event, so the
    whole group is lifted by the deficit.

    Args:
        group: Number of each event's group, 0 to groups - 1, shape (n,); each group has events.
        time: ns, shape (n,); events of equal time count in the order given.
        change: By how much each event changes its group's level, shape (n,).
        groups: How many groups there are.
    """
    order = np.lexsort((np.arange(len(time)), time, group))
    size = np.bincount(group, minlength=groups)
    first = np.cumsum(size) - size
    if not len(order):
        return Levels(order, np.empty(0, np.int64), first, np.zeros(groups, np.int64))
    total = np.cumsum(change[order])
    before = np.concatenate([[0], total])[first]
    level = total - np.repeat(before, size)
    base = np.maximum(0, -np.minimum.reduceat(level, first))
    return Levels(order, level + np.repeat(base, size), first, base)
