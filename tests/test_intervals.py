"""Unions, coverage, spread amounts and partitions against brute force."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsys2perfetto.analysis.intervals import Coverage, Partition, Spread, distinct, union
from nsys2perfetto.analysis.nesting import nesting_order

UTC = 1_800_000_000_000_000_000
FAR = (0, UTC, -(1 << 62), (1 << 62) - 100)
"""Shifts of time; with several of them at once tracks do not fit side by side on one axis."""

row = st.tuples(
    st.sampled_from((0, 3, -7, 1 << 62)),
    st.integers(0, 30),
    st.integers(-3, 12),
    st.sampled_from((0, 0, 0, *FAR)),
).map(lambda r: (r[0], r[1] + r[3], r[1] + r[2] + r[3]))
rows = st.lists(row, max_size=25)
question = st.tuples(
    st.sampled_from((0, 3, -7, 1 << 62, 5)),
    st.integers(-5, 50),
    st.integers(0, 50),
    st.sampled_from((0, 0, *FAR)),
).map(lambda r: (r[0], r[1] + r[3], r[1] + r[2] + r[3]))
questions = st.lists(question, min_size=1, max_size=8)


def columns(table, width=3) -> list[np.ndarray]:
    return [np.array([r[i] for r in table], dtype=np.int64) for i in range(width)]


def overlap(start, end, t0, t1) -> int:
    return max(0, min(end, t1) - max(start, t0))


def brute_union(table) -> list[tuple[int, int, int]]:
    merged: list[list[int]] = []
    for track, start, end in sorted(r for r in table if r[1] < r[2]):
        if merged and merged[-1][0] == track and start <= merged[-1][2]:
            merged[-1][2] = max(merged[-1][2], end)
        else:
            merged.append([track, start, end])
    return [tuple(m) for m in merged]


def rows_of(found) -> list[tuple[int, int, int]]:
    return list(zip(found.track.tolist(), found.start.tolist(), found.end.tolist(), strict=True))


@given(rows)
@settings(max_examples=300)
def test_union_is_what_one_by_one_merging_gives(table):
    assert rows_of(union(*columns(table))) == brute_union(table)


def test_touching_intervals_merge_and_empty_ones_vanish():
    table = [(1, 0, 10), (1, 10, 20), (1, 25, 25), (2, 20, 30), (1, 12, 14), (1, 40, 30)]
    assert rows_of(union(*columns(table))) == [(1, 0, 20), (2, 20, 30)]
    assert rows_of(union(*columns([]))) == []


@given(rows, questions)
@settings(max_examples=300)
def test_coverage_is_the_sum_over_all_intervals(table, asked):
    found = Coverage(*columns(table)).covered(*columns(asked))
    assert found.tolist() == [
        sum(overlap(s, e, t0, t1) for k, s, e in table if k == track) for track, t0, t1 in asked
    ]


@given(rows, questions)
@settings(max_examples=200)
def test_coverage_of_a_union_is_covered_time(table, asked):
    merged = union(*columns(table))
    found = Coverage(merged.track, merged.start, merged.end).covered(*columns(asked))
    for (track, t0, t1), ns in zip(asked, found.tolist(), strict=True):
        assert ns == sum(overlap(s, e, t0, t1) for k, s, e in brute_union(table) if k == track)
        assert 0 <= ns <= t1 - t0


@given(rows, st.lists(st.integers(-5, 60), min_size=2, max_size=10))
def test_adjoining_windows_add_up(table, edges):
    edges = np.array(sorted(edges), dtype=np.int64)
    coverage = Coverage(*columns(table))
    parts = coverage.covered_between(3, edges)
    assert parts.tolist() == coverage.covered(3, edges[:-1], edges[1:]).tolist()
    assert parts.sum() == coverage.covered(3, edges[:1], edges[-1:])[0]


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(0, 9), st.integers(0, 10**9)),
        max_size=20,
    ),
    st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 40), st.integers(0, 40)), min_size=1),
)
@settings(max_examples=200)
def test_amounts_are_spread_evenly(table, asked):
    track, start, duration, amount = columns(table, 4)
    found = Spread(track, start, start + duration, amount).amount(
        *columns([(k, t0, t0 + d) for k, t0, d in asked])
    )
    for (wanted, t0, d), got in zip(asked, found.tolist(), strict=True):
        expected = Fraction(0)
        for k, s, n, a in table:
            if k == wanted and n:
                expected += Fraction(a * overlap(s, s + n, t0, t0 + d), n)
            elif k == wanted and t0 < s <= t0 + d:
                expected += a
        assert got == pytest.approx(float(expected), abs=1e-3)


def test_a_span_that_holds_a_copy_holds_all_its_bytes():
    rng = np.random.default_rng(2)
    start = rng.integers(0, 10**9, 5_000)
    end = start + rng.integers(0, 10**6, 5_000)
    amount = rng.integers(0, 1 << 33, 5_000)
    copies = Spread(np.zeros(5_000, np.int64), start, end, amount)
    whole = copies.amount(0, np.array([-1]), np.array([2 * 10**9]))
    assert whole.tolist() == [float(amount.sum())]
    parts = copies.amount_between(0, np.arange(-1, 2 * 10**9, 10**6 + 7))
    assert parts.min() >= 0
    assert parts.sum() == pytest.approx(float(amount.sum()), rel=1e-12)


def brute_split(table, kinds, wanted, t0, t1):
    """Paints the track ns by ns, the rows that begin first (of those the longest) first."""
    painted: dict[int, int] = {}
    for track, start, end, kind in sorted(table, key=lambda r: (r[1], -r[2])):
        if track == wanted:
            for t in range(start, end):
                painted.setdefault(t, kind)
    spent = [0] * (kinds + 1)
    for t in range(t0, t1):
        spent[painted.get(t, kinds)] += 1
    return spent


nested = st.lists(
    st.tuples(
        st.sampled_from((0, 4)), st.integers(0, 25), st.integers(0, 12), st.integers(0, 2)
    ).map(lambda r: (r[0], r[1], r[1] + r[2], r[3])),
    max_size=10,
)


@given(
    nested,
    st.lists(st.tuples(st.sampled_from((0, 4, 9)), st.integers(-3, 30), st.integers(0, 20))),
)
@settings(max_examples=300)
def test_partition_divides_every_span_between_the_outermost_rows(table, asked):
    track, start, end, kind = columns(table, 4)
    order = nesting_order(track, start, end)
    partition = Partition(order, track, start, end, kind.astype(np.int8), 3)
    wanted, t0, length = columns(asked)
    found = partition.split(wanted, t0, t0 + length)
    assert found.sum(axis=0).tolist() == length.tolist()
    for i, (k, a, n) in enumerate(asked):
        assert found[:, i].tolist() == brute_split(table, 3, k, a, a + n)


@pytest.mark.parametrize("shift", [0, UTC, (1 << 62) - 10**4])
def test_partition_far_from_zero_and_on_many_tracks(shift):
    n = 400
    start = np.arange(n, dtype=np.int64) * 10 + shift
    track = np.arange(n, dtype=np.int64) % 7 * (1 << 58)
    start[::2] -= shift  # half of the rows long before the others
    end = start + 6
    kind = (np.arange(n) % 2).astype(np.int8)
    order = nesting_order(track, start, end)
    found = Partition(order, track, start, end, kind, 2).split(track, start - 1, end + 1)
    assert found[2].tolist() == [2] * n
    assert found[0].tolist() == np.where(kind == 0, 6, 0).tolist()


def test_distinct_values():
    assert distinct(np.array([5, 5, -1, 5, 7, 7], dtype=np.int64)).tolist() == [-1, 5, 7]
    assert distinct(np.array([], dtype=np.int64)).tolist() == []


def test_a_million_intervals_cost_little():
    rng = np.random.default_rng(3)
    n = 1_000_000
    start = np.cumsum(rng.integers(1, 9_000, n))
    end = start + rng.integers(0, 20_000, n)
    track = rng.integers(0, 4, n)
    began = time.process_time()
    merged = union(track, start, end)
    coverage = Coverage(merged.track, merged.start, merged.end)
    both = Coverage(track, start, end)
    assert (both.covered(track, start, end) >= coverage.covered(track, start, end)).all()
    assert time.process_time() - began < 6
