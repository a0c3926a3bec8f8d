"""Points in time on tracks: NVTX marks, messages of nsys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.nsys.metadata import Message
from nsys2perfetto.tracks import sequences
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.thread_slices import CHUNK, Fill
from nsys2perfetto.wire.stamp import RowSlot, Stamper
from nsys2perfetto.wire.template import Placeholders

_MESSAGES_TRACK = "nsys messages"
_MESSAGES_HELP = "What nsys had to say while it captured and exported (table DIAGNOSTIC_EVENT)."
_TITLE = 120
"""Characters of a message that become its name; the whole text is an argument."""


def instants(
    config: pl.DataFrame,
    code: npt.NDArray[np.uint32],
    time: npt.NDArray[np.int64],
    fill: Fill,
    rows: Mapping[str, RowSlot],
    values: Mapping[str, npt.NDArray[np.generic]],
    present: Mapping[str, npt.NDArray[np.bool_]],
) -> Iterator[npt.NDArray[np.uint8]]:
    """Writes instants.

    Args:
        config: Slots track, name_iid, category_iid and those of `fill`, a row a configuration.
        code: Shape (n,).
        time: ns on the trace's clock, shape (n,).
        fill: Adds what is special to the event.
        rows, values, present: Row slots, see `Stamper`.
    """
    if not len(time):
        return

    def packet(p: Placeholders) -> pb.TracePacket:
        result = sequences.following(sequences.CPU)
        result.timestamp = p["ts"]
        event = result.track_event
        event.type = pb.TrackEvent.TYPE_INSTANT
        event.track_uuid = p["track"]
        event.name_iid = p["name_iid"]
        event.category_iids.append(p["category_iid"])
        fill(p, event)
        return result

    stamper = Stamper(packet, config, {"ts": RowSlot.fitting(time), **rows})
    for low in range(0, len(time), CHUNK):
        part = slice(low, low + CHUNK)
        chunk = {"ts": time[part], **{n: c[part] for n, c in values.items()}}
        masks = {name: mask[part] for name, mask in present.items()}
        for _, block in stamper.stamp(code[part], chunk, masks):
            yield block


def messages(
    found: Iterable[Message], tracks: Tracks, pools: Pools, shift: int
) -> Iterator[pb.TracePacket]:
    """The messages of nsys on a track of their own.

    Many precede the session by up to a second. They are shown at its start, their own time is an
    argument: shifting every event of the trace for their sake would help nobody.
    """
    track: int | None = None
    for message in found:
        if track is None:
            track = tracks.child(None, _MESSAGES_TRACK, _MESSAGES_HELP)
        packet = sequences.following(sequences.CPU)
        packet.timestamp = max(0, message.time + shift)
        event = packet.track_event
        event.type = pb.TrackEvent.TYPE_INSTANT
        event.track_uuid = track
        event.name_iid = pools.names.iid(_title(message.text))
        event.category_iids.append(pools.categories.iid("nsys.message"))
        for name, value in (("severity", message.severity), ("text", message.text)):
            event.debug_annotations.add(
                name_iid=pools.annotations.iid(name), string_value_iid=pools.texts.iid(value)
            )
        event.debug_annotations.add(
            name_iid=pools.annotations.iid("time_ns"), int_value=message.time
        )
        yield packet


def _title(text: str) -> str:
    first = text.strip().split("\n", 1)[0]
    return first if len(first) <= _TITLE else first[: _TITLE - 1] + "…"
