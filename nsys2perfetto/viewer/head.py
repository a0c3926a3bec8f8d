"""What a trace says of itself at its head, read without a trace processor."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

_ENOUGH = 1 << 20
"""Bytes from the start in which the head of our traces lies: some kB."""
_GZIP = b"\x1f\x8b"
_PACKET = 0x0A
"""Tag of `Trace.packet` (Perfetto's trace.proto)."""


def kernels(trace: Path) -> int | None:
    """How many kernels a trace of ours has; None where it does not tell, or is somebody else's."""
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb  # noqa: PLC0415 - slow

    try:
        for data in _packets(_start(trace)):
            for attribute in pb.TracePacket.FromString(data).trace_attributes.attribute:
                if attribute.key == "kernels":
                    return int(attribute.long_value)
    except (OSError, EOFError, DecodeError, zlib.error):
        return None  # damaged, or no trace: the UI will say what it thinks of it
    return None


def _start(trace: Path) -> bytes:
    with trace.open("rb") as file:
        is_compressed = file.read(2) == _GZIP
    if not is_compressed:
        with trace.open("rb") as file:
            return file.read(_ENOUGH)
    with gzip.open(trace) as unpacked:
        return unpacked.read(_ENOUGH)


def _packets(data: bytes) -> Iterator[bytes]:
    """The packets that lie wholly in the start of a trace."""
    at = 0
    while at < len(data) and data[at] == _PACKET:
        length = shift = 0
        at += 1
        while at < len(data):
            byte = data[at]
            length |= (byte & 127) << shift
            shift += 7
            at += 1
            if byte < 128:
                break
        if at + length > len(data):
            return
        yield data[at : at + length]
        at += length
