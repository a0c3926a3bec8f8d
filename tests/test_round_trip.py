"""decode(encode(x)) = x: traces of random columns, read by the official protobuf parser."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

import nsys2perfetto.protos  # noqa: F401 - registers the messages that the package lacks
from nsys2perfetto import convert
from samples.builder import Capture, Kernel

NAMES = st.sampled_from(["k", "", "日本 🚀", "a\x1b[2J\n", "void f<int>(x)", "long" * 9_000])
TIMES = st.one_of(
    st.integers(0, 60), st.sampled_from([-(1 << 40), 1 << 20, 1 << 35, 1 << 48, (1 << 60) + 1])
)
LENGTHS = st.one_of(st.integers(0, 9), st.sampled_from([127, 128, 1 << 21, 1 << 45, 1 << 60]))
KERNELS = st.lists(
    st.tuples(
        TIMES, LENGTHS, NAMES, NAMES, st.integers(0, 3), st.sampled_from([7, 13, 1 << 31]),
        st.sampled_from([1, 2, (1 << 31) - 1]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip
CALLS = st.lists(
    st.tuples(
        TIMES, LENGTHS, st.sampled_from(["cudaFree", "cuInit", "日本"]), st.integers(0, 2),
        st.sampled_from([0, 0, 2, 700, -1]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


class Decoded:
    """A trace as the parser gives it: every slice, with the texts that its ids stand for."""

    def __init__(self, data: bytes) -> None:
        texts: dict[tuple[int, str], dict[int, str]] = defaultdict(dict)
        self.gpu: list[tuple[object, ...]] = []
        self.cpu: list[tuple[int, int, str]] = []
        open_slices: dict[int, list[tuple[int, str]]] = defaultdict(list)
        tids: dict[int, int] = {}
        for packet in pb.Trace.FromString(data).packet:
            sequence = packet.trusted_packet_sequence_id
            for field, entries in packet.interned_data.ListFields():
                for entry in entries:
                    if hasattr(entry, "name"):
                        texts[sequence, field.name][entry.iid] = entry.name
            if packet.HasField("track_descriptor"):
                descriptor = packet.track_descriptor
                tids[descriptor.uuid] = descriptor.thread.tid or tids.get(descriptor.parent_uuid, 0)
            if packet.HasField("gpu_render_stage_event"):
                event = packet.gpu_render_stage_event
                queue = texts[sequence, "gpu_specifications"][event.hw_queue_iid]
                name = texts[sequence, "event_names"][event.name_iid]
                self.gpu.append((packet.timestamp, event.duration, name, queue.split()[1]))
            if packet.HasField("track_event"):
                event = packet.track_event
                stack = open_slices[event.track_uuid]
                if event.type == event.TYPE_SLICE_BEGIN:
                    stack.append((packet.timestamp, texts[sequence, "event_names"][event.name_iid]))
                elif event.type == event.TYPE_SLICE_END:
                    start, name = stack.pop()
                    if tid := tids[event.track_uuid]:
                        self.cpu.append((start, packet.timestamp, name, tid))
        assert not any(open_slices.values()), "every slice ends"


@settings(max_examples=8)
@given(KERNELS, CALLS)
def test_a_trace_read_by_the_official_parser(kernels, calls):
    capture = Capture("3.24.0")
    capture.gpu()
    process = capture.process(4242, "app")
    threads = [capture.thread(process, 4242 + n, f"t{n}") for n in range(3)]
    for start, length, name, demangled, correlation, stream, grid in kernels:
        kernel = Kernel(name, demangled, grid=(grid, 1, 1))
        capture.kernel(
            process, kernel, start, start + length, correlation=correlation, stream=stream
        )
    for n, (start, length, name, thread, returned) in enumerate(calls):
        capture.api(threads[thread], name, start, start + length, returned=returned, correlation=n)
    with tempfile.TemporaryDirectory() as folder:
        path = capture.save(Path(folder), "x")
        result = convert(path)
        found = Decoded(result.output.read_bytes())
    shift = result.time_shift_ns
    assert shift == max(0, -min((row[0] for row in (*kernels, *calls)), default=0))
    assert Counter(found.gpu) == Counter(
        (start + shift, length, name or demangled or "[unnamed kernel]", str(stream))
        for start, length, name, demangled, _, stream, _ in kernels
    )
    assert Counter(found.cpu) == Counter(
        (start + shift, start + length + shift, name, 4242 + thread)
        for start, length, name, thread, _ in calls
    )
