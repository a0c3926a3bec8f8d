"""Decode steps by SQL: the slices' arguments, the manual's numbers, brute force on the capture."""

import math
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.query import package
from samples.builder import Capture, Kernel
from tests import report_oracle, runs, sql_annotations
from tests.oracle import pid
from tests.runs import same
from tests.sql_views import by
from tests.step_checks import (
    RANDOM,
    RANDOM_RUN,
    built,
    check_like_the_manual,
    crowd_of_processes,
    limited_to,
    the_only_process,
)

FIELDS = (
    *("kernel_count", "kernel_ns", "busy_ns", "idle_ns", "wall_ns", "kernel_util_pct"),
    *("busy_util_pct", "largest_gap_ns", "copy_count", "copy_bytes", "launch_count"),
    *("sync_count", "sync_ns", "allocation_count", "steps_per_second"),
)
RENAMED = {
    "step": "number",
    "step_in_run": "index",
    "pid": "process_id",
    **{name: name for name in ("id", "ts", "dur", "name", "run", "gpu", *FIELDS)},
}
"""Column of `nsys_step` to the slice's argument."""


@pytest.fixture(scope="session", params=sql_annotations.RUNS)
def made(request, open_trace):
    return sql_annotations.ask(request.param, open_trace)


@pytest.fixture(scope="session")
def real(capture, open_trace):
    return sql_annotations.ask(capture, open_trace)


# What holds of every capture


def check(asked):
    check_columns(asked)
    check_kernels(asked)
    check_calls(asked)
    check_steady(asked)


def check_columns(asked):
    """Every argument of the slices is a column."""
    slices = asked.slices["nsys.step"]
    known = {"category", "phase", *RENAMED.values()}
    assert all(set(s) == known for s in slices)
    upid = {p["pid"]: p["upid"] for p in asked.trace["processes"]}
    same(
        asked.cells("nsys_step", *RENAMED, "phase", "upid"),
        [
            (*(s[k] for k in RENAMED.values()), s["phase"].lower(), upid[s["process_id"]])
            for s in slices
        ],
        "steps",
    )
    for s in asked["nsys_step"]:
        assert s["wall_ns"] == s["dur"] == s["busy_ns"] + s["idle_ns"]


def in_steps(asked, rows, unit_of):
    """(step, row) of kernels that start and end in a step of their process and GPU.

    Args:
        asked: The capture.
        rows: Kernels.
        unit_of: (process id, GPU) of a kernel.
    """
    steps = by(sorted(asked["nsys_step"], key=lambda s: s["step"]), "pid", "gpu")
    for row in rows:
        inside = (
            s
            for s in steps.get(unit_of(row), [])
            if row["start"] >= s["ts"] and row["end"] <= s["ts"] + s["dur"]
        )
        if step := next(inside, None):
            yield step, row


def unit_of(row):
    return pid(row["globalPid"]), row["gpu"]


def check_kernels(asked):
    kernels = report_oracle.kernels(asked.oracle)
    count, total = Counter(), Counter()
    for s, k in in_steps(asked, kernels, unit_of):
        key = (s["id"], s["upid"], s["pid"], s["gpu"], s["step"], k["short"], k["full"])
        count[key] += 1
        total[key] += k["end"] - k["start"]
    same(
        asked.cells(
            "nsys_step_kernel",
            *("step_id", "upid", "pid", "gpu", "step", "name", "demangled_name"),
            *("count", "total_ns"),
        ),
        [(*key, n, total[key]) for key, n in count.items()],
        "kernels of steps",
    )
    by_step = by(asked["nsys_step_kernel"], "step_id")
    for s in asked["nsys_step"]:
        mine = by_step.get((s["id"],), [])
        assert sum(r["total_ns"] for r in mine) == s["kernel_ns"]
        if all(k["end"] > k["start"] for k in kernels):
            assert sum(r["count"] for r in mine) == s["kernel_count"]


def check_calls(asked):
    calls = report_oracle.calls(asked.oracle)
    count, total = Counter(), Counter()
    for s in asked["nsys_step"]:
        for c in calls:
            if pid(c["globalTid"]) == s["pid"] and s["ts"] <= c["start"] < s["ts"] + s["dur"]:
                key = (s["id"], s["upid"], s["pid"], s["gpu"], s["step"], c["name"])
                count[key] += 1
                total[key] += c["end"] - c["start"]
    columns = ("step_id", "upid", "pid", "gpu", "step", "name", "count", "total_ns")
    same(
        asked.cells("nsys_step_call", *columns),
        [(*key, n, total[key]) for key, n in count.items()],
        "calls of steps",
    )


def check_steady(asked):
    """Statistics over lists in which each steady step has a value for each kernel."""
    steady = by((s for s in asked["nsys_step"] if s["phase"] == "steady"), "upid", "pid", "gpu")
    expected = []
    for unit, steps in steady.items():
        row_of, n = {s["id"]: i for i, s in enumerate(steps)}, len(steps)
        number, time = defaultdict(lambda n=n: [0] * n), defaultdict(lambda n=n: [0] * n)
        for k in asked["nsys_step_kernel"]:
            if k["step_id"] in row_of:
                number[k["name"]][row_of[k["step_id"]]] += k["count"]
                time[k["name"]][row_of[k["step_id"]]] += k["total_ns"]
        everything = sum(map(sum, time.values()))
        names = sorted(time, key=lambda n: (-sum(time[n]), n.encode()))
        for name in names:
            mine = time[name]
            statistics = (
                *(np.median(number[name]), *(np.percentile(mine, p) for p in (50, 5, 95))),
                sum(mine) / n,
            )
            expected.append(
                (
                    *(*unit, name, n),
                    *map(pytest.approx, statistics),
                    pytest.approx(100 * sum(mine) / everything) if everything else None,
                )
            )
    columns = (
        *("upid", "pid", "gpu", "name", "steps", "med_count", "med_ns", "p5_ns", "p95_ns"),
        *("avg_ns", "pct"),
    )
    found = asked.cells("nsys_steady_step", *columns)
    assert found == sorted(expected, key=lambda r: (r[0], r[2]))


