"""What all GPU work has in common: one GpuRenderStageEvent packet an operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.nsys.events import Events
from nsys2perfetto.tracks import sequences
from nsys2perfetto.wire import ragged
from nsys2perfetto.wire.ragged import Ragged
from nsys2perfetto.wire.stamp import RowSlot, Stamper
from nsys2perfetto.wire.template import Placeholders

CHUNK = 65536
"""Events stamped at a time: their bytes stay in the processor's cache."""

UINT32_MAX = 0xFFFFFFFF

Fill = Callable[[Placeholders, pb.GpuRenderStageEvent], None]


@dataclass
class GpuFamily:
    """One kind of GPU work, ready to be written.

    Attributes:
        name: As the summary calls it; a key of `gpu_queues.STAGES`, except for migrations.
        events: The operations; values: correlationId and what the family needs.
        config: A row a configuration: the slots of the template, plus `queue_iid`, `context_iid`,
            `gpu` and `stage_iid`.
        fill: Adds what is special to the family to the event.
        rows: Row slots beside time, duration and event id.
        values: Their columns, shape (n,).
        present: Which events have an optional row slot.
        interned: What the packets refer to, as fields of InternedData.
        arguments: A row a configuration, a column an argument (null: has none), for traces without
            GPU model. Without those that are `values`.
        first_event_id: The id of the first operation; the others follow.
    """

    name: str
    events: Events
    config: pl.DataFrame
    fill: Fill
    rows: dict[str, RowSlot] = field(default_factory=dict)
    values: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    present: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    interned: Callable[[], list[Ragged]] = list
    arguments: Callable[[], pl.DataFrame] = pl.DataFrame
    first_event_id: int = 1

    def packets(self, shift: int) -> Iterator[npt.NDArray[np.uint8]]:
        """The serialised packets, in chunks; `shift` ns are added to every timestamp."""
        events = self.events
        if not len(events):
            return
        last_id = self.first_event_id + len(events) - 1
        duration = events.end - events.start
        rows = {
            "ts": RowSlot.fitting(np.array([events.start.max() + shift])),
            "duration": RowSlot.fitting(duration),
            "event_id": RowSlot.fitting(np.array([last_id])),
            **self.rows,
        }
        first_gpu = pl.col("gpu").replace(0, None)
        stamper = Stamper(self._packet, self.config.with_columns(first_gpu), rows)
        for low in range(0, len(events), CHUNK):
            part = slice(low, low + CHUNK)
            start = events.start[part]
            values = {
                "ts": start + shift,
                "duration": duration[part],
                "event_id": np.arange(len(start)) + (self.first_event_id + low),
                **{name: column[part] for name, column in self.values.items()},
            }
            present = {name: mask[part] for name, mask in self.present.items()}
            blocks = list(stamper.stamp(events.code[part], values, present))
            # In order: the engine numbers what begins at the same time as it stands in the file.
            pieces = [(rows, ragged.from_matrix(block)) for rows, block in blocks]
            whole = len(blocks) == 1
            yield blocks[0][1] if whole else ragged.interleave(pieces, len(start)).data

    def _packet(self, p: Placeholders) -> pb.TracePacket:
        packet = sequences.following(sequences.GPU)
        packet.timestamp = p["ts"]
        event = packet.gpu_render_stage_event
        event.event_id = p["event_id"]
        event.duration = p["duration"]
        event.hw_queue_iid = p["queue_iid"]
        event.stage_iid = p["stage_iid"]
        if "gpu" in p:  # absent means GPU 0
            event.gpu_id = p["gpu"]
        event.context = p["context_iid"]
        self.fill(p, event)
        return packet


def uint32(column: str) -> pl.Expr:
    """A column as protobuf's uint32 can hold it: what does not fit (damage) becomes null."""
    value = pl.col(column)
    return pl.when(value.is_between(0, UINT32_MAX)).then(value).alias(column)


def is_set(column: str) -> pl.Expr:
    """A column in which 0 means "none", as for graph ids (NSYS_SCHEMA section 3)."""
    value = pl.col(column)
    return pl.when(value != 0).then(value)
