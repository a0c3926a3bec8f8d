"""Decode steps of whole captures: against the manual's SQL, the builder's truth, and real ones."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from nsys2perfetto.analysis import markers, step_phases
from nsys2perfetto.analysis import steps as st
from nsys2perfetto.analysis.intervals import union
from nsys2perfetto.analysis.step_measure import Timed, assign, by_kernel, measure
from samples.builder import Capture, decode_run
from samples.builder.scenarios import SCENARIOS
from tests.conftest import CAPTURES
from tests.step_captures import found_in, load, measured
from tests.step_loops import phases

ROOT = Path(__file__).parent.parent
SAMPLES = (ROOT / "samples" / "decode_eager.sqlite", ROOT / "samples" / "decode_graph.sqlite")

# The manual's query, section on decode steps, for every step instead of the one from 10 to 11.
MANUAL = """
WITH argmax AS (
  SELECT k.start, k.end,
    ROW_NUMBER() OVER (ORDER BY k.start) as step
  FROM CUPTI_ACTIVITY_KIND_KERNEL k
  JOIN StringIds s ON k.demangledName = s.id
  WHERE s.value LIKE 'argmax%'
),
boundary AS (
  SELECT a.end AS t0, b.end AS t1, b.step FROM argmax a JOIN argmax b ON b.step = a.step + 1
)
SELECT step, COUNT(*), SUM(k.end - k.start), t1 - t0, 100.0*SUM(k.end - k.start)/(t1 - t0)
FROM boundary JOIN CUPTI_ACTIVITY_KIND_KERNEL k ON k.start >= t0 AND k.end <= t1
GROUP BY step ORDER BY step
"""


# --- the manual's numbers, and the builder's -----------------------------------------------------


def assert_like_the_manual(path):
    loaded = load(path)
    steps = found_in(loaded).steps
    got = measured(loaded, steps)
    with sqlite3.connect(path) as db:
        expected = db.execute(MANUAL).fetchall()
    assert len(expected) == len(steps) - 1
    rows = zip(
        steps.number.tolist(), got.kernel_count.tolist(), got.kernel_ns.tolist(),
        got.wall_ns.tolist(), got.kernel_util_pct.tolist(), strict=True,
    )  # fmt: skip
    assert list(rows)[1:] == expected
    return loaded, steps, got


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_samples_give_the_manuals_numbers(path):
    assert_like_the_manual(path)


@settings(max_examples=25, deadline=None)
@given(
    steps=hs.integers(1, 30),
    warmup_steps=hs.integers(1, 8),
    layers=hs.integers(1, 4),
    prompt=hs.sampled_from([2, 7, 64, 900]),
    graph=hs.booleans(),
    seed=hs.integers(0, 999),
)
def test_random_runs_give_the_manuals_and_the_builders_numbers(**parameters):
    capture = Capture()
    truth = decode_run(capture, **parameters)
    with tempfile.TemporaryDirectory() as folder:
        path = capture.save(Path(folder), "run")
        _, steps, got = assert_like_the_manual(path)
    expected = truth.steps
    assert [s.index for s in expected] == steps.number.tolist()
    assert [s.end for s in expected] == steps.t1.tolist()
    assert [s.start for s in expected[1:]] == steps.t0[1:].tolist()
    assert steps.t0[0] == min(op.start for op in truth.operations)
    assert [s.kernel_count for s in expected] == got.kernel_count.tolist()
    assert [s.kernel_ns for s in expected] == got.kernel_ns.tolist()
    assert [s.busy_ns for s in expected[1:]] == got.busy_ns[1:].tolist()
    assert (got.busy_ns + got.idle_ns == got.wall_ns).all()
    for i in range(len(steps)):
        t0, t1 = steps.t0[i], steps.t1[i]
        gaps = [min(g.end, t1) - max(g.start, t0) for g in truth.gaps]
        assert got.largest_gap_ns[i] == max([*gaps, 0])
    runs = [1 if s.run == "warmup" else 2 for s in expected]
    assert steps.run.tolist() == runs
    assert [p == "prefill" for p in phases(steps)] == [s.kind == "prefill" for s in expected]
    assert steps.step.tolist() == [runs[: i + 1].count(run) for i, run in enumerate(runs)]


def test_what_was_disturbed_is_an_outlier():
    for path in SAMPLES:
        steps = found_in(load(path)).steps
        second = steps.run == 2
        outliers = steps.step[second & (steps.phase == step_phases.OUTLIER)]
        assert outliers.tolist() == [9, 13, 18], path  # decode steps 8, 12, 17 of DISTURBANCES
        assert phases(steps).count("prefill") == 2


def test_calls_and_copies_of_a_step():
    loaded = load(SAMPLES[0])
    steps = found_in(loaded).steps
    got = measured(loaded, steps)
    steady = steps.phase == step_phases.STEADY
    assert set(got.sync_count[steady]) == {1}
    assert set(got.copy_count[steady]) == {2}
    assert set(got.copy_bytes[steady]) == {8}  # a token to the host, a token back
    assert (got.launch_count[steady] == got.kernel_count[steady] + 2).all()
    assert (got.sync_ns <= got.wall_ns).all()
    assert (got.sync_ns[steady] > 0).all()


def test_the_warm_up_that_the_user_names():
    steps = found_in(load(SAMPLES[0]), warmup=4).steps
    for run in (1, 2):
        of_run = [p for p, r in zip(phases(steps), steps.run, strict=True) if r == run]
        assert of_run[:5] == ["prefill", *["warmup"] * 4]
        assert set(of_run[5:]) <= {"steady", "outlier"}
    assert "warmup" not in phases(found_in(load(SAMPLES[0]), warmup=0).steps)


def test_the_builders_scenarios(tmp_path):
    whole = found_in(load(SCENARIOS["graph_level"](tmp_path).path))
    assert [(c.rule, c.steps) for c in whole.choices] == [(st.GRAPH, 20)]
    nodes = found_in(load(SCENARIOS["graph_nodes"](tmp_path).path))
    assert [(c.rule, c.steps) for c in nodes.choices] == [(st.KERNEL, 4)]
    for name in sorted(SCENARIOS):
        loaded = load(SCENARIOS[name](tmp_path).path)
        steps = found_in(loaded).steps
        got = measured(loaded, steps)
        assert (got.busy_ns + got.idle_ns == got.wall_ns).all(), name
        assert (steps.t0 <= steps.t1).all(), name


# --- real captures -------------------------------------------------------------------------------


def capture_named(part):
    path = next(iter(sorted(CAPTURES.glob(f"{part}*.sqlite"))), None)
    if path is None:
        pytest.skip(f"no capture {part} in {CAPTURES}")
    return path


def test_tokens_in_nvtx_ranges():
    loaded = load(capture_named("llama3_rtx4060ti"))
    found = found_in(loaded)
    (choice,) = found.choices
    assert (choice.rule, choice.marker, choice.steps) == (
        st.NVTX, "NVTX ranges token_#_processing", 64,
    )  # fmt: skip
    assert choice.warnings == ()
    got = measured(loaded, found.steps)
    assert set(got.kernel_count) == {24}
    assert got.kernel_ns[:3].tolist() == [292_990, 291_839, 290_751]  # by SQL on the SQLite file
    assert phases(found.steps) == [
        "warmup",
        *["steady"] * 63,
    ]  # the first token takes 5 times as long
    assert found.steps.step.tolist() == list(range(1, 65))


def test_no_real_capture_has_invented_steps(capture):
    found = found_in(load(capture))
    if not capture.stem.startswith("llama3_rtx4060ti"):
        assert len(found.steps) == 0, found.choices
        assert all(c.rule == st.NONE and c.warnings for c in found.choices)


# --- how long it takes ---------------------------------------------------------------------------


def test_a_million_kernels_take_a_moment():
    n, per_step = 1_000_000, 200
    rng = np.random.default_rng(0)
    duration = rng.integers(1_000, 9_000, n)
    start = np.cumsum(duration + rng.integers(100, 3_000, n)) - duration
    texts = [f"kernel_{i % 60}" for i in range(per_step - 1)] + ["argmax_kernel"]
    names = markers.KernelNames(texts, texts, texts, pl.DataFrame({"grid": range(per_step)}))
    unit = np.zeros(n, np.int64)
    config = (np.arange(n) % per_step).astype(np.uint32)
    kernels = st.Kernels(unit, start, start + duration, config, names)
    events = Timed(unit, start, start + duration)
    busy = union(unit, start, start + duration)
    spent = []
    for _ in range(3):
        begin = time.process_time()
        found = st.find_steps(kernels, unit, start, st.Request())
        owner = assign(found.steps, events)
        got = measure(found.steps, events, busy, process=unit[:1], launches=events,
                      step_of_kernel=owner)  # fmt: skip
        by_kernel(owner, names.number[config], duration, len(found.steps))
        spent.append(time.process_time() - begin)
    assert len(found.steps) == n // per_step
    assert set(got.kernel_count) == {per_step}
    assert min(spent) < 1.0  # 0.12 s on a machine of 2024
