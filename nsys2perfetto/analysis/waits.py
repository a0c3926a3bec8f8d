"""Which GPU work a waiting call waited for, and when it was done.

A call that synchronises returns once the last operation is done that was submitted before it: to
its stream, to the event's stream before the event was recorded, or to any stream of its context.
From the end of that operation on the thread only woke up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

NONE = -1


@dataclass(frozen=True)
class Submitted:
    """GPU operations and when they were submitted; all arrays of shape (n,).

    Attributes:
        queue: A number >= 0 for the stream, or for the context, that the operation ran on.
        submitted: ns at which the submitting call began; the operation's own start where the call
            is not in the capture.
        end: ns.
    """

    queue: I64
    submitted: I64
    end: I64


def awaited(work: Submitted, queue: I64, before: I64) -> I64:
    """The operation that ended last among those submitted to a queue before a time.

    Args:
        work: All operations.
        queue: For each wait what it waited for, in the numbers of `work.queue`; shape (m,).
        before: For each wait when it began, ns.

    Returns:
        Row number of the operation for each wait, NONE where there is none; shape (m,). Of
        operations that ended at the same time the one submitted last.
    """
    if not len(work.queue) or not len(queue):
        return np.full(len(queue), NONE, np.int64)
    submitted, ended, asked = _one_axis(
        (work.queue, work.submitted), (work.queue, work.end), (queue, before)
    )
    order = np.argsort(submitted, kind="stable")
    latest = _running_argmax(ended[order])
    return _answer(work.queue[order], submitted[order], queue, asked, order[latest])


def last_recorded(recorded_event: I64, recorded_at: I64, event: I64, before: I64) -> I64:
    """The last recording of an event before a time.

    Args:
        recorded_event: A number >= 0 for each (process, event) that was recorded; shape (n,).
        recorded_at: When the recording call began, ns.
        event: For each wait the event it waited for, in the same numbers; shape (m,).
        before: For each wait when it began, ns.

    Returns:
        Row number of the recording for each wait, NONE where there is none; shape (m,).
    """
    if not len(recorded_event) or not len(event):
        return np.full(len(event), NONE, np.int64)
    recorded, asked = _one_axis((recorded_event, recorded_at), (event, before))
    order = np.argsort(recorded, kind="stable")
    return _answer(recorded_event[order], recorded[order], event, asked, order)


def _answer(group: I64, time: I64, wanted: I64, asked: I64, row: I64) -> I64:
    """The row of the last entry at or before each asked time, if it is of the wanted group."""
    place = np.searchsorted(time, asked, side="right") - 1
    found = place >= 0
    found[found] = group[place[found]] == wanted[found]
    return np.where(found, row[np.maximum(place, 0)], NONE)


def _one_axis(*sides: tuple[I64, I64]) -> list[I64]:
    """Lays (group, time) of several tables on one axis: sorted by group, then by time."""
    first = min(int(time.min()) for _, time in sides)
    span = max(int(time.max()) for _, time in sides) - first + 1
    groups = max(int(group.max()) for group, _ in sides) + 1
    if groups * span < 1 << 62:
        return [group * span + (time - first) for group, time in sides]
    # Times so far apart do not fit side by side: their ranks do.
    times, groups_known = (np.unique(np.concatenate([side[i] for side in sides])) for i in (1, 0))
    return [
        np.searchsorted(groups_known, group) * len(times) + np.searchsorted(times, time)
        for group, time in sides
    ]


def _running_argmax(value: I64) -> I64:
    """Index of the largest value so far, the later of equal ones; shape (n,)."""
    largest = np.maximum.accumulate(value)
    return np.maximum.accumulate(np.where(value == largest, np.arange(len(value)), 0))
