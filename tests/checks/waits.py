"""Checks of waits: where a call that waited only woke up."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tests.checks.whole import WAKE_UP
from tests.oracle import INVALID, RECORDS, WAITS, Row, pid, tid
from tests.runs import Run, same


def expected_wake_ups(run: Run) -> list[tuple[Row, Row]]:
    """(call, operation): the operation that ended last of those that a returning call awaited.

    It waits for what was submitted before it began: to its stream, to the stream of the event
    before that was recorded, or to any stream of its context. `Query` and `WaitEvent` do not wait.
    """
    oracle = run.oracle
    submitted: dict[int, int] = {id(op): call["start"] for call, op in oracle.arrows}
    work: dict[tuple[Any, ...], list[tuple[int, int, Row]]] = defaultdict(list)
    for op in oracle.gpu_work:
        if not op["migration"]:
            begin = submitted[id(op)] if id(op) in submitted else int(op["start"])
            context = (op["globalPid"], op["contextId"])
            for queue in (context, (*context, op["streamId"])):
                work[queue].append((op["end"], begin, op))
    for operations in work.values():
        operations.sort(key=lambda o: o[:2], reverse=True)
    records = defaultdict(list)
    for r in oracle.select(
        RECORDS, "globalPid", "contextId", "streamId", "correlationId", "eventId"
    ):
        call = oracle.call_of.get((r["globalPid"], r["correlationId"]))
        if call:
            records[r["globalPid"], r["eventId"]].append((call["start"], r))
    waits = {}
    for w in sorted(
        oracle.select(
            WAITS, "start", "end", "globalPid", "contextId", "streamId", "eventId", "correlationId"
        ),
        key=lambda w: w["end"],
    ):
        waits[w["globalPid"], w["correlationId"]] = w
    found = []
    for (process, correlation), w in waits.items():
        call = oracle.call_of.get((process, correlation))
        if call is None or not (name := call["name"]) or "Query" in name or "WaitEvent" in name:
            continue
        key: tuple[Any, ...] = (process, w["contextId"])
        before, stream = call["start"], w["streamId"]
        if "EventSynchronize" in name:
            recorded = [r for r in records[process, w["eventId"]] if r[0] <= before]
            if not recorded:
                continue
            before, record = max(recorded, key=lambda r: r[0])
            key = (process, record["contextId"], record["streamId"])
        elif ("Synchronize" not in name or "StreamSynchronize" in name) and (
            stream is not None and 0 <= stream < INVALID
        ):
            key = (*key, stream)
        last = next((op for _, begin, op in work[key] if begin <= before), None)
        if last and call["start"] <= last["end"] < call["end"]:
            found.append((call, last))
    return found


def wake_ups(run: Run) -> None:
    """A slice from the end of the awaited work to the return of the call, with a forward arrow."""
    found = [(s["ts"], s["ts"] + s["dur"], s["pid"], s["tid"]) for s in run.trace.calls(WAKE_UP)]
    pairs = expected_wake_ups(run)
    expected = [
        (op["end"] + run.shift, c["end"] + run.shift, pid(c["globalTid"]), tid(c["globalTid"]))
        for c, op in pairs
    ]
    same(found, expected, "wake-ups")
    assert run.result.derived.get("wake_up", 0) == len(pairs)
    at = run.trace.by_id
    into = defaultdict(list)
    for flow in run.trace.flows:
        into[flow["slice_in"]].append(at[flow["slice_out"]])
    for s in run.trace.calls(WAKE_UP):
        [work] = into[s["id"]]
        assert "kind" in work, "the arrow comes from GPU work"
        assert work["ts"] + work["dur"] == s["ts"], "the arrow goes forward"
