"""Scenarios of GPU work: devices, streams, copies, waiting, memory."""

from __future__ import annotations

from samples.builder.capture import Capture
from samples.builder.model import A100, INVALID_ID, MIG_3G, RTX_3090, Kernel, Process, Thread
from samples.builder.scenarios.registry import Facts, scenario

_GEMM = Kernel("gemm", "void gemm<float>(float const*, int)", "_Z4gemmIfEvPKfi", (64, 2, 1))


def _one_process(capture: Capture) -> tuple[Process, Thread]:
    capture.gpu()
    process = capture.process(4242, "app")
    return process, capture.thread(process, 4242, "app")


def _busy_process(capture: Capture, pid: int, gpu: int, kernels: int) -> Process:
    """A process that launches kernels with the correlation ids 1, 2, 3, ... on one GPU."""
    process = capture.process(pid, f"rank{gpu}", gpus=(gpu,))
    thread = capture.thread(process, pid, f"rank{gpu}")
    for n in range(kernels):
        at = 1_000_000 + 10_000 * n + 1_000 * gpu
        capture.launch(thread, _GEMM, at=at, call=2_500, start=at + 4_000, duration=7_000)
    return process


@scenario("3.17.1")
def two_processes_two_gpus(capture: Capture) -> Facts:
    """Two processes share correlation ids; each sees one of four GPUs as its CUDA device 0.

    Facts: gpu_of_pid (pid → TARGET_INFO_GPU.id), kernels_of_pid.
    """
    for gpu_id, cu_device in ((0, 3), (1, 2), (2, 1), (3, 0)):
        capture.gpu(gpu_id, A100, cu_device=cu_device)
    _busy_process(capture, 5001, gpu=3, kernels=30)
    _busy_process(capture, 5002, gpu=1, kernels=20)
    return {"gpu_of_pid": {5001: 3, 5002: 1}, "kernels_of_pid": {5001: 30, 5002: 20}}


@scenario("3.24.8")
def mig_instances(capture: Capture) -> Facts:
    """A GPU in MIG mode: two processes, each with an instance of it as its CUDA device 0.

    nsys lists the GPU and its instances, which share its PCI address and its CUDA ordinal.

    Facts: gpu_of_pid.
    """
    capture.gpu(0, A100)
    for number in (1, 2):
        capture.gpu(number, MIG_3G, cu_device=0, bus="0000:01:00.0")
    _busy_process(capture, 5001, gpu=1, kernels=12)
    _busy_process(capture, 5002, gpu=2, kernels=9)
    return {"gpu_of_pid": {5001: 1, 5002: 2}}


@scenario("3.17.1")
def eight_by_eight(capture: Capture) -> Facts:
    """Eight processes on eight GPUs, all with the same correlation ids, threads of equal order.

    Each process works on its own GPU (its device 0) and sends to the next one's (its device 1).

    Facts: kernels, copies (of each pair of process and GPU).
    """
    for gpu_id in range(8):
        capture.gpu(gpu_id, A100, cu_device=7 - gpu_id)
    for rank in range(8):
        gpus = (rank, (rank + 1) % 8)
        process = capture.process(5001 + rank, f"rank{rank}", gpus=gpus)
        thread = capture.thread(process, 5001 + rank, f"rank{rank}")
        for n in range(16):
            at = 1_000_000 + 10_000 * n + 100 * (n % 3) * rank
            for device in (0, 1):
                capture.launch(
                    thread, _GEMM, at=at + 3_000 * device, call=2_500, start=at + 4_000,
                    duration=4_000 + 1_000 * device, device=device,
                )  # fmt: skip
            capture.memcpy(
                process, "PtoP", 4_096, at + 9_000, at + 9_500, correlation=None,
                srcDeviceId=0, dstDeviceId=1,
            )  # fmt: skip
    return {"kernels": 16, "copies": 16}


@scenario("3.16.1")
def gpu_order_differs(capture: Capture) -> Facts:
    """Two unlike GPUs whose ids and CUDA ordinals are swapped, without TARGET_INFO_CUDA_DEVICE.

    Facts: gpu_of_device (CUDA ordinal → TARGET_INFO_GPU.id), name_of_device.
    """
    capture.gpu(0, RTX_3090, cu_device=1)
    capture.gpu(1, A100, cu_device=0)
    process = capture.process(4242, "app", gpus=(1, 0))
    thread = capture.thread(process, 4242, "app")
    for device in (0, 1, 1):
        at = 1_000_000 + 20_000 * process.last_correlation
        capture.launch(
            thread, _GEMM, at=at, call=2_000, start=at + 5_000, duration=9_000, device=device
        )
    return {
        "gpu_of_device": {0: 1, 1: 0},
        "name_of_device": {0: A100.name, 1: RTX_3090.name},
    }


