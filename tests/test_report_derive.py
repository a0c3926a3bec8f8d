"""Tables made of tables: against plain Python, on made-up steps and gaps."""

import math
import statistics
from collections import defaultdict
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.report import derive, gap_tables, step_times, verdict
from nsys2perfetto.report import source as tables

PHASES = ("prefill", "warmup", "steady", "outlier")
CAUSES = ("launch_bound", "launch_latency", "synchronization", "unknown")


def frame(schema, rows):
    """A table of a source; what a row does not say is 0, or null for texts."""
    blank = {name: None if dtype == pl.String else 0 for name, dtype in schema.items()}
    return pl.DataFrame([blank | row for row in rows], schema=schema)


def step(number, wall, busy, phase="steady", pid=1, gpu=0, ts=0, **more):
    return {
        "pid": pid, "gpu": gpu, "step": number, "phase": phase, "ts": ts, "dur": wall,
        "wall_ns": wall, "busy_ns": busy, "idle_ns": wall - busy, "kernel_ns": busy,
    } | more  # fmt: skip


@st.composite
def loops(draw):
    """Steps of two units after each other, with gaps in them; some reach into the next step."""
    steps, gaps = [], []
    for pid in (1, 2):
        at = draw(st.integers(-50, 50))
        for number in range(draw(st.integers(0, 6))):
            busy = draw(st.integers(0, 100))
            idle = draw(st.lists(st.integers(1, 30), max_size=4))
            kernels = draw(st.integers(0, 150))
            wall = busy + sum(idle) + draw(st.integers(0, 5)) or 1
            busy += wall - busy - sum(idle) if busy + sum(idle) == 0 else 0
            phase = draw(st.sampled_from(PHASES))
            steps.append(
                step(number + 1, wall, busy, phase, pid, ts=at, kernel_ns=kernels, kernel_count=3)
            )
            place = at
            for n, length in enumerate(idle):
                last = place + length == at + wall and n == len(idle) - 1
                gaps.append(
                    {"ts": place, "dur": length + draw(st.integers(0, 9)) * last, "gpu": 0,
                     "pid": pid, "step": number + 1, "cause": draw(st.sampled_from(CAUSES)),
                     "pace": draw(st.sampled_from(["host", "device", None]))}
                )  # fmt: skip
                place += length
            at += wall
    return frame(tables.STEP, steps), frame(tables.GAP, gaps)


def kind_of(gap):
    host = gap["cause"] == "launch_latency" and gap["pace"] == "host"
    return "launch_latency_host_paced" if host else gap["cause"]


@given(loops())
def test_parts_add_up_to_the_wall_time(found):
    steps, gaps = found
    parts = derive.step_parts(steps, gaps)
    assert parts.schema == derive.PARTS
    for pid in set(steps["pid"]):
        mine = [r for r in parts.to_dicts() if r["pid"] == pid]
        own = [r for r in steps.to_dicts() if r["pid"] == pid]
        wall = sum(s["wall_ns"] for s in own)
        assert sum(r["total_ns"] for r in mine) == wall
        assert math.isclose(sum(r["pct"] for r in mine), 100)
        assert sum(r["total_ns"] for r in mine if not r["idle"]) == sum(s["busy_ns"] for s in own)
        expected = defaultdict(list)
        for g in gaps.to_dicts():
            if g["pid"] == pid:
                end = own[g["step"] - 1]["ts"] + own[g["step"] - 1]["wall_ns"]
                expected[kind_of(g)].append(min(g["ts"] + g["dur"], end) - g["ts"])
        got = {r["part"]: (r["count"], r["total_ns"]) for r in mine if r["idle"]}
        got.pop(derive.SHORT_GAPS, None)
        assert got == {kind: (len(ns), sum(ns)) for kind, ns in expected.items()}
        for r in mine:
            assert r["steps"] == len(own)
            assert math.isclose(r["per_step_ns"], r["total_ns"] / len(own))


@given(loops())
def test_the_idle_time_of_each_step_adds_up(found):
    steps, gaps = found
    sums = defaultdict(int)
    for r in gap_tables.step_gaps(steps, gaps).to_dicts():
        sums[r["pid"], r["step"]] += r["total_ns"]
    idle = {(s["pid"], s["step"]): s["idle_ns"] for s in steps.to_dicts() if s["idle_ns"]}
    assert sums == idle


