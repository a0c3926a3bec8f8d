"""Checks of NVTX ranges and marks, and of their projection onto the GPU."""

from __future__ import annotations

from typing import Any

from tests.checks.whole import PROJECTED
from tests.oracle import NVTX, PAYLOADS, START_END, Row, pid, tid
from tests.runs import Run, same


def nvtx(run: Run) -> None:
    """Ranges and marks with domain, category, colour, payload and JSON; both ends' threads."""
    oracle = run.oracle
    if NVTX not in oracle.columns:
        return

    def color(r: Row) -> str | None:
        return None if r["color"] is None else f"#{r['color'] & 0xFFFFFF:06x}"

    def payload(r: Row) -> Any:
        column = next((c for c in PAYLOADS if r[c] is not None), PAYLOADS[0])
        unsigned = column == "uint64Value" and (r[column] or 0) < 0
        return r[column] + (1 << 64) if unsigned else r[column]

    expected = []
    for r in oracle.nvtx:
        json = oracle.strings.get(r["jsonTextId"], r["jsonText"])
        what = (oracle.domain(r), oracle.category(r), color(r), payload(r), json)
        ends = tid(r["endGlobalTid"]) if r["endGlobalTid"] is not None else None
        crossing = r["eventType"] in START_END
        threads = (tid(r["globalTid"]), ends) if crossing else (tid(r["globalTid"]), None)
        key = (r["name"], r["start"] + run.shift, r["end"] - r["start"], pid(r["globalTid"]))
        expected.append((*key, *what, *threads))
    found = []
    for s in run.trace.calls("nvtx"):
        args = run.trace.args(s)
        texts = ("domain", "category", "color", "payload", "json")
        said = (args.get(f"debug.{t}") for t in texts)
        threads = (s["tid"], None)
        if s["tid"] is None:
            threads = (args["debug.thread_id"], args.get("debug.end_thread"))
        found.append((s["name"] or "", s["ts"], s["dur"], s["pid"], *said, *threads))
    same(found, expected, "NVTX")


def projection(run: Run) -> None:
    """Nsight's rule, against brute force."""
    found = []
    for s in run.trace.calls(PROJECTED):
        args = run.trace.args(s)
        span = tuple(args[f"gpu_projection.{k}"] for k in ("range_start", "range_duration"))
        ops = args["gpu_projection.gpu_op_count"]
        found.append((s["name"] or "", s["ts"], s["dur"], s["pid"], ops, *span))
    expected = [
        (
            *(r["name"], r["first"] + run.shift, r["last"] - r["first"], pid(r["globalTid"])),
            *(r["ops"], r["start"] + run.shift, r["end"] - r["start"]),
        )
        for r in run.oracle.projections
    ]
    same(found, expected, "projected ranges")
