"""Decode steps in the trace, in the engine, against the manual's own SQL on the capture."""

import math
import re
import tempfile
from collections import Counter, defaultdict
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsys2perfetto.analysis.steps import GRAPH, Request
from nsys2perfetto.annotation import AnnotationOptions
from samples.builder import Capture, Kernel, decode_run
from samples.builder.decode import DISTURBANCES
from samples.make_samples import SAMPLES
from tests import manual_sql
from tests.annotated import (
    EVERYTHING,
    annotated,
    busy_intervals,
    convert_now,
    idle_intervals,
    limited_to,
    overlap,
)
from tests.conftest import CAPTURES
from tests.oracle import pid
from tests.runs import same, scenario

RANDOM = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
RANDOM_RUN = {
    "steps": st.integers(1, 9),
    "warmup_steps": st.integers(1, 4),
    "layers": st.integers(1, 2),
    "graph": st.booleans(),
    "seed": st.integers(1, 1000),
}
LLAMA = CAPTURES / "llama3_rtx4060ti_2024.6.2.sqlite"
TRAINING = sorted(CAPTURES.glob("train_*.sqlite"))


def sample(name):
    return scenario(name).path


def built(directory, name="built", **parameters):
    """A decode run and what its builder knows of it."""
    capture = Capture("3.16.1", graph_nodes=parameters.get("graph", False))
    truth = decode_run(capture, **parameters)
    return capture.save(Path(directory), name), truth


def loop(capture, thread, base, steps, *, device=0, stream=7, kernels=4, late=0, marker=None):
    """A decode loop: a prefill of longer kernels and then steps that end with the marker."""
    marker = marker or Kernel("argmax_kernel")
    at = base
    for step in range(steps):
        for n in range(kernels + 1):
            last = n == kernels
            duration = 2_000 if last else (40_000 if not step else 5_000) + 100 * n
            capture.launch(
                thread,
                marker if last else Kernel(f"layer_{n}_kernel", grid=(1 if step else 64, 1, 1)),
                at=at,
                call=1_500,
                start=at + 4_000,
                duration=duration,
                device=device,
                stream=stream,
            )
            at += 4_000 + duration + 500 + late
        at += 9_000
    return at


# What holds of every step of every capture


def check_consistent(found):
    """Nothing lost; wall time, utilization and busy time of all steps agree with each other."""
    assert found.losses == []
    for s in found.steps:
        assert s["dur"] == s["wall_ns"] == s["busy_ns"] + s["idle_ns"] > 0
        assert s["busy_ns"] >= 0 and 0 <= s["largest_gap_ns"] <= s["idle_ns"]
        assert math.isclose(s["kernel_util_pct"], 100 * s["kernel_ns"] / s["dur"])
        assert math.isclose(s["busy_util_pct"], 100 * s["busy_ns"] / s["dur"])
        assert math.isclose(s["steps_per_second"], 1e9 / s["dur"])
        assert (s["depth"], s["parent_id"]) == (0, None)
    for steps in by_track(found).values():
        assert [s["number"] for s in steps] == list(range(1, len(steps) + 1))
        assert all(a["end"] <= b["start"] for a, b in pairwise(steps))


def by_track(found):
    tracks = defaultdict(list)
    for s in found.steps:
        tracks[s["track_id"], s["track"], s["gpu"]].append(s)
    return tracks


def check_contents(found, steps, process, gpu):
    """Everything that is told of steps, by brute force over the capture's rows."""
    oracle = found.oracle
    work = [r for r in found.work[gpu] if r["globalPid"] == process]
    busy, idle = busy_intervals(work), idle_intervals(work)
    calls = [c for c in oracle.calls if c["globalTid"] & ~0xFFFFFF == process]
    waits = [(c["start"], c["end"]) for c in calls if "Synchronize" in c["name"]]
    for s in steps:
        t0, t1 = s["start"], s["end"]
        kernels, copies = (
            [r for r in work if r["family"] == f and r["start"] >= t0 and r["end"] <= t1]
            for f in ("kernel", "memcpy")
        )
        begun = [c for c in calls if t0 <= c["start"] < t1]
        assert s["kernel_count"] == len(kernels)
        assert s["kernel_ns"] == sum(r["end"] - r["start"] for r in kernels)
        assert s["busy_ns"] == overlap(busy, t0, t1)
        assert (s["copy_count"], s["copy_bytes"]) == (len(copies), sum(r["bytes"] for r in copies))
        assert s["launch_count"] == sum(bool(oracle.submitted_by(c)) for c in begun)
        assert s["sync_count"] == sum("Synchronize" in c["name"] for c in begun)
        assert s["sync_ns"] == overlap(waits, t0, t1)
        assert s["allocation_count"] == sum(
            bool(re.search("Alloc|Malloc|Free", c["name"])) for c in begun
        )
        inside = [min(b, t1) - max(a, t0) for a, b in idle if a < t1 and b > t0]
        assert s["largest_gap_ns"] == max(inside, default=0)


