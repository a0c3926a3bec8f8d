"""Decode steps in the trace, in the engine, against the manual's own SQL on the capture."""

import re
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis.steps import GRAPH, Request
from nsys2perfetto.annotation import AnnotationOptions
from samples.builder import Capture, Kernel
from samples.builder.decode import DISTURBANCES
from samples.make_samples import SAMPLES
from tests import manual_sql
from tests.annotated import (
    EVERYTHING,
    annotated,
    convert_now,
    limited_to,
    overlap,
)
from tests.conftest import CAPTURES
from tests.oracle import pid
from tests.runs import same
from tests.step_checks import (
    RANDOM,
    RANDOM_RUN,
    built,
    by_track,
    check_consistent,
    check_contents,
    check_families,
    check_like_the_manual,
    check_one_loop,
    check_rate,
    crowd_of_processes,
    loop,
    sample,
    the_only_process,
)

LLAMA = CAPTURES / "llama3_rtx4060ti_2024.6.2.sqlite"
TRAINING = sorted(CAPTURES.glob("train_*.sqlite"))


# The samples


@pytest.fixture(params=SAMPLES, scope="module")
def run(request, open_trace):
    return annotated(sample(request.param), open_trace)


def argmax_ends(found):
    return [
        r["end"]
        for r in sorted(found.oracle.gpu_work, key=lambda r: r["start"])
        if r["name"].startswith("argmax")
    ]


def test_samples_give_the_manuals_numbers(run):
    check_one_loop(run, argmax_ends(run))
    assert len(run.steps) == 32


def test_the_manuals_own_query(run):
    """Step 11, as it stands in the manual: us and percent with one digit."""
    [row] = manual_sql.rows(run.path, manual_sql.DECODE_STEP)
    [step] = [s for s in run.steps if s["number"] == 11]
    us = (step["kernel_count"], step["kernel_ns"] / 1e3, step["wall_ns"] / 1e3)
    assert (us[0], *(round(u, 1) for u in us[1:]), round(step["kernel_util_pct"], 1)) == row


def test_runs_phases_and_names_of_the_samples(run):
    assert [(s["run"], s["index"]) for s in run.steps] == [
        *((1, n) for n in range(1, 7)),
        *((2, n) for n in range(1, 27)),
    ]
    phases = {(s["run"], s["index"]): s["phase"] for s in run.steps}
    assert {k for k, p in phases.items() if p == "PREFILL"} == {(1, 1), (2, 1)}
    disturbed = {(2, d.step + 1) for d in DISTURBANCES}
    if "graph" in run.path.name:
        disturbed.add((1, 4))  # the graph is recorded in it
    assert {k for k, p in phases.items() if p == "OUTLIER"} == disturbed
    assert set(phases.values()) <= {"PREFILL", "WARMUP", "STEADY", "OUTLIER"}
    assert Counter(phases.values())["STEADY"] >= 24
    words = {"WARMUP": " (warm-up)", "OUTLIER": " (outlier)", "STEADY": ""}
    for s in run.steps:
        what = "prefill" if s["phase"] == "PREFILL" else f"step {s['index']}{words[s['phase']]}"
        assert s["name"] == f"run {s['run']} {what}"
        assert s["gpu"] == 0


def test_family_shares_and_rate_of_the_samples(run):
    check_families(run)
    check_rate(run)
    assert run.families


def test_the_choice_is_told_and_stored(run):
    [line] = run.result.decode_steps
    assert re.search(r"\b32 decode steps, from 32 argmax\*", line)
    assert run.metadata["trace_attribute.decode_steps"] == line


def test_every_field_is_typed(run):
    """By the descriptor in the trace: numbers are numbers, enumerations have names."""
    real = {"kernel_util_pct", "busy_util_pct", "steps_per_second"}
    steps = {k.split(".")[1]: t for k, t in run.types.items() if k.startswith("decode_step.")}
    assert {k for k, t in steps.items() if t == {"real"}} == real
    assert {k for k, t in steps.items() if t == {"string"}} == {"phase"}
    assert steps.keys() - real - {"phase"} == {
        "run", "index", "number", "gpu", "kernel_count", "kernel_ns", "busy_ns", "idle_ns",
        "wall_ns", "copy_count", "copy_bytes", "launch_count", "sync_count", "sync_ns",
        "allocation_count", "largest_gap_ns", "process_id",
    }  # fmt: skip
    assert all(t <= {"int", "uint"} for k, t in steps.items() if k not in real | {"phase"})
    gaps = {k.split(".")[1]: t for k, t in run.types.items() if k.startswith("gpu_gap.")}
    names = {"bucket", "cause", "mostly", "pace"}
    assert {k for k, t in gaps.items() if t == {"string"}} == names
    assert gaps.keys() - names == {
        "gpu", "run", "step", "process_id", "next_event_id", "launch_lateness_ns", "sync_ns",
        "launch_ns", "memory_ns", "copy_ns", "other_cuda_ns", "outside_cuda_ns",
    }  # fmt: skip
    assert all(t <= {"int", "uint"} for k, t in gaps.items() if k not in names)
    everyone = {k for s in run.steps for k in steps if s.get(k) is None}
    assert everyone == set(), "every step has every field"


