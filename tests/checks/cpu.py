"""Checks of calls and ranges on their threads."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tests.checks.whole import CUDA, SCHED, WAKE_UP, named
from tests.oracle import PROCESS, START_END, THREAD_STATES, WAITS, Row, pid, tid
from tests.runs import Run, same


def calls(run: Run) -> None:
    """Each call, range of a thread and mark, exactly, on its process and thread."""
    found = [
        (s["category"], named(s["name"]), s["ts"], s["dur"], s["pid"], s["tid"])
        for s in run.trace.cpu
        if s["tid"] is not None and s["category"] not in (WAKE_UP, SCHED)
    ]
    expected = [
        _call_key(run, r, r["category"]) for r in (*run.oracle.calls, *run.oracle.library_calls)
    ]
    expected += [
        _call_key(run, r, "nvtx") for r in run.oracle.nvtx if r["eventType"] not in START_END
    ]
    same(found, expected, "calls")


def _call_key(run: Run, r: Row, category: str) -> tuple[Any, ...]:
    who = r["globalTid"]
    return (category, r["name"], r["start"] + run.shift, r["end"] - r["start"], pid(who), tid(who))


def errors(run: Run) -> None:
    """Calls that did not return 0 say so."""
    found = [
        (s["ts"], s["tid"], str(run.trace.args(s)["debug.result"]).split()[0])
        for s in run.trace.calls(*CUDA)
        if "debug.result" in run.trace.args(s)
    ]
    expected = [
        (r["start"] + run.shift, tid(r["globalTid"]), str(r["returnValue"]))
        for r in run.oracle.calls
        if r["returnValue"]
    ]
    same(found, expected, "errors")


def nesting(run: Run) -> None:
    """Each slice's parent is the innermost slice around it; what crosses is on a child track."""
    by_id = run.trace.by_id
    threads = defaultdict(list)
    for s in run.trace.cpu:
        if s["tid"] is not None and s["category"] != SCHED:
            threads[s["pid"], s["tid"]].append(s)
    for slices in threads.values():
        own = [s for s in slices if s["track_type"] == "thread_execution"]
        spans = sorted({(s["ts"], -s["ts"] - s["dur"]) for s in own if s["dur"]})
        parent_of = _innermost([(start, -end) for start, end in spans])
        same_span = defaultdict(list)
        for s in own:
            same_span[s["ts"], s["ts"] + s["dur"]].append(s)
        for span, group in same_span.items():
            parents = [by_id.get(s["parent_id"]) for s in group]
            around = [(p["ts"], p["ts"] + p["dur"]) if p else None for p in parents]
            if span[0] == span[1]:
                for p in around:
                    assert p is None or p[0] <= span[0] <= p[1], (group, p)
                continue
            # Of several with equal times one is outermost, the others lie in each other.
            outer = [p for p in around if p != span]
            assert outer == [parent_of[span]], (group[0], outer, parent_of[span])
        _only_crossing_moved(slices, spans)


def _innermost(
    spans: list[tuple[int, int]],
) -> dict[tuple[int, int], tuple[int, int] | None]:
    """The innermost other span around each, by a stack; spans sorted by start, the longer first."""
    stack: list[tuple[int, int]] = []
    parent: dict[tuple[int, int], tuple[int, int] | None] = {}
    for start, end in spans:
        while stack and stack[-1][1] <= start:
            stack.pop()
        assert not stack or stack[-1][1] >= end, f"{(start, end)} crosses {stack[-1]}"
        parent[start, end] = stack[-1] if stack else None
        stack.append((start, end))
    return parent


def _only_crossing_moved(slices: list[Row], spans: list[tuple[int, int]]) -> None:
    for s in slices:
        if s["track_type"] == "thread_execution":
            continue
        start, end = s["ts"], s["ts"] + s["dur"]
        others = [(a, -b) for a, b in spans]
        crossed = [o for o in slices if o["ts"] < start < o["ts"] + o["dur"] < end] or [
            o for o in slices if start < o["ts"] < end < o["ts"] + o["dur"]
        ]
        assert crossed, f"moved to a child track for nothing: {s}, {others[:3]}"


def names(run: Run) -> None:
    """Processes and threads that have events, with the best name that the capture has."""
    threads = {r["globalTid"] or 0 for r in (*run.oracle.calls, *run.oracle.library_calls)} | {
        r["globalTid"] for r in run.oracle.nvtx if r["eventType"] not in START_END
    }
    threads |= {r["globalTid"] for r in (*run.oracle.stays, *run.oracle.samples)}
    found = {(t["pid"], t["tid"]): t["name"] for t in run.trace.threads}
    wanted = {(pid(t), tid(t)): run.oracle.thread_names.get(t) for t in threads if t}
    assert wanted.keys() <= found.keys()
    for key, name in wanted.items():
        if name:
            assert found[key] == name
    owners = {(t or 0) & PROCESS for t in threads}
    owners |= {(r["globalTid"] or 0) & PROCESS for r in run.oracle.nvtx}
    owners |= {r["globalPid"] or 0 for r in run.oracle.gpu_work}
    waits = run.oracle.select(WAITS, "globalPid")
    owners |= {r["globalPid"] or 0 for r in waits}
    assert {p["pid"] for p in run.trace.processes} == {pid(p) for p in owners} - {0}
    main_threads = {pid(t) for t in threads} | {p["pid"] for p in run.trace.processes}
    extra = {key for key in found if key not in wanted and key[0] != key[1]}
    assert not extra, f"threads without events: {extra}, {main_threads}"
    named = {p["pid"]: p["name"] for p in run.trace.processes}
    for r in run.oracle.select("PROCESSES", "globalPid", "name"):
        if r["globalPid"] in owners and r["name"] and "/" not in r["name"]:
            assert named[pid(r["globalPid"])] == r["name"].split(" ")[0]


def on_cpu(run: Run) -> None:
    """Each stay of a thread on a CPU, exactly, with the state in which it left."""
    found = [
        (s["pid"], s["tid"], s["name"], s["ts"], s["dur"], run.trace.args(s).get("debug.left_as"))
        for s in run.trace.calls(SCHED)
    ]
    expected = [
        (
            pid(s["globalTid"]), tid(s["globalTid"]), f"CPU {s['cpu']}", s["start"] + run.shift,
            s["end"] - s["start"], THREAD_STATES[s["state"] or 0] if s["state"] else None,
        )
        for s in run.oracle.stays
    ]  # fmt: skip
    same(found, expected, "stays")
    assert {s["track"] for s in run.trace.calls(SCHED)} <= {"On CPU"}


def samples(run: Run) -> None:
    """Each sample, exactly, with its whole call chain."""
    found = [
        (s["pid"], s["tid"], s["cpu"], s["ts"], tuple(run.trace.chain(s["callsite_id"])))
        for s in run.trace.samples
    ]
    expected = [
        (pid(s["globalTid"]), tid(s["globalTid"]), s["cpu"], s["start"] + run.shift,
         tuple(s["chain"]))
        for s in run.oracle.samples
    ]  # fmt: skip
    same(found, expected, "samples")
