"""NVTX ranges and marks where the program made them, and ranges projected onto the GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import columns, nesting, nvtx_projection
from nsys2perfetto.nsys import nvtx
from nsys2perfetto.nsys.events import Events
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.protos import extensions_pb2 as ext
from nsys2perfetto.tracks.cuda_api import Calls, Operations
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.instants import instants
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import AnnotationKind, Pools, annotate
from nsys2perfetto.tracks.thread_slices import (
    SliceFamily,
    lane_tracks,
    tracks_of_processes,
    with_own_track,
)
from nsys2perfetto.wire.stamp import RowSlot
from nsys2perfetto.wire.template import DOUBLE, Placeholders

I64 = npt.NDArray[np.int64]

CATEGORY = "nvtx"
PROJECTED_CATEGORY = "nvtx_gpu"
PRIORITY = 0
PROJECTED_PRIORITY = 0

_RANGES_TRACK = "NVTX start/end ranges"
_PROJECTION_TRACK = "NVTX on GPU"
_PROJECTION_HELP = (
    "Each NVTX range from the start of the first to the end of the last GPU operation that was "
    "launched inside it, on its thread."
)


@dataclass(frozen=True)
class Nvtx:
    """NVTX events prepared for writing."""

    events: Events
    slots: pl.DataFrame
    """A row a configuration: thread, name and what becomes arguments."""
    kinds: dict[str, AnnotationKind]
    iids: dict[str, int]
    type: I64
    """eventType of each event."""
    names: pl.Series
    """Name of each configuration."""

    @property
    def thread(self) -> I64:
        """The globalTid of each event."""
        return np.asarray(self.slots["thread"].to_numpy()[self.events.code], np.int64)

    @property
    def on_one_thread(self) -> npt.NDArray[np.bool_]:
        """Which events end on the thread on which they began."""
        config = self.events.config
        end = config["endGlobalTid"]
        single = end.is_null() | (end == config["globalTid"])
        return np.asarray(single.to_numpy()[self.events.code], np.bool_)

    def _row_slots(self) -> dict[str, RowSlot]:
        return {
            name: RowSlot(DOUBLE, optional=True)
            if name in nvtx.REAL_PAYLOADS
            else RowSlot.fitting(values, optional=True)  # type: ignore[arg-type]
            for name, values in self.events.values.items()
        }

    def _fill(self, p: Placeholders, event: pb.TrackEvent) -> None:
        annotate(p, event, self.kinds, self.iids)

    def push_pop(self) -> SliceFamily:
        """Push/pop ranges, on their threads."""
        return self._slices(np.isin(self.type, nvtx.PUSH_POP), self.slots)

    def start_end(self, tracks: Tracks) -> SliceFamily:
        """Start/end ranges, which need not nest: on tracks of their process, without overlap."""
        mask = np.isin(self.type, nvtx.START_END)
        threads = self.slots["thread"].to_numpy()
        # Here the threads are arguments, since the track does not tell them.
        slots = self.slots.rename({"thread": "thread_id"}).with_columns(
            pl.col("thread_id") & 0xFFFFFF, pl.lit(0, dtype=pl.Int64).alias("track")
        )
        family = self._slices(mask, slots)
        if len(family):
            parent = tracks_of_processes(tracks, (threads & PROCESS_MASK)[family.code])
            lane = nesting.lanes(parent, family.start, family.end)
            track = lane_tracks(tracks, parent, lane, _RANGES_TRACK)
            rows = np.arange(len(family))
            family.config, family.code = with_own_track(family.config, family.code, rows, track)
        return family

    def marks(self, tracks: Tracks, shift: int) -> Iterator[npt.NDArray[np.uint8]]:
        """Marks, as instants on their threads."""
        rows = np.nonzero(self.type == nvtx.MARK)[0]
        events = self.events.take(rows)
        used = np.unique(events.code)
        threads = self.slots["thread"]
        uuids = [tracks.thread(t) for t in threads[used.astype(np.int64)].to_list()]
        track = np.zeros(len(threads), np.int64)
        track[used] = uuids
        return instants(
            self.slots.drop("thread", "end_thread").with_columns(pl.Series("track", track)),
            events.code,
            events.start + shift,
            self._fill,
            self._row_slots(),
            events.values,
            events.valid,
        )

    def _slices(self, mask: npt.NDArray[np.bool_], slots: pl.DataFrame) -> SliceFamily:
        events = self.events.take(mask)
        return SliceFamily(
            "nvtx",
            slots,
            events.start,
            events.end,
            events.code,
            self._fill,
            PRIORITY,
            self._row_slots(),
            dict(events.values),
            dict(events.valid),
        )


def prepare(events: Events, names: nvtx.NvtxNames, strings: StringTable, pools: Pools) -> Nvtx:
    """Names the events and interns what they say."""
    config = nvtx.described(events.config, strings, names)
    texts = {
        "domain": config["domain"],
        "category": config["category_name"],
        "color": config["rgb"],
        "json": config["json"],
    }
    kinds: dict[str, AnnotationKind] = dict.fromkeys(texts, "text")
    kinds |= {"thread_id": "int", "end_thread": "int"}
    kinds |= dict.fromkeys(nvtx.REAL_PAYLOADS, "double")
    kinds |= {
        name: "uint" if kind == "uint" else "int" for name, kind in nvtx.INTEGER_PAYLOADS.items()
    }
    payload = pools.annotations.iid("payload")
    iids = {
        name: payload if name.endswith("Value") else pools.annotations.iid(name) for name in kinds
    }
    slots = pl.DataFrame(
        {
            "thread": config["globalTid"],
            "name_iid": pools.names.iids(config["name"]),
            **{name: pools.texts.iids(text) for name, text in texts.items()},
        }
    ).with_columns(
        pl.lit(pools.categories.iid(CATEGORY), dtype=pl.Int64).alias("category_iid"),
        (config["endGlobalTid"] & 0xFFFFFF).alias("end_thread"),
    )
    event_type = config["eventType"].fill_null(0).to_numpy()
    return Nvtx(
        events, slots, kinds, iids, np.asarray(event_type[events.code], np.int64), config["name"]
    )


def projection(
    prepared: Nvtx,
    calls: Calls,
    operations: Operations,
    pools: Pools,
    tracks: Tracks,
    shift: int,
    detail: Detail = FULL,
) -> SliceFamily | None:
    """Ranges on the GPU by Nsight's rule, a track a thread, nested where the ranges nest.

    Ranges that end on another thread than they began are left out, as Nsight does.
    """
    rows = np.nonzero(np.isin(prepared.type, nvtx.RANGES) & prepared.on_one_thread)[0]
    launches = launches_of(calls, operations)
    if not len(rows) or not len(launches.start):
        return None
    ranges = prepared.events.take(rows)
    thread = prepared.thread[rows]
    found = nvtx_projection.project(thread, ranges.start, ranges.end, launches)
    has = found.op_count > 0
    if not has.any():
        return None
    ranges, code = ranges.take(has), ranges.code[has]
    config = _projection_tracks(prepared.slots, code, pools, tracks)

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
        projected = ext.GpuProjection(gpu_op_count=p["count"])
        if detail.projection:
            projected.range_start = p.signed("range_start")
            projected.range_duration = p.signed("range_duration")
        extension = ext.TrackEventExtensions(gpu_projection=projected)
        event.MergeFromString(extension.SerializeToString())

    values: dict[str, columns.Column] = {
        "count": found.op_count[has],
    }
    if detail.projection:
        values["range_start"] = ranges.start + shift
        values["range_duration"] = ranges.end - ranges.start
    return SliceFamily(
        "nvtx_projection",
        config,
        found.start[has],
        found.end[has],
        code,
        fill,
        PROJECTED_PRIORITY,
        {name: RowSlot.fitting(column) for name, column in values.items()},  # type: ignore[arg-type]
        values,
    )


def _projection_tracks(
    slots: pl.DataFrame, code: npt.NDArray[np.uint32], pools: Pools, tracks: Tracks
) -> pl.DataFrame:
    """Name, category and track of each configuration that has a projection."""
    threads = slots["thread"].to_list()
    used = sorted({threads[c] for c in np.unique(code).tolist()})
    threads_of = Counter(t & PROCESS_MASK for t in used)
    uuids = {}
    for thread in used:
        process, name = thread & PROCESS_MASK, _PROJECTION_TRACK
        if threads_of[process] > 1:
            name += f" · {tracks.thread_names.get(thread) or 'thread'} {tracks.tid(thread)}"
        uuids[thread] = tracks.child(tracks.process(process), name, _PROJECTION_HELP)
    category = pools.categories.iid(PROJECTED_CATEGORY)
    return slots.select(
        "name_iid",
        pl.lit(category, dtype=pl.Int64).alias("category_iid"),
        slots["thread"].replace_strict(uuids, default=0, return_dtype=pl.Int64).alias("track"),
    )


def launches_of(
    calls: Calls, operations: Operations, some: I64 | None = None
) -> nvtx_projection.Launches:
    """The calls that submitted GPU work, with the span of that work.

    Args:
        calls: All CUDA calls.
        operations: All GPU work.
        some: The rows of the operations that count, ascending; None for all.
    """
    if some is None:
        rows = np.flatnonzero(calls.submitting_call >= 0)
    else:
        rows = some[calls.submitting_call[some] >= 0]
    call = calls.submitting_call[rows]
    if (call[1:] < call[:-1]).any():
        order = np.argsort(call, kind="stable")
        rows, call = rows[order], call[order]
    start, end = operations.start[rows], operations.end[rows]
    count = np.broadcast_to(np.int64(1), len(call))
    if (call[1:] == call[:-1]).any():
        heads = np.flatnonzero(np.append(True, call[1:] != call[:-1]))
        start, end = np.minimum.reduceat(start, heads), np.maximum.reduceat(end, heads)
        count, call = np.diff(np.append(heads, len(call))), call[heads]
    events = calls.events
    threads = np.asarray(events.config["globalTid"].to_numpy(), np.int64)
    return nvtx_projection.Launches(
        columns.spread(threads, events.code[call]),
        events.start[call],
        events.end[call],
        start,
        end,
        count,
    )