def test_order_of_parts():
    steps = frame(tables.STEP, [step(1, 100, 60, kernel_ns=10)])
    rows = [{"ts": 0, "dur": d, "pid": 1, "step": 1, "cause": c}
            for d, c in ((5, "copy"), (9, "unknown"))]  # fmt: skip
    parts = derive.step_parts(steps, frame(tables.GAP, rows))
    assert parts.select("part", "total_ns", "idle").rows() == [
        ("other_work", 50, False),
        ("kernels", 10, False),
        ("unknown", 9, True),
        ("copy", 5, True),
        ("short_gaps", 26, True),
    ]


def test_parts_of_gpus_add_up_too():
    balance = frame(
        tables.GPU_BALANCE,
        [{"gpu": g, "wall_ns": 100, "busy_ns": 40, "idle_ns": 60, "kernel_ns": 30 * g}
         for g in (0, 1, 2)],
    )  # fmt: skip
    gaps = frame(tables.GAP, [{"gpu": 1, "dur": 50, "cause": "copy", "pid": 9, "step": None}])
    parts = derive.gpu_parts(balance, gaps)
    by_gpu = {g: {r["part"]: r["total_ns"] for r in parts.to_dicts() if r["gpu"] == g}
              for g in (0, 1, 2)}  # fmt: skip
    assert by_gpu == {
        0: {"kernels": 0, "other_work": 40, "short_gaps": 60},
        1: {"kernels": 30, "other_work": 10, "copy": 50, "short_gaps": 10},
        2: {"kernels": 40, "short_gaps": 60},
    }


def test_gaps_of_a_shared_gpu_are_those_of_its_processes():
    gaps = frame(tables.GAP, [{"gpu": 0, "dur": 1}, {"gpu": 1, "dur": 2}])
    own = frame(tables.GAP, [{"gpu": 1, "dur": 3, "pid": 5}, {"gpu": 1, "dur": 4, "pid": 6}])
    assert derive.gaps_of_units(gaps, own)["dur"].to_list() == [1, 3, 4]


def test_steps_that_stand_for_the_decoding():
    rows = [step(n, 10, 5, phase) for n, phase in enumerate(PHASES)]
    rows += [step(n, 10, 5, phase, pid=2) for n, phase in enumerate(PHASES) if phase != "steady"]
    rows += [step(1, 10, 5, "prefill", pid=3)]
    chosen = derive.chosen(frame(tables.STEP, rows))
    assert chosen.select("pid", "phase").rows() == [
        (1, "steady"), (2, "warmup"), (2, "outlier"), (3, "prefill"),
    ]  # fmt: skip
    parts = derive.step_parts(chosen, frame(tables.GAP, []))
    assert dict(parts.select("pid", "phase").rows()) == {1: "steady", 2: "decode", 3: "prefill"}


# The steady step


KERNELS = st.lists(
    st.tuples(st.integers(1, 7), st.sampled_from("abc"), st.sampled_from("xy"),
              st.integers(0, 50), st.integers(1, 4)),
    max_size=25,
)  # fmt: skip


@given(KERNELS, st.booleans())
def test_percentiles_count_steps_without_the_kernel(rows, full_names):
    steps = frame(tables.STEP, [step(n, 10, 5, "steady" if n > 2 else "warmup") for n in range(9)])
    kernels = frame(
        tables.STEP_KERNEL,
        [{"pid": 1, "step": s, "name": n, "demangled_name": n + d, "total_ns": t, "count": c}
         for s, n, d, t, c in rows],
    )  # fmt: skip
    found = derive.steady_step(steps, kernels, full_names)
    assert found.schema == derive.STEADY_STEP
    sums, counts = defaultdict(lambda: [0] * 9), defaultdict(lambda: [0] * 9)
    for s, n, d, t, c in rows:
        if s > 2:
            sums[n + d * full_names][s] += t
            counts[n + d * full_names][s] += c
    everything = sum(map(sum, sums.values()))
    assert {r["name"] for r in found.to_dicts()} == set(sums)
    for r in found.to_dicts():
        values = sums[r["name"]][3:]
        expected = [
            np.median(counts[r["name"]][3:]), *np.quantile(values, [0.5, 0.05, 0.95]),
            sum(values) / 6, 100 * sum(values) / everything if everything else None,
        ]  # fmt: skip
        got = [r[k] for k in ("med_count", "med_ns", "p5_ns", "p95_ns", "avg_ns", "pct")]
        assert got == pytest.approx(expected) and r["steps"] == 6
    order = [(-r["avg_ns"], r["name"]) for r in found.to_dicts()]
    assert order == sorted(order)


