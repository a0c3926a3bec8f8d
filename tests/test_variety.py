"""Machines of every kind: MIG, many GPUs and processes, several hosts; and everything at once."""

from __future__ import annotations

from collections import Counter

import pytest

from nsys2perfetto import convert, inspect
from samples.builder import A100, RTX_3090, Capture
from tests import checks
from tests.runs import converted, load


def kernels(run):
    return [s for s in run.trace.gpu if s["kind"] == "CUDA kernel"]


def test_instances_of_a_gpu_in_mig_mode_are_gpus_of_their_own(open_trace):
    run = load("mig_instances", open_trace)
    found = {(s["pid"], s["gpu"]) for s in kernels(run)}
    assert found == set(run.facts["gpu_of_pid"].items())
    models = {g["ugpu"]: g["model"] for g in run.trace.gpus}
    assert models[1] == models[2] == f"{A100.name} MIG 3g.40gb"
    # 128 blocks on the 42 SMs of an instance, not on the 108 of the GPU.
    resident = {run.trace.args(s)["occupancy_limit_warps"] for s in kernels(run)}
    waves = {round(run.trace.args(s)["waves_per_multiprocessor"], 6) for s in kernels(run)}
    assert waves == {round(128 / (42 * r), 6) for r in resident}
    assert [g.kernels for g in inspect(run.path).capture.gpus] == [0, 12, 9]


def test_processes_that_share_a_gpu_in_mig_mode(tmp_path, open_trace):
    """An nsys that does not tell instances apart: both processes are on the GPU, on own queues."""
    capture = Capture("3.24.8")
    capture.gpu(0, A100)
    for pid in (100, 200):
        thread = capture.thread(capture.process(pid, f"rank{pid}"), pid, "main")
        capture.launch(thread, "k", at=1_000, call=100, start=2_000, duration=500)
    run = converted(capture.save(tmp_path, "built"), open_trace)
    for check in checks.GPU_CHECKS:
        check(run)
    assert len({s["track_id"] for s in kernels(run)}) == 2
    assert {s["gpu"] for s in kernels(run)} == {0}


def test_eight_processes_on_eight_gpus(open_trace):
    run = load("eight_by_eight", open_trace)
    pairs = {(5001 + r, g): run.facts["kernels"] for r in range(8) for g in (r, (r + 1) % 8)}
    assert Counter((s["pid"], s["gpu"]) for s in kernels(run)) == pairs
    copies = Counter((s["pid"], s["gpu"]) for s in run.trace.gpu if s not in kernels(run))
    assert copies == {(5001 + r, r): run.facts["copies"] for r in range(8)}
    ends = [(run.trace.by_id[f["slice_out"]], run.trace.by_id[f["slice_in"]])
            for f in run.trace.flows]  # fmt: skip
    assert len(ends) == sum(pairs.values())
    assert all(call["pid"] == op["pid"] for call, op in ends), "ids are one process's own"


@pytest.mark.parametrize("equal_gpu_ids", [False, True])
def test_hosts_with_equal_process_ids(tmp_path, open_trace, equal_gpu_ids):
    """Two containers on two hosts: process 7, device 0, the same ids; each has its own GPU."""
    capture = Capture("3.24.0")
    models = {0: A100, 1: RTX_3090}
    for hw, model in models.items():
        number = 0 if equal_gpu_ids else hw
        capture.gpu(number, model, cu_device=0, hw=hw)
        process = capture.process(7, f"host{hw}", gpus=(number,), hw=hw)
        thread = capture.thread(process, 7, f"host{hw}")
        for n in range(5 + hw):
            at = 1_000 + 1_000 * n
            capture.launch(thread, f"on{hw}", at=at, call=100, start=at + 200, duration=300)
    path = capture.save(tmp_path, "built")
    run = converted(path, open_trace)
    found = {(s["name"], s["gpu"]) for s in kernels(run)}
    assert found == {("on0", 0), ("on1", 1)}
    names = {g["ugpu"]: g["model"] for g in run.trace.gpus}
    assert names == {0: A100.name, 1: RTX_3090.name}
    assert len(kernels(run)) == 11
    ends = [(run.trace.by_id[f["slice_out"]], run.trace.by_id[f["slice_in"]])
            for f in run.trace.flows]  # fmt: skip
    processes = {p["name"] for p in run.trace.processes}
    assert processes == {"host0", "host1"} and len(ends) == 11
    assert [(g.id, g.kernels) for g in inspect(path).capture.gpus] == [(0, 5), (1, 6)]


def test_without_the_table_of_devices_each_host_has_its_own_gpu(tmp_path, open_trace):
    capture = Capture("3.16.1")  # older than TARGET_INFO_CUDA_DEVICE
    for hw in (0, 1):
        capture.gpu(hw, A100, cu_device=0, hw=hw)
        process = capture.process(7, f"host{hw}", hw=hw)
        capture.kernel(process, f"on{hw}", 1_000, 2_000, correlation=None)
    other = capture.process(9, "host5", hw=5)  # a machine that no row is of
    capture.kernel(other, "on5", 1_000, 2_000, correlation=None)
    run = converted(capture.save(tmp_path, "built"), open_trace)
    assert {(s["name"], s["gpu"]) for s in kernels(run)} == {("on0", 0), ("on1", 1), ("on5", 0)}


def test_everything_that_touches_crosses_overlaps_or_has_no_length(open_trace):
    run = load("crowded", open_trace)
    for what, slices in (
        ("kernels", kernels(run)),
        ("calls", run.trace.calls("cuda_runtime")),
        ("ranges", run.trace.calls("nvtx")),
    ):
        found = Counter((s["ts"], s["ts"] + s["dur"]) for s in slices)
        assert found == Counter(run.facts[what]), what
    assert run.trace.losses == []


def test_the_same_in_a_lean_trace(tmp_path, open_trace):
    path = load("crowded", open_trace).path
    run = converted(path, open_trace, lean=True)
    facts = load("crowded", open_trace).facts
    assert Counter((s["ts"], s["ts"] + s["dur"]) for s in kernels(run)) == Counter(facts["kernels"])
    calls = Counter((s["ts"], s["ts"] + s["dur"]) for s in run.trace.calls("cuda_runtime"))
    assert calls == Counter(facts["calls"])
    assert convert(path, tmp_path / "x.pftrace", lean=True).events_written > 0