def test_steps_of_the_projects_captures(made):
    check(made)


def test_steps_of_real_captures(real):
    if not real.left_out:
        check(real)


# The manual's numbers


def check_manual(asked):
    """Every step of the only process on the only GPU."""
    steps = [s | {"number": s["step"], "start": s["ts"]} for s in asked["nsys_step"]]
    for s in steps:
        s["end"] = s["start"] + s["dur"]
    sql = limited_to(asked.path, the_only_process(asked), 0)
    check_like_the_manual(sorted(steps, key=lambda s: s["number"]), sql)
    sql.close()


@pytest.mark.parametrize("name", runs.SAMPLES)
def test_steps_of_the_samples_are_the_manuals(name, open_trace):
    asked = sql_annotations.ask(name, open_trace)
    assert len(asked["nsys_step"]) == 32
    check_manual(asked)


@RANDOM
@given(**RANDOM_RUN)
def test_steps_of_random_decode_runs_are_the_manuals(open_trace, **parameters):
    with tempfile.TemporaryDirectory() as directory:
        path, _ = built(directory, **parameters)
        asked = sql_annotations.ask_now(path, open_trace)
        check(asked)
        check_manual(asked)


# What is rare


def test_processes_that_share_gpus(tmp_path, open_trace):
    path, units = crowd_of_processes(tmp_path)
    asked = sql_annotations.ask_now(path, open_trace)
    check(asked)
    found = {(s["pid"], s["gpu"]) for s in asked["nsys_step"]}
    assert found == {(pid(process), gpu) for (process, _), gpu in units.items()}


@st.composite
def crowded_borders(draw):
    """Kernels that touch and cross the ends of markers, some without duration, on two GPUs."""
    rows = []
    for device in (0, 1):
        at = 1_000
        for _ in range(draw(st.integers(2, 6))):
            for _ in range(draw(st.integers(1, 4))):
                length = draw(st.sampled_from([0, 0, 400, 900]))
                rows.append(("some_kernel", device, at, length))
                at += draw(st.sampled_from([0, length, length + 100]))
            at += 1_000
            marker = draw(st.sampled_from([0, 500]))
            rows.append(("argmax_kernel", device, at, marker))
            end = at + marker
            for _ in range(draw(st.integers(0, 3))):
                length = draw(st.sampled_from([0, 0, 300]))
                start = end + draw(st.sampled_from([0, 0, -100, -length, 50]))
                rows.append(("border_kernel", device, start, length))
            at = end + draw(st.sampled_from([0, 700]))
    return rows


@RANDOM
@given(rows=crowded_borders())
def test_kernels_at_the_borders_of_steps(open_trace, rows):
    capture = Capture("3.16.1")
    for gpu in (0, 1):
        capture.gpu(gpu)
    process = capture.process(4242, "app", gpus=(0, 1))
    for name, device, at, length in rows:
        capture.kernel(process, Kernel(name), at, at + length, correlation=None, device=device)
    with tempfile.TemporaryDirectory() as directory:
        asked = sql_annotations.ask_now(capture.save(Path(directory), "borders"), open_trace)
    check_columns(asked)
    check_kernels(asked)
    check_steady(asked)


def test_a_kernel_that_few_steps_have(tmp_path, open_trace):
    """Its median is 0: a step without it counts."""
    capture = Capture("3.16.1")
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    at = 1_000_000
    for step in range(30):
        rare = step in (20, 25)
        for name in (*["layer_kernel"] * (6 - rare), *["rare_kernel"] * rare, "argmax_kernel"):
            capture.launch(
                thread, Kernel(name), at=at, call=1_000, start=at + 2_000, duration=5_000
            )
            at += 8_000
    asked = sql_annotations.ask_now(capture.save(tmp_path, "rare"), open_trace)
    check(asked)
    rare = next(r for r in asked["nsys_steady_step"] if r["name"] == "rare_kernel")
    assert (rare["med_ns"], rare["med_count"], rare["p5_ns"]) == (0, 0, 0)
    assert math.isclose(rare["avg_ns"], 10_000 / rare["steps"])


def test_without_steps_there_are_no_rows(open_trace):
    asked = sql_annotations.ask("no_cuda_at_all", open_trace)
    for view in sql_annotations.VIEWS["steps"]:
        assert asked[view] == []


def test_fixed_names():
    """Users rely on these."""
    columns = {column.name for column in package.views()["nsys_step"].columns}
    assert columns >= {"id", "ts", "dur", "step", "phase", "upid", "gpu", "kernel_count",
                       "kernel_ns", "busy_ns", "idle_ns", "wall_ns", "kernel_util_pct",
                       "busy_util_pct"}  # fmt: skip
