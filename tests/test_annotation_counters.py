"""Utilization and its like, as the engine reads them, against brute force on the capture."""

import math
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto import convert
from nsys2perfetto.annotation import AnnotationOptions
from samples.builder import Capture
from samples.make_samples import SAMPLES
from tests.annotated import EVERYTHING, annotated, busy_intervals, convert_now, overlap
from tests.conftest import CAPTURES
from tests.engine import query
from tests.step_checks import RANDOM, crowd_of_processes, sample
from tests.test_annotation_gaps import crossing_work

DIRECTIONS = {"HtoD": 1, "DtoH": 2, "DtoD": 8, "PtoP": 10}
UNITS = {"Utilization": "%", "Kernels in flight": None, "Launch queue depth": None}
SOME_REAL = ("train_2gpu_after_2026.2.1", "streams18_nvtx_t4_2023.3.1")


def native(found, gpu):
    return {c.name: c for c in found.counters if c.gpu == gpu and c.name in names(found, gpu)}


def names(found, gpu):
    kinds = {r["copyKind"] for r in found.work[gpu] if r["family"] == "memcpy"}
    return {*UNITS, *(f"Copy throughput {d}" for d, kind in DIRECTIONS.items() if kind in kinds)}


def quantities(found, gpu):
    """By counter: intervals of the capture, and what 1 ns of each adds to the integral."""
    work = found.work[gpu]
    submitted = {id(op): call["start"] for call, op in found.oracle.arrows}
    queued = [(submitted[id(r)], r["start"]) for r in work if id(r) in submitted]
    kernels = [(r["start"], r["end"]) for r in work if r["family"] == "kernel"]
    result = {
        "Utilization": [(a, b, 100.0) for a, b in busy_intervals(work)],
        "Kernels in flight": [(a, b, 1.0) for a, b in kernels],
        "Launch queue depth": [(a, b, 1.0) for a, b in queued if a < b],
    }
    for direction, kind in DIRECTIONS.items():
        result[f"Copy throughput {direction}"] = [
            (r["start"], r["end"], r["bytes"] / max(r["end"] - r["start"], 1))
            for r in work
            if r["family"] == "memcpy" and r["copyKind"] == kind
        ]
    return result


def check_counters(found, *, windows=True):
    """Integrals over all time, and what each value says of the interval it covers."""
    assert found.losses == []
    for gpu, work in found.work.items():
        counters = native(found, gpu)
        if all(r["end"] <= r["start"] for r in work):
            assert not counters
            continue
        assert counters.keys() == names(found, gpu)
        proper = [r for r in work if r["end"] > r["start"]]
        first, last = proper[0]["start"], max(r["end"] for r in proper)
        for name, intervals in quantities(found, gpu).items():
            if name not in counters:
                continue
            counter = counters[name]
            assert counter.type == "gpu_counter"
            assert counter.unit == UNITS.get(name, "GB/s") and counter.help
            times = [t for t, _ in counter.rows]
            assert (times[0], times[-1], counter.rows[-1][1]) == (first, last, 0)
            assert all(a < b for a, b in pairwise(times))
            whole = sum(share * overlap([(a, b)], first, last) for a, b, share in intervals)
            instant = sum(
                r["bytes"] for r in work
                if r["end"] <= r["start"] and first < r["start"] <= last
                and name == f"Copy throughput {kind_of(r)}"
            )  # fmt: skip
            assert math.isclose(counter.integral(), whole + instant, rel_tol=1e-6, abs_tol=1e-3)
            if windows and not instant:
                check_windows(counter, intervals)
        assert {len(c.rows) for c in counters.values()} == {len(counters["Utilization"].rows)}
        assert all(0 <= v <= 100 + 1e-9 for _, v in counters["Utilization"].rows)
        assert all(v >= 0 for c in counters.values() for _, v in c.rows)


def kind_of(row):
    return next((d for d, kind in DIRECTIONS.items() if kind == row["copyKind"]), None)


