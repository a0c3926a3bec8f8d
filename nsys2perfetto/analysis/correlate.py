"""Which GPU operations a call submitted: the join by (process, correlation id).

A correlation id is unique only within a process (NSYS_SCHEMA section 2), so both sides are keyed by
the process too. One launch of a CUDA graph submits many operations, all under the id of that call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nsys2perfetto.analysis.columns import narrow

I64 = npt.NDArray[np.int64]

NO_KEY = -1
_CORRELATION_BITS = 40
_DENSE = 8
"""A lookup table is worth it while it has at most this many entries an operation."""


def keys(process_number: I64, correlation: I64) -> I64:
    """One number for each (process, correlation id), comparable between tables.

    Args:
        process_number: A small number >= 0 for the process of each row, alike in all tables.
        correlation: The correlation id of each row; 0 and below mean "none" (unified-memory
            migrations have 0).

    Returns:
        A key a row, NO_KEY where there is none.
    """
    valid = (correlation > 0) & (correlation < 1 << _CORRELATION_BITS)
    if valid.all():
        return (process_number << _CORRELATION_BITS) | correlation
    return np.where(valid, (process_number << _CORRELATION_BITS) | correlation, NO_KEY)


@dataclass(frozen=True)
class Submissions:
    """The operations of each call: call i submitted `order[first[i]:first[i] + count[i]]`.

    Attributes:
        order: Row numbers of the operations that have a key, sorted by key.
        first, count: Shape (calls,).
    """

    order: I64
    first: I64
    count: I64


def match(call_key: I64, operation_key: I64) -> Submissions:
    """Finds the operations of each call; keys as `keys` gives them."""
    order = np.arange(len(operation_key), dtype=np.int64)
    if len(operation_key) and int(operation_key.min()) < 0:
        order = order[operation_key >= 0]
    key = operation_key[order] if len(order) < len(operation_key) else operation_key
    if (key[1:] < key[:-1]).any():
        by_key = np.argsort(key, kind="stable")
        order, key = order[by_key], key[by_key]
    if not len(key):
        zero = np.zeros(len(call_key), np.int64)
        return Submissions(order, zero, zero.copy())
    order = narrow(order, len(operation_key))
    low, high = int(key[0]), int(key[-1])
    if high - low < _DENSE * len(key) + 1024:
        # Ids of one process are dense: a table of counts answers in one step.
        counts = narrow(np.bincount(key - low, minlength=high - low + 1), len(key))
        starts = narrow(np.cumsum(counts) - counts, len(key))
        inside = (call_key >= low) & (call_key <= high)
        place = np.where(inside, call_key - low, 0)
        first, count = starts[place], counts[place]
        count[~inside] = 0
    else:
        first = np.searchsorted(key, call_key)
        count = np.searchsorted(key, call_key, side="right") - first
        count[call_key == NO_KEY] = 0
    return Submissions(order, first, count)


def joined(call_key: I64, operation_key: I64) -> tuple[Submissions, I64]:
    """Joins calls and operations so that each operation belongs to one call at most.

    Where several calls share a correlation id the last one counts, as in Perfetto's engine. (All
    of them times all operations of that id could be more than any memory holds.)

    Args:
        call_key: As `keys` gives them.
        operation_key: Likewise.

    Returns:
        The operations of each call, and `submitting_call` of the operations.
    """
    found = match(call_key, operation_key)
    total = int(found.count.sum())
    if total > len(found.order):
        found = _of_last_call(found)
        return found, submitting_call(found, len(operation_key))
    call = submitting_call(found, len(operation_key))
    if np.count_nonzero(call >= 0) < total:
        found = _of_last_call(found)
    return found, call


def _of_last_call(found: Submissions) -> Submissions:
    """The same with the operations of a key given to the last of its calls only."""
    calls = np.flatnonzero(found.count)
    last = np.empty(len(found.order), np.int64)
    last[found.first[calls]] = calls
    count = found.count.copy()
    count[calls[last[found.first[calls]] != calls]] = 0
    return Submissions(found.order, found.first, count)


def submitting_call(submissions: Submissions, operations: int) -> I64:
    """The row number of the call that submitted each operation, shape (operations,); -1: none."""
    call = narrow(np.full(operations, -1, np.int64), len(submissions.count))
    count = submissions.count
    single = np.nonzero(count == 1)[0]
    call[submissions.order[submissions.first[single]]] = single
    many = np.nonzero(count > 1)[0]
    if len(many):
        size = count[many]
        ends = np.cumsum(size)
        index = np.arange(ends[-1]) - np.repeat(ends - size, size)
        rows = submissions.order[np.repeat(submissions.first[many], size) + index]
        call[rows] = np.repeat(many, size)
    return call
