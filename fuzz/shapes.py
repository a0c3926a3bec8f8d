"""Captures whose shape is the worst for one thing or another, of any size.

    python -m fuzz.shapes many_threads 100000 FILE.sqlite

What they show is time: with four times as many rows everything should take four times as long.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from samples.builder import Capture
from samples.builder.model import VM_ID, Kernel

Shape = Callable[[Capture, int], None]

KERNEL, CALLS, NVTX = "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS"
COPIES, WAITS = "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"
_PID = 4242
_PROCESS = VM_ID | _PID << 24
_THREAD = _PROCESS | _PID
_TICK = 10_000
"""ns from one launch to the next."""

Values = dict[str, object]


def _kernels(capture: Capture, n: int, **columns: object) -> None:
    """Kernels one after the other, each launched by a call of its own."""
    name = capture.string("kernel")
    at = 1_000_000 + _TICK * np.arange(n)
    usual: Values = {
        "start": at + 4_000, "end": at + 9_000, "deviceId": 0, "contextId": 1, "streamId": 7,
        "correlationId": np.arange(n) + 1, "globalPid": _PROCESS, "demangledName": name,
        "shortName": name, "mangledName": name, "gridX": 1, "gridY": 1, "gridZ": 1, "blockX": 128,
        "blockY": 1, "blockZ": 1, "registersPerThread": 32,
    }  # fmt: skip
    capture.bulk(KERNEL, n, **(usual | columns))


def _calls(capture: Capture, n: int, **columns: object) -> None:
    at = 1_000_000 + _TICK * np.arange(n)
    name = capture.string("cudaLaunchKernel_v7000")
    usual: Values = {
        "start": at, "end": at + 3_000, "eventClass": 0, "globalTid": _THREAD,
        "correlationId": np.arange(n) + 1, "nameId": name, "returnValue": 0,
    }  # fmt: skip
    capture.bulk(CALLS, n, **(usual | columns))


def _ranges(capture: Capture, n: int, **columns: object) -> None:
    at = 1_000_000 + _TICK * np.arange(n)
    usual: Values = {
        "start": at - 10, "end": at + 9_500, "eventType": 59, "globalTid": _THREAD,
        "textId": capture.string("range"), "domainId": 0,
    }  # fmt: skip
    capture.bulk(NVTX, n, **(usual | columns))


def _threads(n: int) -> np.ndarray:
    return _PROCESS + 1 + np.arange(n)


def _processes(n: int) -> np.ndarray:
    return VM_ID | (1 + np.arange(n)) << 24


def many_threads(capture: Capture, n: int) -> None:
    """Every call on a thread of its own."""
    _kernels(capture, n)
    _calls(capture, n, globalTid=_threads(n))
    _ranges(capture, n, globalTid=_threads(n))
    names = [capture.string(f"thread {i}") for i in range(n)]
    capture.bulk("ThreadNames", n, nameId=names, priority=20, globalTid=_threads(n))


def many_processes(capture: Capture, n: int) -> None:
    """Every kernel and call in a process of its own."""
    pids = _processes(n)
    _kernels(capture, n, globalPid=pids)
    _calls(capture, n, globalTid=pids + 1)
    _ranges(capture, n, globalTid=pids + 1)
    capture.bulk("PROCESSES", n, globalPid=pids, pid=1, name=[f"program {i}" for i in range(n)])


def equal_process_ids(capture: Capture, n: int) -> None:
    """Processes of many machines that all have the same number."""
    pids = (np.arange(n) % 60_000) << 48 | 7 << 24
    _kernels(capture, n, globalPid=pids)
    _calls(capture, n, globalTid=pids + 1)


def many_streams(capture: Capture, n: int) -> None:
    """Every kernel on a stream of its own."""
    _kernels(capture, n, streamId=np.arange(n) + 7)
    _calls(capture, n)


def many_contexts(capture: Capture, n: int) -> None:
    """Every kernel in a context of its own."""
    _kernels(capture, n, contextId=np.arange(n) + 1)
    _calls(capture, n)


def many_gpus(capture: Capture, n: int) -> None:
    """Every kernel on a GPU of its own; fewer, since each GPU has a timeline."""
    n = max(1, n // 100)
    _kernels(capture, n, deviceId=np.arange(n))
    _calls(capture, n)


def many_names(capture: Capture, n: int) -> None:
    """Every kernel with a name and a configuration of its own."""
    names = [capture.string(f"void space::kernel_{i}<float, {i}>(float*, int)") for i in range(n)]
    _kernels(capture, n, demangledName=names, shortName=names, gridX=np.arange(n) + 1)
    calls = [capture.string(f"cudaCall{i}_v3020") for i in range(n)]
    _calls(capture, n, nameId=calls)
    ranges = [capture.string(f"range {i}") for i in range(n)]
    _ranges(capture, n, textId=ranges)


def deep_ranges(capture: Capture, n: int) -> None:
    """Ranges that lie in each other, each with a call and a kernel."""
    _kernels(capture, n)
    _calls(capture, n)
    at = 1_000_000 + _TICK * np.arange(n)
    _ranges(capture, n, start=at - 10, end=1_000_000 + _TICK * (2 * n - np.arange(n)))


def crossing_ranges(capture: Capture, n: int) -> None:
    """Ranges of one thread each of which crosses all others."""
    _kernels(capture, n)
    _calls(capture, n)
    at = 1_000_000 + _TICK * np.arange(n)
    _ranges(capture, n, start=at - 10, end=at + _TICK * n)


def overlapping_ranges(capture: Capture, n: int) -> None:
    """Start/end ranges that all overlap: as many tracks."""
    _calls(capture, n)
    at = 1_000_000 + np.arange(n)
    _ranges(capture, n, start=at, end=at + n, eventType=60)


def all_at_once(capture: Capture, n: int) -> None:
    """Everything begins and ends at the same time."""
    same: Values = {"start": 1_000_000, "end": 1_005_000}
    _kernels(capture, n, **same)
    _calls(capture, n, **same)
    _ranges(capture, n, **same)


def no_length(capture: Capture, n: int) -> None:
    """Everything at the same time, without a length."""
    same: Values = {"start": 1_000_000, "end": 1_000_000}
    _kernels(capture, n, **same)
    _calls(capture, n, **same)
    _ranges(capture, n, **same)


def one_graph(capture: Capture, n: int) -> None:
    """One launch of a graph with all kernels."""
    _kernels(capture, n, correlationId=1, graphNodeId=(1 << 32) + np.arange(n))
    _calls(capture, 1, nameId=capture.string("cudaGraphLaunch_v10000"), end=[1_500_000])


def equal_correlations(capture: Capture, n: int) -> None:
    """All calls and all kernels with one correlation id."""
    _kernels(capture, n, correlationId=5)
    _calls(capture, n, correlationId=5)


def many_waits(capture: Capture, n: int) -> None:
    """As many waits as kernels, all for the same stream and event."""
    _kernels(capture, n)
    _calls(capture, n, correlationId=np.arange(n) + 1)
    at = 1_000_000 + _TICK * np.arange(n) + 3_500
    waits = np.arange(n) + n + 1
    columns: Values = {"start": at, "end": at + 6_000, "correlationId": waits}
    _calls(capture, n, nameId=capture.string("cudaStreamSynchronize_v3020"), **columns)
    capture.bulk(
        WAITS, n, **columns, deviceId=0, contextId=1, streamId=7, globalPid=_PROCESS, syncType=3,
        eventId=4294967295,
    )  # fmt: skip


def many_samplers(capture: Capture, n: int) -> None:
    """Every kernel ends a step."""
    name = capture.string("argmax_kernel")
    _kernels(capture, n, demangledName=name, shortName=name)
    _calls(capture, n)


def many_copies(capture: Capture, n: int) -> None:
    """Small copies of constant size between processes' GPUs."""
    at = 1_000_000 + _TICK * np.arange(n)
    _calls(capture, n, nameId=capture.string("cudaMemcpyAsync_v3020"))
    capture.bulk(
        COPIES, n, start=at + 4_000, end=at + 5_000, deviceId=0, contextId=1, streamId=7,
        correlationId=np.arange(n) + 1, globalPid=_PROCESS, bytes=np.arange(n) + 4, copyKind=2,
        srcKind=2, dstKind=1,
    )  # fmt: skip


