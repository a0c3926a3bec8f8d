"""What must hold of the idle gaps in a trace."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from itertools import pairwise

from tests import manual_sql
from tests.annotated import busy_intervals, idle_intervals
from tests.oracle import pid
from tests.runs import same

PARTS = ("sync_ns", "launch_ns", "memory_ns", "copy_ns", "other_cuda_ns", "outside_cuda_ns")
MOSTLY = ("IN_SYNC", "IN_LAUNCH", "IN_MEMORY", "IN_COPY", "IN_OTHER_CUDA", "OUTSIDE_CUDA")
BUCKET_NAMES = {
    "<1us": "UNDER_1US", "1-5us": "FROM_1US_TO_5US", "5-10us": "FROM_5US_TO_10US",
    "10-50us": "FROM_10US_TO_50US", "50-100us": "FROM_50US_TO_100US",
    "0.1-1ms": "FROM_100US_TO_1MS", ">1ms": "FROM_1MS",
}  # fmt: skip
UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


def in_buckets(lengths):
    """Count and sum by size class: the manual's CASE, on other gaps than its own."""
    sql = sqlite3.connect(":memory:")
    sql.execute("create table gaps (gap_ns)")
    sql.executemany("insert into gaps values (?)", [(n,) for n in lengths])
    case = manual_sql.BUCKETS[manual_sql.BUCKETS.index("buckets AS") :]
    rows = sql.execute(manual_sql.exact(f"with {case}")).fetchall()
    return {BUCKET_NAMES[name.strip()]: (count, total) for name, count, total, _ in rows}


def by_bucket(slices):
    total = Counter()
    for g in slices:
        total[g["bucket"]] += g["dur"]
    return {b: (n, total[b]) for b, n in Counter(g["bucket"] for g in slices).items()}


# What holds of the gaps of every capture


def check_gaps(found):
    """With `--min-gap 0`: the complement of all work, each gap with a whole account of itself."""
    assert found.losses == []
    same(
        [(g["gpu"], g["start"], g["end"]) for g in found.gaps],
        [(gpu, a, b) for gpu, work in found.work.items() for a, b in split_idle(work)],
        "gaps",
    )
    for gpu, work in found.work.items():
        idle = [g for g in found.gaps if g["gpu"] == gpu]
        busy = sum(b - a for a, b in busy_intervals(work))
        window = max(r["end"] for r in work) - work[0]["start"]
        assert sum(g["dur"] for g in idle) + busy == window
        assert by_bucket(idle) == in_buckets([b - a for a, b in split_idle(work)])
        assert len({g["track_id"] for g in idle}) <= 1
        assert all(a["end"] <= b["start"] for a, b in pairwise(idle))
    assert len({g["track"] for g in found.gaps}) == len({g["gpu"] for g in found.gaps})
    assert found.result.derived.get("idle_gap", 0) == len(found.gaps)
    for g in found.gaps:
        check_account(g)
    check_operations(found)
    check_steps_of_gaps(found)


def split_idle(work):
    """Idle times; an operation without length parts one in two, for it did happen then."""
    instants = sorted({r["start"] for r in work if r["end"] <= r["start"]})
    for a, b in idle_intervals(work):
        edges = [a, *(t for t in instants if a < t < b), b]
        yield from pairwise(edges)


def check_account(g):
    assert g["dur"] > 0
    assert all(g[p] > 0 for p in PARTS if p in g), "what is 0 is left out"
    split = [g.get(p, 0) for p in PARTS]
    assert sum(split) == g["dur"]
    number, unit, cause = re.fullmatch(r"([\d.]+)(ns|us|ms|s) (.+)", g["name"]).groups()
    assert abs(float(number) * UNITS[unit] / g["dur"] - 1) <= 0.0051
    assert len(number.replace(".", "")) <= 4
    assert cause.replace(" ", "_").upper() == g["cause"].removeprefix("CAUSE_")
    if "mostly" in g:
        assert g["mostly"] == MOSTLY[split.index(max(split))]
        late = g["launch_lateness_ns"] >= 0
        assert g["pace"] in ("HOST", "DEVICE") and (g["pace"] == "HOST" or not late)
        if g["cause"] in ("LAUNCH_LATENCY", "STREAM_DEPENDENCY"):
            assert not late
        if g["cause"] in ("LAUNCH_BOUND", "SYNCHRONIZATION", "ALLOCATION"):
            assert late
    else:
        assert not {"launch_lateness_ns", "pace"} & g.keys()
        assert g["outside_cuda_ns"] == g["dur"]
        assert g["cause"] in ("CAUSE_UNKNOWN", "GRAPH_INTERNAL", "PROFILER_OVERHEAD")


def check_operations(found):
    """Names before and after, and the id that leads to the call that ended the gap."""
    arrows = {id(op): call for call, op in found.oracle.arrows}
    ends, starts = {}, {}
    for gpu, work in found.work.items():
        for r in work:
            ends.setdefault((gpu, r["end"]), []).append(r)
            starts.setdefault((gpu, r["start"]), []).append(r)
    for g in found.gaps:
        before = ends[g["gpu"], g["start"]]
        after = starts[g["gpu"], g["end"]]
        assert g["previous"] in {shown(r) for r in before}
        assert g["next"] in {shown(r) for r in after}
        call = found.call_of_event.get(g["next_event_id"])
        if call is None:
            assert any(id(r) not in arrows for r in after)
            assert "mostly" not in g
        else:
            work = [
                w for w in found.work_of_call[call["id"]]
                if w["gpu"] == g["gpu"] and w["name"] == g["next"] and w["start"] == g["end"]
            ]  # fmt: skip
            assert work, "the id leads to a call that submitted the operation"
            assert call["start"] - g["start"] == g["launch_lateness_ns"]
        assert pid(g["process_id"] << 24) in {pid(r["globalPid"]) for r in after}
        inside = {in_one_launch(a, b) for a in before for b in after}
        assert (g["cause"] == "GRAPH_INTERNAL") in inside


def in_one_launch(a, b):
    """Whether two operations are nodes of the same launch of a CUDA graph."""
    launches = {(r["globalPid"], r["correlationId"]) for r in (a, b)}
    return bool(a["graphNodeId"] and b["graphNodeId"] and a["correlationId"]) and len(launches) == 1


def shown(row):
    return row["name"] or "[unnamed kernel]"


def check_steps_of_gaps(found):
    """The step in which the gap begins, of the process whose operation ended it."""
    for g in found.gaps:
        around = [
            (s["run"], s["index"])
            for s in found.steps
            if (s["gpu"], s["process_id"]) == (g["gpu"], g["process_id"])
            and s["start"] <= g["start"] < s["end"]
        ]
        assert around == ([(g["run"], g["step"])] if "step" in g else [])
