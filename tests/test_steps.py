"""Decode steps, against the manual's SQL, the builder's truth and brute force."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from nsys2perfetto.analysis import markers, step_measure, step_phases
from nsys2perfetto.analysis import steps as st
from nsys2perfetto.analysis.intervals import union
from nsys2perfetto.analysis.nvtx_projection import Launches, project
from nsys2perfetto.analysis.step_measure import Timed, assign, by_kernel, measure
from samples.builder import Capture, decode_run
from samples.builder.scenarios import SCENARIOS

ROOT = Path(__file__).parent.parent
SAMPLES = (ROOT / "samples" / "decode_eager.sqlite", ROOT / "samples" / "decode_graph.sqlite")
CAPTURES = ROOT / ".." / "shared" / "captures"

PROCESS = ~0xFFFFFF  # of a globalTid

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


def int64s(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


# --- from SQLite to tables -----------------------------------------------------------------------


def load(path, patterns=()) -> SimpleNamespace:
    """All that `find_steps` and `measure` want to know of an nsys export, in the plainest way."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    db.text_factory = lambda raw: raw.decode(errors="replace")
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    strings = dict(db.execute("SELECT id, value FROM StringIds")) if "StringIds" in tables else {}

    def read(table, *columns):
        if table not in tables:
            return []
        there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        wanted = ", ".join(c if c in there else f"NULL AS {c}" for c in columns)
        return db.execute(f"SELECT {wanted} FROM {table}").fetchall()

    def column(rows, i):
        return int64s(-1 if row[i] is None else row[i] for row in rows)

    units: dict[tuple[int, int], int] = {}
    work = ("start", "end", "globalPid", "deviceId", "correlationId", "graphNodeId")
    shape = ("gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ")
    prefix = "CUPTI_ACTIVITY_KIND_"
    kernels = read(prefix + "KERNEL", *work, "shortName", "demangledName", "mangledName", *shape)
    copies = read(prefix + "MEMCPY", *work, "copyKind", "bytes")
    sets = read(prefix + "MEMSET", *work)
    graphs = read(prefix + "GRAPH_TRACE", *work[:5], "graphId")
    unit = [
        int64s(units.setdefault((row[2] or 0, row[3]), len(units)) for row in rows)
        for rows in (kernels, copies, sets, graphs)
    ]
    configs: dict[tuple, int] = {}
    config = np.array([configs.setdefault(row[6:], len(configs)) for row in kernels], np.uint32)
    names = markers.KernelNames(
        *([strings.get(c[i]) for c in configs] for i in range(3)),
        shapes=pl.DataFrame([c[3:] for c in configs], schema=shape, orient="row"),
    )
    start, end, correlation, node = (
        np.concatenate([column(rows, i) for rows in (kernels, copies, sets, graphs)])
        for i in (0, 1, 4, 5)
    )
    operations = Timed(np.concatenate(unit), start, end)
    in_graph = (node > 0) & (np.arange(len(node)) < len(node) - len(graphs))
    nodes = st.replays_of(
        operations.track[in_graph], correlation[in_graph], node[in_graph] >> 32, start[in_graph],
        end[in_graph],
    )  # fmt: skip
    graph = np.unique(np.append(nodes.graph, column(graphs, 5)), return_inverse=True)[1]
    replays = st.Replays(
        np.append(nodes.unit, unit[3]), graph.astype(np.int64),
        np.append(nodes.start, column(graphs, 0)), np.append(nodes.end, column(graphs, 1)),
        np.append(nodes.whole, np.ones(len(graphs), np.bool_)),
    )  # fmt: skip
    out = np.flatnonzero(column(copies, 6) == 2)
    calls = read(prefix + "RUNTIME", "start", "end", "globalTid", "correlationId", "nameId")
    pids = sorted({pid for pid, _ in units})

    def of_process(rows):
        kept = [row for row in rows if row[2] & PROCESS in pids]
        track = int64s(pids.index(row[2] & PROCESS) for row in kept)
        return Timed(track, column(kept, 0), column(kept, 1))

    submitted = set(zip([row[2] for rows in (kernels, copies, sets, graphs) for row in rows],
                        correlation.tolist(), strict=True))  # fmt: skip
    return SimpleNamespace(
        tables={
            "kernels": st.Kernels(unit[0], column(kernels, 0), column(kernels, 1), config, names),
            "operation_unit": operations.track,
            "operation_start": start,
            "replays": replays,
            "copies": st.Copies(
                unit[1][out], *(column(copies, i)[out] for i in (0, 1, 7)),
            ),
            "ranges": _ranges(db, tables, strings, units, operations, correlation, calls, patterns),
        },
        kernels=Timed(unit[0], column(kernels, 0), column(kernels, 1)),
        operations=operations,
        calls={
            "process": int64s(pids.index(pid) for pid, _ in units),
            "launches": of_process([c for c in calls if (c[2] & PROCESS, c[3]) in submitted]),
            "synchronisations": of_process(
                [c for c in calls if "Synchronize" in strings.get(c[4], "")]
            ),
            "copies": Timed(unit[1], column(copies, 0), column(copies, 1)),
            "copy_bytes": column(copies, 7),
        },
        units=units,
    )  # fmt: skip


