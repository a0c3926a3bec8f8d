"""Scenarios of CPU work: nesting, NVTX, libraries, metrics."""

from __future__ import annotations

from samples.builder.capture import Capture
from samples.builder.scenarios.registry import Facts, scenario


@scenario("3.16.1")
def nvtx_zoo(capture: Capture) -> Facts:
    """Every kind of NVTX event.

    Nested and crossing push/pop ranges, ranges over two threads, marks, domains, categories,
    colours, all payloads, registered and inline texts, no text at all, ranges of two processes
    that number their domains alike.

    Facts: push_pop, start_end, marks (numbers); payloads ({range text: (kind, value)});
    domains ({(pid, id): name}).
    """
    capture.gpu()
    process = capture.process(4242, "app")
    main = capture.thread(process, 4242, "app")
    worker = capture.thread(process, 4250, "worker")
    capture.nvtx_thread_name(worker, "data loader")
    capture.nvtx_domain(main, 1, "engine")
    capture.nvtx_category(main, 1, "attention", domain=1)
    capture.nvtx_category(main, 1, "model")

    other = capture.process(4300, "other")
    other_main = capture.thread(other, 4300, "other")
    capture.nvtx_domain(other_main, 1, "tokenizer")
    capture.nvtx_push_pop(other_main, "encode", 1_000, 9_000, domain=1)

    capture.nvtx_push_pop(main, "step", 1_000_000, 2_000_000, registered=True)
    capture.nvtx_push_pop(main, "layer", 1_100_000, 1_500_000, category=1, color=0xFF00FF00)
    capture.nvtx_push_pop(main, "attention", 1_200_000, 1_300_000, domain=1, category=1)
    # Ranges of different domains may cross.
    capture.nvtx_push_pop(main, "crossing", 1_400_000, 1_600_000, domain=1, color=0x00800080)
    capture.nvtx_push_pop(main, None, 1_700_000, 1_800_000)
    capture.nvtx_push_pop(main, "", 1_810_000, 1_820_000, color=0)
    capture.nvtx_push_pop(main, "zero", 1_830_000, 1_830_000)
    capture.nvtx_push_pop(
        worker, "json", 1_000_000, 1_400_000, json_value={"batch": 8, "ids": [1, 2]}
    )
    payloads: dict[str, tuple[str, float]] = {
        "uint64 max": ("uint64", (1 << 64) - 1),
        "uint64 small": ("uint64", 7),
        "int64": ("int64", -(1 << 62)),
        "double": ("double", 0.1),
        "uint32": ("uint32", (1 << 32) - 1),
        "int32": ("int32", -5),
        "float": ("float", 1.5),
    }
    for n, (text, payload) in enumerate(payloads.items()):
        start = 2_100_000 + 10_000 * n
        capture.nvtx_push_pop(main, text, start, start + 5_000, payload=payload)

    capture.nvtx_range(main, "request", 1_050_000, 1_950_000, range_id=1, end_thread=worker)
    capture.nvtx_range(main, "request", 1_500_000, 2_500_000, range_id=2)  # overlaps the first
    capture.nvtx_range(worker, "batch", 1_100_000, 1_200_000, range_id=3, domain=1)
    capture.nvtx_mark(main, "token", 1_450_000, payload=("int32", 42))
    capture.nvtx_mark(worker, "flush", 1_460_000, registered=True, color=0xFFFF0000)
    for at in (1_250_000, 1_450_000, 1_900_000):
        capture.launch(main, "kernel", at=at, call=2_000, start=at + 400_000, duration=10_000)
    return {
        "push_pop": 9 + len(payloads),
        "start_end": 3,
        "marks": 2,
        "payloads": payloads,
        "domains": {(4242, 1): "engine", (4300, 1): "tokenizer"},
    }