@scenario()
def eight_hundred_streams(capture: Capture) -> Facts:
    """800 streams with two kernels each, many at the same time.

    Facts: streams (ids).
    """
    process, thread = _one_process(capture)
    streams = list(range(13, 813))
    for stream in streams:
        capture.stream(process, stream)
        for repeat in range(2):
            at = 1_000_000 + 3_000 * (stream - 13) + 5_000_000 * repeat
            capture.launch(
                thread, _GEMM, at=at, call=2_000, start=at + 4_000, duration=40_000, stream=stream
            )
    return {"streams": streams}


@scenario("3.7.2")
def unified_memory(capture: Capture) -> Facts:
    """Migrations with stream 0 and correlation id 0, overlapping each other and a kernel.

    Facts: migrations, migrated_ns (sum of durations), copies (ordinary ones).
    """
    process, thread = _one_process(capture)
    capture.launch(thread, _GEMM, at=990_000, call=2_000, start=1_000_000, duration=900_000)
    migrated = 0
    for n in range(200):
        start = 1_000_000 + 3_000 * n
        kind, cause = ("UM HtoD", 2) if n % 3 else ("UM DtoH", 4)
        capture.migration(process, kind, 65_536, start, start + 8_000, cause=cause)
        migrated += 8_000
    correlation = capture.api(thread, "cudaMemcpyAsync_v3020", 2_000_000, 2_004_000)
    capture.memcpy(process, "DtoH", 4_096, 2_006_000, 2_008_000, correlation=correlation)
    return {"migrations": 200, "migrated_ns": migrated, "copies": 1}


@scenario("3.17.2")
def every_copy_kind(capture: Capture) -> Facts:
    """Copies of all kinds, a peer copy between GPUs and memsets, one copy of zero bytes.

    Facts: bytes_of_kind (copyKind → bytes).
    """
    capture.gpu(0, A100)
    capture.gpu(1, A100)
    process = capture.process(4242, "app", gpus=(0, 1))
    thread = capture.thread(process, 4242, "app")
    sizes: dict[int, int] = {}
    for kind in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10):
        at = 1_000_000 + 50_000 * kind
        correlation = capture.api(thread, "cudaMemcpyAsync_v3020", at, at + 3_000)
        sizes[kind] = 1 << (10 + kind) if kind else 0
        peer = {"srcDeviceId": 0, "dstDeviceId": 1, "dstContextId": 2} if kind == 10 else {}
        capture.memcpy(
            process, kind, sizes[kind], at + 5_000, at + 25_000, correlation=correlation, **peer
        )
    correlation = capture.api(thread, "cudaMemsetAsync_v3020", 2_000_000, 2_002_000)
    capture.memset(process, 1 << 20, 2_004_000, 2_006_000, value=255, correlation=correlation)
    return {"bytes_of_kind": sizes}


@scenario("3.24.0")
def sync_zoo(capture: Capture) -> Facts:
    """Waits for a stream, the context, an event; one stream waits for another; unknown ones.

    Facts: awaited (name of the call → end of the work waited for, ns).
    """
    process, thread = _one_process(capture)
    capture.stream(process, 13)
    capture.launch(
        thread, _GEMM, at=1_000_000, call=2_000, start=1_005_000, duration=50_000, stream=13
    )
    recorded = capture.api(thread, "cudaEventRecord_v3020", 1_003_000, 1_004_000)
    capture.cuda_event(process, 5, correlation=recorded, stream=13)
    capture.sync(thread, "stream_wait", 1_005_000, 1_006_000, stream=7, event=5)
    capture.launch(thread, _GEMM, at=1_007_000, call=2_000, start=1_056_000, duration=30_000)
    capture.sync(thread, "event", 1_010_000, 1_059_000, event=5)
    capture.sync(thread, "stream", 1_060_000, 1_090_000, stream=7)
    capture.launch(
        thread, _GEMM, at=1_100_000, call=2_000, start=1_105_000, duration=70_000, stream=13
    )
    capture.sync(thread, "context", 1_110_000, 1_180_000)
    # nsys 2024.6 wrote type 0 and no stream for cudaDeviceSynchronize on new drivers.
    correlation = capture.api(thread, "cudaDeviceSynchronize_v3020", 1_190_000, 1_195_000)
    capture.synchronization(process, 0, 1_190_500, 1_194_500, correlation=correlation)
    return {
        "awaited": {
            "cudaEventSynchronize": 1_055_000,
            "cudaStreamSynchronize": 1_086_000,
            "cudaDeviceSynchronize": 1_175_000,
        },
        "invalid": INVALID_ID,
    }


