"""Every check on real captures of many nsys versions; skipped where there are none."""

import csv
import statistics
from collections import defaultdict

import pytest

from tests import checks
from tests.runs import load_capture, same


@pytest.fixture(scope="session")
def run(capture, open_trace):
    return load_capture(capture, open_trace)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_capture(run, check):
    check(run)


def oracle_rows(run, report):
    path = run.path.parent / "oracle" / f"{run.path.stem}.{report}.csv"
    if not path.exists():
        pytest.skip(f"nsys stats has no rows for {report}")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_kernels_are_those_of_nsys_stats(run):
    rows = oracle_rows(run, "cuda_gpu_kern_sum")
    durations = defaultdict(list)
    for s in run.trace.gpu:
        if s["kind"] == "CUDA kernel":
            durations[run.trace.args(s)["kernel_demangled_name"]].append(s["dur"])
    found = [(n, len(d), sum(d), min(d), max(d)) for n, d in durations.items()]
    expected = [
        (r["Name"], *(int(r[c]) for c in ("Instances", "Total Time (ns)", "Min (ns)", "Max (ns)")))
        for r in rows
    ]
    same(found, expected, "kernels by name")
    medians = {r["Name"]: float(r["Med (ns)"]) for r in rows}
    assert {n: statistics.median(d) for n, d in durations.items()} == medians


def test_calls_are_those_of_nsys_stats(run):
    durations = defaultdict(list)
    for s in run.trace.calls(*checks.CUDA):
        durations[s["name"]].append(s["dur"])
    found = [(n, len(d), sum(d), min(d), max(d)) for n, d in durations.items()]
    columns = ("Num Calls", "Total Time (ns)", "Min (ns)", "Max (ns)")
    rows = oracle_rows(run, "cuda_api_sum")
    same(found, [(r["Name"], *(int(r[c]) for c in columns)) for r in rows], "calls by name")


def test_projections_are_those_of_nsys_stats(run):
    rows = oracle_rows(run, "nvtx_gpu_proj_sum")
    projected = defaultdict(list)
    for s in run.trace.calls(checks.PROJECTED):
        args = run.trace.args(s)
        what = (
            s["dur"],
            args["gpu_projection.gpu_op_count"],
            args["gpu_projection.range_duration"],
        )
        projected[s["name"] or ""].append(what)
    found = []
    for name, ranges in projected.items():
        spans, ops, own = zip(*ranges, strict=True)
        found.append((name, len(spans), sum(spans), min(spans), max(spans), sum(ops), sum(own)))
    columns = ("Range Instances", "Total Proj Time (ns)", "Proj Min (ns)", "Proj Max (ns)",
               "Total GPU Ops", "Total Range Time (ns)")  # fmt: skip
    assert all(r["Style"] == "PushPop" for r in rows), "names are told apart by style"
    same(found, [(r["Range"], *(int(r[c]) for c in columns)) for r in rows], "projections")
