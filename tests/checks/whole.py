"""Checks of a trace as a whole: nothing lost, counts, time, metadata; and names that all share."""

from __future__ import annotations

from collections import Counter

from tests.oracle import WAITS
from tests.runs import Run

WAKE_UP, PROJECTED, ORPHAN = "cuda_wake_up", "nvtx_gpu", "cuda_wait"
"""Categories of the slices that the tool adds."""
SCHED = "sched"
CUDA = ("cuda_runtime", "cuda_driver")


def named(name: str | None) -> str | None:
    """A name for comparison: what the capture does not name gets some name in brackets."""
    return None if name is None or name.startswith("[unnamed") else name


def nothing_lost(run: Run) -> None:
    """The engine imported everything."""
    assert run.trace.losses == []


def counts(run: Run) -> None:
    """Events in = events out, and equal total durations, family by family."""
    oracle = run.oracle
    expected: Counter[str] = Counter()
    total: Counter[str] = Counter()
    slices = (*oracle.gpu_work, *oracle.calls, *oracle.library_calls, *oracle.nvtx)
    for r in (*slices, *oracle.counter_events):
        expected[r["family"]] += 1
        total[r["family"]] += r["end"] - r["start"]
    expected["sched"] = sum(s["rows"] for s in oracle.stays)
    total["sched"] = sum(s["end"] - s["start"] for s in oracle.stays)
    expected["cpu_sample"] = len(oracle.samples)
    waits = oracle.select(WAITS, "globalPid", "correlationId")
    expected["cuda_wait"] = len(waits)
    expected["message"] = len(oracle.select("DIAGNOSTIC_EVENT", "text"))
    families = {f.family: f for f in run.result.families}
    assert {n: f.read for n, f in families.items() if f.read} == +expected
    for name, f in families.items():
        assert f.read == f.written + f.joined + sum(f.left_out.values()), f
        assert f.filtered == 0 and f.left_out == {}
        if name not in ("cuda_wait", "sched"):
            assert f.written == expected[name]
        if name not in ("cuda_wait", "message"):
            assert f.total_ns == total[name], name
    messages = [s for s in run.trace.cpu if s["category"] == "nsys.message"]
    assert len(messages) == expected["message"]
    lonely = len(run.trace.calls(ORPHAN))
    known = sum((w["globalPid"], w["correlationId"]) in oracle.call_of for w in waits)
    assert lonely == len(waits) - known
    if oracle.stays:
        assert families["sched"].written == len(oracle.stays)
    if waits:
        assert families["cuda_wait"].written == lonely


def time(run: Run) -> None:
    """The shift is recorded, and the clock snapshot gives each slice its UTC."""
    assert run.shift == run.oracle.shift
    assert run.trace.metadata["trace_attribute.time_shift_ns"] == run.shift
    start = run.oracle.select("TARGET_INFO_SESSION_START_TIME", "utcEpochNs")
    clocks = {c["clock_name"]: c["clock_value"] for c in run.trace.clocks}
    if not start:
        assert not clocks
        return
    zero = start[0]["utcEpochNs"] - int(run.oracle.export.get("EXPORT_CONFIG_TIME_SHIFT", 0))
    assert clocks["REALTIME"] - clocks["BOOTTIME"] == zero - run.shift
    for row in run.trace.utc:
        assert row["utc"] == row["ts"] + zero - run.shift


def metadata(run: Run) -> None:
    """What the trace says of the capture."""
    found, values = run.trace.metadata, run.oracle.export
    for key, name in (
        ("nsys_version", "EXPORT_PRODUCT_VERSION"),
        ("nsys_schema_version", "EXPORT_SCHEMA_VERSION"),
    ):
        assert found.get(f"trace_attribute.{key}") == values.get(name)
    start = run.oracle.select("TARGET_INFO_SESSION_START_TIME", "utcEpochNs")
    expected = start[0]["utcEpochNs"] if start else None
    assert found.get("trace_attribute.session_start_utc_ns") == expected
    assert found["trace_attribute.nsys2perfetto_version"]
    used = {r["gpu"] for r in run.oracle.gpu_work}
    for gpu in run.oracle.gpus:
        if gpu["id"] in used:
            assert gpu["name"] in found["trace_attribute.gpus"]
    told = run.result.capture
    assert told.nsys_version == values.get("EXPORT_PRODUCT_VERSION")
    assert told.session_start_utc_ns == expected