def much_memory(capture: Capture, n: int) -> None:
    """Allocations that are never freed, of as many processes as events."""
    _calls(capture, n)
    capture.bulk(
        "CUDA_GPU_MEMORY_USAGE_EVENTS", n, start=1_000_000 + np.arange(n), globalPid=_processes(n),
        deviceId=0, contextId=1, address=np.arange(n) << 20, bytes=1 << 20, memKind=2,
        memoryOperationType=0,
    )  # fmt: skip


def long_names(capture: Capture, n: int) -> None:
    """Names of a million characters and more: fewer of them."""
    n = max(1, n // 10_000)
    for i in range(n):
        name = f"{i:05}" + "void f<int, x::y>" * 70_000
        capture.kernel(
            capture.process(_PID + i, name), Kernel(name, name, name), 1_000 * i, 1_000 * i + 500,
            correlation=None,
        )  # fmt: skip


SHAPES: tuple[Shape, ...] = (
    many_threads, many_processes, equal_process_ids, many_streams, many_contexts, many_gpus,
    many_names, deep_ranges, crossing_ranges, overlapping_ranges, all_at_once, no_length,
    one_graph, equal_correlations, many_waits, many_samplers, many_copies, much_memory, long_names,
)  # fmt: skip


def write(shape: Shape, n: int, path: Path) -> Path:
    """Writes the capture of a shape with n rows a table."""
    capture = Capture("3.16.1")
    capture.gpu()
    shape(capture, n)
    return capture.write(path)


if __name__ == "__main__":
    _, wanted, number, target = sys.argv
    write({s.__name__: s for s in SHAPES}[wanted], int(float(number)), Path(target))
