"""Nesting of intervals, against brute force and a small simulation of Perfetto's reading."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsys2perfetto.analysis import nesting
from nsys2perfetto.analysis.nesting import (
    crossing,
    depth,
    lanes,
    nesting_order,
    parent,
    too_deep,
)

Rows = list[tuple[int, int, int]]

# Few distinct times, so that touching, equal and zero-length rows are common.
interval = st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 6)).map(
    lambda row: (row[0], row[1], row[1] + row[2])
)
rows_of_tracks = st.lists(interval, max_size=24)


def columns(rows: Rows) -> list[np.ndarray]:
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return [table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()]


def in_order(rows: Rows) -> list[np.ndarray]:
    track, start, end = columns(rows)
    order = nesting_order(track, start, end)
    return [track[order], start[order], end[order]]


def read_like_perfetto(start, end) -> list[tuple[int, int, int, int]]:
    """What a trace processor makes of BEGIN, END pairs of one track: (start, end, depth, parent).

    Events are sorted by time, stable in the order of writing; an END pops the top of the stack.
    """
    events = []
    for row, (s, e) in enumerate(zip(start, end, strict=True)):
        events += [(s, "B", row), (e, "E", row)]
    events.sort(key=lambda event: event[0])
    stack: list[int] = []
    slices: dict[int, list[int]] = {}
    for ts, kind, row in events:
        if kind == "B":
            slices[row] = [int(ts), -1, len(stack), stack[-1] if stack else -1]
            stack.append(row)
        else:
            slices[stack.pop()][1] = int(ts)
    assert not stack
    return [tuple(slices[row]) for row in sorted(slices)]


def crosses(a, b) -> bool:
    return a[0] == b[0] and (a[1] < b[1] < a[2] < b[2] or b[1] < a[1] < b[2] < a[2])


def properly_nested(rows: Rows) -> list[np.ndarray]:
    track, start, end = in_order(rows)
    keep = ~crossing(track, start, end)
    return [track[keep], start[keep], end[keep]]


# --- nesting_order


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 5), st.integers(0, 4)), max_size=30))
def test_order_is_the_plain_sort(rows):
    track, start, length = columns(rows)
    end = start + length
    expected = sorted(range(len(rows)), key=lambda i: (track[i], start[i], -end[i], i))
    assert nesting_order(track, start, end).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-2, 2)), max_size=30))
def test_priority_decides_between_equal_intervals(rows):
    start, end, priority = columns(rows)
    end = start + end
    track = np.zeros(len(rows), dtype=np.int64)
    expected = sorted(range(len(rows)), key=lambda i: (start[i], -end[i], priority[i], i))
    assert nesting_order(track, start, end, priority).tolist() == expected


def test_order_of_extreme_track_keys_and_times():
    big, small = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    keys = [0, big, small, -1, 1 << 16, 1 << 32, (1 << 48) + 5, -(1 << 48), 3]
    track = np.array(keys, dtype=np.int64)
    start = np.zeros(len(keys), dtype=np.int64)
    assert track[nesting_order(track, start, start)].tolist() == sorted(keys)
    start = np.array([5, small, big], dtype=np.int64)
    end = np.array([big, small, big], dtype=np.int64)
    assert nesting_order(np.zeros(3, dtype=np.int64), start, end).tolist() == [1, 0, 2]


def test_empty_and_single():
    empty = np.array([], dtype=np.int64)
    one = np.array([7], dtype=np.int64)
    for rows, count in ((empty, 0), (one, 1)):
        assert nesting_order(rows, rows, rows).tolist() == list(range(count))
        assert crossing(rows, rows, rows).tolist() == [False] * count
        assert lanes(rows, rows, rows).tolist() == [0] * count
        assert depth(rows, rows, rows).tolist() == [0] * count
        assert parent(rows, rows, rows).tolist() == [-1] * count


# --- crossing


@given(rows_of_tracks)
@settings(max_examples=400)
def test_kept_slices_come_back_from_perfetto_exactly(rows):
    track, start, end = properly_nested(rows)
    level, above = depth(track, start, end), parent(track, start, end)
    for key in np.unique(track):
        at = np.flatnonzero(track == key)
        read = read_like_perfetto(start[at], end[at])
        assert [r[0] for r in read] == start[at].tolist()
        assert [r[1] for r in read] == end[at].tolist()
        assert [r[2] for r in read] == level[at].tolist()
        assert [int(at[r[3]]) if r[3] >= 0 else -1 for r in read] == above[at].tolist()


# Fewer than 18 rows cannot cross on more than eight levels.
@given(st.lists(interval, max_size=17))
@settings(max_examples=400)
def test_marks_what_an_exact_greedy_choice_marks(rows):
    # The definition: row after row, a row is taken off if it crosses an earlier row that stays.
    table = list(zip(*(c.tolist() for c in in_order(rows)), strict=True))
    kept: list[tuple[int, ...]] = []
    expected = []
    for row in table:
        expected.append(any(crosses(row, other) for other in kept))
        if not expected[-1]:
            kept.append(row)
    assert crossing(*in_order(rows)).tolist() == expected


@given(rows_of_tracks)
def test_without_greedy_levels_the_rest_still_nests(rows):
    track, start, end = in_order(rows)
    levels = nesting._GREEDY_LEVELS
    nesting._GREEDY_LEVELS = 0
    try:
        keep = np.flatnonzero(~crossing(track, start, end))
    finally:
        nesting._GREEDY_LEVELS = levels
    kept = [(track[i], start[i], end[i]) for i in keep]
    assert not any(crosses(a, b) for a in kept for b in kept)


@pytest.mark.parametrize(
    ("rows", "marked"),
    [
        ([(0, 0, 10), (0, 5, 15)], [False, True]),
        ([(0, 0, 10), (0, 10, 20)], [False, False]),
        ([(0, 0, 10), (0, 0, 10), (0, 0, 10)], [False, False, False]),
        ([(0, 0, 10), (0, 0, 0), (0, 5, 5), (0, 10, 10)], [False] * 4),
        ([(0, 0, 10), (0, 5, 10), (0, 10, 20), (0, 10, 10)], [False] * 4),
        ([(0, 0, 10), (1, 5, 15)], [False, False]),
        # A chain keeps every second row, not only the first.
        ([(0, 0, 15), (0, 10, 25), (0, 20, 35), (0, 30, 45)], [False, True, False, True]),
        # The long row goes, the rows inside of it stay.
        ([(0, 0, 10), (0, 5, 100), (0, 20, 30), (0, 40, 50)], [False, True, False, False]),
    ],
)
def test_crossing_examples(rows, marked):
    assert crossing(*columns(rows)).tolist() == marked


def test_rows_that_end_before_they_start_are_marked():
    track, start, end = columns([(0, 0, 10), (0, 5, 3), (0, 6, 8)])
    assert crossing(track, start, end).tolist() == [False, True, False]


def test_times_and_tracks_too_wide_for_one_axis():
    # UTC nanoseconds on many tracks, one of which begins at 0: ranks replace the times.
    base = 1_800_000_000_000_000_000
    rows = [(k, base + 10 * k, base + 10 * k + 5) for k in range(1, 40)]
    rows += [(0, 0, base + 3), (0, base, base + 4), (40, -base, base)]
    track, start, end = in_order(rows)
    assert np.flatnonzero(crossing(track, start, end)).tolist() == [1]
    assert lanes(track, start, end).tolist() == [0, 1] + [0] * 40


# --- lanes


@given(rows_of_tracks)
@settings(max_examples=400)
def test_lanes_do_not_overlap_and_are_as_few_as_possible(rows):
    track, start, end = columns(rows)
    lane = lanes(track, start, end)
    assert lane.dtype == np.int32

    def overlap(a, b):
        inner, outer = sorted((a, b), key=lambda row: row[2] - row[1])
        if inner[1] == inner[2]:
            return outer[1] < inner[1] < outer[2]
        return max(a[1], b[1]) < min(a[2], b[2])

    for i, a in enumerate(rows):
        for j, b in enumerate(rows[:i]):
            if a[0] == b[0] and lane[i] == lane[j]:
                assert not overlap(a, b)
    for key in {row[0] for row in rows}:
        mine = [row for row in rows if row[0] == key]
        at_once = 0
        for doubled in range(40):  # every instant and every moment between two instants
            inside = sum(2 * s < doubled < 2 * e for _, s, e in mine)
            instant = any(2 * s == doubled == 2 * e for _, s, e in mine)
            at_once = max(at_once, inside + instant)
        assert set(lane[track == key].tolist()) == set(range(at_once))


def test_a_row_takes_the_lane_freed_last():
    track, start, end = columns([(0, 0, 5), (0, 1, 3), (0, 3, 9), (0, 6, 8), (0, 10, 11)])
    assert lanes(track, start, end).tolist() == [0, 1, 1, 0, 1]


# --- too deep


@given(rows_of_tracks, st.integers(2, 6))
@settings(max_examples=400)
def test_what_stands_too_deep_is_moved_storey_by_storey(rows, most):
    track, start, end = properly_nested(rows)
    deep, storey = too_deep(track, start, end, most)
    level = depth(track, start, end)
    assert deep.tolist() == np.flatnonzero(level >= most).tolist()
    assert storey.tolist() == (level[deep] // most).tolist()
    floor = np.zeros(len(track), dtype=np.int64)
    floor[deep] = storey
    for number in np.unique(floor):
        kept = floor == number
        assert depth(track[kept], start[kept], end[kept]).max() < most


def test_one_range_around_many_calls_is_not_deep():
    start = np.arange(10_000, dtype=np.int64)
    end = start + 1
    start[:300], end[:300] = 0, 20_000
    track = np.zeros(len(start), dtype=np.int64)
    order = nesting_order(track, start, end)
    found = too_deep(track, start[order], end[order], 512)
    assert [len(column) for column in found] == [0, 0]


# --- hostile sizes

MANY = 200_000


@pytest.mark.parametrize("shape", ["all cross", "deep", "chain", "same", "deep chains", "random"])
def test_hostile_shapes_stay_fast(shape):
    i = np.arange(MANY, dtype=np.int64)
    rng = np.random.default_rng(0)
    start, end = {
        "all cross": (i, i + MANY),
        "deep": (i, 2 * MANY - i),
        "chain": (10 * i, 10 * i + 15),
        "same": (0 * i, 0 * i + 5),
        "deep chains": (i, 2 * MANY - i + (i % 2) * 3),
        "random": (s := rng.integers(0, MANY, MANY), s + rng.integers(0, MANY, MANY)),
    }[shape]
    track = np.zeros(MANY, dtype=np.int64)
    began = time.process_time()
    order = nesting_order(track, start, end)
    start, end = start[order], end[order]
    marked = crossing(track, start, end)
    lane = lanes(track, start, end)
    kept = ~marked
    depth(track[kept], start[kept], end[kept])
    parent(track[kept], start[kept], end[kept])
    # Quadratic work on 200,000 rows would take minutes.
    assert time.process_time() - began < 20
    assert not crossing(track[kept], start[kept], end[kept]).any()
    assert kept[0]
    if shape in ("deep", "same"):
        assert kept.all()
        assert lane.max() == MANY - 1
    if shape == "chain":
        assert kept.sum() == MANY // 2
        assert lane.max() == 1
