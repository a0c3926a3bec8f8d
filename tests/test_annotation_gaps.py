"""Idle gaps in the trace, in the engine, against plain SQL and brute force on the capture."""

import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto import convert
from nsys2perfetto.analysis import gaps as analysis
from nsys2perfetto.annotation import AnnotationOptions
from samples.builder import Capture, Kernel
from samples.builder.truth import CPU_KINDS
from samples.make_samples import SAMPLES
from tests import manual_sql
from tests.annotated import annotated, convert_now, idle_intervals, overlap
from tests.conftest import CAPTURES
from tests.engine import query
from tests.gap_checks import BUCKET_NAMES, PARTS, by_bucket, check_gaps, in_one_launch
from tests.runs import same
from tests.step_checks import RANDOM, RANDOM_RUN, built, loop, sample

SOME_REAL = ("train_h100x2_trimmed_2026.2.1", "streams18_nvtx_t4_2023.3.1",
             "mpi_4proc_4gpu_openacc_v100_2023.4.4", "train_2gpu_after_2026.2.1")  # fmt: skip


# The samples and random captures


@pytest.fixture(params=SAMPLES, scope="module")
def run(request, open_trace):
    return annotated(sample(request.param), open_trace)


def test_gaps_of_the_samples(run):
    check_gaps(run)
    assert {g["above"] for g in run.gaps} == {None}
    assert {g["track"] for g in run.gaps} == {"GPU idle gaps"}
    outside = [g for g in run.gaps if "step" not in g]
    assert [g["start"] for g in outside] == [run.steps[-1]["end"]], "after the last marker"


def check_truth(found, truth):
    """What the builder knows of each gap: before, after, how the thread spent its time."""
    names = dict(zip(CPU_KINDS, ("sync", "launch", "memory", "copy", "other_cuda", "outside_cuda"),
                     strict=True))  # fmt: skip
    same(
        [(g["start"], g["end"], *(g.get(p, 0) for p in PARTS)) for g in found.gaps],
        [
            (g.start, g.end, *({names[k]: v for k, v in g.cpu_ns.items()}[p[:-3]] for p in PARTS))
            for g in truth.gaps
        ],
        "splits",
    )
    true = {(g.start, g.end): g for g in truth.gaps}
    for g in found.gaps:
        gap = true[g["start"], g["end"]]
        words = {gap.previous, gap.next}
        assert {w.lower() for w in (g["previous"], g["next"])} == {w.lower() for w in words}
        if g["cause"] != "PROFILER_OVERHEAD":
            assert (g["cause"] == "GRAPH_INTERNAL") == (gap.cause == "graph")
        if gap.cause == "queued":
            assert g["cause"] == "LAUNCH_LATENCY"


@RANDOM
@given(**RANDOM_RUN)
def test_gaps_of_random_decode_runs(open_trace, **parameters):
    with tempfile.TemporaryDirectory() as directory:
        path, truth = built(directory, **parameters)
        found = convert_now(path, open_trace)
        check_gaps(found)
        check_truth(found, truth)


@st.composite
def crossing_work(draw):
    """Operations of two GPUs and three streams: overlapping, touching, without length."""
    at = draw(st.sampled_from([-30_000, 0, 10**12]))
    rows = []
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.integers(0, 4_000))
        length = draw(st.one_of(st.just(0), st.integers(1, 9_000)))
        what = draw(st.sampled_from(["kernel", "kernel", "memcpy", "memset"]))
        call = draw(st.one_of(st.none(), st.integers(-9_000, 3_000)))
        rows.append((what, draw(st.integers(0, 1)), draw(st.integers(1, 3)), at, length, call))
    return rows


@RANDOM
@given(rows=crossing_work())
def test_gaps_of_random_work_on_two_gpus(open_trace, rows):
    capture = Capture("3.16.1")
    process = None
    for gpu in (0, 1):
        capture.gpu(gpu)
    process = capture.process(4242, "app", gpus=(0, 1))
    thread = capture.thread(process, 4242, "app")
    for what, device, stream, at, length, call in rows:
        correlation = None
        if call is not None:
            correlation = capture.api(thread, "cudaLaunchKernel_v7000", at + call - 900, at + call)
        where = {"correlation": correlation, "device": device, "stream": stream}
        if what == "kernel":
            capture.kernel(process, "some_kernel", at, at + length, **where)
        elif what == "memcpy":
            capture.memcpy(process, "HtoD", 64, at, at + length, **where)
        else:
            capture.memset(process, 64, at, at + length, **where)
    with tempfile.TemporaryDirectory() as directory:
        check_gaps(convert_now(capture.save(Path(directory), "work"), open_trace))


@pytest.mark.parametrize("name", SOME_REAL)
def test_gaps_of_real_captures(name, open_trace):
    path = CAPTURES / f"{name}.sqlite"
    if not path.exists():
        pytest.skip("no such capture")
    check_gaps(annotated(path, open_trace))


