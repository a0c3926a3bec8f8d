"""Captures made to be hard for the SQL package: threads alike, nested waits, random ones."""

import random

import pytest

from samples.builder import Capture, Kernel
from tests import sql_views, test_sql_calls, test_sql_kernels

CHECKS = (*test_sql_kernels.CHECKS, *test_sql_calls.CHECKS)
NO_STRING = 1 << 20
"""An id that StringIds lacks."""
THREADS = (4242, 4250, 42500)


def asked(capture, directory, open_trace):
    return sql_views.ask(capture.save(directory, directory.name), open_trace)


@pytest.fixture
def capture():
    made = Capture("3.25.0")
    made.gpu()
    return made


@pytest.fixture
def threads(capture):
    process = capture.process(4242, "app")
    return [capture.thread(process, tid, "worker 4250") for tid in THREADS]


def test_ranges_of_threads_that_do_the_same(capture, threads, tmp_path, open_trace):
    """Name and times of the ranges are equal; the kernels tell whose they are."""
    for number, thread in enumerate(threads):
        capture.nvtx_push_pop(thread, "step", 1_000, 9_000)
        capture.nvtx_push_pop(thread, "step", 1_000, 9_000)
        capture.nvtx_range(thread, "step", 1_000, 9_000, range_id=number)
        for at in range(2_000, 8_000, 2_000):
            start = 10_000 * (number + 1) + at
            capture.launch(thread, f"k{number}", at=at, call=500, start=start, duration=100)
    views = asked(capture, tmp_path, open_trace)
    for check in CHECKS:
        check(views)
    thread_of = {row["id"]: row["tid"] for row in views["nsys_nvtx_range"]}
    launched = {(thread_of[r["range_id"]], r["kernel_name"]) for r in views["nsys_nvtx_kernel"]}
    assert launched == {(tid, f"k{number}") for number, tid in enumerate(THREADS)}


def test_a_thread_that_launches_nothing_has_no_ranges(capture, threads, tmp_path, open_trace):
    busy, idle, _ = threads
    for thread in (idle, busy):
        capture.nvtx_push_pop(thread, "step", 1_000, 9_000)
    capture.launch(busy, "k", at=2_000, call=500, start=3_000, duration=100)
    [row] = asked(capture, tmp_path, open_trace)["nsys_nvtx_range"]
    assert row["tid"] == THREADS[0]


def test_ranges_that_another_thread_ends(capture, threads, tmp_path, open_trace):
    """They are not projected, though they begin and end with one that is."""
    main, worker, _ = threads
    capture.nvtx_range(main, "a", 1_000, 9_000, range_id=1, domain=1, end_thread=worker)
    capture.nvtx_range(main, "a", 1_000, 9_000, range_id=2, domain=2, end_thread=main)
    capture.nvtx_range(main, "a", 1_000, 9_000, range_id=3, domain=3, end_thread=worker)
    capture.launch(main, "k", at=2_000, call=500, start=3_000, duration=100)
    views = asked(capture, tmp_path, open_trace)
    test_sql_calls.check_ranges(views)
    assert [row["domain"] for row in views["nsys_nvtx_range"]] == ["domain 2"]


def test_full_names_that_are_not_there(capture, threads, tmp_path, open_trace):
    """The mangled name takes the place of the demangled one, the short name that of both."""
    kernel = Kernel("k", demangled="void k<int>()", mangled="_Z1k")
    for number in range(3):
        at, unknown = 10_000 * (number + 1), ("demangledName", "mangledName")[:number]
        columns = dict.fromkeys(unknown, NO_STRING)
        work = {"start": at + 1_000, "duration": 100}
        capture.launch(threads[0], kernel, at=at, call=500, **work, **columns)
    views = asked(capture, tmp_path, open_trace)
    test_sql_kernels.check_kernels(views)
    names = [row["demangled_name"] for row in views["nsys_kernel"]]
    assert names == ["void k<int>()", "_Z1k", "k"]


