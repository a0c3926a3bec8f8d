"""Scenarios of odd data: times, texts, ids, missing and empty tables, edited exports."""

from __future__ import annotations

from samples.builder.capture import SESSION_START_NS, Capture
from samples.builder.decode import decode_run
from samples.builder.model import Kernel, Process, Thread
from samples.builder.scenarios.registry import Facts, scenario


def _one_process(capture: Capture) -> tuple[Process, Thread]:
    capture.gpu()
    process = capture.process(4242, "app")
    return process, capture.thread(process, 4242, "app")


def _few_events(capture: Capture, first: int) -> None:
    process, thread = _one_process(capture)
    capture.nvtx_push_pop(thread, "range", first, first + 90_000)
    capture.launch(thread, "k", at=first + 10, call=2_000, start=first + 5_000, duration=3_000)
    capture.diagnostic("Profiling has started.", first - 150_000, process=process)


@scenario()
def negative_times(capture: Capture) -> Facts:
    """Events before time 0.

    Facts: earliest (ns, of any event).
    """
    _few_events(capture, -1_900_000_000)
    return {"earliest": -1_900_150_000}


@scenario(ts_normalize=True)
def ts_normalized(capture: Capture) -> Facts:
    """Exported with --ts-normalize: timestamps are UTC already.

    Facts: utc_start (ns), kernel_start (ns, UTC).
    """
    _few_events(capture, 1_000_000)
    return {"utc_start": SESSION_START_NS, "kernel_start": SESSION_START_NS + 1_005_000}


@scenario("2021.1")
def no_session_start(capture: Capture) -> Facts:
    """An export that cannot be mapped to UTC: no TARGET_INFO_SESSION_START_TIME."""
    _, thread = _one_process(capture)
    capture.launch(thread, "k", at=1_000, call=2_000, start=5_000, duration=3_000)
    return {}


ODD_TEXTS = (
    "",
    "line\nbreak\ttab",
    "bell\x07 escape\x1b[31m",
    "quotes \"double\" 'single' \\ back",
    "日本語 ядро 🚀",
    "<script>alert(1)</script>",
    "void f<" + "int, " * 4_000 + "int>()",
    "trailing blank ",
)
"""Kernel and range names that a trace must carry unchanged."""


@scenario()
def odd_text(capture: Capture) -> Facts:
    """Names that are empty, very long, hold control characters or bytes that are not UTF-8.

    Facts: texts (each the name of one kernel and of one range).
    """
    process, thread = _one_process(capture)
    for n, text in enumerate(ODD_TEXTS):
        at = 1_000_000 + 20_000 * n
        kernel = Kernel(text, text, text)
        capture.launch(thread, kernel, at=at, call=2_000, start=at + 5_000, duration=3_000)
        capture.nvtx_push_pop(thread, text, at, at + 9_000)
    broken = capture.string(b"broken \xff\xfe utf-8")
    capture.kernel(
        process, "k", 2_000_000, 2_001_000, correlation=None, shortName=broken, demangledName=broken
    )
    return {"texts": list(ODD_TEXTS)}


@scenario()
def dangling_strings(capture: Capture) -> Facts:
    """String ids that StringIds does not have, NULL ids, and threads without a name.

    Facts: kernels, calls, ranges (numbers): all of them must survive.
    """
    process, thread = _one_process(capture)
    capture.kernel(
        process,
        "k",
        1_000,
        2_000,
        correlation=None,
        shortName=9_001,
        demangledName=9_002,
        mangledName=None,
    )
    capture.kernel(process, "k", 3_000, 4_000, correlation=None, shortName=9_003)
    nameless = Thread(process, 4999, "")
    for who in (thread, nameless):
        capture.row(
            "CUPTI_ACTIVITY_KIND_RUNTIME",
            start=1_000,
            end=2_000,
            eventClass=0,
            globalTid=who.global_tid,
            correlationId=None,
            nameId=9_004,
        )
    capture.row(
        "NVTX_EVENTS",
        start=1_000,
        end=2_000,
        eventType=59,
        globalTid=nameless.global_tid,
        textId=9_005,
        domainId=0,
    )
    capture.row(
        "CUBLAS_EVENTS", start=1_100, end=1_900, eventClass=29, globalTid=None, nameId=9_006
    )
    return {"kernels": 2, "calls": 2, "ranges": 1}


@scenario()
def empty_tables(capture: Capture) -> Facts:
    """CUDA tables that exist without rows, as some exports have them."""
    _one_process(capture)
    capture.touch(
        "CUPTI_ACTIVITY_KIND_KERNEL",
        "CUPTI_ACTIVITY_KIND_MEMCPY",
        "CUPTI_ACTIVITY_KIND_RUNTIME",
        "CUPTI_ACTIVITY_KIND_CUDA_EVENT",
        "PROFILER_OVERHEAD",
        "NVTX_EVENTS",
        "OSRT_API",
    )
    return {}


