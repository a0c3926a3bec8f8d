"""What holds for every capture: comparisons of a trace with the oracle, for made and real captures.

Each function takes a `Run`; `CHECKS` lists those that need nothing but a trace of a whole capture.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from tests.oracle import (
    CAUSES,
    INVALID,
    MARK,
    MEMORY_KINDS,
    NVTX,
    PAYLOADS,
    PROCESS,
    RECORDS,
    START_END,
    WAITS,
    Row,
    pid,
    tid,
)
from tests.runs import Run, same

KINDS = {
    "CUDA kernel": "kernel",
    "CUDA memory copy": "memcpy",
    "Unified-memory migration": "memcpy",
    "CUDA memory set": "memset",
    "CUDA graph launch, all its nodes": "graph",
}
COMPUTE = 2
WAKE_UP, PROJECTED, ORPHAN = "cuda_wake_up", "nvtx_gpu", "cuda_wait"
CUDA = ("cuda_runtime", "cuda_driver")


def _named(name: str | None) -> str | None:
    """A name for comparison: what the capture does not name gets some name in brackets."""
    return None if name is None or name.startswith("[unnamed") else name


def nothing_lost(run: Run) -> None:
    """The engine imported everything."""
    assert run.trace.losses == []


def gpu_work(run: Run) -> None:
    """Each kernel, copy, memory set and graph launch, exactly, with its process and queue."""
    found = []
    for s in run.trace.gpu:
        args = run.trace.args(s)
        key = (KINDS[s["kind"]], _named(s["name"]), s["ts"], s["dur"], s["pid"], s["gpu"])
        found.append((*key, args.get("device"), args.get("stream")))
    expected = [
        (
            *(r["family"], r["name"], r["start"] + run.shift, r["end"] - r["start"]),
            *(pid(r["globalPid"]), r["gpu"], r["deviceId"]),
            None if r["migration"] else r["streamId"],
        )
        for r in run.oracle.gpu_work
    ]
    same(found, expected, "GPU work")


def gpu_names_and_totals(run: Run) -> None:
    """Number and total duration by name, as `nsys stats` groups them."""
    for family in ("kernel", "memcpy", "memset", "graph"):
        found: Counter[tuple[str | None, str]] = Counter()
        expected: Counter[tuple[str | None, str]] = Counter()
        for s in run.trace.gpu:
            if KINDS[s["kind"]] == family:
                found.update({(_named(s["name"]), "ns"): s["dur"], (_named(s["name"]), "n"): 1})
        for r in run.oracle.gpu_work:
            if r["family"] == family:
                expected.update({(r["name"], "ns"): r["end"] - r["start"], (r["name"], "n"): 1})
        assert found == expected, family


def render_stages(run: Run) -> None:
    """Category 2 (compute) is for kernels only: the tabs of the UI look at it."""
    for s in run.trace.gpu:
        assert (s["stage"] == COMPUTE) == (s["kind"] == "CUDA kernel"), s


def queues(run: Run) -> None:
    """One queue for each (GPU, process, context, stream); migrations have one of their own."""
    keys = defaultdict(set)
    rows = defaultdict(set)
    for r in run.oracle.gpu_work:
        context = None if r["migration"] else r["contextId"]
        stream = "migration" if r["migration"] else r["streamId"]
        at = (r["start"] + run.shift, r["end"] - r["start"], pid(r["globalPid"]), r["gpu"])
        keys[*at, stream if r["migration"] else r["streamId"]].add((r["globalPid"], context))
        rows[r["gpu"], r["globalPid"], context, stream].add(at)
    queue_of: dict[Any, int] = {}
    for s in run.trace.gpu:
        stream = run.trace.args(s).get("stream")
        stream = "migration" if s["kind"].startswith("Unified") else stream
        owners = keys[s["ts"], s["dur"], s["pid"], s["gpu"], stream]
        if len(owners) != 1:
            continue  # two contexts did the same at the same time
        [(process, context)] = owners
        key = (s["gpu"], process, context, stream)
        assert queue_of.setdefault(key, s["queue"]) == s["queue"], key
    assert len(set(queue_of.values())) == len(queue_of), "queues are shared"
    if all(len(owners) == 1 for owners in keys.values()):
        assert queue_of.keys() == rows.keys()
    tracks = defaultdict(set)
    for s in run.trace.gpu:
        tracks[s["track_id"]].add((s["gpu"], s["queue"]))
    assert all(len(found) == 1 for found in tracks.values()), "a track holds several queues"
    for s in run.trace.gpu:
        if s["kind"].startswith("Unified"):
            assert s["track"].startswith("Unified memory")
        else:
            stream = run.trace.args(s).get("stream")
            shown = s["track"].removeprefix("Stream").split()[0]
            assert shown == ("?" if stream is None else str(stream))


def arrows(run: Run) -> None:
    """Exactly one arrow to each launched operation, from its call; none for correlation id 0."""
    at = run.trace.by_id
    found = []
    for flow in run.trace.flows:
        call, op = at[flow["slice_out"]], at[flow["slice_in"]]
        if op["category" if "category" in op else "kind"] == WAKE_UP:
            continue
        call_key = (_named(call["name"]), call["ts"], call["dur"], call["pid"], call["tid"])
        found.append((call_key, (_named(op["name"]), op["ts"], op["dur"], op["pid"])))
    expected = []
    for call, op in run.oracle.arrows:
        thread = call["globalTid"]
        call_key = (call["name"], call["start"] + run.shift, call["end"] - call["start"])
        op_key = (op["name"], op["start"] + run.shift, op["end"] - op["start"])
        expected.append(
            ((*call_key, pid(thread), tid(thread)), (*op_key, pid(op["globalPid"])))
        )
    same(found, expected, "arrows")
    assert run.result.arrows == len(expected)
    targets = Counter(f["slice_in"] for f in run.trace.flows)
    assert max(targets.values(), default=1) == 1


def kernel_arguments(run: Run) -> None:
    """Launch configuration and names of each kernel."""
    names = {
        "launch.grid_size.x": "gridX", "launch.grid_size.y": "gridY",
        "launch.grid_size.z": "gridZ", "launch.workgroup_size.x": "blockX",
        "launch.workgroup_size.y": "blockY", "launch.workgroup_size.z": "blockZ",
        "registers_per_thread": "registersPerThread", "shared_mem_static": "staticSharedMemory",
        "shared_mem_dynamic": "dynamicSharedMemory", "shared_mem_config_size":
        "sharedMemoryExecuted", "device": "deviceId", "stream": "streamId",
    }  # fmt: skip
    capabilities = {
        g["id"]: f"sm_{g['computeMajor']}{g['computeMinor']}"
        for g in run.oracle.gpus
        if g["computeMajor"]
    }
    wanted = (
        *names, "workgroup_size", "grid_size", "thread_count", "graph_id", "graph_node_id",
        "kernel_name", "kernel_demangled_name", "process_id", "arch",
    )  # fmt: skip
    known_arch = bool(capabilities) or not run.oracle.gpu_work

    def row(args: dict[str, Any], name: str) -> tuple[Any, ...]:
        left_out = {"arch"} if not known_arch else set()
        return (name, *((k, args.get(k) or None) for k in wanted if k not in left_out))

    expected = []
    strings = run.oracle.strings
    for r in run.oracle.gpu_work:
        if r["family"] != "kernel":
            continue
        block, grid = (
            math.prod(r[f"{what}{axis}"] or 0 for axis in "XYZ") for what in ("block", "grid")
        )
        args = {name: r[column] for name, column in names.items()} | {
            "workgroup_size": block, "grid_size": grid, "thread_count": block * grid,
            "graph_id": r["graphId"], "graph_node_id": r["graphNodeId"],
            "kernel_name": strings.get(r["mangledName"]),
            "kernel_demangled_name": strings.get(r["demangledName"]),
            "process_id": pid(r["globalPid"]), "arch": capabilities.get(r["gpu"]),
        }  # fmt: skip
        expected.append(row(args, r["name"]))
    kernels = [s for s in run.trace.gpu if s["kind"] == "CUDA kernel"]
    same([row(run.trace.args(s), _named(s["name"])) for s in kernels], expected, "arguments")


def occupancy(run: Run) -> None:
    """Occupancy and waves by the occupancy calculator's formula, from the GPU's own limits."""
    gpus = {g["id"]: g for g in run.oracle.gpus if g["maxBlocksPerSm"] and g["smCount"]}
    for s in run.trace.gpu:
        gpu = gpus.get(s["gpu"])
        if s["kind"] != "CUDA kernel" or gpu is None:
            continue
        args = run.trace.args(s)
        expected = _occupancy(gpu, args)
        if expected is None:
            assert "theoretical_occupancy_pct" not in args
            continue
        percent, waves = expected
        assert math.isclose(args["theoretical_occupancy_pct"], percent), (args, percent)
        assert math.isclose(args["waves_per_multiprocessor"], waves), (args, waves)


def _occupancy(gpu: Row, args: dict[str, Any]) -> tuple[float, float] | None:
    """Percent and waves: CUDA's occupancy calculator, for 7.0 and later."""
    ampere = gpu["computeMajor"] >= 8
    warps = -(-args["workgroup_size"] // 32)
    registers = -(-args["registers_per_thread"] * 32 // 256) * 256
    unit = 128 if ampere else 256
    shared = args.get("shared_mem_static", 0) + args.get("shared_mem_dynamic", 0)
    shared = -(-(shared + 1024 * ampere) // unit) * unit
    set_aside = args.get("shared_mem_config_size", 0)
    limits = [gpu["maxBlocksPerSm"], gpu["maxWarpsPerSm"] // warps]
    if registers:
        limits.append(gpu["maxRegistersPerSm"] // 4 // registers * 4 // warps)
    if shared:
        meant = shared <= set_aside < gpu["maxShmemPerSm"]
        limits.append((set_aside if meant else gpu["maxShmemPerSm"]) // shared)
    blocks = min(limits)
    if blocks == 0:
        return None
    waves = args["grid_size"] / (blocks * gpu["smCount"])
    return 100 * blocks * warps / gpu["maxWarpsPerSm"], waves


def copy_arguments(run: Run) -> None:
    """Bytes, GB/s (bytes a ns) and kinds of copies, memory sets and migrations."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 9)

    found, expected = [], []
    for s in run.trace.gpu:
        args = run.trace.args(s)
        if KINDS[s["kind"]] not in ("memcpy", "memset"):
            continue
        texts = ("source", "destination", "memory_kind", "migration_cause")
        key = (s["ts"], s["dur"], s["name"], s["pid"], args.get("bytes"))
        numbers = (rounded(args.get("throughput_gb_s")), args.get("graph_node_id") or None)
        found.append((*key, *numbers, args.get("value"), *(args.get(t) for t in texts)))
    for r in run.oracle.gpu_work:
        if r["family"] not in ("memcpy", "memset"):
            continue
        dur = r["end"] - r["start"]
        key = (r["start"] + run.shift, dur, r["name"], pid(r["globalPid"]), r["bytes"])
        rate = r["bytes"] / dur if dur and r["bytes"] is not None else None
        cause = CAUSES.get(r["migrationCause"]) if r["migration"] else None
        kinds = (MEMORY_KINDS.get(r[c]) for c in ("srcKind", "dstKind", "memKind"))
        numbers = (rounded(rate), r["graphNodeId"] or None)
        expected.append((*key, *numbers, r["value"], *kinds, cause))
    same(found, expected, "arguments")


def no_forbidden_argument(run: Run) -> None:
    """An argument `correlation_id` would break the UI (DESIGN section 8)."""
    assert not {"correlation_id", "passthrough_utid"} & run.trace.argument_names()


def calls(run: Run) -> None:
    """Each call, range of a thread and mark, exactly, on its process and thread."""
    found = [
        (s["category"], _named(s["name"]), s["ts"], s["dur"], s["pid"], s["tid"])
        for s in run.trace.cpu
        if s["tid"] is not None and s["category"] != WAKE_UP
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
        if s["tid"] is not None:
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
    threads = {
        r["globalTid"] or 0 for r in (*run.oracle.calls, *run.oracle.library_calls)
    } | {r["globalTid"] for r in run.oracle.nvtx if r["eventType"] not in START_END}
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


def counts(run: Run) -> None:
    """Events in = events out, and equal total durations, family by family."""
    oracle = run.oracle
    expected: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for r in (*oracle.gpu_work, *oracle.calls, *oracle.library_calls, *oracle.nvtx):
        expected[r["family"]] += 1
        total[r["family"]] += r["end"] - r["start"]
    waits = oracle.select(WAITS, "globalPid", "correlationId")
    expected["cuda_wait"] = len(waits)
    expected["message"] = len(oracle.select("DIAGNOSTIC_EVENT", "text"))
    families = {f.family: f for f in run.result.families}
    assert {n: f.read for n, f in families.items() if f.read} == +expected
    for name, f in families.items():
        assert f.read == f.written + f.joined + sum(f.left_out.values()), f
        assert f.filtered == 0 and f.left_out == {}
        if name != "cuda_wait":
            assert f.written == expected[name]
        if name not in ("cuda_wait", "message"):
            assert f.total_ns == total[name], name
    messages = [s for s in run.trace.cpu if s["category"] == "nsys.message"]
    assert len(messages) == expected["message"]
    lonely = len(run.trace.calls(ORPHAN))
    known = sum((w["globalPid"], w["correlationId"]) in oracle.call_of for w in waits)
    assert lonely == len(waits) - known
    if waits:
        assert families["cuda_wait"].written == lonely


def expected_wake_ups(run: Run) -> list[tuple[Row, Row]]:
    """(call, operation): the operation that ended last of those that a returning call awaited.

    It waits for what was submitted before it began: to its stream, to the stream of the event before
    that was recorded, or to any stream of its context. `Query` and `WaitEvent` do not wait.
    """
    oracle = run.oracle
    submitted: dict[int, int] = {id(op): call["start"] for call, op in oracle.arrows}
    work = defaultdict(list)
    for op in oracle.gpu_work:
        if not op["migration"]:
            begin = submitted.get(id(op), op["start"])
            for key in ((op["streamId"],), ()):
                work[op["globalPid"], op["contextId"], *key].append((op["end"], begin, op))
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
        name = call["name"] if call else None
        if not name or "Query" in name or "WaitEvent" in name:
            continue
        before, key = call["start"], (process, w["contextId"])
        stream = w["streamId"]
        if "EventSynchronize" in name:
            recorded = [r for r in records[process, w["eventId"]] if r[0] <= before]
            if not recorded:
                continue
            before, record = max(recorded, key=lambda r: r[0])
            key = (process, record["contextId"], record["streamId"])
        elif "Synchronize" not in name or "StreamSynchronize" in name:
            if stream is not None and 0 <= stream < INVALID:
                key = (*key, stream)
        last = next((op for _, begin, op in work[key] if begin <= before), None)
        if last and call["start"] <= last["end"] < call["end"]:
            found.append((call, last))
    return found


def wake_ups(run: Run) -> None:
    """A slice from the end of the awaited work to the return of the call, with a forward arrow."""
    found = [
        (s["ts"], s["ts"] + s["dur"], s["pid"], s["tid"]) for s in run.trace.calls(WAKE_UP)
    ]
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


def nvtx(run: Run) -> None:
    """Ranges and marks with domain, category, colour, payload and JSON; both ends' threads."""
    oracle = run.oracle
    if NVTX not in oracle.columns:
        return

    def color(r: Row) -> str | None:
        return None if r["color"] is None else f"#{r['color'] & 0xFFFFFF:06x}"

    def payload(r: Row) -> float | None:
        column, value = next(((c, r[c]) for c in PAYLOADS if r[c] is not None), ("", None))
        return value + (1 << 64) if column == "uint64Value" and value < 0 else value

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
        what = tuple(args.get(f"debug.{t}") for t in texts)
        own = s["tid"] is not None
        threads = (s["tid"], None) if own else (args["debug.thread_id"], args.get("debug.end_thread"))
        found.append((s["name"] or "", s["ts"], s["dur"], s["pid"], *what, *threads))
    same(found, expected, "NVTX")
    assert sum(r["eventType"] == MARK for r in oracle.nvtx) == sum(r["mark"] for r in oracle.nvtx)


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


CHECKS: tuple[Callable[[Run], None], ...] = (
    nothing_lost, counts, gpu_work, gpu_names_and_totals, render_stages, queues, arrows,
    kernel_arguments, occupancy, copy_arguments, no_forbidden_argument, calls, errors, nesting,
    names, wake_ups, nvtx, projection,
)  # fmt: skip
