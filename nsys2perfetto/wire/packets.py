"""Packets whose number is small: written with the official classes, one by one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from google.protobuf.message import Message
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.wire import varint
from nsys2perfetto.wire.ragged import WIRE_LENGTH, Ragged, tag
from nsys2perfetto.wire.template import TRACE_PACKET

INTERNED_DATA = 12
"""Field `TracePacket.interned_data`."""

_INTERN_CHUNK = 4 << 20
"""Bytes of interned data a packet: the engine reads packets of any size, small ones stream."""


def frame(packets: Iterable[Message]) -> bytes:
    """Serialises packets as they lie in a trace file."""
    trace = pb.Trace()
    for packet in packets:
        trace.packet.add().CopyFrom(packet)
    return trace.SerializeToString()


def interned(packet: pb.TracePacket, entries: Ragged) -> Iterable[bytes]:
    """Packets that carry interned entries, each a copy of `packet` plus a share of them.

    Args:
        packet: Sequence id and flags; must not hold `interned_data` itself, since the engine does
            not merge two of them in one packet (it reads the last).
        entries: Serialised fields of InternedData, one a row.
    """
    head = packet.SerializeToString()
    start = 0
    while start < len(entries):
        limit = int(entries.offsets[start]) + _INTERN_CHUNK
        stop = max(start + 1, int(entries.offsets.searchsorted(limit, side="right")) - 1)
        body = entries.slice(start, stop).tobytes()
        yield _field(TRACE_PACKET, head + _field(INTERNED_DATA, body))
        start = stop


def _field(number: int, body: bytes) -> bytes:
    return tag(number, WIRE_LENGTH) + varint.encode(np.array([len(body)]))[0].tobytes() + body
