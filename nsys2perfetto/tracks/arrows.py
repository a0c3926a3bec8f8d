"""How a slice says which GPU operations it submitted, so that the engine draws arrows to them.

Native traces name the operations by event id (`gpu_correlation`). Traces of TrackEvents only have
flow ids instead: a flow begins at the slice that lists its id (`flow_ids`) and ends at the one that
terminates it (`terminating_flow_ids`). The engine reads events in order of time, of equal times in
order of the file, and silently drops a flow that ends before it has begun.
"""

from __future__ import annotations

import struct
from typing import Protocol

import numpy as np
import numpy.typing as npt
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.protos.extensions_pb2 import GpuCorrelation, TrackEventExtensions
from nsys2perfetto.wire import ragged
from nsys2perfetto.wire.ragged import Ragged
from nsys2perfetto.wire.stamp import RowSlot
from nsys2perfetto.wire.template import DOUBLE, Placeholders

I64 = npt.NDArray[np.int64]

ARROW_IN = "arrow_in"
"""The slot of a flow that ends at a slice."""

_GPU_CORRELATION = 3000
_FLOW_IDS = 47


class Arrows(Protocol):
    """A way to write the ids of operations into a TrackEvent."""

    def slot(self, last: I64) -> RowSlot:
        """The slot of a slice with one operation; `last` holds the largest id."""

    def column(self, ids: I64) -> npt.NDArray[np.generic]:
        """What is patched into that slot."""

    def add(self, p: Placeholders, slot: str, event: pb.TrackEvent) -> None:
        """Adds the slot to the template."""

    def lists(self, ids: I64, counts: I64) -> Ragged:
        """Fields of a TrackEvent a row: the first counts[0] ids in row 0, and so on."""


class _Correlations:
    """`gpu_correlation.render_stage_submission_event_ids`."""

    def slot(self, last: I64) -> RowSlot:
        return RowSlot.fitting(last, optional=True)

    def column(self, ids: I64) -> npt.NDArray[np.generic]:
        return ids

    def add(self, p: Placeholders, slot: str, event: pb.TrackEvent) -> None:
        correlation = GpuCorrelation(render_stage_submission_event_ids=[p[slot]])
        extension = TrackEventExtensions(gpu_correlation=correlation)
        event.MergeFromString(extension.SerializeToString())

    def lists(self, ids: I64, counts: I64) -> Ragged:
        body = ragged.group(ragged.encode_varint(1, ids), counts)
        return ragged.length_delimited(_GPU_CORRELATION, body)


class _Flows:
    """`flow_ids`."""

    def slot(self, last: I64) -> RowSlot:
        return FLOW_SLOT

    def column(self, ids: I64) -> npt.NDArray[np.generic]:
        return flow_column(ids)

    def add(self, p: Placeholders, slot: str, event: pb.TrackEvent) -> None:
        event.flow_ids.append(_fixed64(p, slot))

    def lists(self, ids: I64, counts: I64) -> Ragged:
        tag = ragged.repeat(ragged.tag(_FLOW_IDS, ragged.WIRE_FIXED64), len(ids))
        raw = np.ascontiguousarray(ids, "<i8").view(np.uint8).reshape(-1, 8)
        return ragged.group(ragged.concat(tag, ragged.from_matrix(raw)), counts)


CORRELATIONS: Arrows = _Correlations()
FLOWS: Arrows = _Flows()

FLOW_SLOT = RowSlot(DOUBLE, optional=True)
"""Flow ids are eight bytes of a fixed place, as doubles are."""


def flow_column(ids: I64) -> npt.NDArray[np.generic]:
    """Flow ids as `FLOW_SLOT` wants them: the same bits, called doubles."""
    return np.ascontiguousarray(ids, "<i8").view("<f8")


def end_flow(p: Placeholders, slot: str, event: pb.TrackEvent) -> None:
    """Adds the flow that ends at this event, if the slot is present."""
    if slot in p:
        event.terminating_flow_ids.append(_fixed64(p, slot))


def _fixed64(p: Placeholders, slot: str) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", p.double(slot)))[0])
