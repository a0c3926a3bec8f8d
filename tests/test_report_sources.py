"""The tables of reports: from an export against plain SQL, and from its trace alike."""

import csv
import math
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nsys2perfetto.analysis.steps import Request
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.nsys.events import Selection
from samples.builder import Capture, Kernel
from tests import manual_sql, report_oracle
from tests.oracle import Oracle
from tests.report_checks import ALL, check_alike_for, check_capture, check_steps, rows
from tests.report_sources import of_capture
from tests.runs import RUNS, SAMPLES, edited, folder, same, scenario
from tests.step_checks import RANDOM, loop

# From an export: plain SQL and Python


@pytest.mark.parametrize("name", RUNS)
def test_tables_of_a_capture_are_those_of_plain_sql(name):
    check_capture(scenario(name).path)


def test_tables_of_a_real_capture_are_those_of_plain_sql(capture):
    check_capture(capture)


@pytest.mark.parametrize("name", SAMPLES)
def test_steps_are_those_of_the_manual(name):
    path = scenario(name).path
    with of_capture(path) as found:
        steps = rows(found.steps())
    assert len(steps) > 20
    for s in steps[1:]:
        manual = manual_sql.decode_step(path, s["step"])
        assert (s["kernel_count"], s["kernel_ns"], s["wall_ns"]) == manual[:3]
        assert math.isclose(s["kernel_util_pct"], manual.util_pct)


def test_what_waits_waited_for():
    made = scenario("sync_zoo")
    with of_capture(made.path) as found:
        waits = {(r["name"], r["waited_for"]): r for r in rows(found.sync_summary())}
    for name, kind in (("Event", "event"), ("Stream", "stream"), ("Device", "context")):
        call = f"cuda{name}Synchronize"
        ends = [c["end"] for c in report_oracle.calls(Oracle(made.path)) if c["name"] == call]
        row = waits[call, kind]
        assert row["wake_up_count"] == 1
        assert row["wake_up_ns"] == min(ends) - made.facts["awaited"][call]
    assert all("WaitEvent" not in name for name, _ in waits)


# From an export: what `nsys stats` prints

COPIES = {
    "Memcpy HtoD": "[CUDA memcpy Host-to-Device]",
    "Memcpy DtoH": "[CUDA memcpy Device-to-Host]",
    "Memcpy DtoD": "[CUDA memcpy Device-to-Device]",
    "Memcpy PtoP": "[CUDA memcpy Peer-to-Peer]",
    "Memset": "[CUDA memset]",
}


@pytest.mark.parametrize("report", ["cuda_gpu_kern_sum", "cuda_api_sum", "cuda_gpu_mem_time_sum"])
def test_summaries_are_those_of_nsys_stats(capture, report):
    path = capture.parent / "oracle" / f"{capture.stem}.{report}.csv"
    if not path.exists():
        pytest.skip(f"nsys stats has no rows for {report}")
    with path.open(newline="", encoding="utf-8") as file:
        expected = [list(row.values()) for row in csv.DictReader(file)]
    with of_capture(capture) as found:
        if report == "cuda_gpu_kern_sum":
            frame = found.kernel_summary(full_names=True)
        else:
            frame = found.api_summary() if report == "cuda_api_sum" else found.copy_summary()
    found_rows = {COPIES.get(r["name"], r["name"]): r for r in rows(frame)}
    assert len(found_rows) == len(expected)
    columns = ("time_pct", "total_ns", "instances", "avg_ns", "med_ns", "min_ns", "max_ns")
    for *printed, name in expected:
        got = [found_rows[name][c] for c in (*columns, "stddev_ns")]
        # It prints one decimal, and means between two of those either way.
        assert [float(x) for x in printed] == pytest.approx(got, rel=0, abs=0.0501)


# From an export and from its trace


@pytest.mark.parametrize("name", RUNS)
def test_a_capture_and_its_trace_say_the_same(name, open_trace):
    check_alike_for(scenario(name).path, open_trace)


def test_a_real_capture_and_its_trace_say_the_same(capture, open_trace):
    check_alike_for(capture, open_trace)


@pytest.mark.parametrize(
    "annotate",
    [
        AnnotationOptions(min_gap=0),
        AnnotationOptions(min_gap=50_000),
        AnnotationOptions(Request("kernel", ("rms_norm*",))),
        AnnotationOptions(Request("none")),
    ],
    ids=["every gap", "large gaps", "another marker", "no steps"],
)
def test_options_mean_the_same_for_both(annotate, open_trace):
    check_alike_for(scenario("decode_eager").path, open_trace, annotate=annotate)


def test_a_selection_means_the_same_for_both(open_trace):
    path = scenario("decode_eager").path
    with of_capture(path) as found:
        steps = found.steps()
    start, end = int(steps["ts"][4]), int(steps["ts"][20])
    check_alike_for(path, open_trace, Selection(start, end))
    two = scenario("two_processes_two_gpus").path
    with of_capture(two) as found:
        first = min(found.facts.processes)
    check_alike_for(two, open_trace, Selection(pids=frozenset({first})))


