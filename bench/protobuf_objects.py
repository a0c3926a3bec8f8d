"""The object-by-object way: the `perfetto` package's own builders, one message object a packet.

Kernels and API calls as TrackEvent slices (a packet where one begins, a packet where it ends), no
interning, no arguments, no arrows. `build` collects everything in a TraceProtoBuilder, `stream`
writes each packet through the StreamingTraceProtoBuilder made for large traces.

    python -m bench.protobuf_objects {build,stream} CAPTURE OUTPUT
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder, TraceProtoBuilder

from .json_converter import CALLS, KERNELS

SEQUENCE = 1


def packets(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """What each packet holds, as arguments of `fill_track`, `fill_begin` or `fill_end`."""
    tracks: dict[int, int] = {}
    for is_thread, query in ((False, KERNELS), (True, CALLS)):
        for start, end, where, *_, name in db.execute(query):
            uuid = tracks.get(where)
            if uuid is None:
                uuid = tracks[where] = len(tracks) + 1
                yield fill_track, uuid, is_thread, where
            yield fill_begin, start, uuid, name
            yield fill_end, end, uuid


def fill_track(packet: Any, uuid: int, is_thread: bool, where: int) -> None:
    """Declare the track of a stream (its id) or of a thread (its global id)."""
    packet.track_descriptor.uuid = uuid
    if is_thread:
        packet.track_descriptor.thread.pid = where >> 24 & 0xFFFFFF
        packet.track_descriptor.thread.tid = where & 0xFFFFFF
    else:
        packet.track_descriptor.name = f"Stream {where}"


def fill_begin(packet: Any, timestamp: int, uuid: int, name: str) -> None:
    """A slice begins."""
    packet.timestamp = timestamp
    packet.trusted_packet_sequence_id = SEQUENCE
    event = packet.track_event
    event.type = TrackEvent.TYPE_SLICE_BEGIN
    event.track_uuid = uuid
    event.name = name


def fill_end(packet: Any, timestamp: int, uuid: int) -> None:
    """The innermost slice of the track ends."""
    packet.timestamp = timestamp
    packet.trusted_packet_sequence_id = SEQUENCE
    event = packet.track_event
    event.type = TrackEvent.TYPE_SLICE_END
    event.track_uuid = uuid


def build(capture: str, output: str) -> None:
    """Collect the trace in memory, then write it."""
    builder = TraceProtoBuilder()
    for fill, *values in packets(sqlite3.connect(capture)):
        fill(builder.add_packet(), *values)
    Path(output).write_bytes(builder.serialize())


def stream(capture: str, output: str) -> None:
    """Write packet by packet."""
    with Path(output).open("wb") as file:
        builder = StreamingTraceProtoBuilder(file)
        for fill, *values in packets(sqlite3.connect(capture)):
            packet = builder.create_packet()
            fill(packet, *values)
            builder.write_packet(packet)


if __name__ == "__main__":
    way, *paths = sys.argv[1:]
    {"build": build, "stream": stream}[way](*paths)
