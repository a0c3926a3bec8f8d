"""What ran on the GPUs: kernels, copies, memory sets, launches of whole CUDA graphs.

Tables and columns as NSYS_SCHEMA section 3 describes them; bytes and ns.
"""

from __future__ import annotations

from nsys2perfetto.nsys import events
from nsys2perfetto.nsys.capture import Capture, Columns
from nsys2perfetto.nsys.events import Events, Selection

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
MEMCPY = "CUPTI_ACTIVITY_KIND_MEMCPY"
MEMSET = "CUPTI_ACTIVITY_KIND_MEMSET"
GRAPH_TRACE = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"

_QUEUE: Columns = {
    "globalPid": "int", "deviceId": "int", "contextId": "int", "streamId": "int",
    "greenContextId": "int", "graphNodeId": "int",
}  # fmt: skip
_CORRELATION: Columns = {"correlationId": "int"}

KERNEL_CONFIG: Columns = {
    **_QUEUE,
    "graphId": "int",
    "demangledName": "int", "shortName": "int", "mangledName": "int",
    "gridX": "int", "gridY": "int", "gridZ": "int",
    "blockX": "int", "blockY": "int", "blockZ": "int",
    "clusterX": "int", "clusterY": "int", "clusterZ": "int",
    "registersPerThread": "int", "staticSharedMemory": "int", "dynamicSharedMemory": "int",
    "sharedMemoryExecuted": "int", "localMemoryPerThread": "int",
    "launchType": "int", "cacheConfig": "int",
}  # fmt: skip

_COPY_CONFIG: Columns = {
    **_QUEUE, "copyKind": "int", "srcKind": "int", "dstKind": "int", "srcDeviceId": "int",
    "dstDeviceId": "int", "migrationCause": "int",
}  # fmt: skip


def kernels(capture: Capture, selection: Selection) -> Events:
    """Kernel executions; values: correlationId (-1: none)."""
    return _read(capture, KERNEL, KERNEL_CONFIG, {}, selection)


def copies(capture: Capture, selection: Selection) -> Events:
    """Copies, unified-memory migrations among them; values: correlationId, bytes (-1: none)."""
    return _read(capture, MEMCPY, _COPY_CONFIG, {"bytes": "int"}, selection)


def memory_sets(capture: Capture, selection: Selection) -> Events:
    """Memory sets; values: correlationId, bytes, value (-1: none)."""
    return _read(
        capture, MEMSET, {**_QUEUE, "memKind": "int", "value": "int"}, {"bytes": "int"}, selection
    )


def graph_launches(capture: Capture, selection: Selection) -> Events:
    """Executions of whole CUDA graphs (`--cuda-graph-trace=graph`); values: correlationId."""
    return _read(
        capture, GRAPH_TRACE, {**_QUEUE, "graphId": "int", "graphExecId": "int"}, {}, selection
    )


def _read(
    capture: Capture, table: str, config: Columns, values: Columns, selection: Selection
) -> Events:
    return events.read(
        capture,
        table,
        config,
        {**_CORRELATION, **values},
        owner="globalPid" if capture.has(table, "globalPid") else None,
        selection=selection,
    )
