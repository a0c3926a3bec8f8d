"""When threads were on a CPU: pairs of coming to one and leaving it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Stays:
    """Times on a CPU, in order of their start; shape (n,) each.

    Attributes:
        start, end: ns.
        came: The row at which the thread came; -1 where it was there from the beginning.
        left: The row at which it left; -1 where that is not known: it stayed to the end of the
            capture, or until it came to a CPU again.
        twice: Rows that end nothing, since the thread had left before: shape (m,).
    """

    start: I64
    end: I64
    came: Rows
    left: Rows
    twice: Rows


def stays(thread: I64, time: I64, comes: npt.NDArray[np.bool_]) -> Stays:
    """Pairs the rows of each thread, whatever their order.

    Args:
        thread: Which thread it is, shape (n,).
        time: ns.
        comes: Whether the thread comes to a CPU; otherwise it leaves one.
    """
    order = np.lexsort((time, thread))
    thread, time, comes = thread[order], time[order], comes[order]
    same = np.zeros(len(order) + 1, bool)  # same[i]: row i belongs to the thread of row i - 1
    same[1:-1] = thread[1:] == thread[:-1]
    follows = np.zeros(len(order), bool)  # a row that follows one at which the thread came
    follows[1:] = comes[:-1] & same[1:-1]

    came = np.flatnonzero(comes)
    has_next = same[came + 1]
    after = np.minimum(came + 1, len(order) - 1)
    earliest, last = (int(time.min()), int(time.max())) if len(time) else (0, 0)
    end = np.where(has_next, time[after], last)
    left = np.where(has_next & ~comes[after], order[after], -1)

    early = np.flatnonzero(~comes & ~same[:-1])
    twice = np.flatnonzero(~comes & same[:-1] & ~follows)
    start = np.concatenate([time[came], np.full(len(early), earliest)])
    end = np.concatenate([end, time[early]])
    came_row = np.concatenate([order[came], np.full(len(early), -1)])
    left_row = np.concatenate([left, order[early]])
    sorting = np.lexsort((came_row, start))
    return Stays(
        start[sorting], end[sorting], came_row[sorting], left_row[sorting], np.sort(order[twice])
    )