def test_medians_of_the_steps():
    rows = [step(n, 10 * n, 5, launch_count=n) for n in range(1, 5)]
    rows += [step(5, 1000, 5, "outlier")]
    [found] = derive.step_medians(frame(tables.STEP, rows)).to_dicts()
    assert (found["steps"], found["wall_ns"], found["launch_count"]) == (4, 25, 2.5)


# Step times

WALLS = st.lists(
    st.tuples(st.integers(1, 10**7), st.sampled_from(PHASES), st.integers(1, 2)), max_size=30
)


@given(WALLS)
def test_step_times(rows):
    walls = defaultdict(list)
    for wall, phase, pid in rows:
        walls[pid, phase].append(wall)
    for pid in (1, 2):
        if walls.get((pid, "outlier")):
            both = walls.get((pid, "steady"), []) + walls[pid, "outlier"]
            walls[pid, "steady+outlier"] = both
    found = step_times.step_times(
        frame(tables.STEP, [step(n, w, 0, p, u) for n, (w, p, u) in enumerate(rows)])
    )
    assert found.schema == step_times.STEP_TIMES
    assert {(r["pid"], r["phase"]) for r in found.to_dicts()} == {k for k, v in walls.items() if v}
    for r in found.to_dicts():
        mine = walls[r["pid"], r["phase"]]
        expected = [*np.quantile(mine, [0.5, 0.95, 0.99]), statistics.fmean(mine)]
        assert [r[k] for k in ("med_ns", "p95_ns", "p99_ns", "avg_ns")] == pytest.approx(expected)
        assert (r["min_ns"], r["max_ns"], r["steps"]) == (min(mine), max(mine), len(mine))
        assert r["steps_per_second"] == pytest.approx(1e9 / expected[0])
    order = ["steady", "steady+outlier", "outlier", "warmup", "prefill"]
    for pid in (1, 2):
        phases = [r["phase"] for r in found.to_dicts() if r["pid"] == pid]
        assert phases == sorted(phases, key=order.index)


@given(WALLS)
def test_every_step_is_in_one_bin(rows):
    steps = frame(tables.STEP, [step(n, w, 0, p, u) for n, (w, p, u) in enumerate(rows)])
    found = step_times.step_histogram(steps)
    for pid in (1, 2):
        walls = {p: [w for w, q, u in rows if u == pid and p == q] for p in PHASES}
        decoding = walls["steady"] + walls["outlier"]
        bins = [r for r in found.to_dicts() if r["pid"] == pid]
        assert len(bins) <= 13
        for r in bins:
            assert r["steps"] == sum(r["from_ns"] <= w < r["to_ns"] for w in decoding)
        assert sum(r["steps"] for r in bins) == len(decoding)
        assert all(a["to_ns"] == b["from_ns"] for a, b in pairwise(bins))


@pytest.mark.parametrize("least", [0, 0.4, 1, 1.1, 2, 4.9, 5.1, 9, 99.9, 1000, 1001, 123_456_789])
def test_nice_numbers(least):
    number = step_times.nice(least)
    assert number >= least
    assert str(number)[0] in "125" and set(str(number)[1:]) <= {"0"}
    assert number <= max(1, 2.5 * least)