@scenario()
def device_memory(capture: Capture) -> Facts:
    """Allocations and frees, one of memory from before the capture, pinned and managed memory.

    Facts: device_bytes, the running sum of device memory after each event, [(ts, bytes)].
    """
    process, thread = _one_process(capture)
    events = [
        (1_000_000, 0xA000, 1 << 20, False),
        (1_100_000, 0xB000, 4 << 20, False),
        (1_200_000, 0xA000, 1 << 20, True),
        (1_300_000, 0x9000, 8 << 20, True),  # allocated before the capture: the sum goes below 0
        (1_400_000, 0xB000, 4 << 20, True),
    ]
    total, sums = 0, []
    for at, address, nbytes, free in events:
        name = "cudaFree_v3020" if free else "cudaMalloc_v3020"
        correlation = capture.api(thread, name, at - 5_000, at + 1_000)
        capture.memory_event(process, at, address, nbytes, free=free, correlation=correlation)
        total += -nbytes if free else nbytes
        sums.append((at, total))
    capture.memory_event(process, 1_500_000, 0xC000, 1 << 16, correlation=0, mem_kind=1, device=9)
    capture.memory_event(process, 1_600_000, 0xD000, 1 << 16, correlation=0, mem_kind=4)
    capture.memory_pool_event(process, 900_000, 0x9999, operation=1, size=1 << 30)
    capture.memory_pool_event(process, 1_700_000, 0x9999, operation=2, size=1 << 30)
    return {"device_bytes": sums}


@scenario("3.24.0")
def overlapping_kernels(capture: Capture) -> Facts:
    """Kernels that overlap on one stream (programmatic launch) and across streams.

    Facts: union_ns (time in which any kernel ran), sum_ns.
    """
    _, thread = _one_process(capture)
    spans = [(7, 0, 100), (7, 90, 200), (7, 90, 150), (13, 50, 250), (14, 300, 310)]
    for stream, start, end in spans:
        capture.launch(
            thread,
            _GEMM,
            at=1_000_000 + start * 100 - 5_000,
            call=50,
            start=1_000_000 + start * 1_000,
            duration=(end - start) * 1_000,
            stream=stream,
        )
    return {"union_ns": 260_000, "sum_ns": sum(end - start for _, start, end in spans) * 1_000}


@scenario("3.24.0")
def crowded(capture: Capture) -> Facts:
    """Everything that touches, crosses, overlaps, or has no length, on one stream and one thread.

    Kernels of one stream overlap (programmatic dependent launch), calls begin where others end,
    ranges of three domains cross each other in a circle, of everything some have no length.

    Facts: kernels, calls, ranges ([(start, end)] of each).
    """
    process, thread = _one_process(capture)
    kernels, calls, ranges = [], [], []
    for n in range(40):
        at = 1_000_000 + 1_000 * n
        kernels += [
            (at, at + 1_400),
            (at + 900, at + 900 + 300 * (n % 3)),
            (at + 1_000, at + 1_000),
        ]
        calls += [(at, at + 500), (at + 500, at + 500 + 250 * (n % 2)), (at + 1_000, at + 1_000)]
        if n % 4 == 0:  # the second crosses the first, the third both, the first of the next them
            ranges += [(at, at + 2_500), (at + 500, at + 3_000), (at + 1_000, at + 4_500)]
            ranges += [(at + 2_500, at + 2_500)]
    for start, end in kernels:
        capture.kernel(process, _GEMM, start, end, correlation=None)
    for start, end in calls:
        capture.api(thread, "cudaGetLastError_v3020", start, end)
    for n, (start, end) in enumerate(ranges):
        capture.nvtx_push_pop(thread, f"range {n}", start, end, domain=n % 4)
    return {"kernels": kernels, "calls": calls, "ranges": ranges}


@scenario("3.25.0")
def orphans(capture: Capture) -> Facts:
    """Kernels without a launching call (trimmed exports), calls without a kernel.

    Facts: kernels, matched (kernels with a call), unmatched_calls.
    """
    process, thread = _one_process(capture)
    for n, correlation in enumerate((None, 0, 999_999, 999_998)):
        start = 1_000_000 + 10_000 * n
        capture.kernel(process, _GEMM, start, start + 5_000, correlation=correlation)
    capture.launch(thread, _GEMM, at=1_050_000, call=2_000, start=1_055_000, duration=5_000)
    capture.api(thread, "cudaLaunchKernel_v7000", 1_060_000, 1_062_000, returned=701)
    # A launch whose id only another process has.
    other = capture.process(4343, "other")
    correlation = capture.api(thread, "cudaLaunchKernel_v7000", 1_070_000, 1_072_000)
    capture.kernel(other, _GEMM, 1_080_000, 1_081_000, correlation=correlation)
    return {"kernels": 6, "matched": 1, "unmatched_calls": 2}
