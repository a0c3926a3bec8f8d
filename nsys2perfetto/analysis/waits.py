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
        queue: A number for each (process, device, context, stream), or for each (process, device,
            context), that the operation ran on.
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
    order = np.lexsort((work.submitted, work.queue))
    queues, submitted, end = work.queue[order], work.submitted[order], work.end[order]
    latest = _running_argmax(queues, end)
    place = _last_before(queues, submitted, queue, before)
    found = place >= 0
    found[found] = queues[place[found]] == queue[found]
    answer = np.full(len(queue), NONE, np.int64)
    answer[found] = order[latest[place[found]]]
    return answer


def last_recorded(
    recorded_event: I64, recorded_at: I64, event: I64, before: I64
) -> I64:
    """The last recording of an event before a time.

    Args:
        recorded_event: A number for each (process, event) that was recorded; shape (n,).
        recorded_at: When the recording call began, ns.
        event: For each wait the event it waited for, in the same numbers; shape (m,).
        before: For each wait when it began, ns.

    Returns:
        Row number of the recording for each wait, NONE where there is none; shape (m,).
    """
    if not len(recorded_event) or not len(event):
        return np.full(len(event), NONE, np.int64)
    order = np.lexsort((recorded_at, recorded_event))
    events, times = recorded_event[order], recorded_at[order]
    place = _last_before(events, times, event, before)
    found = place >= 0
    found[found] = events[place[found]] == event[found]
    answer = np.full(len(event), NONE, np.int64)
    answer[found] = order[place[found]]
    return answer


def _last_before(group: I64, time: I64, wanted: I64, before: I64) -> I64:
    """Index of the last row with (group, time) <= (wanted, before); rows sorted by both."""
    # Ranks make one number of the pair, whatever the times are.
    times = np.unique(np.concatenate([time, before]))
    groups = np.unique(np.concatenate([group, wanted]))

    def key(g: I64, t: I64) -> I64:
        packed: I64 = np.searchsorted(groups, g) * (len(times) + 1) + np.searchsorted(times, t)
        return packed

    return np.searchsorted(key(group, time), key(wanted, before), side="right") - 1


def _running_argmax(group: I64, value: I64) -> I64:
    """Index of the largest value so far within each row's group; the later of equal ones."""
    # Ranks of (group, value): their running maximum never looks back into an earlier group.
    by_value = np.lexsort((np.arange(len(value)), value, group))
    rank = np.empty(len(value), np.int64)
    rank[by_value] = np.arange(len(value))
    return by_value[np.maximum.accumulate(rank)]
