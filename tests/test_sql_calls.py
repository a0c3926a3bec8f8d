"""CUDA calls, waits and NVTX ranges by SQL, against plain Python on the capture."""

import re
from collections import defaultdict

import pytest

from tests import report_oracle, sql_views
from tests.checks.waits import expected_wake_ups
from tests.oracle import START_END, WAITS, pid, tid
from tests.runs import same


@pytest.fixture(scope="session", params=sql_views.RUNS)
def made(request, open_trace):
    return sql_views.ask(request.param, open_trace)


@pytest.fixture(scope="session")
def real(capture, open_trace):
    return sql_views.ask(capture, open_trace)


def key(call):
    """What tells a call apart."""
    thread = call["globalTid"]
    return (call["start"], call["end"] - call["start"], call["name"], pid(thread), tid(thread))


def check_calls(asked):
    expected = [
        (*key(c), c["category"], bool(c["returnValue"])) for c in report_oracle.calls(asked.oracle)
    ]
    columns = ("ts", "dur", "name", "pid", "tid", "category")
    found = [
        (*(row[c] for c in columns), row["result"] is not None) for row in asked["nsys_api_call"]
    ]
    if "eventClass" in asked.oracle.columns.get("CUPTI_ACTIVITY_KIND_RUNTIME", ()):
        return same(found, expected, "calls")
    without = [(*row[:5], row[6]) for row in found]
    return same(without, [(*row[:5], row[6]) for row in expected], "calls")


def check_outermost(asked):
    """A call inside another one of its thread is not outermost; of two alike one is."""
    threads = sql_views.by(asked["nsys_api_call"], "pid", "tid")
    for rows in threads.values():
        reach, expected = None, 0
        for row in sorted(rows, key=lambda r: (r["ts"], -r["dur"])):
            end = row["ts"] + row["dur"]
            # At the end of the last one, a call without duration is on the border: either.
            if reach is None or end > reach:
                expected += 1
                reach = end
            elif row["ts"] == reach:
                expected += row["is_outermost"]
        assert sum(row["is_outermost"] for row in rows) == expected


def check_call_summary(asked):
    expected = report_oracle.summary(report_oracle.calls(asked.oracle))
    sql_views.close(asked["nsys_api_summary"], expected)


def waits(asked):
    """The calls that wait, what for, and the time of their wake-up."""
    woken = {id(call): call["end"] - work["end"] for call, work in expected_wake_ups(asked)}
    rows = asked.oracle.select(WAITS, "globalPid", "correlationId")
    known = {id(asked.oracle.call_of.get((r["globalPid"], r["correlationId"]))) for r in rows}
    kinds = {"Event": "event", "Stream": "stream"}
    for call in asked.oracle.calls:
        if call["name"] and (what := re.match(r"cu(?:da)?(.*)Synchronize", call["name"])):
            kind = kinds.get(what[1], "context") if id(call) in known else None
            yield call, kind, woken.get(id(call))


def check_waits(asked):
    expected = [(*key(call), kind, ns) for call, kind, ns in waits(asked)]
    columns = ("ts", "dur", "name", "pid", "tid", "waited_for", "wake_up_ns")
    same(asked.slices("nsys_sync", *columns), expected, "waits")
    for row in asked["nsys_sync"]:
        assert (row["wake_up_ns"] is None) == (row["wake_up_slice_id"] is None)
        assert (row["wake_up_ns"] is None) == (row["awaited_slice_id"] is None)


def check_wait_summary(asked):
    groups = defaultdict(list)
    for call, kind, ns in waits(asked):
        groups[call["name"], kind].append((call["end"] - call["start"], ns))
    expected = [
        (
            *group,
            *(len(rows), sum(d for d, _ in rows), max(d for d, _ in rows)),
            *(sum(ns is not None for _, ns in rows), sum(ns or 0 for _, ns in rows)),
        )
        for group, rows in groups.items()
    ]
    columns = ("name", "waited_for", "instances", "total_ns", "max_ns")
    found = asked.slices("nsys_sync_summary", *columns, "wake_up_count", "wake_up_ns")
    same(found, expected, "waits by name")
    totals = [row["total_ns"] for row in asked["nsys_sync_summary"]]
    assert totals == sorted(totals, reverse=True)


