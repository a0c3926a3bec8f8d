"""Checks of GPU work: every operation, its queue and arguments, the arrow that leads to it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

from tests.checks.whole import WAKE_UP, named
from tests.oracle import CAUSES, MEMORY_KINDS, Row, pid, tid
from tests.runs import Run, same

KINDS = {
    "CUDA kernel": "kernel",
    "CUDA memory copy": "memcpy",
    "Unified-memory migration": "memcpy",
    "CUDA memory set": "memset",
    "CUDA graph launch, all its nodes": "graph",
}
COMPUTE = 2


def gpu_work(run: Run) -> None:
    """Each kernel, copy, memory set and graph launch, exactly, with its process and queue."""
    found = []
    for s in run.trace.gpu:
        args = run.trace.args(s)
        key = (KINDS[s["kind"]], named(s["name"]), s["ts"], s["dur"], s["pid"], s["gpu"])
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
                found.update({(named(s["name"]), "ns"): s["dur"], (named(s["name"]), "n"): 1})
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
        key = (*at, stream)
        keys[key].add((r["globalPid"], context))
        rows[r["gpu"], r["globalPid"], context, stream].add(at)
    queue_of: dict[Any, int] = {}
    for s in run.trace.gpu:
        stream = run.trace.args(s).get("stream")
        stream = "migration" if s["kind"].startswith("Unified") else stream
        owners = keys[s["ts"], s["dur"], s["pid"], s["gpu"], stream]
        if len(owners) != 1:
            continue  # two contexts did the same at the same time
        [(process, context)] = owners
        owner = (s["gpu"], process, context, stream)
        assert queue_of.setdefault(owner, s["queue"]) == s["queue"], owner
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
        call_key = (named(call["name"]), call["ts"], call["dur"], call["pid"], call["tid"])
        found.append((call_key, (named(op["name"]), op["ts"], op["dur"], op["pid"])))
    expected = []
    for call, op in run.oracle.arrows:
        thread = call["globalTid"]
        begun = (call["name"], call["start"] + run.shift, call["end"] - call["start"])
        done = (op["name"], op["start"] + run.shift, op["end"] - op["start"])
        expected.append(((*begun, pid(thread), tid(thread)), (*done, pid(op["globalPid"]))))
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

    def row(args: dict[str, Any], name: str | None) -> tuple[Any, ...]:
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
    same([row(run.trace.args(s), named(s["name"])) for s in kernels], expected, "arguments")


def occupancy(run: Run) -> None:
    """Occupancy and waves by the occupancy calculator's formula, from the GPU's own limits."""
    gpus = {g["id"]: g for g in run.oracle.gpus if g["maxBlocksPerSm"] and g["smCount"]}
    for s in run.trace.gpu:
        gpu = gpus.get(s["gpu"])
        if s["kind"] != "CUDA kernel" or gpu is None:
            continue
        args = run.trace.args(s)
        limits = block_limits(gpu, args)
        assert {k: args[k] for k in args if k.startswith("occupancy_limit_")} == limits, args
        expected = occupancy_and_waves(gpu, args)
        if expected is None:
            assert "theoretical_occupancy_pct" not in args
            continue
        percent, waves = expected
        assert math.isclose(args["theoretical_occupancy_pct"], percent), (args, percent)
        assert args["sm__maximum_warps_per_active_cycle_pct"] == args["theoretical_occupancy_pct"]
        assert math.isclose(args["waves_per_multiprocessor"], waves), (args, waves)


def block_limits(gpu: Row, args: dict[str, Any]) -> dict[str, int]:
    """Blocks that each resource of an SM allows: CUDA's occupancy calculator, 7.0 and later."""
    ampere = gpu["computeMajor"] >= 8
    warps = -(-args["workgroup_size"] // 32)
    registers = -(-args["registers_per_thread"] * 32 // 256) * 256
    unit = 128 if ampere else 256
    shared = args.get("shared_mem_static", 0) + args.get("shared_mem_dynamic", 0)
    shared = -(-(shared + 1024 * ampere) // unit) * unit
    set_aside = args.get("shared_mem_config_size", 0)
    limits = {
        "occupancy_limit_blocks": gpu["maxBlocksPerSm"],
        "occupancy_limit_warps": gpu["maxWarpsPerSm"] // warps,
    }
    if registers:
        fit = gpu["maxRegistersPerSm"] // 4 // registers * 4 // warps
        limits["occupancy_limit_registers"] = fit
    if shared:
        meant = shared <= set_aside < gpu["maxShmemPerSm"]
        available = set_aside if meant else gpu["maxShmemPerSm"]
        limits["occupancy_limit_shared_mem"] = available // shared
    return limits


def occupancy_and_waves(gpu: Row, args: dict[str, Any]) -> tuple[float, float] | None:
    """Percent and waves; None where not one block fits."""
    blocks = min(block_limits(gpu, args).values())
    if blocks == 0:
        return None
    warps = -(-args["workgroup_size"] // 32)
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
