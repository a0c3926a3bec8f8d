"""Windowed counters against brute force on small timelines and on simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis import utilization
from nsys2perfetto.analysis.intervals import Coverage, Spread, union
from samples.builder import Capture, decode_run
from samples.builder.truth import busy_ns


def int64s(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


def work_of(track, start, end) -> Coverage:
    merged = union(track, start, end)
    return Coverage(merged.track, merged.start, merged.end)


@given(st.integers(-100, 100), st.integers(0, 500), st.integers(1, 60))
def test_windows_divide_the_time(t0, length, width):
    edges = utilization.windows(t0, t0 + length, width)
    assert edges[0] == t0
    assert edges[-1] == t0 + length
    assert len(edges) == -(-length // width) + 1
    steps = np.diff(edges)
    assert (steps[:-1] == width).all()
    assert ((steps > 0) & (steps <= width)).all()


def test_windows_of_nothing_and_of_no_width():
    assert utilization.windows(5, 5, 10).tolist() == [5]
    assert utilization.windows(5, 3, 10).tolist() == [5]
    with pytest.raises(ValueError, match="longer"):
        utilization.windows(0, 10, 0)


operations = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 200), st.integers(0, 60), st.integers(0, 40)),
    max_size=20,
)


@given(operations, st.integers(1, 70))
def test_every_window_equals_brute_force(rows, width):
    track, start, duration, before = (int64s(r[i] for r in rows) for i in range(4))
    end, submitted = start + duration, start - before
    edges = utilization.windows(-50, 300, width)
    own = [r for r in rows if r[0] == 1]

    def mean(intervals):
        return [
            sum(max(0, min(e, t1) - max(s, t0)) for s, e in intervals) / (t1 - t0)
            for t0, t1 in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ]

    busy = utilization.busy_pct(work_of(track, start, end), 1, edges)
    assert busy.end.tolist() == edges[1:].tolist()
    assert len(busy.value) == len(busy.end)
    for value, t0, t1 in zip(busy.value, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        covered = {t for _, s, d, _ in own for t in range(max(s, t0), min(s + d, t1))}
        assert value == pytest.approx(100 * len(covered) / (t1 - t0))
        assert 0 <= value <= 100

    flying = utilization.mean_in_flight(Coverage(track, start, end), 1, edges)
    assert flying.value.tolist() == pytest.approx(mean([(s, s + d) for _, s, d, _ in own]))

    queue = utilization.queued(track, submitted, start)
    depth = utilization.mean_in_flight(queue, 1, edges)
    assert depth.value.tolist() == pytest.approx(mean([(s - b, s) for _, s, _, b in own]))


def test_an_operation_before_its_call_is_not_queued():
    queue = utilization.queued(int64s([0, 0]), int64s([50, 10]), int64s([20, 30]))
    edges = utilization.windows(0, 100, 100)
    assert utilization.mean_in_flight(queue, 0, edges).value.tolist() == [0.2]


def test_throughput_in_gigabytes_a_second():
    # 23.5 GB/s for 1 ms, then 4 bytes in no time.
    copies = Spread(
        int64s([0, 0]), int64s([0, 1_500_000]), int64s([1_000_000, 1_500_000]), int64s([23.5e6, 4])
    )
    edges = utilization.windows(0, 2_000_000, 500_000)
    found = utilization.throughput(copies, 0, edges)
    assert found.value.tolist() == pytest.approx([23.5, 23.5, 4 / 500_000, 0])
    assert utilization.throughput(copies, 1, edges).value.tolist() == [0] * 4


@pytest.mark.parametrize("graph", [False, True])
def test_utilization_of_a_simulated_run(graph):
    truth = decode_run(Capture(), steps=4, warmup_steps=3, layers=1, graph=graph)
    done = truth.operations
    start, end = int64s(o.start for o in done), int64s(o.end for o in done)
    edges = utilization.windows(int(start.min()), int(end.max()), 500_000)
    found = utilization.busy_pct(work_of(np.zeros(len(done), np.int64), start, end), 0, edges)
    for value, t0, t1 in zip(found.value, edges[:-1], edges[1:], strict=True):
        assert value == pytest.approx(100 * busy_ns(done, int(t0), int(t1)) / int(t1 - t0))
    busy = (found.value * np.diff(edges)).sum() / 100
    assert busy == pytest.approx(busy_ns(done, int(start.min()), int(end.max())))


@pytest.mark.parametrize(
    ("step_ns", "total_ns", "window"),
    [
        ([730_000] * 25, 120_000_000, 50_000),  # the sample: 73 us is a tenth of a step
        ([30_000_000] * 9, 300_000_000, 2_000_000),
        ([10_000_000], 50_000_000, 1_000_000),
        ([4_000], 100_000, 1_000),  # never below 1 us
        ([730_000] * 9, 10**12, 50_000_000),  # 20,000 windows at most
        ([730_000] * 9, 10**12 + 1, 100_000_000),
        ([], 2_000_000_000, 1_000_000),
        ([], 0, 1_000),
    ],
)
def test_default_window(step_ns, total_ns, window):
    assert utilization.default_window(int64s(step_ns), total_ns) == window


@given(st.lists(st.integers(1, 10**10), max_size=5), st.integers(0, 10**14))
def test_default_window_is_a_round_number_and_gives_few_samples(step_ns, total_ns):
    window = utilization.default_window(int64s(step_ns), total_ns)
    assert str(window).rstrip("0") in {"1", "2", "5"}
    assert total_ns / window <= utilization.MOST_WINDOWS


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=30),
    st.lists(st.integers(-5, 260), min_size=2, max_size=12, unique=True),
    st.sampled_from([0, 4 * 10**18]),
)
def test_what_lies_in_each_window_equals_brute_force(intervals, edges, base):
    start = np.array([s for s, _ in intervals], np.int64) + base
    end = start + np.array([d for _, d in intervals], np.int64)
    cuts = np.sort(np.array(edges, np.int64)) + base
    expected = [
        sum(
            max(0, min(e, b) - max(s, a)) for s, e in zip(start.tolist(), end.tolist(), strict=True)
        )
        for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
    ]
    assert utilization.covered_ns(start, end, cuts).tolist() == expected
