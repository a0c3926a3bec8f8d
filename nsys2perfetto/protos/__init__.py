"""Messages that Perfetto's Python package does not have, and the descriptor that explains them.

`extensions_pb2` has the payload messages (``NvtxRange``, ``GpuCorrelation``, ...) and, for each
message that they extend, one with the extensions as ordinary fields: the bytes of a
``TrackEventExtensions`` appended to those of a ``TrackEvent`` are a ``TrackEvent`` with extensions.
The sources are in ``protos/`` at the root of the repository.
"""

from __future__ import annotations

from pathlib import Path


def trace_extensions() -> bytes:
    """The ``FileDescriptorSet`` of every TrackEvent extension that a trace of ours may use.

    Serialized, for ``TracePacket.extension_descriptor.extension_set``. It goes before the first
    event that uses one.
    """
    return Path(__file__).with_name("trace_extensions.binpb").read_bytes()
