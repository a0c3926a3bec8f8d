"""Calls on their threads: every slice, how they nest, errors, waits, names."""

import pytest

from samples.builder import Capture
from tests import checks
from tests.oracle import pid
from tests.runs import RUNS, converted, edited, load


@pytest.fixture(scope="session", params=RUNS)
def run(request, open_trace):
    return load(request.param, open_trace)


@pytest.mark.parametrize("check", checks.CPU_CHECKS, ids=lambda check: check.__name__)
def test_cpu_work(run, check):
    check(run)


def one_thread(schema="3.24.0"):
    capture = Capture(schema)
    capture.gpu()
    process = capture.process(4242, "app")
    return capture, process, capture.thread(process, 4242, "app")


def built(capture, tmp_path, open_trace, **options):
    return converted(capture.save(tmp_path, "built"), open_trace, **options)


def test_a_stack_of_calls(open_trace):
    run = load("nested_calls", open_trace)
    deepest = max(run.trace.cpu, key=lambda s: s["depth"])
    assert deepest["depth"] == run.facts["depth"]
    stack = []
    while deepest:
        stack.append(deepest["name"])
        deepest = run.trace.by_id.get(deepest["parent_id"])
    assert stack[::-1] == [
        "forward", "cublasGemmEx", "cudaLaunchKernel", "cuLaunchKernel", stack[0]
    ]  # fmt: skip
    results = {
        s["name"]: run.trace.args(s)["debug.result"]
        for s in run.trace.cpu
        if "debug.result" in run.trace.args(s)
    }
    assert {name: int(text.split()[0]) for name, text in results.items()} == run.facts["failed"]


def test_every_cuda_call_says_which_api_it_is(open_trace):
    run = load("nested_calls", open_trace)
    found = run.trace.calls(*checks.CUDA)
    assert {run.trace.args(s)["gpu_api"] for s in found} == {"GPU_API_CUDA"}
    assert {s["category"] for s in found if s["name"] == "cuLaunchKernel"} == {"cuda_driver"}
    assert {s["category"] for s in found if s["name"] == "cudaMalloc"} == {"cuda_runtime"}


def test_a_stack_deeper_than_the_engine_can_take(tmp_path, open_trace):
    """The engine gives slices below the 512th level wrong ends: they go to tracks of their own."""
    capture, _, thread = one_thread()
    levels = 1_100
    for n in range(levels):
        capture.nvtx_push_pop(thread, f"level {n}", 1_000 + n, 10_000 - n)
    capture.launch(thread, "k", at=5_000, call=10, start=6_000, duration=5)
    run = built(capture, tmp_path, open_trace)
    checks.calls(run)
    checks.nothing_lost(run)
    ranges = {s["name"]: s for s in run.trace.calls("nvtx")}
    assert ranges["level 511"]["track_type"] == "thread_execution"
    deeper = [s for s in ranges.values() if s["track"] == "nvtx (deeper)"]
    assert len(deeper) == levels - 512
    assert len({s["track_id"] for s in deeper}) == 2
    assert max(s["depth"] for s in run.trace.cpu) == 511


def test_calls_that_overlap_partially_are_kept_as_they_are(open_trace):
    run = load("overlapping_calls", open_trace)
    spans = sorted((s["ts"], s["ts"] + s["dur"]) for s in run.trace.cpu)
    assert spans == [
        (1_000, 3_000), (2_000, 4_000), (2_500, 4_500), (3_500, 5_000), (4_200, 6_000),
        (5_500, 7_000),
    ]  # fmt: skip
    assert {s["tid"] for s in run.trace.cpu} == {4242}, "child tracks are the thread's"
    assert len(spans) == run.facts["ranges"] + run.facts["calls"]


def test_events_of_no_length(open_trace):
    run = load("zero_length", open_trace)
    assert len(run.trace.calls(*checks.CUDA)) == run.facts["calls"]
    assert len(run.trace.calls("osrt")) == run.facts["osrt_calls"]
    assert len(run.trace.calls("nvtx")) == run.facts["ranges"]