@scenario("3.24.0")
def nested_calls(capture: Capture) -> Facts:
    """A thread's calls nest: NVTX range > cuBLAS call > runtime call > driver call > ioctl.

    One runtime call fails (2 is cudaErrorMemoryAllocation), one driver call is slow because of
    lazy loading.

    Facts: depth (of the innermost slice, 0 outermost), failed (name → return value).
    """
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    capture.nvtx_push_pop(thread, "forward", 1_000_000, 1_900_000)
    capture.cublas(thread, "cublasGemmEx", 1_100_000, 1_800_000)
    outer = capture.launch(
        thread, "gemm", at=1_200_000, call=500_000, start=1_750_000, duration=90_000
    )
    capture.api(thread, "cuLaunchKernel", 1_210_000, 1_690_000)
    capture.osrt(thread, "ioctl", 1_300_000, 1_400_000)
    capture.overhead(thread, "Lazy function loading", 7, 1_450_000, 1_600_000, correlation=outer)
    capture.api(thread, "cudaMalloc_v3020", 2_000_000, 2_010_000, returned=2)
    return {"depth": 4, "failed": {"cudaMalloc": 2}}


@scenario("3.16.1")
def overlapping_calls(capture: Capture) -> Facts:
    """Calls and ranges of one thread that overlap partially, which no stack can show.

    Facts: ranges, calls (numbers): all of them must survive.
    """
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    capture.api(thread, "cudaMalloc_v3020", 1_000, 3_000)
    capture.api(thread, "cudaFree_v3020", 2_000, 4_000)
    capture.api(thread, "cudaMalloc_v3020", 2_500, 4_500)
    capture.nvtx_push_pop(thread, "a", 3_500, 5_000)
    capture.nvtx_push_pop(thread, "b", 4_200, 6_000, domain=1)
    capture.osrt(thread, "write", 5_500, 7_000)
    return {"ranges": 2, "calls": 4}


@scenario("3.24.0")
def zero_length(capture: Capture) -> Facts:
    """Events of no length at the same moment as others begin or end, and identical ones.

    Facts: calls, osrt_calls (without the markers), ranges.
    """
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    capture.nvtx_push_pop(thread, "outer", 1_000, 2_000)
    capture.nvtx_push_pop(thread, "same", 1_000, 2_000)
    capture.nvtx_push_pop(thread, "empty at start", 1_000, 1_000)
    capture.nvtx_push_pop(thread, "empty at end", 2_000, 2_000)
    for _ in range(3):
        capture.api(thread, "cudaGetLastError_v3020", 1_500, 1_500)
    capture.api(thread, "cudaGetDevice_v3020", 1_500, 1_600)
    capture.api(thread, "cudaGetDevice_v3020", 1_600, 1_700)
    capture.osrt(thread, "fflush", 1_800, 1_800)
    capture.osrt(thread, "OS runtime libraries profiling started", 500, 500, event_class=31)
    capture.osrt(thread, "OS runtime libraries profiling finished", 3_000, 3_000, event_class=32)
    capture.kernel(process, "empty", 1_900, 1_900, correlation=None)
    return {"calls": 5, "osrt_calls": 1, "ranges": 4}


@scenario("3.24.0")
def every_library(capture: Capture) -> Facts:
    """One or more rows of each table-driven family: cuBLAS, cuDNN, OSRT, MPI, OpenACC, overhead.

    Facts: spans ({family: number}).
    """
    capture.gpu()
    process = capture.process(4242, "rank0")
    thread = capture.thread(process, 4242, "rank0")
    capture.row("MPI_RANKS", globalTid=thread.global_tid, rank=0)
    capture.cublas(thread, "cublasGemmEx", 1_000, 2_000)
    capture.cudnn(thread, "cudnnConvolutionForward", 3_000, 4_000)
    capture.osrt(thread, "poll", 5_000, 9_000)
    capture.osrt(thread, "read", 9_000, 9_500)
    capture.mpi("P2P", thread, "MPI_Send", 10_000, 12_000, tag=5, remoteRank=1, size=4096)
    capture.mpi("COLLECTIVES", thread, "MPI_Allreduce", 13_000, 15_000, size=8, recvSize=8)
    capture.mpi("START_WAIT", thread, "MPI_Wait", 15_500, 15_900, requestHandle=3)
    capture.mpi("OTHER", thread, "MPI_Init", 16_000, 17_000)
    capture.openacc("DATA", thread, "acc_enqueue_upload", 18_000, 19_000, bytes=4096, eventKind=5)
    capture.openacc(
        "LAUNCH",
        thread,
        "acc_enqueue_launch",
        19_500,
        20_000,
        eventKind=4,
        numGangs=4,
        numWorkers=1,
        vectorLength=128,
        kernelName=capture.string("jacobi_60_gpu"),
    )
    capture.openacc("OTHER", thread, "acc_compute_construct", 19_200, 20_500, eventKind=9)
    capture.overhead(thread, "Buffer flush", 3, 21_000, 22_000)
    capture.profiler_overhead(thread, "CUDA profiling data flush overhead", 23_000, 24_000)
    capture.diagnostic(
        "Not all NVTX events might have been collected.", 25_000, severity=2, process=process
    )
    capture.diagnostic(
        "Could not parse 2 CUPTI activity records.", 26_000, severity=3, process=None
    )
    return {
        "spans": {
            "cublas": 1,
            "cudnn": 1,
            "osrt": 2,
            "mpi": 4,
            "openacc": 3,
            "overhead": 2,
            "diagnostic": 2,
        }
    }


