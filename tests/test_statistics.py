"""Statistics by group, against Python's `statistics` and the trace processor's `percentile`."""

import math
import random
import statistics
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis.statistics import by_group
from tests.engine import query

DURATIONS = st.one_of(
    st.integers(0, 5), st.integers(0, 10**7), st.integers(-(10**6), 10**6), st.integers(0, 1 << 52)
)
ROWS = st.lists(st.tuples(st.integers(0, 6), DURATIONS), max_size=60)


def described(rows, percentiles=()):
    group, value = (np.array(c, np.int64) for c in (zip(*rows, strict=True) if rows else ((), ())))
    return by_group(group, value, percentiles)


def groups_of(rows):
    groups = defaultdict(list)
    for group, value in rows:
        groups[group].append(value)
    return dict(sorted(groups.items()))


@given(ROWS)
def test_every_number_is_what_python_computes(rows):
    found, groups = described(rows), groups_of(rows)
    values = list(groups.values())
    assert found.group.tolist() == list(groups)
    assert found.count.tolist() == list(map(len, values))
    assert found.total.tolist() == list(map(sum, values))
    assert found.mean.tolist() == [sum(v) / len(v) for v in values]
    assert found.median.tolist() == list(map(statistics.median, values))
    assert found.least.tolist() == list(map(min, values))
    assert found.most.tolist() == list(map(max, values))
    for deviation, some in zip(found.deviation.tolist(), values, strict=True):
        expected = statistics.stdev(some) if len(some) > 1 else 0.0
        assert math.isclose(deviation, expected, rel_tol=1e-12, abs_tol=1e-9)


@given(ROWS, st.floats(0, 100))
def test_percentiles_interpolate_between_neighbours(rows, percent):
    found = described(rows, (0, percent, 100))
    low, some, high = (p.tolist() for p in found.percentiles)
    assert low == found.least.tolist()
    assert high == found.most.tolist()
    for got, values in zip(some, groups_of(rows).values(), strict=True):
        expected = np.percentile(np.array(values, np.float64), percent)
        assert math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-6)


def test_percentiles_are_the_engines_to_the_last_bit(open_trace):
    draw = random.Random(7)
    rows = [(n, draw.randrange(10**9)) for n in range(120) for _ in range(n + 1)]
    draw.shuffle(rows)
    values = ", ".join(f"({group}, {value})" for group, value in rows)
    with open_trace(b"") as tp:
        expected = query.rows(
            tp,
            f"with t(g, x) as (values {values}) select percentile(x, 50) a, percentile(x, 95) b, "
            "percentile(x, 99) c from t group by g order by g",
        )
    found = described(rows, (95, 99))
    columns = (found.median, *found.percentiles)
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == [
        (row["a"], row["b"], row["c"]) for row in expected
    ]


def test_times_too_far_apart_for_one_key():
    rows = [(0, -(1 << 61)), (1, 5), (0, 1 << 61), (1, 3), (7, 1 << 61)]
    found = described(rows)
    assert found.group.tolist() == [0, 1, 7]
    assert found.least.tolist() == [-(1 << 61), 3, 1 << 61]
    assert found.most.tolist() == [1 << 61, 5, 1 << 61]


@pytest.mark.parametrize("offset", [0, 10**15])
def test_the_deviation_keeps_its_digits_far_from_zero(offset):
    values = [offset + v for v in (1, 2, 4, 8, 16)] * 1_000
    found = described([(0, v) for v in values])
    assert found.deviation[0] == pytest.approx(statistics.stdev(values), rel=1e-12)