def test_every_library(open_trace):
    run = load("every_library", open_trace)
    families = {f.family: f.written for f in run.result.families}
    expected = dict(run.facts["spans"])
    expected["message"] = expected.pop("diagnostic")
    assert families == expected
    args = {s["name"]: run.trace.args(s) for s in run.trace.cpu}
    assert args["MPI_Send"] == {"debug.bytes": 4096, "debug.remote_rank": 1, "debug.tag": 5}
    assert args["acc_enqueue_launch"]["debug.kernel"] == "jacobi_60_gpu"
    assert args["acc_enqueue_launch"]["debug.file"] == "jacobi.f90"
    messages = {
        s["name"]: (args[s["name"]]["debug.severity"], s["ts"])
        for s in run.trace.calls("nsys.message")
    }
    assert messages == {
        "Not all NVTX events might have been collected.": ("Warning", 25_000),
        "Could not parse 2 CUPTI activity records.": ("Error", 26_000),
    }


def test_what_calls_waited_for(open_trace):
    run = load("sync_zoo", open_trace)
    by_name = {}
    for s in run.trace.calls(checks.WAKE_UP):
        call = run.trace.by_id[s["parent_id"]]
        by_name[call["name"]] = s["ts"]
        assert s["ts"] + s["dur"] == call["ts"] + call["dur"]
        kind = run.trace.args(s)["wake_up.wait_kind"].lower()
        assert run.trace.args(call)["debug.waited_for"] == kind
    assert by_name == run.facts["awaited"]


def test_a_wait_whose_call_is_missing_is_a_slice_of_its_process(tmp_path, open_trace):
    capture, process, thread = one_thread()
    capture.synchronization(process, "stream", 1_000, 2_000, correlation=99, stream=7)
    capture.synchronization(process, "stream", 1_500, 2_500, correlation=98, stream=13)
    capture.sync(thread, "context", 4_000, 5_000)
    run = built(capture, tmp_path, open_trace)
    checks.counts(run)
    lonely = run.trace.calls(checks.ORPHAN)
    assert sorted((s["ts"], s["dur"], s["pid"]) for s in lonely) == [
        (1_000, 1_000, 4242), (1_500, 1_000, 4242)
    ]  # fmt: skip


def test_waits_follow_the_launching_order_not_the_clock(tmp_path, open_trace):
    """Work submitted while a thread waits is not waited for; that of other threads before it is."""
    capture, process, thread = one_thread()
    other = capture.thread(process, 4243, "other")
    capture.launch(thread, "first", at=1_000, call=100, start=2_000, duration=3_000)
    capture.launch(other, "second", at=1_200, call=100, start=5_500, duration=1_000)
    capture.sync(thread, "stream", 1_500, 7_000, stream=7)
    capture.launch(other, "too late", at=1_600, call=100, start=6_600, duration=200)
    capture.launch(other, "elsewhere", at=1_300, call=100, start=6_550, duration=300, stream=9)
    run = built(capture, tmp_path, open_trace)
    checks.wake_ups(run)
    [wake_up] = run.trace.calls(checks.WAKE_UP)
    assert (wake_up["ts"], wake_up["dur"]) == (6_500, 500)


def test_a_wake_up_inside_an_inner_call_does_not_break_the_stack(tmp_path, open_trace):
    capture, _, thread = one_thread()
    capture.launch(thread, "k", at=1_000, call=100, start=2_000, duration=3_000)
    capture.sync(thread, "stream", 1_500, 6_000, stream=7)
    capture.osrt(thread, "ioctl", 4_500, 5_500)
    capture.osrt(thread, "poll", 5_600, 5_700)
    run = built(capture, tmp_path, open_trace)
    for check in (*checks.CPU_CHECKS, checks.arrows, checks.nothing_lost):
        check(run)


def test_names_of_processes_and_threads(tmp_path, open_trace):
    capture, process, thread = one_thread()
    worker = capture.thread(process, 4300, "os name")
    capture.thread(process, 4300, "nvtx name", priority=0)
    capture.thread(process, 4301, "idle")
    capture.process(77, "idle process")
    elsewhere = capture.process(5000, "/srv/somebody/bin/tool", main_thread=False)
    for who in (thread, worker, capture.thread(elsewhere, 5001, "its thread")):
        capture.api(who, "cudaFree_v3020", 1_000, 2_000)
    run = built(capture, tmp_path, open_trace)
    checks.names(run)
    names = {(t["pid"], t["tid"]): t["name"] for t in run.trace.threads}
    assert names[4242, 4300] == "nvtx name"
    assert names[5000, 5001] == "its thread"
    assert (4242, 4301) not in names
    assert {p["pid"]: p["name"] for p in run.trace.processes} == {4242: "app", 5000: "tool"}


def test_negative_global_ids(open_trace):
    run = load("negative_global_ids", open_trace)
    assert {(s["pid"], s["tid"]) for s in run.trace.calls("nvtx", *checks.CUDA)} == {
        (run.facts["pid"], run.facts["tid"])
    }


