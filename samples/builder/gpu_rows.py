"""Rows of GPU work and what belongs to it: copies, synchronisation, graphs, device memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from samples.builder.model import INVALID_ID, Kernel, Process, Thread
from samples.builder.store import Store

MEMCPY_KINDS = {"HtoD": 1, "DtoH": 2, "DtoD": 8, "PtoP": 10, "UM HtoD": 11, "UM DtoH": 12}
_MEMORY_OF_KIND = {1: (1, 2), 2: (2, 1), 8: (2, 2), 10: (2, 2), 11: (4, 4), 12: (4, 4)}
"""copyKind → (srcKind, dstKind): 1 pinned, 2 device, 4 managed."""

SYNC_TYPES = {"unknown": 0, "event": 1, "stream_wait": 2, "stream": 3, "context": 4}


def _operation(
    process: Process,
    start: int,
    end: int,
    *,
    correlation: int | None,
    device: int,
    stream: int,
) -> dict[str, Any]:
    """The columns that every table of GPU work has; the context of device n is n + 1."""
    return {
        "start": start,
        "end": end,
        "deviceId": device,
        "contextId": device + 1,
        "greenContextId": 0,
        "streamId": stream,
        "correlationId": correlation,
        "globalPid": process.global_pid,
    }


class GpuRows(Store):
    """A store with one method for each kind of GPU activity. Times are ns, sizes bytes."""

    def kernel(
        self,
        process: Process,
        kernel: Kernel | str,
        start: int,
        end: int,
        *,
        correlation: int | None,
        device: int = 0,
        stream: int = 7,
        graph_node: int | None = None,
        graph: int | None = None,
        **columns: Any,
    ) -> None:
        """One kernel execution; `columns` overrides any column of the row."""
        if isinstance(kernel, str):
            kernel = Kernel(kernel)
        short = self.string(kernel.name)
        values = _operation(
            process, start, end, correlation=correlation, device=device, stream=stream
        ) | {
            "demangledName": self.string(kernel.demangled) if kernel.demangled else short,
            "shortName": short,
            "mangledName": self.string(kernel.mangled) if kernel.mangled else short,
            "launchType": 1,
            "cacheConfig": 0,
            "registersPerThread": kernel.registers,
            "gridX": kernel.grid[0],
            "gridY": kernel.grid[1],
            "gridZ": kernel.grid[2],
            "blockX": kernel.block[0],
            "blockY": kernel.block[1],
            "blockZ": kernel.block[2],
            "staticSharedMemory": kernel.static_shared,
            "dynamicSharedMemory": kernel.dynamic_shared,
            "localMemoryPerThread": kernel.local_per_thread,
            "localMemoryTotal": 61931520,
            "gridId": process.next_grid(),
            "sharedMemoryExecuted": 16384,
            "graphNodeId": graph_node,
            "sharedMemoryLimitConfig": 0,
            "graphId": graph,
            "clusterX": 0,
            "clusterY": 0,
            "clusterZ": 0,
            "clusterSchedulingPolicy": 1,
        }
        self.row("CUPTI_ACTIVITY_KIND_KERNEL", **(values | kernel.extra | columns))

    def memcpy(
        self,
        process: Process,
        kind: str | int,
        nbytes: int,
        start: int,
        end: int,
        *,
        correlation: int | None,
        device: int = 0,
        stream: int = 7,
        **columns: Any,
    ) -> None:
        """One copy; `kind` is a key of MEMCPY_KINDS or ENUM_CUDA_MEMCPY_OPER's number."""
        kind = MEMCPY_KINDS[kind] if isinstance(kind, str) else kind
        source, target = _MEMORY_OF_KIND.get(kind, (7, 7))
        values = _operation(
            process, start, end, correlation=correlation, device=device, stream=stream
        ) | {
            "bytes": nbytes,
            "copyKind": kind,
            "srcKind": source,
            "dstKind": target,
            "copyCount": 1,
        }
        self.row("CUPTI_ACTIVITY_KIND_MEMCPY", **(values | columns))

    def migration(
        self,
        process: Process,
        kind: str,
        nbytes: int,
        start: int,
        end: int,
        *,
        cause: int = 2,
        device: int = 0,
        address: int = 0x7F40_0000_0000,
    ) -> None:
        """A unified-memory migration ("UM HtoD", "UM DtoH"): no stream, no API call."""
        self.memcpy(
            process,
            kind,
            nbytes,
            start,
            end,
            correlation=0,
            device=device,
            stream=0,
            migrationCause=cause,
            virtualAddress=address,
        )

    def memset(
        self,
        process: Process,
        nbytes: int,
        start: int,
        end: int,
        *,
        correlation: int | None,
        value: int = 0,
        device: int = 0,
        stream: int = 7,
        **columns: Any,
    ) -> None:
        """One memset of device memory."""
        values = _operation(
            process, start, end, correlation=correlation, device=device, stream=stream
        ) | {
            "value": value,
            "bytes": nbytes,
            "memKind": 2,
        }
        self.row("CUPTI_ACTIVITY_KIND_MEMSET", **(values | columns))

    def synchronization(
        self,
        process: Process,
        kind: str | int,
        start: int,
        end: int,
        *,
        correlation: int | None,
        device: int = 0,
        stream: int = INVALID_ID,
        event: int = INVALID_ID,
    ) -> None:
        """A host-side wait; `kind` is a key of SYNC_TYPES or its number."""
        self.row(
            "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
            **_operation(
                process, start, end, correlation=correlation, device=device, stream=stream
            ),
            syncType=SYNC_TYPES[kind] if isinstance(kind, str) else kind,
            eventId=event,
            eventSyncId=0,
        )

    def cuda_event(
        self,
        process: Process,
        event: int,
        *,
        correlation: int | None,
        device: int = 0,
        stream: int = 7,
        timestamp: int = 0,
    ) -> None:
        """An event recorded in a stream; timestamp 0 means it was not collected."""
        self.row(
            "CUPTI_ACTIVITY_KIND_CUDA_EVENT",
            timestamp=timestamp,
            deviceId=device,
            contextId=device + 1,
            greenContextId=0,
            streamId=stream,
            correlationId=correlation,
            globalPid=process.global_pid,
            eventId=event,
            eventSyncId=event,
        )

    def graph_trace(
        self,
        process: Process,
        start: int,
        end: int,
        *,
        correlation: int | None,
        graph: int,
        graph_exec: int,
        device: int = 0,
        stream: int = 7,
    ) -> None:
        """One execution of a whole CUDA graph, traced with --cuda-graph-trace=graph."""
        self.row(
            "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
            graphId=graph,
            graphExecId=graph_exec,
            **_operation(
                process, start, end, correlation=correlation, device=device, stream=stream
            ),
        )

    def graph_nodes(
        self, thread: Thread, start: int, nodes: Iterable[tuple[int, int | None]]
    ) -> None:
        """The creation of graph nodes at one moment: pairs (node id, id of the node it clones)."""
        table = "CUDA_GRAPH_NODE_EVENTS"
        if not self.has_table(table):
            table = "CUDA_GRAPH_EVENTS"  # its name until 2023.4
        if not self.has_table(table):
            return
        for node, original in nodes:
            self.row(
                table,
                start=start,
                end=start,
                eventClass=77,
                globalTid=thread.global_tid,
                nameId=self.string("Graph Node Creation"),
                graphNodeId=node,
                originalGraphNodeId=original,
            )

    def graph_created(
        self, thread: Thread, start: int, graph: int, graph_exec: int | None = None
    ) -> None:
        """The creation of a graph, or of an executable graph; only exports from 2024.2 have it."""
        if not self.has_column("CUDA_GRAPH_EVENTS", "graphExecId"):
            return
        self.row(
            "CUDA_GRAPH_EVENTS",
            start=start,
            end=start,
            eventClass=95 if graph_exec is None else 94,
            globalTid=thread.global_tid,
            nameId=self.string("Graph Creation" if graph_exec is None else "Graph Exec Creation"),
            graphId=graph,
            graphExecId=graph_exec,
        )

    def memory_event(
        self,
        process: Process,
        start: int,
        address: int,
        nbytes: int,
        *,
        free: bool = False,
        correlation: int | None,
        device: int = 0,
        mem_kind: int = 2,
        **columns: Any,
    ) -> None:
        """An allocation or a free of device (2), pinned (1) or managed (4) memory."""
        if not self.has_table("CUDA_GPU_MEMORY_USAGE_EVENTS"):
            return
        self.row(
            "CUDA_GPU_MEMORY_USAGE_EVENTS",
            start=start,
            globalPid=process.global_pid,
            deviceId=device,
            contextId=device + 1,
            address=address,
            pc=0x5581_0000_1000,
            bytes=nbytes,
            memKind=mem_kind,
            memoryOperationType=int(free),
            correlationId=correlation,
            **columns,
        )

    def memory_pool_event(
        self,
        process: Process,
        start: int,
        address: int,
        *,
        operation: int,
        size: int,
        used: int = 0,
        correlation: int | None = None,
        device: int = 0,
    ) -> None:
        """A memory pool is created (1), destroyed (2) or trimmed (3)."""
        if not self.has_table("CUDA_GPU_MEMORY_POOL_EVENTS"):
            return
        self.row(
            "CUDA_GPU_MEMORY_POOL_EVENTS",
            start=start,
            globalPid=process.global_pid,
            deviceId=device,
            address=address,
            operationType=operation,
            poolType=1,
            correlationId=correlation,
            minBytesToKeep=0,
            localMemoryPoolReleaseThreshold=0,
            localMemoryPoolSize=size,
            localMemoryPoolUtilizedSize=used,
        )