# The manual's numbers


def test_consecutive_gaps_are_the_manuals(run):
    """As `analysis.gaps` computes them; with copies between kernels they are no idle gaps."""
    rows = run.oracle.select("CUPTI_ACTIVITY_KIND_KERNEL", "start", "end", "demangledName")
    start, end = (np.array([r[c] for r in rows]) for c in ("start", "end"))
    found = analysis.consecutive(start, end)
    totals = analysis.totals(start, end)
    assert (totals.gap_ns, totals.kernel_ns, totals.wall_ns) == manual_sql.gap_total(run.path)
    table = analysis.bucket_table(found.gap)
    columns = (analysis.BUCKETS, table.count, table.total_ns, table.pct)
    got = {name: (n, ns, pytest.approx(pct)) for name, n, ns, pct in zip(*columns, strict=True)}
    assert manual_sql.buckets(run.path) == {k: v for k, v in got.items() if v[0]}
    long = analysis.longer_than(found.gap, 1_000_000)
    name = [run.oracle.strings[r["demangledName"]][:40] for r in rows]
    assert [
        (int(found.gap[g]), name[found.previous[g]], name[found.next[g]]) for g in long
    ] == manual_sql.big_gaps(run.path)


def test_where_kernels_are_all_the_manuals_gaps_are_the_slices(tmp_path, open_trace):
    """One stream, nothing but kernels: the two definitions of gaps agree, and so must the trace."""
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    at = loop(capture, thread, 1_000_000, 12, late=700)
    at = loop(capture, thread, at + 1_000_000, 9)
    at = loop(capture, thread, at + 40_000, 3, late=95_001)
    loop(capture, thread, at + 7_654_321, 4, late=321)
    path = capture.save(tmp_path, "kernels")
    found = annotated(path, open_trace)
    check_gaps(found)
    totals = manual_sql.gap_total(path)
    assert sum(g["dur"] for g in found.gaps) == totals.gap_ns
    assert totals.gap_ns + totals.kernel_ns == totals.wall_ns
    expected = manual_sql.buckets(path)
    assert by_bucket(found.gaps) == {BUCKET_NAMES[k]: v[:2] for k, v in expected.items()}
    assert len(expected) >= 5
    big = sorted((g for g in found.gaps if g["dur"] > 1_000_000), key=lambda g: -g["dur"])
    assert [(g["dur"], g["previous"], g["next"]) for g in big] == manual_sql.big_gaps(path)
    assert len(big) == 2


def test_the_samples_big_gaps(run):
    """Over 1 ms the manual's gaps hold the idle gaps of the trace: copies part them."""
    big = [g for g in run.gaps if g["dur"] > 1_000_000]
    assert big
    kernels = sorted(
        (r for r in run.oracle.gpu_work if r["family"] == "kernel"), key=lambda r: r["start"]
    )
    spans = {b["start"] - a["end"]: (a, b) for a, b in pairwise(kernels)}
    held = 0
    for ns, after, before in manual_sql.big_gaps(run.path):
        previous, following = spans[ns]
        assert previous["name"].startswith(after[:9]) and before
        inside = [
            g for g in run.gaps if previous["end"] <= g["start"] and g["end"] <= following["start"]
        ]
        work = [(r["start"], r["end"]) for r in run.oracle.gpu_work if r["family"] != "kernel"]
        busy = overlap(work, previous["end"], following["start"])
        assert sum(g["dur"] for g in inside) + busy == ns
        assert (inside[0]["previous"], inside[-1]["next"]) == (previous["name"], following["name"])
        held += sum(g["dur"] > 1_000_000 for g in inside)
    first = kernels[0]["start"]
    assert held == len([g for g in big if g["end"] > first])


# Filters, graphs, tracks


@pytest.mark.parametrize("shortest", [1, 1_000, 20_000, 10**9])
def test_short_gaps_are_left_out_and_the_rest_is_the_same(run, shortest, open_trace):
    found = annotated(run.path, open_trace, AnnotationOptions(min_gap=shortest))
    assert found.losses == []

    def told(slices):
        left_out = ("id", "arg_set_id", "track_id")
        return [{k: v for k, v in g.items() if k not in left_out} for g in slices]

    assert told(found.gaps) == [g for g in told(run.gaps) if g["dur"] >= shortest]
    assert [s["idle_ns"] for s in found.steps] == [s["idle_ns"] for s in run.steps]