# Random decode runs


@RANDOM
@given(**RANDOM_RUN)
def test_random_decode_runs(open_trace, **parameters):
    with tempfile.TemporaryDirectory() as directory:
        path, truth = built(directory, **parameters)
        found = convert_now(path, open_trace)
        check_one_loop(found, [s.end for s in truth.steps])
        check_families(found)
        check_rate(found)
        expected = [
            (s.start, s.end, s.kernel_count, s.kernel_ns, s.busy_ns) for s in truth.steps[1:]
        ]
        got = [
            tuple(s[k] for k in ("start", "end", "kernel_count", "kernel_ns", "busy_ns"))
            for s in found.steps[1:]
        ]
        assert got == expected
        number = {"warmup": 1, "measured": 2}
        assert [s["run"] for s in found.steps] == [number[s.run] for s in truth.steps]
        prefills = [s["phase"] == "PREFILL" for s in found.steps]
        assert prefills == [s.kind == "prefill" for s in truth.steps]


@st.composite
def loops(draw):
    """Steps of kernels on two streams that may overlap, touch, or have no length."""
    size = draw(st.integers(1, 5))
    steps = []
    for _ in range(draw(st.integers(2, 8))):
        kernels = draw(
            st.lists(
                st.tuples(st.sampled_from([7, 13]), st.integers(0, 3_000), st.integers(0, 20_000)),
                min_size=size,
                max_size=size,
            )
        )
        steps.append((kernels, draw(st.integers(0, 2_000)), draw(st.integers(1, 9_000))))
    return steps


@RANDOM
@given(steps=loops(), base=st.sampled_from([-50_000, 1_000_000]))
def test_random_loops_on_two_streams(open_trace, steps, base):
    capture = Capture("3.16.1")
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    at, markers = base, []
    for kernels, wait, duration in steps:
        for n, (stream, pause, length) in enumerate(kernels):
            capture.launch(thread, f"part_{n}", at=at - 700, call=500, start=at, duration=length,
                           stream=stream)  # fmt: skip
            at += pause
        at += wait + 1
        capture.launch(thread, "argmax_kernel", at=at - 700, call=500, start=at,
                       duration=duration, stream=7)  # fmt: skip
        at += duration
        markers.append(at)
    with tempfile.TemporaryDirectory() as directory:
        request = AnnotationOptions(Request("kernel", ("argmax*",)), min_gap=0)
        found = convert_now(capture.save(Path(directory), "loop"), open_trace, request)
        assert found.shift == max(0, 700 - base)
        check_one_loop(found, markers)
        check_families(found)
        check_rate(found)


def test_calls_within_calls_count_once(tmp_path, open_trace):
    """The runtime calls the driver: a step cannot wait longer than it takes, nor wait twice."""
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    end = loop(capture, thread, 1_000_000, 9)
    for at in range(1_200_000, end, 5_000):
        capture.sync(thread, "stream", at, at + 4_000, stream=7)
        capture.api(thread, "cuStreamSynchronize", at + 100, at + 3_900)
        capture.api(thread, "cudaMalloc_v3020", at + 4_100, at + 4_900)
        capture.api(thread, "cuMemAlloc_v2", at + 4_200, at + 4_800)
    found = annotated(capture.save(tmp_path, "nested"), open_trace)
    check_consistent(found)
    outer = [c for c in found.oracle.calls if c["name"] in ("cudaStreamSynchronize", "cudaMalloc")]
    for s in found.steps:
        waits = [(c["start"], c["end"]) for c in outer if "Sync" in c["name"]]
        assert s["sync_ns"] == overlap(waits, s["start"], s["end"]) <= s["dur"]
        begun = Counter(c["name"] for c in outer if s["start"] <= c["start"] < s["end"])
        assert s["sync_count"] == begun["cudaStreamSynchronize"]
        assert s["allocation_count"] == begun["cudaMalloc"]


# Several processes and GPUs


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, open_trace):
    path, units = crowd_of_processes(tmp_path_factory.mktemp("crowd"))
    return annotated(path, open_trace), units


