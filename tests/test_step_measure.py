"""What happened in each decode step, against brute force."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as hs

from nsys2perfetto.analysis import step_measure
from nsys2perfetto.analysis import steps as st
from nsys2perfetto.analysis.intervals import union
from nsys2perfetto.analysis.step_measure import Timed, assign, by_kernel, measure
from tests.step_loops import int64s

events = hs.lists(hs.tuples(hs.integers(0, 2), hs.integers(0, 60), hs.integers(0, 12)), max_size=40)


def timed(rows) -> Timed:
    """From (track, start, duration)."""
    track, start, duration = (int64s(row[i] for row in rows) for i in range(3))
    return Timed(track, start, start + duration)


@settings(max_examples=300, deadline=None)
@given(
    kernel_rows=events,
    call_rows=events,
    edges=hs.lists(hs.tuples(hs.integers(0, 2), hs.integers(0, 70)), max_size=12),
    gapped=hs.booleans(),
)
def test_measures_are_those_of_brute_force(kernel_rows, call_rows, edges, gapped):
    spans = []
    for number in range(3):
        of_unit = sorted({t for u, t in edges if u == number})
        pairs = list(itertools.pairwise(of_unit))
        spans += [(number, a, b) for a, b in (pairs[::2] if gapped else pairs)]
    unit, t0, t1 = (int64s(s[i] for s in spans) for i in range(3))
    n = len(spans)
    steps = st.Steps(unit, t0, t1, *(np.zeros(n, np.int64),) * 3, np.zeros(n, np.int8),
                     *(np.zeros(n, np.int64),) * 2)  # fmt: skip
    kernels, calls = timed(kernel_rows), timed(call_rows)
    process = int64s([0, 0, 1])
    got = measure(
        steps, kernels, union(kernels.track, kernels.start, kernels.end), copies=kernels,
        copy_bytes=kernels.end, process=process, launches=calls, synchronisations=calls,
    )  # fmt: skip
    owner = assign(steps, kernels)
    for i, (u, a, b) in enumerate(spans):
        inside = [(s, s + d) for v, s, d in kernel_rows if v == u and s >= a and s + d <= b]
        assert got.kernel_count[i] == len(inside)
        assert got.kernel_ns[i] == sum(e - s for s, e in inside)
        assert got.copy_bytes[i] == sum(
            k[1] + k[2] for k, o in zip(kernel_rows, owner, strict=True) if o == i
        )
        busy = [any(v == u and s <= t < s + d for v, s, d in kernel_rows) for t in range(a, b)]
        assert got.busy_ns[i] == sum(busy)
        assert got.idle_ns[i] == b - a - sum(busy)
        idle = "".join(" #"[x] for x in busy).split("#")
        assert got.largest_gap_ns[i] == max(map(len, idle))
        mine = [(s, s + d) for v, s, d in call_rows if v == process[u]]
        assert got.launch_count[i] == got.sync_count[i] == sum(a <= s < b for s, _ in mine)
        assert got.sync_ns[i] == sum(max(0, min(e, b) - max(s, a)) for s, e in mine)
    for (u, s, d), o in zip(kernel_rows, owner, strict=True):
        fits = [i for i, (v, a, b) in enumerate(spans) if v == u and s >= a and s + d <= b]
        assert o == (fits[0] if fits else -1)


@given(hs.lists(hs.tuples(hs.integers(-1, 4), hs.integers(0, 6), hs.integers(0, 99)), max_size=50))
def test_kernels_of_steps_by_name(rows):
    step, name, duration = (int64s(r[i] for r in rows) for i in range(3))
    got = by_kernel(step, name, duration, 5)
    expected = defaultdict(lambda: [0, 0])
    for s, k, d in rows:
        if s >= 0:
            expected[s, k][0] += 1
            expected[s, k][1] += d
    columns = (got.step, got.name, got.count, got.total_ns)
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == [
        (s, k, *expected[s, k]) for s, k in sorted(expected)
    ]


def test_many_names_take_the_other_way(monkeypatch):
    rng = np.random.default_rng(1)
    step, name, duration = (
        rng.integers(-1, 9, 500),
        rng.integers(0, 50, 500),
        rng.integers(0, 9, 500),
    )
    dense = by_kernel(step, name, duration, 9)
    monkeypatch.setattr(step_measure, "_CELLS", 1)
    sparse = by_kernel(step, name, duration, 9)
    for column in ("step", "name", "count", "total_ns"):
        assert (getattr(dense, column) == getattr(sparse, column)).all()