def check_like_the_manual(steps, capture):
    """Every step but the first against the manual's query for (number - 1, number)."""
    for s in steps:
        if s["number"] == 1:
            assert manual_sql.decode_step(capture, 1).wall_ns is None
            continue
        expected = manual_sql.decode_step(capture, s["number"])
        got = tuple(s[k] for k in ("kernel_count", "kernel_ns", "wall_ns", "kernel_util_pct"))
        assert got[:3] == expected[:3] and s["dur"] == expected.wall_ns
        assert math.isclose(got[3], expected.util_pct)
    first = capture.execute(
        "select count(*), sum(end - start) from CUPTI_ACTIVITY_KIND_KERNEL where start >= ? "
        "and end <= ?",
        (steps[0]["start"], steps[0]["end"]),
    ).fetchone()
    assert (steps[0]["kernel_count"], steps[0]["kernel_ns"]) == first


def the_only_process(found):
    [process] = {r["globalPid"] for r in found.oracle.gpu_work}
    return process


def check_one_loop(found, markers):
    """A capture of one process on one GPU, each marker of which ends a step."""
    check_consistent(found)
    assert len(found.steps) == len(markers)
    process = the_only_process(found)
    assert [s["end"] for s in found.steps] == markers
    starts = [min(r["start"] for r in found.oracle.gpu_work), *markers[:-1]]
    assert [s["start"] for s in found.steps] == starts
    sql = limited_to(found.path, process, 0)
    check_like_the_manual(found.steps, sql)
    check_contents(found, found.steps, process, 0)
    sql.close()


def check_families(found):
    """Shares of steady steps: inside their step, side by side, their sum the kernel time."""
    steps = {s["start"]: s for s in found.steps if s["phase"] == "STEADY"}
    shares = defaultdict(list)
    for f in found.families:
        [around] = [s for s in steps.values() if s["start"] <= f["start"] <= f["end"] <= s["end"]]
        shares[around["start"]].append(f)
        assert f["above"] == around["track"] and f["track"] == "Kernel time by family"
    assert set(shares) == {t for t, s in steps.items() if s["kernel_ns"]}
    for start, slices in shares.items():
        whole = steps[start]["kernel_ns"]
        assert slices[0]["start"] == start
        assert all(a["end"] == b["start"] and a["dur"] >= b["dur"] for a, b in pairwise(slices))
        if whole <= steps[start]["dur"]:
            assert sum(f["dur"] for f in slices) == whole
            for f in slices:
                percent = re.fullmatch(r".+ (\d+)%", f["name"]).group(1)
                assert abs(int(percent) - 100 * f["dur"] / whole) <= 0.5


def check_rate(found):
    """Steps per second hold during each step, and not between steps."""
    for (_, track, _), steps in by_track(found).items():
        [counter] = [c for c in found.counters if c.name == "Steps per second" and c.above == track]
        expected = {s["end"]: 0.0 for s in steps} | {s["start"]: 1e9 / s["dur"] for s in steps}
        assert [time for time, _ in counter.rows] == sorted(expected)
        assert [v for _, v in counter.rows] == pytest.approx(
            [expected[t] for t in sorted(expected)]
        )


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
    [row] = manual_sql._rows(run.path, manual_sql.DECODE_STEP)
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
        "allocation_count", "largest_gap_ns",
    }  # fmt: skip
    assert all(t <= {"int", "uint"} for k, t in steps.items() if k not in real | {"phase"})
    gaps = {k.split(".")[1]: t for k, t in run.types.items() if k.startswith("gpu_gap.")}
    names = {"bucket", "cause", "mostly", "pace"}
    assert {k for k, t in gaps.items() if t == {"string"}} == names
    assert gaps.keys() - names == {
        "idle_ns", "gpu", "run", "step", "previous_event_id", "next_event_id",
        "launch_lateness_ns", "sync_ns", "launch_ns", "memory_ns", "copy_ns", "other_cuda_ns",
        "outside_cuda_ns",
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
        check_rate(found)


# Several processes and GPUs


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, open_trace):
    """Two processes on two GPUs each, one of them twice the same device number; all at once."""
    capture = Capture("3.24.18")
    for number in range(2):
        capture.gpu(number)
    units = {}
    for n, (number, gpus) in enumerate(((4242, (0, 1)), (4343, (1, 0)))):
        process = capture.process(number, f"rank{n}", gpus=gpus)
        thread = capture.thread(process, number, f"rank{n}")
        for device in range(2):
            loop(capture, thread, 1_000_000 + 777 * n + 311 * device, 7 + 2 * n + device,
                 device=device, late=40 * n)  # fmt: skip
            units[process.global_pid, device] = gpus[device]
    path = capture.save(tmp_path_factory.mktemp("crowd"), "crowd")
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