def _ranges(db, tables, strings, units, operations, correlation, calls, patterns):
    rows = []
    if "NVTX_EVENTS" in tables:
        rows = [
            (start, end, tid, strings.get(text_id) or text or "")
            for start, end, tid, text, text_id in db.execute(
                "SELECT start, end, globalTid, text, textId FROM NVTX_EVENTS "
                "WHERE eventType IN (59, 60) AND end IS NOT NULL"
            )
        ]
    distinct = pl.Series(sorted({row[3] for row in rows}), dtype=pl.String)
    wanted = markers.step_ranges(distinct, patterns)
    code = {name: i for i, name in enumerate(distinct)}
    parts = [int64s(())] * 8
    for (pid, _), unit in units.items():
        span = defaultdict(list)
        for i in np.flatnonzero(operations.track == unit):
            span[int(correlation[i])].append((operations.start[i], operations.end[i]))
        own = [c for c in calls if c[2] & PROCESS == pid and c[3] in span]
        launches = Launches(
            int64s(c[2] for c in own), int64s(c[0] for c in own), int64s(c[1] for c in own),
            int64s(min(s for s, _ in span[c[3]]) for c in own),
            int64s(max(e for _, e in span[c[3]]) for c in own),
            int64s(len(span[c[3]]) for c in own),
        )  # fmt: skip
        mine = [r for r in rows if r[2] & PROCESS == pid and wanted[code[r[3]]]]
        start, end, thread = (int64s(r[i] for r in mine) for i in range(3))
        on_gpu = project(thread, start, end, launches)
        new = (np.full(len(mine), unit), thread, int64s(code[r[3]] for r in mine), start, end,
               on_gpu.start, on_gpu.end, on_gpu.op_count)  # fmt: skip
        parts = [np.append(old, more) for old, more in zip(parts, new, strict=True)]
    return st.Ranges(*parts, names=distinct)


def found_in(loaded, rule=st.AUTO, patterns=(), warmup=None):
    return st.find_steps(**loaded.tables, request=st.Request(rule, tuple(patterns), warmup))


def measured(loaded, steps):
    ops = loaded.operations
    return measure(steps, loaded.kernels, union(ops.track, ops.start, ops.end), **loaded.calls)


def phases(steps) -> list[str]:
    return [st.PHASES[p] for p in steps.phase]


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
    if parameters["steps"] + parameters["warmup_steps"] > 4:
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


# --- made-up loops of kernels --------------------------------------------------------------------