def test_nested_waits_that_end_at_once(capture, threads, tmp_path, open_trace):
    """A driver call in a runtime call; a call of the system that crosses the wake-up."""
    main = threads[0]
    capture.launch(main, "k", at=1_000, call=500, start=2_000, duration=10_000)
    capture.sync(main, "context", 3_000, 15_000)
    capture.sync(main, "context", 3_500, 15_000, name="cuCtxSynchronize")
    capture.launch(main, "k", at=21_000, call=500, start=22_000, duration=10_000)
    capture.sync(main, "stream", 23_000, 36_000, stream=7)
    capture.osrt(main, "poll", 23_500, 34_000)
    views = asked(capture, tmp_path, open_trace)
    for check in CHECKS:
        check(views)
    found = [(r["name"], r["wake_up_ns"], r["is_outermost"]) for r in views["nsys_sync"]]
    assert sorted(found) == [
        ("cuCtxSynchronize", 3_000, 0),
        ("cudaDeviceSynchronize", 3_000, 1),
        ("cudaStreamSynchronize", 4_000, 1),
    ]


def test_of_calls_with_the_same_correlation_the_last_launches(
    capture, threads, tmp_path, open_trace
):
    main = threads[0]
    number = capture.launch(main, "k", at=5_000, call=500, start=9_000, duration=100)
    capture.api(main, "cuLaunchKernel", 6_000, 7_000, correlation=number)
    [row] = asked(capture, tmp_path, open_trace)["nsys_kernel"]
    assert (row["launch_ts"], row["queue_ns"]) == (6_000, 2_000)


@pytest.mark.parametrize("seed", range(8))
def test_random(seed, tmp_path, open_trace):
    """Few distinct times, so that events touch, contain and equal each other."""
    chance = random.Random(seed)
    capture = Capture(chance.choice(["2020.4", "3.16.1", "3.25.0"]))
    capture.gpu()
    process = capture.process(4242, "app")
    threads = [capture.thread(process, tid, "app") for tid in THREADS[: chance.randint(1, 3)]]
    for thread in threads:
        _fill(chance, capture, thread, 1_000, 400_000, depth=4)
    views = asked(capture, tmp_path, open_trace)
    for check in CHECKS:
        # Calls overlap partially here, so that not all of a thread are on one track.
        if check is not test_sql_calls.check_outermost:
            check(views)


def _fill(chance, capture, thread, start, end, depth):
    """Ranges in ranges, launches, copies and waits one after the other."""
    at = start
    while at < end:
        stop = min(end, at + 1_000 * chance.randint(1, 6 ** max(depth, 1)))
        what = chance.choice(["range", "range", "launch", "copy", "wait", "graph", "nothing"])
        if what == "range" and depth:
            for _ in range(chance.choice([1, 1, 2])):
                name, domain = chance.choice("abc"), chance.choice([0, 0, 1])
                capture.nvtx_push_pop(thread, name, at, stop, domain=domain)
            _fill(chance, capture, thread, at, stop, depth - 1)
        elif what == "launch":
            name = chance.choice(["gemm", "norm"])
            work = {"start": stop + 1_000 * chance.randint(-3, 20), "duration": 1_000}
            stop = at + 1_000
            stream = chance.choice([7, 8])
            capture.launch(thread, name, at=at, call=1_000, stream=stream, **work)
        elif what == "graph":
            nodes = [(f"n{i}", stop + 2_000 * i, stop + 2_000 * i + 1_000, i + 1) for i in range(3)]
            stop = at + 1_000
            capture.graph_launch(thread, at, 1_000, nodes)
        elif what == "copy":
            number = capture.api(thread, "cudaMemcpyAsync", at, at + 1_000)
            size, stop = chance.choice([0, 4096]), at + 1_000
            capture.memcpy(thread.process, 1, size, at, at + 1_000, correlation=number)
        elif what == "wait":
            stop = at + 3_000
            capture.sync(thread, "context", at, stop)
            if chance.random() < 0.5:
                inner = at + chance.choice([0, 1_000])
                capture.sync(thread, "context", inner, stop - 500, name="cuCtxSynchronize")
        at = stop + 1_000 * chance.choice([0, 0, 1])