def check_windows(counter, intervals):
    """Each row's value is the mean until the next row."""
    edges = [t for t, _ in counter.rows]
    amount = defaultdict(float)
    place = 0
    for a, b, share in sorted(intervals):
        while place + 1 < len(edges) and edges[place + 1] <= a:
            place += 1
        for n in range(place, len(edges) - 1):
            if edges[n] >= b:
                break
            amount[n] += share * max(0, min(edges[n + 1], b) - max(edges[n], a))
    # Bytes are spread in multiples of 2^-20 a ns; what is left over of a copy is at its end.
    rest = max((b - a for a, b, _ in intervals), default=0) * 2**-20
    for n, ((t, value), (then, _)) in enumerate(pairwise(counter.rows)):
        tolerance = rest / (then - t) if counter.unit == "GB/s" else 0
        expected = amount[n] / (then - t)
        assert math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9 + tolerance), (n, t)


@pytest.mark.parametrize("name", SAMPLES)
def test_counters_of_the_samples(name, open_trace):
    found = annotated(sample(name), open_trace)
    check_counters(found)
    counters = native(found, 0)
    work = found.work[0]
    busy = sum(b - a for a, b in busy_intervals(work))
    assert math.isclose(counters["Utilization"].integral() / 100, busy, rel_tol=1e-12)
    kernels = sum(r["end"] - r["start"] for r in work if r["family"] == "kernel")
    assert math.isclose(counters["Kernels in flight"].integral(), kernels, rel_tol=1e-12)
    for direction in ("HtoD", "DtoH"):
        copied = sum(r["bytes"] for r in work if kind_of(r) == direction)
        got = counters[f"Copy throughput {direction}"].integral()
        assert math.isclose(got, copied, rel_tol=1e-9)
    # Their marker ends a step of about 0.7 ms: ten windows a step and a round number.
    steps = sorted(b["end"] - a["end"] for a, b in pairwise(found.steps))
    width = counters["Utilization"].rows[1][0] - counters["Utilization"].rows[0][0]
    assert width == 50_000 <= steps[len(steps) // 2] / 10 < 2 * width
    assert "50,000 ns" in counters["Utilization"].help


@RANDOM
@given(rows=crossing_work(), width=st.sampled_from([None, 700, 10_000, 10**9]))
def test_counters_of_random_work_on_two_gpus(open_trace, rows, width):
    capture = Capture("3.16.1")
    for gpu in (0, 1):
        capture.gpu(gpu)
    process = capture.process(4242, "app", gpus=(0, 1))
    thread = capture.thread(process, 4242, "app")
    for what, device, stream, at, length, call in rows:
        where = {"device": device, "stream": stream, "correlation": None}
        if call is not None:
            where["correlation"] = capture.api(thread, "cuLaunchKernel", at + call - 90, at + call)
        if what == "kernel":
            capture.kernel(process, "some_kernel", at, at + length, **where)
        elif what == "memset":
            capture.memset(process, 64, at, at + length, **where)
        else:
            kind = ("HtoD", "DtoH", "DtoD", "PtoP")[length % 4]
            capture.memcpy(process, kind, 1_000_003 * (1 + length), at, at + length, **where)
    with tempfile.TemporaryDirectory() as directory:
        path = capture.save(Path(directory), "work")
        found = convert_now(path, open_trace, AnnotationOptions(min_gap=0, window=width))
        check_counters(found)
        for gpu, work in found.work.items():
            busy = busy_intervals(r for r in work if r["end"] > r["start"])
            if width and busy:
                windows = -(-(busy[-1][1] - busy[0][0]) // width)
                assert len(native(found, gpu)["Utilization"].rows) == windows + 1


@pytest.mark.parametrize("name", SOME_REAL)
def test_counters_of_real_captures(name, open_trace):
    path = CAPTURES / f"{name}.sqlite"
    if not path.exists():
        pytest.skip("no such capture")
    check_counters(annotated(path, open_trace))


def test_counters_of_gpus_that_processes_share(tmp_path, open_trace):
    found = annotated(crowd_of_processes(tmp_path)[0], open_trace)
    check_counters(found)
    assert {c.gpu for c in found.counters if c.name == "Utilization"} == {0, 1}
    for gpu in (0, 1):
        assert max(v for _, v in native(found, gpu)["Kernels in flight"].rows) > 1


def test_samples_are_written_at_the_end_of_what_they_cover(tmp_path, open_trace):
    """In the packets themselves: a native sample's value is that of the time before it."""
    path = sample("decode_eager")
    found = annotated(path, open_trace)
    output = tmp_path / "trace.pftrace"
    convert(path, output, annotate=AnnotationOptions(window=1_000_000))
    trace = pb.Trace.FromString(output.read_bytes())
    number = {
        spec.name: spec.counter_id
        for packet in trace.packet
        for d in packet.interned_data.gpu_counter_descriptors
        for spec in d.counter_descriptor.specs
    }
    samples = [
        (p.timestamp, c.double_value)
        for p in trace.packet
        if p.HasField("gpu_counter_event")
        for c in p.gpu_counter_event.counters
        if c.counter_id == number["Utilization"]
    ]
    busy = busy_intervals(found.work[0])
    assert len(samples) > 60
    for (before, _), (at, value) in pairwise(samples):
        assert math.isclose(value, 100 * overlap(busy, before, at) / (at - before), abs_tol=1e-9)


def test_the_width_of_windows_can_be_chosen(open_trace):
    path = sample("decode_eager")
    found = annotated(path, open_trace, AnnotationOptions(min_gap=0, window=123_457))
    check_counters(found)
    times = [t for t, _ in found.counter("Utilization").rows]
    assert {b - a for a, b in pairwise(times[:-1])} == {123_457}
    assert "123,457 ns" in found.counter("Utilization").help


def test_windows_that_are_far_too_short(tmp_path, open_trace):
    """A million windows at most, however short they are to be; their sum stays what it is."""
    capture = Capture("3.16.1")
    capture.gpu()
    process = capture.process(4242, "app")
    for at in (0, 6 * 10**10 - 1_000):
        capture.kernel(process, "k", at, at + 1_000, correlation=None)
    path, output = capture.save(tmp_path, "long"), tmp_path / "long.pftrace"
    convert(path, output, annotate=AnnotationOptions(window=1))
    with open_trace(output) as tp:
        query.assert_clean(tp)
        [found] = query.rows(tp, """
            select count(*) as n, sum(value) as value from counter c join counter_track t
            on c.track_id = t.id where t.name = 'Utilization'""")  # fmt: skip
    assert 1_000 < found["n"] <= 1_000_001
    assert math.isclose(found["value"] / 100 * (6 * 10**10 / (found["n"] - 1)), 2_000)


def test_the_default_window_without_steps(tmp_path, open_trace):
    """A 2000th of the whole, and round; long captures have no more than 20,000 windows."""
    capture = Capture("3.16.1")
    capture.gpu()
    process = capture.process(4242, "app")
    for at in (0, 10**11, 2 * 10**11):
        capture.kernel(process, "k", at, at + 1_000, correlation=None)
    found = annotated(capture.save(tmp_path, "long"), open_trace)
    check_counters(found)
    times = [t for t, _ in found.counter("Utilization").rows]
    assert times[1] - times[0] == 100_000_000


def test_no_counters_on_request(open_trace):
    options = AnnotationOptions(min_gap=0, counters=False)
    found = annotated(sample("decode_eager"), open_trace, options)
    every = annotated(sample("decode_eager"), open_trace, EVERYTHING)
    computed = {*names(every, 0), "Steps per second", "GPU utilization"}
    assert found.losses == []
    assert computed & {c.name for c in found.counters} == set()
    assert {c.name for c in found.counters} == {c.name for c in every.counters} - computed
    assert len(found.gaps) == len(every.gaps) and len(found.steps) == 32
    assert {g["above"] for g in found.gaps} == {"Decode steps"}
