"""The tables of reports in the most obvious way: plain SQL's rows, counted by Python.

Nothing of the tool's own code is used but the tables that are asked for steps' times.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from tests.oracle import Oracle, Row, pid

NO_KERNEL_NAME, NO_CALL_NAME = "[unnamed kernel]", "[unnamed call]"


def kernels(oracle: Oracle) -> list[Row]:
    """Kernels in order of start, with `short` and `full` names."""
    found = [r for r in oracle.gpu_work if r["family"] == "kernel"]
    for row in found:
        row["short"] = row["name"] or NO_KERNEL_NAME
        names = (oracle.strings.get(row[c]) for c in ("demangledName", "mangledName"))
        row["full"] = next((n for n in names if n), row["short"])
    return sorted(found, key=lambda r: r["start"])


def calls(oracle: Oracle) -> list[Row]:
    """CUDA calls, all with a name."""
    return [c | {"name": NO_CALL_NAME if c["name"] is None else c["name"]} for c in oracle.calls]


def copies(oracle: Oracle) -> list[Row]:
    """Copies, migrations and memory sets."""
    return [r for r in oracle.gpu_work if r["family"] in ("memcpy", "memset")]


def summary(rows: Iterable[Row], key: str = "name") -> list[Row]:
    """Durations by name: `SUMMARY`."""
    durations = defaultdict(list)
    for row in rows:
        durations[row[key]].append(row["end"] - row["start"])
    everything = sum(map(sum, durations.values()))
    found = [
        {
            "name": name,
            "time_pct": 100 * sum(d) / max(everything, 1),
            "total_ns": sum(d),
            "instances": len(d),
            "avg_ns": sum(d) / len(d),
            "med_ns": statistics.median(d),
            "min_ns": min(d),
            "max_ns": max(d),
            "stddev_ns": statistics.stdev(d) if len(d) > 1 else 0.0,
            "p95_ns": float(np.percentile(d, 95)),
            "p99_ns": float(np.percentile(d, 99)),
        }
        for name, d in durations.items()
    ]
    return sorted(found, key=lambda r: (-r["total_ns"], r["name"].encode()))


def copy_summary(oracle: Oracle) -> list[Row]:
    """`COPY_SUMMARY`."""
    size: dict[str, int] = defaultdict(int)
    for row in copies(oracle):
        size[row["name"]] += row["bytes"] or 0
    found = summary(copies(oracle))
    for row in found:
        total, ns = size[row["name"]], row["total_ns"]
        row |= {"total_bytes": total, "gb_per_s": total / ns if ns else None}
    return found


def by_both_names(rows: Iterable[Row], *keys: str) -> dict[Any, tuple[int, int]]:
    """Count and sum by the given keys."""
    found: dict[Any, list[int]] = defaultdict(list)
    for row in rows:
        found[tuple(row[k] for k in keys)].append(row["end"] - row["start"])
    return {key: (len(d), sum(d)) for key, d in found.items()}


def of_gpus(rows: Iterable[Row], all_gpus: bool) -> dict[int | None, list[Row]]:
    """Rows in order of start by GPU, or all together."""
    found = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["start"]):
        found[None if all_gpus else row["gpu"]].append(row)
    return dict(sorted(found.items(), key=lambda item: item[0] or 0))


def consecutive(rows: list[Row]) -> list[tuple[int, Row, Row]]:
    """Gaps between kernels in order of start: length, kernel before, kernel after."""
    return [(b["start"] - a["end"], a, b) for a, b in pairwise(rows)]


def idle(rows: list[Row]) -> list[int]:
    """Lengths of the times in which nothing ran."""
    found, reach = [], rows[0]["end"]
    for row in rows:
        if row["start"] > reach:
            found.append(row["start"] - reach)
        reach = max(reach, row["end"])
    return found


def gap_total(oracle: Oracle, all_gpus: bool) -> list[tuple[Any, ...]]:
    """Rows of `GAP_TOTAL`."""
    by_gpu = of_gpus(kernels(oracle), all_gpus)
    kernel_ns = {g: sum(r["end"] - r["start"] for r in rows) for g, rows in by_gpu.items()}
    found = [
        ("consecutive", gpu, sum(n for n, _, _ in consecutive(rows)), kernel_ns[gpu], _wall(rows))
        for gpu, rows in by_gpu.items()
    ]
    return found + [
        ("idle", gpu, sum(idle(rows)), kernel_ns.get(gpu, 0), _wall(rows))
        for gpu, rows in of_gpus(oracle.gpu_work, all_gpus).items()
    ]


def _wall(rows: list[Row]) -> int:
    return max(r["end"] for r in rows) - min(r["start"] for r in rows)


def gap_lengths(oracle: Oracle, all_gpus: bool) -> dict[tuple[str, int | None], list[int]]:
    """All gaps by definition and GPU."""
    found = {
        ("consecutive", gpu): [n for n, _, _ in consecutive(rows)]
        for gpu, rows in of_gpus(kernels(oracle), all_gpus).items()
    }
    work = of_gpus(oracle.gpu_work, all_gpus)
    return found | {("idle", gpu): idle(rows) for gpu, rows in work.items()}


def balance(oracle: Oracle) -> list[Row]:
    """`GPU_BALANCE` without names."""
    found = []
    for gpu, rows in of_gpus(oracle.gpu_work, all_gpus=False).items():
        mine = [r["end"] - r["start"] for r in rows if r["family"] == "kernel"]
        wall, rest = _wall(rows), sum(idle(rows))
        found.append(
            {
                "gpu": gpu,
                "kernel_count": len(mine),
                "kernel_ns": sum(mine),
                "operation_count": len(rows),
                "wall_ns": wall,
                "busy_ns": wall - rest,
                "idle_ns": rest,
                "busy_util_pct": 100 * (wall - rest) / max(wall, 1),
            }
        )
    return found


def step_kernels(oracle: Oracle, steps: Iterable[Row]) -> dict[Any, tuple[int, int]]:
    """(pid, GPU, step, name, full name) to count and sum."""
    found = {}
    rows, before = kernels(oracle), None
    for s in steps:
        t0, t1 = s["ts"], s["ts"] + s["dur"]
        unit = (s["pid"], s["gpu"], s["step"])
        follows = before == (s["pid"], s["gpu"], t0)
        inside = [
            r for r in rows
            if r["start"] >= t0 and r["end"] <= t1 and r["gpu"] == s["gpu"]
            and pid(r["globalPid"]) == s["pid"]
            and not (follows and r["start"] == r["end"] == t0)
        ]  # fmt: skip
        before = (s["pid"], s["gpu"], t1)
        for names, counted in by_both_names(inside, "short", "full").items():
            key = (*unit, *names)
            found[key] = counted
    return found


def step_calls(oracle: Oracle, steps: Iterable[Row]) -> dict[Any, tuple[int, int]]:
    """(pid, GPU, step, name) to count and sum."""
    found = {}
    for s in steps:
        unit = (s["pid"], s["gpu"], s["step"])
        begun = [
            c for c in calls(oracle)
            if s["ts"] <= c["start"] < s["ts"] + s["dur"] and pid(c["globalTid"]) == s["pid"]
        ]  # fmt: skip
        for names, counted in by_both_names(begun, "name").items():
            key = (*unit, *names)
            found[key] = counted
    return found
