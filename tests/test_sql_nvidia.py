"""What NVIDIA's own `nsys stats` prints for real captures comes out of SQL, where there are any."""

import csv
import statistics
from collections import Counter

import pytest

from tests import sql_views
from tests.runs import same

STATISTICS = {
    "total_ns": "Total Time (ns)",
    "avg_ns": "Avg (ns)",
    "med_ns": "Med (ns)",
    "min_ns": "Min (ns)",
    "max_ns": "Max (ns)",
    "stddev_ns": "StdDev (ns)",
}
"""Columns of ours and theirs; theirs are rounded to one decimal."""

ENDS = {"H": "Host", "D": "Device", "A": "Array", "P": "Peer"}


@pytest.fixture(scope="session")
def asked(capture, open_trace):
    return sql_views.ask(capture, open_trace)


def printed(asked, report):
    path = asked.path.parent / "oracle" / f"{asked.path.stem}.{report}.csv"
    if not path.exists():
        pytest.skip(f"nsys stats has no rows for {report}")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check(rows, expected, columns):
    """Compares numbers by the key of a row; those that are printed with one decimal roughly."""
    assert rows.keys() == expected.keys()
    for key, wanted in expected.items():
        for ours, theirs in columns.items():
            number = pytest.approx(float(wanted[theirs]), abs=0.0501)
            assert rows[key][ours] == number, (key, ours)


def check_summary(rows, expected, name, count):
    """The same names in the same order of totals, and the same numbers."""
    totals = [int(r["Total Time (ns)"]) for r in expected]
    assert [row["total_ns"] for row in rows] == totals
    columns = {**STATISTICS, "time_pct": "Time (%)", "instances": count}
    check({r["name"]: r for r in rows}, {r[name]: r for r in expected}, columns)


def test_kernels(asked):
    rows = printed(asked, "cuda_gpu_kern_sum")
    check_summary(asked["nsys_kernel_summary_full"], rows, "Name", "Instances")


def test_calls(asked):
    check_summary(asked["nsys_api_summary"], printed(asked, "cuda_api_sum"), "Name", "Num Calls")


def test_copies(asked):
    def operation(name):
        if name == "Memset":
            return "[CUDA memset]"
        unified, kind = "Unified" in name, name.split()[-1]
        where = f"{ENDS[kind[0]]}-to-{ENDS[kind[-1]]}"
        return f"[CUDA {'Unified Memory ' * unified}memcpy {where}]"

    rows = [row | {"name": operation(row["name"])} for row in asked["nsys_copy_summary"]]
    check_summary(rows, printed(asked, "cuda_gpu_mem_time_sum"), "Operation", "Count")


def test_ranges(asked):
    styles = {"push_pop": "PushPop", "start_end": "StartEnd"}
    columns = {
        "total_ns": "Total Proj Time (ns)",
        "total_cpu_ns": "Total Range Time (ns)",
        "instances": "Range Instances",
        **{ours: f"Proj {theirs}" for ours, theirs in STATISTICS.items() if ours != "total_ns"},
        "gpu_op_count": "Total GPU Ops",
        "avg_gpu_ops": "Avg GPU Ops",
        "avg_level": "Avg Range Lvl",
        "avg_children": "Avg Num Child",
    }
    check(
        {(r["name"], styles[r["style"]]): r for r in asked["nsys_nvtx_summary"]},
        {(r["Range"], r["Style"]): r for r in printed(asked, "nvtx_gpu_proj_sum")},
        columns,
    )


def test_queue_times(asked):
    """Of kernels whose call is in the capture, by process, device, call and kernel."""
    expected = printed(asked, "cuda_kern_exec_sum")
    calls = {row["id"]: row for row in asked["nsys_api_call"]}
    launched = [row for row in asked["nsys_kernel"] if row["launch_slice_id"] is not None]
    groups = {}
    for row in launched:
        call = calls[row["launch_slice_id"]]
        key = (row["pid"], call["tid"], row["device"], call["name"], row["demangled_name"])
        groups.setdefault(key, []).append(row["queue_ns"])
    found = Counter()
    for key, queue in groups.items():
        waited = [q for q in queue if q is not None]
        least, most = (min(waited), max(waited)) if waited else (None, None)
        median = statistics.median(waited) if waited else None
        found[(*key, len(queue), len(waited), median, least, most)] += 1

    def number(text):
        return float(text) if text else None

    same(
        found.elements(),
        [
            (
                *(int(r["PID"]), int(r["TID"]), int(r["DevId"]), r["API Name"], r["Kernel Name"]),
                *(int(r["Count"]), int(r["QCount"])),
                *(number(r[f"Q{what} (ns)"]) for what in ("Med", "Min", "Max")),
            )
            for r in expected
        ],
        "queue times",
    )
