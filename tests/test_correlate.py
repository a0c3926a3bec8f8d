"""Calls joined to what they submitted, against brute force."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nsys2perfetto.analysis import correlate

# Few ids, so that several calls and several operations share one; 0 and below mean none.
sides = st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 6)), max_size=20)


def keys(rows):
    process, correlation = (np.array([r[i] for r in rows], np.int64) for i in range(2))
    return correlate.keys(process, correlation)


@given(sides, sides)
@settings(max_examples=400)
def test_each_operation_belongs_to_the_last_call_of_its_id(calls, operations):
    found, submitting = correlate.joined(keys(calls), keys(operations))
    expected = [
        max((i for i, call in enumerate(calls) if call == o and o[1] > 0), default=-1)
        for o in operations
    ]
    assert submitting.tolist() == expected
    for i in range(len(calls)):
        own = found.order[found.first[i] : found.first[i] + found.count[i]].tolist()
        assert own == [k for k, call in enumerate(expected) if call == i]


@given(sides, st.lists(st.integers(0, 1 << 45), max_size=4))
def test_far_apart_ids(calls, far):
    rows = [*calls, *((1, number) for number in far)]
    found, submitting = correlate.joined(keys(rows), keys(rows))
    assert found.count.sum() == np.count_nonzero(submitting >= 0)
    for i, call in enumerate(submitting.tolist()):
        sane = 0 < rows[i][1] < 1 << 40
        assert call == (max(k for k, r in enumerate(rows) if r == rows[i]) if sane else -1)


def test_equal_ids_of_many_calls_and_operations_cost_little():
    """All calls times all operations would be ten billion."""
    n = 100_000
    same = np.full(n, 5, np.int64)
    before = time.process_time()
    found, submitting = correlate.joined(same, same)
    assert time.process_time() - before < 10
    assert submitting.tolist() == [n - 1] * n
    assert found.count.sum() == n