# Gaps


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), max_size=12),
    st.lists(st.integers(-5, 40), max_size=6),
    st.booleans(),
)
def test_what_is_in_a_big_gap(idle, kernels, several):
    """Idle gaps inside of gaps between kernels, by comparing each with each."""
    gaps, at = [], 0
    for pause, length in idle:
        gaps.append(
            {"ts": at + pause, "dur": length, "gpu": 1, "cause": f"c{len(gaps)}", "step": 3}
        )
        at += pause + length
    other = {"ts": 0, "dur": 1000, "gpu": 0, "cause": "other"}
    between, at = [], 0
    for n, length in enumerate(kernels):
        between.append({"ts": at, "gap_ns": length, "gpu": 1, "prev_name": str(n)})
        at += max(length, 0)
    # What an idle gap needs: no kernel begins or ends in it.
    borders = {g["ts"] for g in between} | {g["ts"] + g["gap_ns"] for g in between}
    gaps = [g for g in gaps if not any(g["ts"] < b < g["ts"] + g["dur"] for b in borders)]
    found = gap_tables.big_gaps(
        frame(tables.CONSECUTIVE_GAP, between),
        frame(tables.GAP, [other] * several + gaps),
    )
    assert found.schema == gap_tables.BIG_GAPS
    assert found["prev_name"].to_list() == [g["prev_name"] for g in between]
    for r in found.to_dicts():
        inside = [g for g in gaps if r["ts"] <= g["ts"] < r["ts"] + r["gap_ns"]]
        assert r["idle_ns"] == sum(g["dur"] for g in inside)
        longest = max(inside, key=lambda g: g["dur"], default=None)
        assert r["cause"] == (longest and longest["cause"])
        assert r["step"] == (3 if longest else None)


def test_big_gaps_of_all_gpus_as_one():
    between = frame(tables.CONSECUTIVE_GAP, [{"ts": 0, "gap_ns": 50, "gpu": None}])
    one = frame(tables.GAP, [{"ts": 5, "dur": 40, "gpu": 3, "cause": "copy"}])
    [row] = gap_tables.big_gaps(between, one).to_dicts()
    assert (row["gpu"], row["idle_ns"], row["cause"]) == (None, 40, "copy")
    two = pl.concat([one, one.with_columns(pl.lit(4, pl.Int64).alias("gpu"))])
    [row] = gap_tables.big_gaps(between, two).to_dicts()
    assert (row["idle_ns"], row["cause"]) == (0, None)


def test_causes_of_gaps():
    rows = [
        {"gpu": 0, "cause": "copy", "dur": 10, "pace": "host", "copy_ns": 10},
        {"gpu": 0, "cause": "launch_bound", "dur": 20, "pace": "host", "sync_ns": 20},
        {"gpu": 0, "cause": "launch_bound", "dur": 10, "pace": "device", "outside_cuda_ns": 10},
        {"gpu": 1, "cause": "unknown", "dur": 5, "pace": None, "outside_cuda_ns": 5},
    ]
    found = gap_tables.gap_causes(frame(tables.GAP, rows))
    assert found.schema == gap_tables.GAP_CAUSES
    columns = ["gpu", "cause", "count", "total_ns", "pct", "avg_ns", "max_ns", "host_paced_ns",
               "sync_ns", "outside_cuda_ns"]  # fmt: skip
    assert found.select(columns).rows() == [
        (0, "launch_bound", 2, 30, 75.0, 15.0, 20, 20, 20, 10),
        (0, "copy", 1, 10, 25.0, 10.0, 10, 10, 0, 0),
        (1, "unknown", 1, 5, 100.0, 5.0, 5, 0, 0, 5),
    ]


# Families and words


def test_families_of_kernels():
    names = [("gemm_a", "gemm_a<1>", 5, 50), ("gemm_b", "gemm_b<1>", 1, 10), ("mine", "x", 2, 40)]
    kernels = frame(
        tables.KERNEL_NAME,
        [dict(zip(tables.KERNEL_NAME, row, strict=True)) for row in names],
    )
    found = derive.kernel_families(kernels)
    assert found.schema == derive.FAMILY
    assert found.rows() == [
        ("gemm", 60.0, 60, 6, 2, "gemm_a"), ("other", 40.0, 40, 2, 1, "mine"),
    ]  # fmt: skip
    found = derive.kernel_families(kernels, (("new", "^mine|b"),), full_names=True)
    assert [(r["family"], r["total_ns"], r["top_kernel"]) for r in found.to_dicts()] == [
        ("new", 50, "x"), ("other", 50, "gemm_a<1>"),
    ]  # fmt: skip


def verdict_of(steps, gaps=(), kernels=()):
    steps, gaps = frame(tables.STEP, steps), frame(tables.GAP, gaps)
    names = frame(tables.KERNEL_NAME, [{"name": n, "total_ns": t} for n, t in kernels])
    in_steps = [{"pid": 1, "step": s, "name": n, "total_ns": t, "count": 2}
                for n, t in kernels for s in steps["step"]]  # fmt: skip
    return verdict.of_steps(
        derive.step_parts(derive.chosen(steps), gaps),
        step_times.step_times(steps),
        gaps,
        derive.steady_step(steps, frame(tables.STEP_KERNEL, in_steps)),
        derive.kernel_families(names),
    )


