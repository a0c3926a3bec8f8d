"""Utilization, memory and facts of the capture by SQL: against brute force and the raw counters."""

import math
from itertools import groupby, pairwise

import pytest

from tests import report_oracle, sql_annotations
from tests.oracle import pid
from tests.runs import same
from tests.sql_views import by, close
from tests.step_checks import crowd_of_processes

UTILIZATION = {
    "Utilization": "busy_pct",
    "Kernels in flight": "kernels_in_flight",
    "Launch queue depth": "launch_queue_depth",
    "Copy throughput HtoD": "copy_htod_gb_s",
    "Copy throughput DtoH": "copy_dtoh_gb_s",
    "Copy throughput DtoD": "copy_dtod_gb_s",
    "Copy throughput PtoP": "copy_ptop_gb_s",
}


@pytest.fixture(scope="session", params=sql_annotations.RUNS)
def made(request, open_trace):
    return sql_annotations.ask(request.param, open_trace)


@pytest.fixture(scope="session")
def real(capture, open_trace):
    return sql_annotations.ask(capture, open_trace)


def counters(asked):
    """(track, rows) of each counter, in order of time."""
    rows = asked.trace["counters"]
    return [(track, list(mine)) for track, mine in groupby(rows, key=lambda r: r["track_id"])]


def check_balance(asked):
    """Each GPU's time by brute force over its operations."""
    close(asked["nsys_gpu_balance"], report_oracle.balance(asked.oracle))
    names = {g["id"]: g["name"] for g in asked.oracle.gpus}
    facts = dict(asked.cells("nsys_capture", "name", "value"))
    for row in asked["nsys_gpu_balance"]:
        assert row["busy_ns"] + row["idle_ns"] == row["wall_ns"]
        # Exports of 2020 have no table of GPUs, but name them in another.
        assert row["name"] in (names.get(row["gpu"]), *facts["gpus"].split(", "))


def check_gpu_counters(asked):
    """A row of the engine holds until the next one of its track."""
    expected = []
    for track, rows in counters(asked):
        if rows[0]["type"] == "gpu_counter":
            expected += [
                (
                    track,
                    r["gpu_id"],
                    r["name"],
                    r["unit"],
                    r["ts"],
                    after["ts"] - r["ts"],
                    r["value"],
                )
                for r, after in pairwise(rows)
            ]
    columns = ("track_id", "gpu", "name", "unit", "ts", "dur", "value")
    same(asked.cells("nsys_gpu_counter", *columns), expected, "values of counters")


def check_utilization(asked):
    """All counters of a window in one row; the means add up to what the GPU did."""
    tracks = {t for t, rows in counters(asked) if "windows of" in (rows[0]["description"] or "")}
    ours = [r for r in asked["nsys_gpu_counter"] if r["track_id"] in tracks]
    expected = []
    for (gpu, ts, dur), rows in by(ours, "gpu", "ts", "dur").items():
        values = dict.fromkeys(UTILIZATION.values())
        values |= {UTILIZATION[r["name"]]: r["value"] for r in rows}
        expected.append((gpu, ts, dur, *values.values()))
    columns = ("gpu", "ts", "dur", *UTILIZATION.values())
    assert asked.cells("nsys_utilization", *columns) == sorted(expected, key=lambda r: r[:2])
    balance = {r["gpu"]: r for r in asked["nsys_gpu_balance"] if r["wall_ns"]}
    windows = by(asked["nsys_utilization"], "gpu")
    assert {gpu for (gpu,) in windows} == set(balance)
    for (gpu,), rows in windows.items():
        assert sum(r["dur"] for r in rows) == balance[gpu]["wall_ns"]
        for column, scale, total in (
            ("busy_pct", 100, "busy_ns"),
            ("kernels_in_flight", 1, "kernel_ns"),
        ):
            found = sum(r[column] * r["dur"] for r in rows) / scale
            assert math.isclose(found, balance[gpu][total], rel_tol=1e-9, abs_tol=1e-3)


def check_memory(asked):
    """Every value of the processes' counters, and the most of each."""
    end = asked.trace["trace_end"][0]["ts"]
    tracks = {
        track: rows for track, rows in counters(asked) if rows[0]["name"].partition(" memory")[1]
        and rows[0]["type"] != "gpu_counter"
    }  # fmt: skip
    expected, peaks = [], []
    for track, rows in tracks.items():
        times = [*(r["ts"] for r in rows), end]
        name, values = rows[0]["name"], [int(r["value"]) for r in rows]
        lengths = [b - a for a, b in pairwise(times)]
        gpu = int(name.split()[1]) if name.startswith("GPU") else None
        pool = "pool" in name
        expected += [
            (track, name, gpu, pool, r["ts"], dur, value)
            for r, dur, value in zip(rows, lengths, values, strict=True)
        ]
        most = max(values)
        held = sum(dur for dur, value in zip(lengths, values, strict=True) if value == most)
        peaks.append((track, name, gpu, pool, most, times[values.index(most)], held, values[-1]))
    columns = ("track_id", "name", "gpu", "is_pool", "ts", "dur", "bytes")
    same(asked.cells("nsys_memory", *columns), expected, "memory")
    columns = ("track_id", "name", "gpu", "is_pool", "peak_bytes", "ts", "peak_ns", "last_bytes")
    same(asked.cells("nsys_memory_peak", *columns), peaks, "peaks")


def check_capture(asked):
    prefix = "trace_attribute."
    assert asked.cells("nsys_capture", "name", "value") == sorted(
        (
            r["name"].removeprefix(prefix),
            str(r["str_value"] if r["int_value"] is None else r["int_value"]),
        )
        for r in asked.trace["metadata"]
        if r["name"].startswith(prefix)
    )
    work, calls = asked.oracle.gpu_work, asked.oracle.calls
    operations = by([{"pid": pid(r["globalPid"])} for r in work], "pid")
    called = by([{"pid": pid(r["globalTid"])} for r in calls], "pid")
    same(
        (
            (pid(p << 24), *rest)
            for p, *rest in asked.cells("nsys_process", "pid", "operation_count", "call_count")
        ),
        [
            (*key, len(operations.get(key, [])), len(called.get(key, [])))
            for key in {*operations, *called}
        ],
        "processes",
    )


def check(asked):
    check_gpu_counters(asked)
    check_memory(asked)
    if not asked.left_out:
        check_balance(asked)
        check_utilization(asked)
        check_capture(asked)


def test_counters_of_the_projects_captures(made):
    check(made)


def test_counters_of_real_captures(real):
    check(real)


def test_processes_that_share_gpus(tmp_path, open_trace):
    check(sql_annotations.ask_now(crowd_of_processes(tmp_path)[0], open_trace))


def test_memory_of_a_known_capture(open_trace):
    asked = sql_annotations.ask("device_memory", open_trace)
    assert len(asked["nsys_memory"]) == 12
    assert {r["name"] for r in asked["nsys_memory_peak"] if r["gpu"] is None} == {
        "pinned host memory"
    }