@scenario(lazy=False)
def all_tables_empty(capture: Capture) -> Facts:
    """Exported with --lazy=false: every table exists, almost all are empty."""
    _one_process(capture)
    return {}


@scenario("3.16.1", metadata=False)
def no_metadata(capture: Capture) -> Facts:
    """No table about the capture, the export or the GPU: kernels and calls only."""
    process = Process(4242, "app", (1 << 48) | (4242 << 24))
    thread = Thread(process, 4242, "app")
    capture.launch(thread, "k", at=1_000, call=2_000, start=5_000, duration=3_000)
    return {}


@scenario("3.16.1")
def no_kernels(capture: Capture) -> Facts:
    """CUDA calls but no kernel: nsys' diagnostic messages say why.

    Facts: messages (those worth showing).
    """
    process, thread = _one_process(capture)
    for n in range(10):
        at = 1_000_000 + 10_000 * n
        capture.api(thread, "cudaLaunchKernel_v7000", at, at + 2_000)
    capture.sync(thread, "context", 1_200_000, 1_300_000)
    messages = [
        "CUDA profiling might have not been started correctly.",
        "No CUDA events collected. Does the process use CUDA?",
    ]
    for message in messages:
        capture.diagnostic(message, 2_000_000, severity=2, process=process)
    capture.diagnostic("Profiling has started.", 0, process=None)
    return {"messages": messages}


@scenario("3.16.1")
def no_cuda_at_all(capture: Capture) -> Facts:
    """A program that never used CUDA: OS runtime calls and NVTX only."""
    process = capture.process(4242, "app", gpus=())
    thread = capture.thread(process, 4242, "app")
    capture.osrt(thread, "read", 1_000, 90_000)
    capture.nvtx_push_pop(thread, "work", 500, 100_000)
    return {}


@scenario()
def negative_global_ids(capture: Capture) -> Facts:
    """A machine id with the top bit set makes all global ids negative.

    Facts: pid, tid.
    """
    capture.gpu()
    process = capture.process(4242, "app", hw=0x80)
    thread = capture.thread(process, 4250, "worker")
    capture.launch(thread, "k", at=1_000, call=2_000, start=5_000, duration=3_000)
    capture.nvtx_push_pop(thread, "range", 500, 9_000)
    return {"pid": 4242, "tid": 4250}


@scenario("2.9.1")
def edited_by_dlprof(capture: Capture) -> Facts:
    """DLProf adds columns to the kernel and call tables and a table of its own."""
    capture.reshape("CUPTI_ACTIVITY_KIND_KERNEL", add=["kernel_name:T", "long_kernel_name:T"])
    capture.reshape("CUPTI_ACTIVITY_KIND_RUNTIME", add=["cuda_name:T", "kernel_name:T"])
    _, thread = _one_process(capture)
    capture.launch(thread, "k", at=1_000, call=2_000, start=5_000, duration=3_000, kernel_name="k")
    return {}


@scenario("2021.3")
def fewer_columns(capture: Capture) -> Facts:
    """Optional columns are missing, as the exports of 2021 vary."""
    capture.reshape("CUPTI_ACTIVITY_KIND_RUNTIME", drop=["callchainId"])
    capture.reshape(
        "CUPTI_ACTIVITY_KIND_KERNEL", drop=["sharedMemoryLimitConfig", "graphNodeId", "launchType"]
    )
    capture.reshape("CUPTI_ACTIVITY_KIND_MEMCPY", drop=["migrationCause"])
    process, thread = _one_process(capture)
    capture.launch(thread, "k", at=1_000, call=2_000, start=5_000, duration=3_000)
    capture.memcpy(process, "HtoD", 64, 9_000, 9_900, correlation=None)
    return {}


@scenario()
def unsorted_rows(capture: Capture) -> Facts:
    """Rows in no order of time.

    Facts: kernels.
    """
    _, thread = _one_process(capture)
    for n in range(101):
        at = 1_000_000 + 10_000 * (n * 37 % 101)
        capture.nvtx_push_pop(thread, f"range {n}", at - 50, at + 9_000)
        capture.launch(thread, "k", at=at, call=2_000, start=at + 5_000, duration=3_000)
    return {"kernels": 101}


@scenario()
def secrets(capture: Capture) -> Facts:
    """A short decode run with all of the made-up secrets, see `targets.SECRETS`."""
    truth = decode_run(capture, steps=2, warmup_steps=1, layers=1)
    return {"kernels": len(truth.kernels)}