def test_two_processes_on_one_gpu(tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu()
    for n in range(2):
        process = capture.process(100 + n, f"app{n}")
        loop(capture, capture.thread(process, 100 + n, f"app{n}"), 1_000_000 + 3_000 * n, 9)
    path = capture.save(tmp_path, "built")
    check_alike_for(path, open_trace)
    with of_capture(path) as found:
        assert found.process_gaps()["pid"].unique().sort().to_list() == [100, 101]
        assert found.steps()["pid"].unique().sort().to_list() == [100, 101]
        check_steps(found, Oracle(path))


def test_processes_of_equal_id(tmp_path, open_trace):
    """The trace counts a process that has no GPU work too when it tells them apart."""
    capture = Capture("3.24.0")
    capture.gpu()
    for hw in range(3):
        process = capture.process(4242, f"on{hw}", hw=hw)
        thread = capture.thread(process, 4242, f"on{hw}")
        if hw:
            capture.launch(thread, f"k{hw}", at=1_000, call=100, start=2_000 * hw, duration=500)
        else:
            capture.osrt(thread, "read", 1_000, 9_000)
    path = capture.save(tmp_path, "built")
    check_alike_for(path, open_trace)
    with of_capture(path) as found:
        assert found.facts.processes == {4242 + (1 << 24): "on1", 4242 + (2 << 24): "on2"}


def test_kernels_without_duration_and_ties(tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu()
    process = capture.process(7, "app")
    thread = capture.thread(process, 7, "app")
    end = loop(capture, thread, 1_000_000, 9)
    with of_capture(capture.save(tmp_path, "first")) as found:
        border = int(found.steps()["ts"][4])
    for name in ("b", "a", "b"):
        for at in (border, end + 1_000_000):
            kernel = Kernel(name, f"void {name}()", f"_Z{name}")
            capture.launch(thread, kernel, at=at - 100, call=50, start=at, duration=0)
    path = capture.save(tmp_path, "built")
    check_alike_for(path, open_trace)
    with of_capture(path) as found:
        check_steps(found, Oracle(path))
        zero = found.step_kernels().filter(pl.col("name").is_in(["a", "b"]))
        assert zero.select("step", "name", "count").rows() == [(4, "a", 1), (4, "b", 2)]
        assert (found.consecutive_gaps(ALL)["gap_ns"] == 0).sum() >= 4


def test_odd_names(tmp_path, open_trace):
    """Names that are empty, and such as a string in C would end early."""
    capture = Capture("3.24.0")
    capture.gpu()
    process = capture.process(7, "app")
    thread = capture.thread(process, 7, "app")
    for n, call in enumerate(("cudaFoo", "cudaBar", "cudaBaz")):
        kernel = Kernel(f"k{n}", f"void k{n}()", f"_Zk{n}")
        at = 10_000 * n
        capture.launch(thread, kernel, at=at, call=100, start=at + 500, duration=70, name=call)
    script = "".join(
        f"update StringIds set value = cast({value} as text) where value = '{name}';"
        for name, value in {
            "void k0()": "''",
            "k1": "''",
            "void k1()": "''",
            "_Zk1": "''",
            "void k2()": "x'610062'",
            "k2": "x'7a0062'",
            "cudaFoo": "''",
            "cudaBar": "x'710062'",
        }.items()
    )
    path = edited(capture.save(tmp_path, "built"), script=script)
    check_alike_for(path, open_trace)
    with of_capture(path) as found:
        names = found.kernel_names().select("name", "demangled_name").rows()
    same(names, [("k0", "_Zk0"), ("[unnamed kernel]", "[unnamed kernel]"), ("z", "a")])


def test_wake_ups_that_cross_other_calls(tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu()
    process = capture.process(7, "app")
    thread = capture.thread(process, 7, "app")
    for n in range(3):
        at = 20_000 * n
        capture.launch(thread, "k", at=at, call=100, start=at + 1_000, duration=5_000)
        capture.sync(thread, "stream", at + 2_000, at + 9_000, stream=7)
        capture.osrt(thread, "poll", at + 5_500, at + (7_000, 9_000, 8_999)[n])
        capture.api(thread, "cuStreamSynchronize", at + 2_100, at + 8_900 + 50 * n)
    path = capture.save(tmp_path, "built")
    check_alike_for(path, open_trace)
    with of_capture(path) as found:
        waits = found.sync_summary().select("name", "instances", "wake_up_count", "wake_up_ns")
    assert waits.rows() == [
        ("cudaStreamSynchronize", 3, 3, 9_000),
        ("cuStreamSynchronize", 3, 0, 0),
    ]


KERNELS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 1),
        st.integers(0, 30).map(lambda n: n * 500),
        st.sampled_from([0, 1, 500, 999, 1_000, 4_000]),
        st.sampled_from(["argmax_kernel", "gemm", "norm"]),
    ),
    max_size=40,
)


@RANDOM
@given(kernels=KERNELS)
@example(
    kernels=[(0, 1 - n % 2, 0, 0, name) for n, name in enumerate(("argmax_kernel", "gemm", "norm"))]
)
def test_any_kernels_of_two_processes_on_two_gpus(kernels, open_trace):
    capture = Capture("3.24.0")
    threads = []
    for number in range(2):
        capture.gpu(number)
    for number in range(2):
        process = capture.process(100 + number, f"app{number}", gpus=(0, 1))
        threads.append(capture.thread(process, 100 + number, f"app{number}"))
    for n, (owner, device, start, duration, name) in enumerate(kernels):
        at = 1_000_000 + start
        launch = {"at": at - 3_000 + n, "call": 1, "start": at, "duration": duration}
        capture.launch(threads[owner], name, device=device, **launch)
    with tempfile.TemporaryDirectory(dir=folder()) as directory:
        path = capture.save(Path(directory), "random")
        check_capture(path)
        check_alike_for(path, open_trace)