@scenario("3.24.0")
def host_activity(capture: Capture) -> Facts:
    """Threads that come to CPUs and leave them, and samples of what they did.

    Two processes; a stay that began before the capture, one that it cuts off, one whose end is
    lost; a thread with nothing else; samples with equal, different, nested and no call chains.

    Facts: stays, samples (numbers); chains (number of distinct ones).
    """
    capture.gpu()
    process = capture.process(4242, "app")
    main = capture.thread(process, 4242, "app")
    worker = capture.thread(process, 4250, "worker")
    other = capture.process(4300, "other")
    alone = capture.thread(other, 4300, "other")
    for at, start in ((500, 800), (4_500, 5_000)):  # the GPU is idle from 1,000 on
        capture.launch(main, "scale", at=at, call=200, start=start, duration=200)
    capture.on_cpu(main, 3, 1_000, 4_000, state=2)
    capture.on_cpu(main, 5, 4_000, 9_000)
    capture.on_cpu(main, 5, 9_500, 9_500, state=5)
    capture.sched(worker, 7, 2_000, 0, state=2)  # there since before the first row
    capture.sched(worker, 7, 3_000, 1)
    capture.sched(worker, 8, 5_000, 1)  # where the thread left 7 is lost
    capture.sched(worker, 8, 6_000, 0, state=1)
    capture.sched(alone, 1, 8_000, 1)  # still there at the end
    outer = [("main", "/srv/someone/app"), ("_start", "/srv/someone/app")]
    capture.sample(main, 1_100, [("malloc", "/lib/libc.so.6"), *outer], cpu=3)
    capture.sample(main, 1_200, [("malloc", "/lib/libc.so.6"), *outer], cpu=3)
    capture.sample(main, 1_300, outer, cpu=3)
    capture.sample(main, 1_300, [("0xffffffff8f400b90", "[kernel.kallsyms]"), *outer], cpu=3)
    capture.sample(worker, 3_100, [("malloc", "/opt/libtcmalloc.so")], cpu=7)
    capture.sample(worker, 3_200, [], cpu=7)
    return {"stays": 7, "samples": 6, "chains": 4}


@scenario("3.7.2")
def gpu_metrics(capture: Capture) -> Facts:
    """GPU metric samples of two GPUs, some twice (as generic events too).

    The first clock samples are wrapped to negative numbers, metric ids are not unique without
    their type, one sample lies before time 0.

    Facts: samples (per GPU: list of (ts, {metric: value})), clock metrics unwrapped.
    """
    capture.gpu(0)
    capture.gpu(1)
    names = ["GPC Clock Frequency [MHz]", "SM Active [Throughput %]"]
    facts: Facts = {"samples": {}}
    for gpu in (0, 1):
        clock = [-1_964_454_041, 1_695_000_000, 1_695_000_000]
        samples = [(-38_000 + 100_000 * n, [value, 10 * n + gpu]) for n, value in enumerate(clock)]
        capture.gpu_metrics(gpu, names, samples)
        capture.gpu_metrics(gpu, ["EndTimestamp"], [(-38_000, [1])], tag=2)
        facts["samples"][gpu] = [
            (at, {names[0]: values[0] & 0xFFFFFFFF, names[1]: values[1]}) for at, values in samples
        ]
    capture.row("GENERIC_EVENT_SOURCES", sourceId=1, data='{"Name":"GPU Metrics"}')
    capture.row("GENERIC_EVENT_TYPES", typeId=281479271677952, sourceId=1, data='{"Fields":[]}')
    capture.row(
        "GENERIC_EVENTS",
        rawTimestamp=-38_000,
        typeId=281479271677952,
        data='{"SM Active":"0"}',
    )
    return facts