def test_equal_process_ids_of_two_machines_stay_apart(tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu()
    for hw in (0, 1):
        process = capture.process(4242, f"on{hw}", hw=hw)
        thread = capture.thread(process, 4242, f"on{hw}")
        capture.launch(thread, f"k{hw}", at=1_000, call=100, start=2_000, duration=500 + hw)
    assert pid(process.global_pid) == 4242
    run = built(capture, tmp_path, open_trace)
    for check in (checks.nothing_lost, checks.calls, checks.arrows, checks.counts):
        check(run)
    assert sorted(p["name"] for p in run.trace.processes) == ["on0", "on1"]
    arrows = [(run.trace.by_id[f["slice_out"]], run.trace.by_id[f["slice_in"]])
              for f in run.trace.flows]  # fmt: skip
    assert len(arrows) == 2
    assert len({s["track_id"] for s in run.trace.gpu}) == 2


def test_ends_that_are_missing(tmp_path, open_trace):
    capture, _, thread = one_thread()
    for start in (1_000, 1_500, 3_000):
        capture.api(thread, "cudaFree_v3020", start, start + 1_000)
    table = "CUPTI_ACTIVITY_KIND_RUNTIME"
    path = edited(
        capture.save(tmp_path, "built"), table,
        script=f"update {table} set end = null where start = 1500",
    )  # fmt: skip
    run = converted(path, open_trace)
    spans = sorted((s["ts"], s["dur"]) for s in run.trace.cpu)
    assert spans == [(1_000, 1_000), (1_500, 2_500), (3_000, 1_000)]
    assert any("1 events had no end" in note for note in run.result.capture.notes)
    assert run.trace.losses == []


def test_damaged_rows_are_left_out_and_counted(tmp_path, open_trace):
    capture, _, thread = one_thread()
    capture.api(thread, "cudaFree_v3020", 1_000, 2_000)
    capture.api(thread, "cudaFree_v3020", 5_000, 4_000)
    capture.api(thread, "cudaFree_v3020", 1_000, 1 << 62)
    capture.api(thread, "cudaFree_v3020", -(1 << 62), 1_000)
    run = built(capture, tmp_path, open_trace)
    assert [(s["ts"], s["dur"]) for s in run.trace.cpu] == [(1_000, 1_000)]
    [family] = run.result.families
    assert (family.read, family.written, sum(family.left_out.values())) == (4, 1, 3)


def test_stays_and_samples_of_every_kind(open_trace):
    run = load("host_activity", open_trace)
    assert len(run.trace.calls(checks.SCHED)) == run.facts["stays"]
    assert len(run.trace.samples) == run.facts["samples"]
    chains = {s["callsite_id"] for s in run.trace.samples} - {None}
    assert len(chains) == run.facts["chains"]
    assert [s["cpu_mode"] for s in run.trace.samples if s["ts"] == 1_300] == ["user", "kernel"]
    modules = {module for c in chains for _, module in run.trace.chain(c)}
    assert not any("someone" in module for module in modules), "paths tell of users"


def test_a_selection_takes_stays_that_overlap_it_and_counts_both_rows(open_trace):
    path = load("host_activity", open_trace).path
    run = converted(path, open_trace, start=4_500, end=5_500, pids=[4242])
    stays = [s for s in run.oracle.stays if pid(s["globalTid"]) == 4242]
    wanted = [s for s in stays if s["end"] >= 4_500 and s["start"] <= 5_500]
    assert sorted((s["ts"], s["dur"]) for s in run.trace.calls(checks.SCHED)) == sorted(
        (s["start"], s["end"] - s["start"]) for s in wanted
    )
    [sched] = [f for f in run.result.families if f.family == "sched"]
    rows = sum(s["rows"] for s in wanted)
    assert (sched.read, sched.written, sched.joined) == (rows, len(wanted), rows - len(wanted))
    assert sched.filtered == sum(s["rows"] for s in run.oracle.stays) - rows
    assert not run.trace.samples


def test_a_thread_that_leaves_twice_is_counted(tmp_path, open_trace):
    capture, _, thread = one_thread()
    capture.on_cpu(thread, 1, 10, 20)
    capture.sched(thread, 1, 30, 0)
    run = built(capture, tmp_path, open_trace)
    assert run.result.left_out == {"sched: the thread had left its CPU before": 1}
    assert len(run.trace.calls(checks.SCHED)) == 1
