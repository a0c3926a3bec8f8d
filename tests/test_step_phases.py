"""Runs, prefills, warm-up, outliers, and what the user is warned of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from nsys2perfetto.analysis import step_phases
from tests.step_loops import BODY, PREFILL, Loop, decode, find, int64s


def test_runs_are_told_by_their_prefills():
    loop = decode(steps=5)
    decode(loop.pause(900), steps=20)
    decode(loop.pause(900), steps=1)
    found = find(loop)
    assert [i for i, p in enumerate(found.phases) if p == "prefill"] == [0, 6, 27]
    assert found.runs == [(1, i) for i in range(1, 7)] + [(2, i) for i in range(1, 22)] + [
        (3, 1), (3, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "prefill",
    [
        {"ns": 80, "grid": 64},  # the same kernels, eight times as long
        {"ns": 10, "grid": 64},  # the same kernels in the same time, in other shapes
    ],
)
def test_a_prefill_by_the_same_kernels(prefill):
    loop = Loop()
    for steps in (5, 20):
        loop.run(*BODY, "argmax", **prefill)
        decode(loop, steps, prefill=False)
    found = find(loop)
    assert [i for i, p in enumerate(found.phases) if p == "prefill"] == [0, 6]


def test_a_slow_step_is_no_prefill():
    loop = decode(steps=8).run(*BODY, "argmax", ns=40)
    found = find(decode(loop, 8, prefill=False))
    assert found.steps.run.max() == 1
    assert found.phases[9] == "outlier"
    assert found.phases.count("outlier") == 1


def test_chunks_of_a_prefill_are_one():
    loop = Loop()
    for _ in range(3):
        loop.run(*PREFILL * 2, "argmax", grid=64)
    found = find(decode(loop, 12, prefill=False))
    assert found.phases == ["prefill"] * 3 + ["steady"] * 12
    assert found.steps.run.max() == 1


def test_tuning_in_the_first_steps_is_warm_up():
    loop = decode(steps=0)
    for _ in range(2):
        loop.run(*BODY, *["try_a", "try_b", "try_c"] * 4, "argmax")
    found = find(decode(loop, 12, prefill=False))
    assert found.phases == ["prefill", "warmup", "warmup", *["steady"] * 12]
    assert found.steps.run.max() == 1


def test_slow_first_steps_are_warm_up_and_growth_is_not():
    loop = decode(steps=0)
    for step in range(60):
        wait = 500 if step < 3 else 4 * step
        loop.pause(wait).run(*BODY, "argmax")
    assert find(loop).phases == ["prefill", *["warmup"] * 3, *["steady"] * 57]
    again = find(loop.pause(700).run(*BODY, "argmax").pause(240).run(*BODY, "argmax"))
    assert again.phases[-2:] == ["outlier", "steady"]


def test_another_batch_size_is_no_row_of_prefills():
    loop = decode(steps=30)
    for _ in range(12):
        loop.run(
            *[k.replace("gemv", "gemm_b8").replace("mlp", "mlp_b8") for k in BODY], "argmax", grid=8
        )
    found = find(decode(loop, 20, prefill=False))
    assert found.phases.count("prefill") == 1


def test_a_capture_that_begins_while_decoding():
    assert "midst" in find(decode(prefill=False)).choice.warnings[0]


def test_speculative_decoding_is_warned_of():
    loop = decode(steps=0)
    for _ in range(10):
        loop.run(*BODY * 6, "argmax").run("small", "argmax").run("small", "argmax")
    assert any("differ much" in w for w in find(loop).choice.warnings)


def test_kernels_across_the_border_are_warned_of():
    loop = decode(steps=10)
    loop.rows += [(a + 5, a + 5 + 80, "other_stream", 1) for a in range(1_000, loop.now - 200, 90)]
    found = find(loop)
    assert any("still runs" in w for w in found.choice.warnings)
    assert sum(found.counts) < len(loop.rows)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_steps_are_sound(n):
    found = find(decode(steps=n))
    assert found.phases == ["prefill", *["steady"] * n]


@settings(max_examples=200, deadline=None)
@given(hs.lists(hs.tuples(hs.booleans(), hs.integers(0, 50), hs.integers(0, 900)), max_size=60),
       hs.none() | hs.integers(0, 5))  # fmt: skip
def test_phases_of_anything(rows, warmup):
    prefill = np.array([r[0] for r in rows], np.bool_)
    run, step = step_phases.number_runs(prefill, None)
    phase = step_phases.phases(
        run, prefill, int64s(r[1] for r in rows), int64s(r[2] for r in rows), warmup
    )
    assert ((phase == step_phases.PREFILL) == prefill).all()
    for number in set(run.tolist()):
        of_run = phase[run == number]
        assert step[run == number].tolist() == list(range(1, len(of_run) + 1))
        decoding = of_run[of_run != step_phases.PREFILL]
        warm = decoding == step_phases.WARMUP
        assert not (warm[1:] & ~warm[:-1]).any()  # warm-up comes first
        if warmup is not None:
            assert warm.sum() == min(warmup, len(decoding))
        assert len(decoding) >= 5 or (decoding != step_phases.OUTLIER).all()


def test_rare_names_may_share_a_column(monkeypatch):
    loop = decode(steps=5)
    expected = find(decode(loop, 20)).phases
    monkeypatch.setattr(step_phases, "_CELLS", 1)
    assert find(loop).phases == expected
