"""Counters on tracks of processes or of the whole trace: TrackEvents of type counter.

A value holds from its time on, until the next one: right for sizes and for what is known at the
beginning of an interval. GPU metrics, known at its end, are `gpu_counters`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.tracks import sequences
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.wire.stamp import RowSlot, Stamper
from nsys2perfetto.wire.template import DOUBLE, Placeholders

CHUNK = 65536

_UNIT = pb.CounterDescriptor.Unit
_UNITS = {"B": _UNIT.UNIT_SIZE_BYTES, "ns": _UNIT.UNIT_TIME_NS}
"""The engine calls them "bytes" and "ns"; the UI adds SI prefixes to bytes."""


@dataclass(frozen=True)
class CounterValues:
    """Values of one counter.

    Attributes:
        track: uuid, from `counter_track`.
        time: ns as the capture counts, shape (n,).
        value: Integers or reals, shape (n,); holds from its time on.
    """

    track: int
    time: npt.NDArray[np.int64]
    value: npt.NDArray[np.generic]


def counter_track(
    tracks: Tracks,
    parent: int | None,
    name: str,
    unit: str = "",
    description: str = "",
    scale: str = "",
    rank: int | None = None,
    ranks: bool = False,
) -> int:
    """The uuid of a new counter track.

    Args:
        tracks: Hands out the uuid, and writes the descriptor.
        parent: uuid of the track above; None at the root.
        name: Tracks of the same name and parent are shown as one.
        unit: `B`, `ns`, or any text (the UI adds SI prefixes to B, Hz, W, s, ... only).
        description: Shown in the track's help.
        scale: Counters of one parent with the same text here share their y axis.
        rank, ranks: See `Tracks.child`.
    """
    counter = pb.CounterDescriptor()
    if unit in _UNITS:
        counter.unit = _UNITS[unit]
    elif unit:
        counter.unit_name = unit
    if scale:
        counter.y_axis_share_key = scale
    return tracks.child(parent, name, description, counter, rank, ranks)


def packets(counters: Sequence[CounterValues], shift: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Writes the values of any number of counters; `shift` ns are added to every timestamp."""
    reals = [c for c in counters if len(c.time) and c.value.dtype.kind == "f"]
    integers = [c for c in counters if len(c.time) and c.value.dtype.kind != "f"]
    yield from _stamp(integers, shift, is_real=False)
    yield from _stamp(reals, shift, is_real=True)


def _stamp(
    counters: Sequence[CounterValues], shift: int, is_real: bool
) -> Iterator[npt.NDArray[np.uint8]]:
    if not counters:
        return

    def packet(p: Placeholders) -> pb.TracePacket:
        # Nothing is interned here, so no state is needed.
        result = pb.TracePacket(trusted_packet_sequence_id=sequences.COUNTERS)
        result.timestamp = p["ts"]
        event = result.track_event
        event.type = pb.TrackEvent.TYPE_COUNTER
        event.track_uuid = p["track"]
        if is_real:
            event.double_counter_value = p.double("value")
        else:
            event.counter_value = p.signed("value")
        return result

    code = np.repeat(np.arange(len(counters), dtype=np.uint32), [len(c.time) for c in counters])
    time = np.concatenate([c.time for c in counters]) + shift
    value = np.concatenate([c.value for c in counters])
    rows = {
        "ts": RowSlot.fitting(time),
        "value": RowSlot(DOUBLE) if is_real else RowSlot.fitting(value),
    }
    stamper = Stamper(packet, pl.DataFrame({"track": [c.track for c in counters]}), rows)
    for low in range(0, len(time), CHUNK):
        part = slice(low, low + CHUNK)
        for _, block in stamper.stamp(code[part], {"ts": time[part], "value": value[part]}):
            yield block
