"""The packet sequences of a trace, and what every packet on them carries.

Interned ids belong to a sequence. Track descriptors have one of their own: on a sequence that also
carries events, the engine would give each slice an argument `legacy_event.passthrough_utid`.
"""

from __future__ import annotations

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

DESCRIPTORS = 1
"""Clock, metadata, GPUs, extension descriptors, tracks."""
GPU = 2
"""GpuRenderStageEvents and what they intern."""
CPU = 3
"""TrackEvents and what they intern."""
COUNTERS = 16
"""TrackEvents that are counters: they intern nothing."""
GPU_COUNTERS = 17
"""GpuCounterEvents and their descriptors."""
SAMPLES = 18
"""CPU samples and what they intern."""

CLEARED = pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED

PACKET_TAG_CUDA = 4
"""InternedGraphicsContext.Api.CUDA and GpuApi.GPU_API_CUDA."""


def start(sequence: int) -> pb.TracePacket:
    """The first packet of a sequence: whatever was interned before is forgotten."""
    return pb.TracePacket(trusted_packet_sequence_id=sequence, sequence_flags=CLEARED)


def following(sequence: int) -> pb.TracePacket:
    """A later packet of a sequence, to be filled.

    Without SEQ_NEEDS_INCREMENTAL_STATE: it would only make the engine skip a packet whose interned
    data are lost, which cannot happen in a file that is written as a whole, and costs two bytes.
    """
    return pb.TracePacket(trusted_packet_sequence_id=sequence)
