"""Range minimum and maximum, against numpy on each range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis.range_minmax import range_max, range_min


@st.composite
def values_and_ranges(draw):
    values = draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40))
    index = st.integers(0, len(values))
    ranges = draw(st.lists(st.tuples(index, index), max_size=30))
    return (
        np.array(values, dtype=np.int64),
        np.array([r[0] for r in ranges], dtype=np.int64),
        np.array([r[1] for r in ranges], dtype=np.int64),
    )


@given(values_and_ranges())
def test_equals_numpy_on_each_range(case):
    values, lo, hi = case
    expected = [
        (int(values[a:b].min()), int(values[a:b].max())) if a < b else (7, -7)
        for a, b in zip(lo, hi, strict=True)
    ]
    assert range_min(values, lo, hi, 7).tolist() == [e[0] for e in expected]
    assert range_max(values, lo, hi, -7).tolist() == [e[1] for e in expected]


def test_every_range_of_a_longer_array():
    values = np.random.default_rng(3).integers(-1000, 1000, 70)
    lo, hi = (a.reshape(-1) for a in np.meshgrid(np.arange(71), np.arange(71)))
    least = range_min(values, lo, hi, 9999)
    for a, b, found in zip(lo, hi, least, strict=True):
        assert found == (values[a:b].min() if a < b else 9999)


def test_no_ranges_and_no_values():
    none = np.array([], dtype=np.int64)
    zero = np.zeros(2, dtype=np.int64)
    assert range_min(none, none, none, 5).tolist() == []
    assert range_max(none, zero, zero, 5).tolist() == [5, 5]


def test_ranges_outside_raise():
    values = np.arange(4)
    for lo, hi in (([-1], [2]), ([0], [5])):
        with pytest.raises(IndexError):
            range_min(values, np.array(lo), np.array(hi), 0)


def test_the_input_stays_as_it_is():
    values = np.arange(8)
    range_min(values, np.array([0]), np.array([8]), 0)
    assert values.tolist() == list(range(8))