class Loop:
    """Kernels one after another on one GPU, 10 ns each and 2 ns apart unless said otherwise."""

    def __init__(self, unit: int = 0, at: int = 1_000):
        self.unit, self.now = unit, at
        self.rows: list[tuple[int, int, str, int]] = []
        self.copies: list[tuple[int, int, int]] = []
        self.ranges: list[tuple[str, int, int, int]] = []
        self.replays: list[tuple[int, int, int]] = []

    def run(self, *names, ns=10, grid=1, gap=2):
        for name in names:
            self.rows.append((self.now, self.now + ns, name, grid))
            self.now += ns + gap
        return self

    def copy(self, size):
        self.copies.append((self.now, self.now + 3, size))
        self.now += 5
        return self

    def step(self, name, *kernels, thread=1, **how):
        """A range around kernels."""
        start = self.now
        self.run(*kernels, **how)
        self.ranges.append((name, thread, start, self.now - 2))
        return self

    def replay(self, graph, *kernels, whole=0):
        start = self.now
        self.now += whole + 2 if whole else 0
        self.run(*kernels)
        self.replays.append((graph, start, self.now - 2))
        return self

    def pause(self, ns):
        self.now += ns
        return self


BODY = ("norm", "gemv", "rope", "attention", "gemv", "add", "norm", "mlp")
PREFILL = ("norm", "gemm", "rope", "attention", "gemm", "add", "norm", "gemm", "mlp")


def find(*loops, rule=st.AUTO, patterns=(), warmup=None, shuffle=False):
    """The steps of loops; each loop has a unit of its own."""
    rows = [(lo.unit, *row) for lo in loops for row in lo.rows]
    if shuffle:
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    configs = sorted({row[3:] for row in rows})
    texts = [name for name, _ in configs]
    names = markers.KernelNames(
        texts, texts, texts, pl.DataFrame({"grid": [grid for _, grid in configs]})
    )
    unit, start, end = (int64s(row[i] for row in rows) for i in range(3))
    config = np.array([configs.index(row[3:]) for row in rows], np.uint32)
    kernels = st.Kernels(unit, start, end, config, names)
    range_rows = [(lo.unit, *row) for lo in loops for row in lo.ranges]
    range_names = pl.Series(sorted({r[1] for r in range_rows}), dtype=pl.String)
    codes = {name: i for i, name in enumerate(range_names)}
    r_unit, thread, r_start, r_end = (int64s(r[i] for r in range_rows) for i in (0, 2, 3, 4))
    ranges = st.Ranges(
        r_unit, thread, int64s(codes[r[1]] for r in range_rows), r_start - 500, r_start - 499,
        r_start, r_end, np.ones(len(range_rows), np.int64), names=range_names,
    )  # fmt: skip
    replay_rows = [(lo.unit, *row) for lo in loops for row in lo.replays]
    g = [int64s(r[i] for r in replay_rows) for i in range(4)]
    inside = [((start >= a) & (end <= b) & (unit == u)).any()
              for u, _, a, b in replay_rows]  # fmt: skip
    replays = st.Replays(g[0], g[1], g[2], g[3], ~np.array(inside, np.bool_))
    copy_rows = [(lo.unit, *row) for lo in loops for row in lo.copies]
    copies = st.Copies(*(int64s(row[i] for row in copy_rows) for i in range(4)))
    found = st.find_steps(
        kernels,
        np.concatenate((unit, copies.unit, replays.unit)),
        np.concatenate((start, copies.start, replays.start)),
        st.Request(rule, tuple(patterns), warmup),
        ranges=ranges,
        replays=replays,
        copies=copies,
    )
    found_kernels = Timed(unit, start, end)
    counts = measure(found.steps, found_kernels, union(unit, start, end)).kernel_count
    return SimpleNamespace(
        steps=found.steps, choices=found.choices, choice=(found.choices or [None])[0],
        counts=counts.tolist(), kernels=kernels, phases=phases(found.steps),
        runs=list(zip(found.steps.run.tolist(), found.steps.step.tolist(), strict=True)),
    )  # fmt: skip


