"""What must hold of the decode steps in a trace, and captures to try it on."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from samples.builder import Capture, Kernel, decode_run
from tests import manual_sql
from tests.annotated import busy_intervals, limited_to, overlap
from tests.oracle import pid
from tests.runs import scenario

RANDOM = settings(
    max_examples=6,
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
    busy = busy_intervals(r for r in work if r["end"] > r["start"])
    calls = [c for c in oracle.calls if c["globalTid"] & ~0xFFFFFF == process]
    waits = [(c["start"], c["end"]) for c in calls if "Synchronize" in c["name"]]
    for s in steps:
        t0, t1 = s["start"], s["end"]
        kernels, copies = (
            [r for r in work if r["family"] == f and r["start"] >= t0 and r["end"] <= t1]
            for f in ("kernel", "memcpy")
        )
        begun = [c for c in calls if t0 <= c["start"] < t1]
        assert pid(s["process_id"] << 24) == pid(process)
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
        inside = [(max(a, t0), min(b, t1)) for a, b in busy if a < b and a < t1 and b > t0]
        edges = [t0, *(t for span in inside for t in span), t1]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        assert s["largest_gap_ns"] == max(b - a for a, b in gaps)


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
        around = steps[max(start for start in steps if start <= f["start"])]
        assert f["end"] <= around["end"]
        shares[around["start"]].append(f)
        assert f["above"] == around["track"] and f["track"] == "Kernel time by family"
    assert set(shares) == {t for t, s in steps.items() if s["kernel_count"]}
    for start, slices in shares.items():
        whole = steps[start]["kernel_ns"]
        assert slices[0]["start"] == start
        assert all(a["end"] == b["start"] and a["dur"] >= b["dur"] for a, b in pairwise(slices))
        if 0 < whole <= steps[start]["dur"]:
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


def crowd_of_processes(directory):
    """Two processes on the same two GPUs, in a different order, all at once.

    Returns:
        The path, and the GPU of each (globalPid, device).
    """
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
    return capture.save(directory, "crowd"), units
