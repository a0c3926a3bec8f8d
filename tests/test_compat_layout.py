"""Traces written with `--compat`: places, lanes, arrows that are odd; and native ones in v52."""

import pytest

from nsys2perfetto import convert
from nsys2perfetto.annotation import AnnotationOptions
from samples.builder import Capture
from samples.builder.scenarios import SCENARIOS
from tests import command, runs
from tests.compat_trace import CompatTrace, gpu_number
from tests.engine import query
from tests.runs import same


@pytest.fixture(scope="session", params=["v55", "v52"])
def open_in(request, open_trace, open_in_v52):
    """Each engine in turn."""
    return {"v55": open_trace, "v52": open_in_v52}[request.param]


@pytest.fixture
def made(tmp_path, open_in):
    """Converts what a function puts into a capture."""

    def make(fill, **options):
        capture = Capture()
        capture.gpu()
        process = capture.process(4242, "app")
        fill(capture, process, capture.thread(process, 4242, "app"))
        path = capture.save(tmp_path, "made")
        result = convert(path, compat=True, force=True, **options)
        found = CompatTrace(result.output, open_in)
        assert not found.losses
        return result, found

    return make


def two_streams(capture, process, thread):
    for i in range(3):
        at = 1_000_000 + 100_000 * i
        capture.launch(thread, "brief", at=at, call=2_000, start=at + 5_000, duration=1_000)
        capture.launch(
            thread, "long", at=at + 3_000, call=2_000, start=at + 9_000, duration=60_000, stream=23
        )
    capture.memcpy(process, "HtoD", 1 << 20, 1_400_000, 1_500_000, correlation=None)


def test_order_of_tracks(made):
    """The GPU is its utilization; then its busiest stream, the others, its other counters."""
    _, found = made(two_streams)
    [root] = [r for r in found.order if gpu_number(r["name"]) is not None]
    assert (root["name"], root["is_counter"], root["unit"]) == ("GPU 0 RTX 5070 Ti", 1, "%")
    number = int(root["track_ids"])
    names = [r["name"] for r in found.order if r["parent_id"] == number]
    assert names == [
        "Stream 23", "Stream  7", "Kernels in flight", "Launch queue depth", "Copy throughput HtoD"
    ]  # fmt: skip
    units = {r["name"]: r["unit"] for r in found.order}
    assert units["Copy throughput HtoD"] == "GB/s"
    helps = {t["name"]: t["description"] for t in found.tracks.values()}
    assert helps["Stream 23"] == "What the GPU did for app (4242), CUDA context 1."
    assert "Utilization" not in helps
    assert "utilization: percent" in helps["GPU 0 RTX 5070 Ti"]


def test_without_counters_the_gpu_is_a_plain_group(made):
    _, found = made(two_streams, annotate=AnnotationOptions(counters=False))
    [root] = [r for r in found.order if gpu_number(r["name"]) is not None]
    assert not root["is_counter"]
    assert not found.counters


def test_overlapping_kernels_take_lanes_that_look_like_one_track(open_in, tmp_path):
    path = SCENARIOS["overlapping_kernels"](tmp_path).path
    found = CompatTrace(convert(path, compat=True).output, open_in)
    lanes = {}
    for s in found.gpu:
        lanes.setdefault(s["track"], set()).add(s["track_id"])
    assert max(map(len, lanes.values())) > 1
    for name, ids in lanes.items():
        [group] = [r for r in found.order if r["name"] == name]
        assert {int(i) for i in group["track_ids"].split(",")} == ids


def test_what_began_before_its_call_has_its_arrow(made):
    """Clocks of GPU and CPU can differ; the engine draws such an arrow from what began first."""

    def fill(capture, process, thread):
        capture.launch(thread, "early", at=1_000_000, call=9_000, start=999_000, duration=5_000)
        capture.launch(thread, "at once", at=2_000_000, call=9_000, start=2_000_000, duration=5_000)

    result, found = made(fill)
    assert result.arrows == 2
    same([(a["name"], b["name"]) for a, b in found.flows],
         [("early", "cudaLaunchKernel"), ("cudaLaunchKernel", "at once")])  # fmt: skip


def test_one_operation_that_several_threads_wait_for(made):
    def fill(capture, process, thread):
        capture.launch(
            thread, "awaited", at=1_000_000, call=2_000, start=1_005_000, duration=90_000
        )
        for tid in (4243, 4244):
            other = capture.thread(process, tid, "waiting")
            capture.sync(other, "context", 1_010_000, 1_100_000 + tid)

    _, found = made(fill)
    same(
        [(a["name"], b["name"], b["tid"]) for a, b in found.flows],
        [("cudaLaunchKernel", "awaited", None), ("awaited", "wake-up", 4243),
         ("awaited", "wake-up", 4244)],
    )  # fmt: skip


def test_arguments_with_levels(made):
    _, found = made(two_streams)
    args = next(s["args"] for s in found.gpu if s["name"] == "long")
    levels = {k for k in args if "launch." in k}
    assert levels == {
        f"debug.launch.{what}_size.{axis}" for what in ("grid", "workgroup") for axis in "xyz"
    }


def test_lean(made):
    result, found = made(two_streams, lean=True)
    assert result.arrows == 0
    assert not found.flows
    kernel = next(s["args"] for s in found.gpu if s["name"] == "long")
    assert "debug.process_name" not in kernel
    assert kernel["debug.process_id"] == 4242
    assert "debug.registers_per_thread" in kernel


def test_command(tmp_path, open_in, open_trace):
    path = runs.scenario("decode_eager").path
    output = tmp_path / "trace.pftrace"
    run = command.run(str(path), "--compat", "-o", str(output), "--steps", "5..9")
    assert run[0] == 0, run
    found = CompatTrace(output, open_in)
    assert not found.losses
    assert found.gpu
    steps = [s for s in found.cpu if s["category"] == "nsys.step"]
    assert {s["args"]["decode_step.number"] for s in steps} >= {5, 9}
    with open_trace(output) as tp:  # v52 knows no attributes of a trace
        said = "select str_value from metadata where name = 'trace_attribute.compat'"
        assert query.scalar(tp, said)


@pytest.mark.parametrize("name", ["decode_eager", "unified_memory", "every_copy_kind", "sync_zoo"])
def test_native_traces_in_v52(name, open_trace, open_in_v52):
    """Nothing is an error, and GPU work has its times and names."""
    run = runs.load(name, open_trace)
    with open_in_v52(run.result.output) as tp:
        query.assert_clean(tp)
        found = query.rows(tp, "select ts, dur, name from gpu_slice")
        flows = query.scalar(tp, "select count() from flow")
    same(
        map(tuple, map(dict.values, found)), [(s["ts"], s["dur"], s["name"]) for s in run.trace.gpu]
    )
    assert flows == 0, "docs/trace.md says that there are none"