def decode(loop=None, steps=6, end=("argmax",), prefill=True):
    loop = loop or Loop()
    if prefill:
        loop.run(*PREFILL, grid=64).run(*end)
    for _ in range(steps):
        loop.run(*BODY).run(*end).pause(5)
    return loop


def test_a_step_ends_with_its_marker():
    found = find(decode(steps=3))
    assert found.counts == [10, 9, 9, 9]
    assert found.runs == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert found.phases == ["prefill", "steady", "steady", "steady"]
    assert found.choice.rule == st.KERNEL
    assert "argmax*" in found.choice.marker
    assert (found.choice.count, found.choice.steps) == (4, 4)
    assert found.choice.warnings == ()
    rows = found.steps.closer
    assert (found.kernels.end[rows] == found.steps.t1).all()


def test_the_order_of_the_rows_does_not_matter():
    loops = decode(), decode(Loop(unit=3, at=1_007), steps=4)
    straight, shuffled = find(*loops), find(*loops, shuffle=True)
    for name in ("unit", "t0", "t1", "run", "step", "phase", "markers"):
        assert getattr(straight.steps, name).tolist() == getattr(shuffled.steps, name).tolist()
    assert (shuffled.kernels.end[shuffled.steps.closer] == shuffled.steps.t1).all()


def test_a_burst_of_markers_ends_one_step():
    partial = find(decode(end=("argmax_partial", "argmax_final")))
    rows_of_a_batch = find(decode(end=("argmax",) * 8))
    assert partial.counts == [11, *[10] * 6]
    assert partial.steps.markers.tolist() == [2] * 7
    assert rows_of_a_batch.counts == [17, *[16] * 6]
    assert rows_of_a_batch.steps.markers.tolist() == [8] * 7
    assert (rows_of_a_batch.choice.count, rows_of_a_batch.choice.steps) == (56, 7)


def test_a_burst_on_two_streams_ends_with_its_last_end():
    loop = Loop()
    for _ in range(4):
        loop.run(*BODY).run("argmax", ns=60, gap=-58).run("argmax", ns=10).pause(100)
    found = find(loop)
    assert len(found.steps) == 4
    assert found.counts == [10] * 4
    long = [row for row in loop.rows if row[1] - row[0] == 60]
    assert found.steps.t1.tolist() == [row[1] for row in long]


def test_every_kernel_a_marker_is_no_nonsense():
    one_kernel_a_token = Loop()
    for _ in range(20):
        one_kernel_a_token.run("megakernel", ns=1_000)
    found = find(one_kernel_a_token, rule=st.KERNEL, patterns=["mega*"])
    assert found.counts == [1] * 20
    with_setup = Loop().run("fill", "fill")
    with_setup.rows += [(s + 100, e + 100, n, g) for s, e, n, g in one_kernel_a_token.rows]
    assert len(find(with_setup, rule=st.KERNEL, patterns=["mega*"]).steps) == 20
    everything = find(decode(), rule=st.KERNEL, patterns=["*"])
    assert len(everything.steps) == 0
    assert everything.choice.rule == st.NONE
    assert "all kernels" in everything.choice.warnings[0]


def test_patterns_of_the_user():
    loop = decode(end=("sample_a",))
    assert len(find(loop).steps) == 0
    assert "--step-kernel" in find(loop).choice.warnings[0]
    assert find(loop, rule=st.KERNEL, patterns=["/^sample/"]).counts == [10, *[9] * 6]
    assert len(find(loop, rule=st.KERNEL, patterns=["other", "SAMPLE*"]).steps) == 7
    nothing = find(loop, rule=st.KERNEL, patterns=["other"])
    assert nothing.choice == st.Choice(0, "none", "", 0, 0, ("no kernel is called other",))
    with pytest.raises(ValueError, match="regular"):
        find(loop, rule=st.KERNEL, patterns=["/(/"])
    with pytest.raises(ValueError, match="no such rule"):
        find(loop, rule="guess")