def test_gaps_in_graphs_are_told_from_those_of_the_host(open_trace):
    found = annotated(sample("decode_graph"), open_trace)
    ends, starts = ({r[c]: r for r in found.work[0]} for c in ("end", "start"))
    inner = Counter()
    for g in found.gaps:
        same_launch = in_one_launch(ends[g["start"]], starts[g["end"]])
        assert (g["cause"] == "GRAPH_INTERNAL") == same_launch, g
        inner[same_launch] += 1
    assert inner[True] > 1_000 and inner[False] > 100
    phases = {(s["run"], s["index"]): s for s in found.steps}
    steps = {(g["run"], g["step"]) for g in found.gaps if g["cause"] == "GRAPH_INTERNAL"}
    assert steps == {k for k, s in phases.items() if k >= (1, 4) and s["phase"] != "PREFILL"}


def test_between_two_launches_of_a_graph_is_not_inside(tmp_path, open_trace):
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    for n in range(6):
        at = 1_000_000 + 40_000 * n
        nodes = [(f"n{k}", at + 9_000 + 8_000 * k, at + 15_000 + 8_000 * k, 50 + k) for k in (0, 1)]
        capture.graph_launch(thread, at, 8_000, nodes, graph=3)
    found = annotated(capture.save(tmp_path, "back_to_back"), open_trace)
    check_gaps(found)
    inside = [g["cause"] == "GRAPH_INTERNAL" for g in found.gaps]
    assert inside == [n % 2 == 0 for n in range(11)]


def test_graphs_traced_as_a_whole_have_gaps_between_them(open_trace):
    found = annotated(sample("graph_level"), open_trace)
    check_gaps(found)
    assert len(found.gaps) == 19
    assert "GRAPH_INTERNAL" not in {g["cause"] for g in found.gaps}


def test_the_track_of_a_gpu_that_two_processes_share(tmp_path, open_trace):
    capture = Capture("3.16.1")
    capture.gpu()
    for n, number in enumerate((4242, 4343)):
        thread = capture.thread(capture.process(number, f"rank{n}"), number, f"rank{n}")
        loop(capture, thread, 1_000_000 + 2_345 * n, 9, late=3_000 * n)
    found = annotated(capture.save(tmp_path, "shared"), open_trace)
    check_gaps(found)
    assert {g["track"] for g in found.gaps} == {"GPU idle gaps · GPU 0"}
    assert {g["above"] for g in found.gaps} == {None}
    starts = {r["start"]: r["globalPid"] for r in found.work[0]}
    of_process = {
        p: [s for s in found.steps if s["track"].endswith(f" {p >> 24 & 0xFFFFFF}")]
        for p in set(starts.values())
    }
    for g in found.gaps:
        mine = of_process[starts[g["end"]]]
        around = [(s["run"], s["index"]) for s in mine if s["start"] <= g["start"] < s["end"]]
        assert [(g["run"], g["step"])] == around if around else "step" not in g


def test_gaps_of_several_gpus_have_a_track_each(tmp_path, open_trace):
    capture = Capture("3.16.1")
    for gpu in (0, 1):
        capture.gpu(gpu)
    process = capture.process(4242, "app", gpus=(0, 1))
    thread = capture.thread(process, 4242, "app")
    for device in (0, 1):
        loop(
            capture, thread, 1_000_000 + 50 * device, 6 + device, device=device, marker=Kernel("x")
        )
    found = annotated(capture.save(tmp_path, "two"), open_trace)
    check_gaps(found)
    assert found.steps == []
    assert {(g["gpu"], g["track"]) for g in found.gaps} == {
        (n, f"GPU idle gaps · GPU {n}") for n in (0, 1)
    }


def test_no_gaps_on_request(open_trace):
    found = annotated(sample("decode_eager"), open_trace, AnnotationOptions(gaps=False))
    assert found.losses == [] and found.gaps == [] and len(found.steps) == 32
    assert "idle_gap" not in found.result.derived


def test_each_process_of_a_shared_gpu_has_gaps_of_its_own(tmp_path, open_trace):
    capture = Capture("3.16.1")
    capture.gpu()
    for n, number in enumerate((4242, 4343)):
        thread = capture.thread(capture.process(number, f"rank{n}"), number, f"rank{n}")
        loop(capture, thread, 1_000_000 + 2_345 * n, 9, late=3_000 * n)
    path = capture.save(tmp_path, "shared")
    work = annotated(path, open_trace).work[0]
    convert(path, tmp_path / "shared.pftrace")
    with open_trace(tmp_path / "shared.pftrace") as tp:
        rows = query.rows(
            tp,
            "select ts, dur, extract_arg(arg_set_id, 'gpu_gap.process_id') as pid from slice "
            "where category = 'nsys.process_gap' order by ts",
        )
    for process in (4242, 4343):
        own = [r for r in work if r["globalPid"] >> 24 & 0xFFFFFF == process]
        expected = [(a, b) for a, b in idle_intervals(own) if b - a >= 1_000]
        assert expected
        assert [(r["ts"], r["ts"] + r["dur"]) for r in rows if r["pid"] == process] == expected