def check_ranges(asked):
    """The ranges with operations, with thread and domain: brute force is in the oracle."""
    columns = (
        *("name", "ts", "dur", "pid", "tid", "cpu_ts", "cpu_dur", "gpu_op_count"),
        *("domain", "style"),
    )
    found = [(row[0] or "", *row[1:]) for row in asked.slices("nsys_nvtx_range", *columns)]
    expected = [
        (
            *(r["name"], r["first"], r["last"] - r["first"]),
            *(pid(r["globalTid"]), tid(r["globalTid"]), r["start"], r["end"] - r["start"]),
            *(r["ops"], asked.oracle.domain(r)),
            "start_end" if r["eventType"] in START_END else "push_pop",
        )
        for r in asked.oracle.projections
    ]
    same(found, expected, "ranges")
    slices = [row["cpu_slice_id"] for row in asked["nsys_nvtx_range"]]
    assert len(set(slices)) == len(slices)


def check_kernels_of_ranges(asked):
    """Every pair of a range and a kernel whose launching call is inside, on the same thread."""
    kernels = defaultdict(list)
    for call, work in asked.oracle.arrows:
        if work["family"] == "kernel":
            kernels[call["globalTid"]].append((call, work))
    expected = [
        (r["name"], r["start"], r["end"] - r["start"], work["start"], work["end"] - work["start"])
        for r in asked.oracle.projections
        for call, work in kernels[r["globalTid"]]
        if r["start"] <= call["start"] and call["end"] <= r["end"]
    ]
    ranges = {row["id"]: row for row in asked["nsys_nvtx_range"]}
    kernel_ids = {row["id"] for row in asked["nsys_kernel"]}
    found = []
    for row in asked["nsys_nvtx_kernel"]:
        cpu = ranges[row["range_id"]]
        name = row["range_name"] or ""
        found.append((name, cpu["cpu_ts"], cpu["cpu_dur"], row["ts"], row["dur"]))
        assert row["kernel_id"] in kernel_ids
    same(found, expected, "kernels of ranges")


def check_range_summary(asked):
    ranges = [
        {
            "name": (row["name"] or "", row["domain"] or "", row["style"]),
            "start": 0,
            "end": row["dur"],
            "cpu": row["cpu_dur"],
            "ops": row["gpu_op_count"],
        }
        for row in asked["nsys_nvtx_range"]
    ]
    columns = ("total_ns", "instances", "avg_ns", "med_ns", "min_ns", "max_ns", "stddev_ns")
    groups = sql_views.by(ranges, "name")
    expected = {}
    for (name,), rows in groups.items():
        [row] = report_oracle.summary([r | {"name": str(name)} for r in rows])
        more = {
            "total_cpu_ns": sum(r["cpu"] for r in rows),
            "gpu_op_count": sum(r["ops"] for r in rows),
        }
        expected[name] = {c: row[c] for c in (*columns, "p95_ns", "p99_ns")} | more
    found = {
        (row["name"] or "", row["domain"] or "", row["style"]): row
        for row in asked["nsys_nvtx_summary"]
    }
    assert len(found) == len(asked["nsys_nvtx_summary"])
    assert found.keys() == expected.keys()
    sql_views.close([found[name] for name in expected], list(expected.values()))


CHECKS = (
    check_calls,
    check_outermost,
    check_call_summary,
    check_waits,
    check_wait_summary,
    check_ranges,
    check_kernels_of_ranges,
    check_range_summary,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_made(made, check):
    check(made)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_real(real, check):
    check(real)