def test_no_steps_are_wanted():
    found = find(decode(), rule=st.NONE)
    assert (len(found.steps), found.choices) == (0, [])


def test_nothing_at_all():
    found = find()
    assert (len(found.steps), found.choices, found.counts) == (0, [], [])
    assert len(find(Loop().run("argmax")).steps) == 0  # one marker is no loop


def test_each_gpu_and_process_has_steps_of_its_own():
    found = find(decode(Loop(0), 5), Loop(1).run(*BODY * 4), decode(Loop(2, 1_234), 8))
    assert [(c.unit, c.rule, c.steps) for c in found.choices] == [
        (0, "kernel", 6), (1, "none", 0), (2, "kernel", 9),
    ]  # fmt: skip
    assert found.steps.unit.tolist() == [0] * 6 + [2] * 9
    assert found.counts == [10, *[9] * 5, 10, *[9] * 8]


def test_a_sampler_that_only_the_warm_up_uses_is_passed_over():
    loop = decode(steps=2)
    for _ in range(30):
        loop.run(*BODY).run("TopKTopPSamplingFromProbKernel")
    found = find(loop)
    assert "FlashInfer" in found.choice.marker
    assert len(found.steps) == 30
    assert "argmax" in found.choice.warnings[0]


# --- runs and phases -----------------------------------------------------------------------------


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


def test_training_has_no_decode_steps():
    loop = Loop()
    for _ in range(10):
        loop.run(*BODY * 3, "argmax", "flash_bwd_kernel").copy(4)
        loop.step("decode", *BODY)
    found = find(loop)
    assert len(found.steps) == 0
    assert "flash_bwd_kernel" in found.choice.warnings[0]
    assert len(find(loop, rule=st.KERNEL, patterns=["argmax"]).steps) == 10


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


# --- NVTX ranges ---------------------------------------------------------------------------------


def test_nvtx_ranges_give_the_steps():
    loop = Loop().run("load")
    for token in range(5):
        loop.run("between")
        loop.step(f"token_{token}_processing", *BODY)
        loop.step(f"layer_1_token_{token}")
    loop.ranges = [r for r in loop.ranges if r[2] <= r[3]]
    found = find(loop)
    assert found.choice.rule == st.NVTX
    assert found.choice.marker == "NVTX ranges token_#_processing"
    assert found.counts == [8] * 5  # what is between the ranges is in no step
    assert found.phases == ["steady"] * 5
    assert found.runs == [(1, i) for i in range(1, 6)]


def test_the_count_starts_again_with_the_program():
    loop = Loop()
    for token in (0, 1, 2, 3, 0, 1, 2):
        loop.step(f"token_{token}", *BODY)
    assert find(loop).runs == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]


def test_the_outer_of_two_families_is_taken():
    loop = Loop()
    for token in range(4):
        start = loop.now
        loop.step(f"decode inner {token}", *BODY).run("tail")
        loop.ranges.append((f"token {token}", 2, start, loop.now - 2))
    assert find(loop).choice.marker == "NVTX ranges token #"
    assert find(loop).counts == [9] * 4
    named = find(loop, rule=st.NVTX, patterns=["decode inner*"])
    assert named.counts == [8] * 4
    assert "no NVTX range" in find(loop, rule=st.NVTX, patterns=["x"]).choice.warnings[0]


def test_ranges_that_overlap_on_the_gpu_partition_the_time():
    loop = Loop()
    for token in range(4):
        loop.step(f"token {token}", *BODY)
    loop.ranges = [(name, thread, start, end + 30) for name, thread, start, end in loop.ranges]
    found = find(loop)
    assert (found.steps.t0[1:] == found.steps.t1[:-1]).all()
    assert "overlap" in found.choice.warnings[0]


def test_too_few_ranges_or_without_work_are_no_steps():
    assert len(find(Loop().step("token 1", *BODY).step("token 2", *BODY)).steps) == 0
    assert len(find(*(Loop().step(f"stage {i}", *BODY) for i in range(1))).steps) == 0


