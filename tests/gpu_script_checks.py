"""What scripts for GPU work must find in a trace, from the capture in plain SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from perfetto.trace_processor import TraceProcessor

from tests.checks import gpu as gpu_checks
from tests.checks.whole import named
from tests.conftest import OpenTrace
from tests.engine import query
from tests.oracle import Row
from tests.runs import Run, same

Rows = list[Row]
Interval = tuple[int, int]


# What must come out, from the capture


def kernels(run: Run) -> Rows:
    """Each kernel of some duration, in the words of the scripts, in order of start."""
    work = [r for r in run.oracle.gpu_work if r["family"] == "kernel"]
    cache = run.oracle.select("CUPTI_ACTIVITY_KIND_KERNEL", "cacheConfig")
    strings, found = run.oracle.strings, []
    for r, config in zip(work, cache, strict=True):
        block, grid = (
            math.prod(r[f"{what}{axis}"] or 0 for axis in "XYZ") for what in ("block", "grid")
        )
        full = strings.get(r["demangledName"])
        row = {
            "ts": r["start"] + run.shift,
            "dur_ns": r["end"] - r["start"],
            "ugpu": r["gpu"],
            "kernel": strings.get(r["mangledName"], r["name"]) if full is None else full,
            "block_size": block,
            "grid_size": grid,
            "thread_count": block * grid,
            "registers": r["registersPerThread"],
            "shared_mem_static": r["staticSharedMemory"],
            "shared_mem_dynamic": r["dynamicSharedMemory"],
            "shared_mem_config": r["sharedMemoryExecuted"],
            "func_cache_config": _cache_config(config["cacheConfig"]),
            **_occupancy(run, r["gpu"], r, block, grid),
        }
        if row["dur_ns"] > 0:
            found.append(row)
    return sorted(found, key=lambda row: row["ts"])


def _cache_config(number: int | None) -> str | None:
    """CUfunc_cache of cuda.h; real exports have a 4 too, which has no name there."""
    names = dict(enumerate(("PreferNone", "PreferShared", "PreferL1", "PreferEqual")))
    return None if number is None else names.get(number, str(number))


def _occupancy(run: Run, number: int, kernel: Row, block: int, grid: int) -> Row:
    """Waves, occupancy and its limits by the occupancy calculator's formula.

    All null where the export lacks the limits of the GPU.
    """
    [gpu] = [g for g in run.oracle.gpus if g["id"] == number] or [{}]
    names = ("blocks", "registers", "shared_mem", "warps")
    if not gpu.get("maxBlocksPerSm") or not gpu["smCount"]:
        none = dict.fromkeys(("waves_per_sm", "theoretical_occ_pct", "binding_resource"))
        return none | {f"limit_{name}": None for name in names}
    launch = {
        "workgroup_size": block,
        "grid_size": grid,
        "registers_per_thread": kernel["registersPerThread"],
        "shared_mem_static": kernel["staticSharedMemory"] or 0,
        "shared_mem_dynamic": kernel["dynamicSharedMemory"] or 0,
        "shared_mem_config_size": kernel["sharedMemoryExecuted"] or 0,
    }
    limits = gpu_checks.block_limits(gpu, launch)
    percent, waves = gpu_checks.occupancy_and_waves(gpu, launch) or (None, None)
    found = {name: limits.get(f"occupancy_limit_{name}") for name in names}
    # Of equal limits the script takes the first in this order.
    binding = min((n for n in names if found[n] is not None), key=lambda n: found[n])
    return {
        "waves_per_sm": waves,
        "theoretical_occ_pct": percent,
        "binding_resource": binding,
        **{f"limit_{name}": value for name, value in found.items()},
    }


def busy(run: Run, gpu: int | None = None) -> list[Interval]:
    """When there was work on a GPU (on any): start and end, touching times merged."""
    merged: list[Interval] = []
    for start, end in sorted(
        (r["start"] + run.shift, r["end"] + run.shift)
        for r in run.oracle.gpu_work
        if r["end"] > r["start"] and gpu in (None, r["gpu"])
    ):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def covered(intervals: Iterable[Interval], start: int, end: int) -> int:
    """How much of a time the intervals cover, ns."""
    return sum(max(0, min(e, end) - max(s, start)) for s, e in intervals)


# How the rows of a script are held to it: (run, rows, start and end of the trace)


def check_kernels(run: Run, rows: Rows, span: Interval) -> None:
    """One row a kernel, the longest first, numbered in order of start; what nsys lacks is null."""
    expected = kernels(run)
    assert [r["dur_ns"] for r in rows if "dur_ns" in r] == sorted(
        (r["dur_ns"] for r in rows if "dur_ns" in r), reverse=True
    )
    assert sorted(r["id"] for r in rows) == list(range(1, len(expected) + 1))
    durations = [expected[r["id"] - 1]["dur_ns"] for r in rows]
    if len({r["ts"] for r in expected}) == len(expected):
        assert durations == sorted(durations, reverse=True)
    if not expected:
        return
    columns = [c for c in rows[0] if c in expected[0]]
    computed = _occupancy(run, -1, {}, 0, 0).keys()
    if any(r["waves_per_sm"] is None for r in expected):
        columns = [c for c in columns if c not in computed]
    assert all(r[c] is None for r in rows for c in r if c not in (*expected[0], "id")), rows[0]

    def key(row: Row, number: int) -> tuple[object, ...]:
        values = {**row, "kernel": named(row["kernel"])}
        for column in ("waves_per_sm", "theoretical_occ_pct"):
            if values.get(column) is not None:
                values[column] = round(values[column], 9)
        # Kernels that start together may be numbered either way.
        return (expected[number]["ts"], *(values[c] for c in columns))

    same((key(r, r["id"] - 1) for r in rows), (key(r, n) for n, r in enumerate(expected)))


def check_gaps(run: Run, rows: Rows, span: Interval) -> None:
    """The ten longest times in which no GPU had work."""
    work = busy(run)
    gaps = [(e, s - e) for (_, e), (s, _) in pairwise(work)]
    durations = sorted((dur for _, dur in gaps), reverse=True)
    assert [r["gap_dur_ns"] for r in rows] == durations[:10]
    found = {(r["gap_start_rel_ns"] + span[0], r["gap_dur_ns"]) for r in rows}
    assert found <= set(gaps) and len(found) == len(rows)


def check_shares(run: Run, rows: Rows, span: Interval) -> None:
    """Operations, time from the first to the last, and how much of it was busy, by GPU."""
    names = {g["ugpu"]: g["name"] for g in run.trace.gpus}
    expected = []
    for gpu in sorted({r["gpu"] for r in run.oracle.gpu_work if r["end"] > r["start"]}):
        work = busy(run, gpu)
        total, active = sum(e - s for s, e in work), work[-1][1] - work[0][0]
        expected.append(
            {
                "gpu": gpu,
                "gpu_name": names.get(gpu) or f"GPU {gpu}",
                "activities": sum(
                    r["gpu"] == gpu and r["end"] > r["start"] for r in run.oracle.gpu_work
                ),
                "trace_wall_ns": span[1] - span[0],
                "active_span_ns": active,
                "gpu_busy_ns": total,
                "busy_pct_of_active": pytest.approx(100 * total / active, abs=0.0501),
                "busy_pct_of_trace": pytest.approx(100 * total / (span[1] - span[0]), abs=0.0501),
            }
        )
    assert rows == expected


def check_gpus(run: Run, rows: Rows, span: Interval) -> None:
    """The GPUs that have work, as TARGET_INFO_GPU describes them, all of one machine."""
    described = {g["id"]: g for g in run.oracle.gpus}
    assert {r["gpu"] for r in run.oracle.gpu_work} <= {r["ugpu"] for r in rows}
    assert len({r["ugpu"] for r in rows}) == len(rows)
    for row in rows:
        assert (row["machine_id"], row["is_host"], row["gpu_index"]) == (0, 1, row["ugpu"])
        gpu = described.get(row["ugpu"])
        # GPUs without work below one that has work are there, without a description.
        if gpu is not None and row["name"] is not None:
            assert (row["vendor"], row["model"]) == ("NVIDIA", gpu["name"])
            # nsys ends the bus location with a dot and the function in some versions only.
            assert (row["pci_bdf"] or "").startswith(gpu["busLocation"] or "")
            if gpu["uuid"]:
                assert row["uuid"] == gpu["uuid"].replace("-", "")


def check_nothing(run: Run, rows: Rows, span: Interval) -> None:
    """What the script is after (a counter `gpufreq`) is not in a trace."""
    assert rows == []


Check = Callable[[Run, Rows, Interval], None]


def check_all(run: Run, sources: Iterable[tuple[str, str, Check]], open_trace: OpenTrace) -> None:
    """Runs queries on a run's trace, each as a whole, and checks what comes out."""
    with open_trace(run.result.output) as tp:
        [bounds] = query.rows(tp, "SELECT trace_start() AS first, trace_end() AS last")
        check_bounds(tp, bounds)
        for name, sql, check in sources:
            try:
                check(run, query.rows(tp, sql), (bounds["first"], bounds["last"]))
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            # The scripts name their tables alike; each is meant for a session of its own.
            for table in re.findall(r"CREATE PERFETTO TABLE (\w+)", sql):
                query.rows(tp, f"DROP TABLE {table}")


def check_bounds(tp: TraceProcessor, bounds: Row) -> None:
    """The trace begins and ends with what is in it."""
    [events] = query.rows(
        tp,
        "SELECT min(ts) AS first, max(ts + dur) AS last FROM "
        "(SELECT ts, dur FROM slice UNION ALL SELECT ts, 0 FROM counter)",
    )
    if events["first"] is not None:
        assert bounds == events