def test_each_process_on_each_gpu_has_its_own_steps(crowd):
    found, units = crowd
    check_consistent(found)
    tracks = by_track(found)
    assert len(tracks) == len({name for _, name, _ in tracks}) == 4
    for (process, device), gpu in units.items():
        [steps] = [
            steps
            for (_, name, on), steps in tracks.items()
            if on == gpu and re.search(rf"\bGPU {gpu}\b.*\b{pid(process)}$", name)
        ]
        sql = limited_to(found.path, process, device)
        assert len(steps) == 7 + 2 * (pid(process) == 4343) + device
        check_like_the_manual(steps, sql)
        check_contents(found, steps, process, gpu)
        sql.close()
    assert found.losses == []


def test_each_choice_names_its_process_and_gpu(crowd):
    found, units = crowd
    lines = found.result.decode_steps
    assert len(lines) == 4
    for (process, _), gpu in units.items():
        assert sum(f"process {pid(process)} on GPU {gpu}:" in line for line in lines) == 1
    assert found.metadata["trace_attribute.decode_steps"] == "; ".join(lines)


def test_rates_and_shares_of_several_processes(crowd):
    found, _ = crowd
    check_rate(found)
    assert {f["above"] for f in found.families} == {s["track"] for s in found.steps}


# CUDA graphs


def test_steps_of_a_graph_traced_as_a_whole(open_trace):
    found = annotated(sample("graph_level"), open_trace)
    check_consistent(found)
    launches = [r["end"] for r in found.work[0]]
    assert [s["end"] for s in found.steps] == launches
    assert [s["start"] for s in found.steps] == [found.work[0][0]["start"], *launches[:-1]]
    assert all(s["kernel_count"] == 0 for s in found.steps)
    [choice, note] = found.result.decode_steps
    assert "20 decode steps, from 20 replays of CUDA graph" in choice
    assert "--cuda-graph-trace=node" in note
    assert note in found.metadata["trace_attribute.decode_steps"]


def test_replays_of_nodes_are_steps_where_there_is_no_marker(tmp_path, open_trace):
    capture = Capture("3.16.1")
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    replays = []
    for n in range(9):
        at = 1_000_000 + 60_000 * n
        nodes = [(Kernel(f"node_{k}"), at + 9_000 + 8_000 * k, at + 15_000 + 8_000 * k, 500 + k)
                 for k in range(4)]  # fmt: skip
        capture.graph_launch(thread, at, 8_000, nodes, graph=3)
        capture.sync(thread, "stream", at + 8_500, at + 41_000, stream=7)
        replays.append((at + 9_000, at + 39_000))
    path = capture.save(tmp_path, "replays")
    for options in (EVERYTHING, AnnotationOptions(Request(GRAPH), min_gap=0)):
        found = annotated(path, open_trace, options)
        check_consistent(found)
        assert [s["end"] for s in found.steps] == [end for _, end in replays]
        assert {s["kernel_count"] for s in found.steps} == {4}
        sql = limited_to(path, process.global_pid, 0)
        check_contents(found, found.steps, process.global_pid, 0)
        sql.close()


# No steps


def test_no_marker_is_a_message_and_no_step(tmp_path, open_trace):
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    for n, k in product(range(9), range(3)):
        at = 1_000_000 + 90_000 * n + 9_000 * k * k
        capture.launch(thread, f"saxpy_{k}", at=at, call=2_000, start=at + 4_000, duration=3_000)
    found = annotated(capture.save(tmp_path, "none"), open_trace)
    assert found.losses == [] and found.steps == [] and found.families == []
    assert not [c for c in found.counters if c.name == "Steps per second"]
    [line] = found.result.decode_steps
    assert "--step-kernel" in line and "NVTX" in line
    assert found.metadata["trace_attribute.decode_steps"] == line
    assert {g["track"] for g in found.gaps} == {"GPU idle gaps"}
    assert all("step" not in g and "run" not in g for g in found.gaps)


@pytest.mark.skipif(not TRAINING, reason="no captures of training")
@pytest.mark.parametrize("path", TRAINING[:2], ids=lambda p: p.stem)
def test_no_step_is_invented_for_training(path, open_trace):
    found = annotated(path, open_trace)
    assert found.losses == [] and found.steps == [] and found.families == []
    assert found.gaps and found.result.decode_steps


@pytest.mark.skipif(not LLAMA.exists(), reason="no real capture of llama3")
def test_the_ranges_of_llama3(open_trace):
    found = annotated(LLAMA, open_trace)
    check_consistent(found)
    check_contents(found, found.steps, the_only_process(found), 0)
    check_families(found)
    check_rate(found)
    ranges = [
        r for r in found.oracle.projections if re.fullmatch(r"token_\d+_processing", r["name"])
    ]
    assert len(ranges) == len(found.steps) == 64
    same(
        [(s["start"], s["end"]) for s in found.steps],
        [(r["first"], r["last"]) for r in ranges],
        "steps",
    )
    [line] = found.result.decode_steps
    assert "64 NVTX ranges token_#_processing" in line