# --- graphs and copies ---------------------------------------------------------------------------


def graph_loop(steps=8, *, whole=0, tail=("sample",)):
    loop = Loop().run(*PREFILL * 2)
    for _ in range(steps):
        loop.replay(0, *(() if whole else BODY), whole=whole).run(*tail)
    return loop


def test_replays_of_a_graph_give_the_steps():
    found = find(graph_loop())
    assert found.choice.rule == st.GRAPH
    assert found.counts == [18, 8, *[9] * 7]
    assert found.phases == ["prefill", "warmup", *["steady"] * 7]
    assert "warmup" not in find(graph_loop(), warmup=0).phases
    assert found.runs == [(1, i) for i in range(1, 10)]
    assert found.steps.closer.tolist() == [-1, *range(8)]
    two = graph_loop().pause(500).run(*PREFILL * 2)
    for _ in range(6):
        two.replay(0, *BODY).run("sample")
    assert find(two).runs == [(1, i) for i in range(1, 10)] + [(2, i) for i in range(1, 8)]


def test_whole_graphs_are_explained():
    found = find(graph_loop(whole=100, tail=()))
    assert found.choice.rule == st.GRAPH
    assert found.counts == [18, *[0] * 8]
    assert "--cuda-graph-trace=node" in found.choice.warnings[0]


def test_replays_need_to_be_regular():
    loop = Loop().run("fill")
    for pause in (1, 5_000, 40, 90_000, 300, 2, 700_000):
        loop.replay(0, *BODY).pause(pause)
    assert len(find(loop).steps) == 0
    assert len(find(loop, rule=st.GRAPH).steps) == 7
    assert len(find(graph_loop(steps=4)).steps) == 0
    assert "no CUDA graph" in find(decode(), rule=st.GRAPH).choice.warnings[0]


def test_the_pieces_of_a_step_are_not_steps():
    loop = Loop()
    for _ in range(8):
        loop.replay(0, *BODY).replay(1, *BODY).replay(2, "head").run("sample").pause(9)
    found = find(loop)
    assert found.choice.marker == "replays of CUDA graph 2"
    assert found.counts == [17, *[18] * 7]


LLM = ("rms_norm", "gemv", "flash_attention", "gemv", "add", "mlp_gemv", "rope", "head_gemv")


def test_copies_of_a_token_give_the_steps():
    loop = Loop().run(*LLM * 3, grid=64).copy(4)
    for _ in range(10):
        loop.run(*LLM).copy(4)
    loop.copy(1 << 20)
    found = find(loop)
    assert found.choice.rule == st.COPY
    assert "4 bytes" in found.choice.marker
    assert found.counts == [24, *[8] * 10]
    assert found.phases == ["prefill", *["steady"] * 10]


@pytest.mark.parametrize(
    "kernels",
    [
        ["dot", "axpy"] * 6,  # a solver that reads its residual
        ["gemv"] * 12,  # no attention
        ["flash_attention", "gemv"],  # too few kernels
    ],
)
def test_copies_of_other_programs_give_none(kernels):
    loop = Loop()
    for _ in range(20):
        loop.run(*kernels).copy(4)
    assert len(find(loop).steps) == 0


def test_irregular_or_large_copies_give_none():
    irregular, large = Loop(), Loop()
    for i in range(20):
        irregular.run(*LLM * (1 + i * 7 % 5)).copy(4)
        large.run(*LLM).copy(4096)
    assert len(find(irregular).steps) == 0
    assert len(find(large).steps) == 0


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


# --- measuring, against brute force --------------------------------------------------------------

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


def test_rare_names_may_share_a_column(monkeypatch):
    loop = decode(steps=5)
    expected = find(decode(loop, 20)).phases
    monkeypatch.setattr(step_phases, "_CELLS", 1)
    assert find(loop).phases == expected


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