def gap(number, ns, cause, **more):
    return {"ts": 0, "dur": ns, "gpu": 0, "pid": 1, "step": number, "cause": cause} | more


def test_the_verdict_on_a_step_that_waits_for_the_host():
    steps = [step(n, 100_000, 40_000, ts=0) for n in range(1, 4)]
    gaps = [gap(n, 50_000, "launch_bound", outside_cuda_ns=50_000) for n in range(1, 4)]
    assert verdict_of(steps, gaps, [("my_gemm", 30_000), ("x", 10_000)]) == [
        "A steady decode step takes 100.0 us (median of 3; p95 100.0 us), 10,000.0 tokens/s of "
        "one sequence: kernels 40.0%, idle 60.0% (launch-bound gaps 50.0%, short gaps 10.0%).",
        "Look at launch-bound gaps (1 a step, 50.00 us each on average): the host launched late, "
        "mostly busy outside CUDA with the program's own code: do less between launches, or "
        "launch ahead; and at the number of kernels: short waits between them are 10.0%, fewer and "
        "larger kernels have less.",
        "Look at the kernel my_gemm (75.0% of the kernel time, 2 a step); the family gemm is "
        "75.0% of all kernels.",
    ]


def test_the_verdict_on_a_busy_step():
    steps = [step(n, 100_000, 99_000) for n in range(1, 4)]
    said = verdict_of(steps, kernels=[("k", 99_000)])
    assert said[0].endswith("kernels 99.0%, idle 1.0% (short gaps 1.0%).")
    assert said[1:] == ["Look at the kernel k (100.0% of the kernel time, 2 a step)."]


@pytest.mark.parametrize(
    "cause, more, words",
    [
        ("launch_bound", {"launch_ns": 9, "sync_ns": 1}, "mostly in other launches: CUDA graphs"),
        ("launch_bound", {"other_cuda_ns": 9}, "such as loading modules: warm up before"),
        ("synchronization", {}, "the host waits for the GPU before it launches on"),
        ("allocation", {}, "memory allocation (1 a step, 50.00 us each on average): the host"),
        ("copy", {}, "use pinned memory"),
        ("launch_latency", {"pace": "host"}, "as fast as the host launches"),
        ("launch_latency", {"pace": "device"}, "the work was queued"),
        ("graph_internal", {}, "gaps inside CUDA graphs"),
        ("unknown", {}, "capture CUDA calls"),
        ("a_new_cause", {}, "a new cause (1 a step, 50.00 us each on average): see docs/causes"),
    ],
)
def test_the_verdict_says_what_to_look_at(cause, more, words):
    said = verdict_of([step(1, 100_000, 40_000)], [gap(1, 50_000, cause, **more)])
    assert len(said) == 2 and words in said[1]


def test_what_every_launch_costs():
    tiny = [gap(1, 1_000, "launch_latency", pace="device")] * 20
    steps = [step(1, 100_000, 40_000)]
    said = verdict_of(steps, [*tiny, gap(1, 35_000, "copy")])[1]
    assert said.startswith("Look at copies (1 a step, 35.00 us each on average): ")
    assert "; and at the number of kernels: short waits between them are 25.0%" in said
    said = verdict_of(steps, [*tiny, gap(1, 5_000, "copy")])[1]
    assert said.startswith("Look at the number of kernels: short waits between them are 55.0%")
    assert "; and at copies (1 a step, " in said
    assert "copies" not in verdict_of(steps, tiny)[1]


def test_unknown_gaps_are_no_short_gaps():
    said = verdict_of([step(1, 100_000, 40_000)])
    assert said[1].startswith("Why the GPU was idle is not known: all gaps are shorter than those")


def test_outliers_are_told():
    steps = [step(n, 1_000, 900) for n in range(1, 4)]
    one = [*steps, step(4, 50_000, 900, "outlier")]
    assert "; 1 outlier of 50.00 us)" in verdict_of(one)[0]
    two = [*one, step(5, 20_000, 900, "outlier")]
    assert "; 2 outliers of 20.00 us to 50.00 us)" in verdict_of(two)[0]
    assert verdict_of([]) == []
    assert verdict_of([step(1, 500, 400, "prefill")])[0].startswith("A prefill step takes 500 ns")
