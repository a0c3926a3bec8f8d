"""Slices on threads: all families of a thread share its own track and read as one call stack.

The engine closes the innermost open slice at each end, so a track must nest, and slices that begin
or end at the same nanosecond must stand in the right order in the file. All families are therefore
sorted together. What would overlap partially goes to a child track of the thread, never dropped,
never altered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import nesting
from nsys2perfetto.analysis.columns import Column, joined
from nsys2perfetto.analysis.correlate import Submissions
from nsys2perfetto.tracks import sequences
from nsys2perfetto.tracks.arrows import CORRELATIONS, Arrows
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.wire import ragged
from nsys2perfetto.wire.ragged import Ragged
from nsys2perfetto.wire.stamp import RowSlot, Stamper
from nsys2perfetto.wire.template import Placeholders

CHUNK = 65536
MOST_LEVELS = 512
"""Perfetto's engine gives slices of deeper levels wrong ends (kMaxDepth of slice_tracker.cc)."""
I64 = npt.NDArray[np.int64]
Fill = Callable[[Placeholders, pb.TrackEvent], None]

AT_END = "arrow_in_late"
"""The one slot of a family's own that stands in the end event: see `SliceFamily.finish`."""


@dataclass
class SliceFamily:
    """Slices of one kind, on the threads that did them.

    Attributes:
        name: As the summary calls it.
        config: A row a configuration. `thread`: the globalTid (`track` instead for slices that
            have a track of their own); `name_iid`, `category_iid`; more slots as `fill` needs.
        start, end, code: Shape (n,): ns, and the row of `config`.
        fill: Adds what is special to the family to the begin event.
        priority: Between slices of equal time the smaller is outside.
        rows, values, present: Row slots of the begin event, see `Stamper`, and their columns.
        submissions: GPU operations that each slice submitted, and what tells their ids.
        arrows: How these ids are written.
        finish: Adds the slot AT_END to the end event.
        in_order: The slices have tracks of their own, on which they stand one after the other, and
            the rows are in that order: nothing is left to sort.
    """

    name: str
    config: pl.DataFrame
    start: I64
    end: I64
    code: npt.NDArray[np.uint32]
    fill: Fill = lambda p, event: None
    priority: int = 0
    rows: dict[str, RowSlot] = field(default_factory=dict)
    values: dict[str, Column] = field(default_factory=dict)
    present: dict[str, Column] = field(default_factory=dict)
    submissions: tuple[Submissions, Callable[[I64], I64]] | None = None
    arrows: Arrows = CORRELATIONS
    finish: Fill = lambda p, event: None
    in_order: bool = False

    def __len__(self) -> int:
        return len(self.start)


def packets(
    families: Sequence[SliceFamily], tracks: Tracks, shift: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Writes families of slices.

    The descriptors of the tracks they use are complete once it has given its first chunk.

    Args:
        families: In any order.
        tracks: Gives the tracks.
        shift: ns added to every timestamp.
    """
    ordered = [f for f in families if len(f) and f.in_order]
    families = [f for f in families if len(f) and not f.in_order]
    if families:
        yield from _sorted(families, tracks, shift)
    for family in ordered:
        encoder = _Encoder(family, shift)
        for low in range(0, len(family), CHUNK):
            rows = np.arange(low, min(low + CHUNK, len(family)))
            yield ragged.interleave(list(encoder.encode(rows)), len(rows)).data


def _sorted(
    families: list[SliceFamily], tracks: Tracks, shift: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Writes families that share tracks."""
    placed = _place(families, tracks)
    encoders = [_Encoder(f, shift) for f in placed.families]
    n = len(placed.order)
    for low in range(0, n, CHUNK):
        rows = placed.order[low : low + CHUNK]
        owner = (
            np.searchsorted(placed.offsets, rows, side="right") - 1
            if len(families) > 1
            else np.zeros(len(rows), np.int64)
        )
        pieces: list[tuple[npt.NDArray[np.intp], Ragged]] = []
        for i in np.unique(owner):
            mine = np.nonzero(owner == i)[0]
            for part, block in encoders[i].encode(rows[mine] - placed.offsets[i]):
                pieces.append((mine[part], block))
        yield ragged.interleave(pieces, len(rows)).data


@dataclass
class _Placed:
    families: list[SliceFamily]
    order: I64
    """All slices in writing order: numbered through all families."""
    offsets: I64
    """The number of each family's first slice, and the total."""


def _place(families: list[SliceFamily], tracks: Tracks) -> _Placed:
    """Sorts the slices of all families, and gives each configuration its track."""
    threads = sorted(
        {t for f in families if "thread" in f.config for t in f.config["thread"].to_list()}
    )
    uuid = {t: tracks.thread(t) for t in threads}
    families = [_with_track(f, uuid) for f in families]
    offsets = np.cumsum([0, *(len(f) for f in families)])
    track, start, end = (joined([column(f) for f in families]) for column in (_track, _start, _end))
    priority = np.repeat(np.array([f.priority for f in families], np.int16), np.diff(offsets))
    order = nesting.nesting_order(track, start, end, priority)
    _move_what_cannot_stay(families, offsets, order, (track, start, end), tracks)
    return _Placed(families, order, offsets)


def _move_what_cannot_stay(
    families: list[SliceFamily],
    offsets: I64,
    order: I64,
    columns: tuple[I64, I64, I64],
    tracks: Tracks,
) -> None:
    """Finds the slices that would not nest, or too deeply; `columns` are track, start and end."""
    track, start, end = (column[order] for column in columns)
    crosses = nesting.crossing(track, start, end)
    if crosses.any():
        _move_to_children(families, offsets, np.sort(order[crosses]), columns[0], tracks)
        order, track, start, end = (a[~crosses] for a in (order, track, start, end))
    deep, storey = nesting.too_deep(track, start, end, MOST_LEVELS)
    if len(deep):
        _move_to_children(families, offsets, order[deep], columns[0], tracks, storey)


def _track(family: SliceFamily) -> I64:
    """The uuid of each slice's track: they count from 1, so 32 bits hold them."""
    return family.config["track"].to_numpy().astype(np.int32)[family.code]  # type: ignore[return-value]


def _start(family: SliceFamily) -> I64:
    return family.start


def _end(family: SliceFamily) -> I64:
    return family.end


def _with_track(family: SliceFamily, uuid: dict[int, int]) -> SliceFamily:
    if "thread" in family.config:
        track = family.config["thread"].replace_strict(uuid, return_dtype=pl.Int64).alias("track")
        family.config = family.config.drop("thread").with_columns(track)
    return family


def _move_to_children(
    families: list[SliceFamily],
    offsets: I64,
    moved: I64,
    track: I64,
    tracks: Tracks,
    storey: I64 | None = None,
) -> None:
    """Puts slices onto child tracks.

    Args:
        families: All of them.
        offsets: The number of each family's first slice, and the total.
        moved: The slices, numbered through all families.
        track: The uuid of each slice's track now.
        tracks: Gives the child tracks.
        storey: Which child of its track each takes, for slices that nest; None for slices that
            cross others: as few children as keep them from overlapping.
    """
    for i, family in enumerate(families):
        mine = np.flatnonzero((moved >= offsets[i]) & (moved < offsets[i + 1]))
        rows = moved[mine] - offsets[i]
        if not len(rows):
            continue
        parent = track[rows + offsets[i]]
        if storey is None:
            lane = nesting.lanes(parent, family.start[rows], family.end[rows])
            name = f"{family.name} (overlapping)"
        else:
            lane, name = storey[mine].astype(np.int32), f"{family.name} (deeper)"
        child = lane_tracks(tracks, parent, lane, name)
        family.config, family.code = with_own_track(family.config, family.code, rows, child)


def lane_tracks(tracks: Tracks, parent: I64, lane: npt.NDArray[np.int32], name: str) -> I64:
    """The uuid of a child track for each (parent, lane).

    All are called the same, so that the UI shows the lanes of a parent as one track.
    """
    pairs = pl.DataFrame({"parent": parent, "lane": lane})
    distinct = pairs.unique().sort("parent", "lane")
    uuids = [tracks.child(p, name) for p in distinct["parent"].to_list()]
    return (
        pairs.join(
            distinct.with_columns(pl.Series("uuid", uuids, dtype=pl.Int64)),
            on=["parent", "lane"],
            how="left",
            maintain_order="left",
        )["uuid"]
        .to_numpy()
        .copy()
    )


def tracks_of_processes(tracks: Tracks, process: I64) -> I64:
    """The uuid of each process's track; `process` holds globalPids, shape (n,)."""
    distinct, place = np.unique(process, return_inverse=True)
    return np.array([tracks.process(p) for p in distinct.tolist()], np.int64)[place]


def with_own_track(
    config: pl.DataFrame, code: npt.NDArray[np.uint32], rows: I64, track: I64
) -> tuple[pl.DataFrame, npt.NDArray[np.uint32]]:
    """Gives some slices another track: new configurations, and the codes that refer to them."""
    pairs = pl.DataFrame({"code": code[rows], "track": track})
    distinct = pairs.unique().sort("track", "code").with_row_index("fresh", offset=len(config))
    added = config[distinct["code"].to_numpy()].with_columns(distinct["track"])
    code = code.copy()
    code[rows] = pairs.join(distinct, on=["code", "track"], how="left", maintain_order="left")[
        "fresh"
    ].to_numpy()
    return pl.concat([config, added]), code


class _Encoder:
    """Stamps the begin and end packets of one family's slices."""

    def __init__(self, family: SliceFamily, shift: int) -> None:
        self._family = family
        self._shift = shift
        rows = {
            "begin": RowSlot.fitting(np.array([family.start.max() + shift])),
            "end": RowSlot.fitting(np.array([family.end.max() + shift])),
            **family.rows,
        }
        if family.submissions:
            submissions, event_ids = family.submissions
            last = event_ids(submissions.order.max(keepdims=True, initial=0))
            rows["submission"] = family.arrows.slot(last)
        # The track stands in both packets, and a slot can stand in one place only.
        config = family.config.with_columns(pl.col("track").alias("end_track"))
        self._pair = Stamper(self._begin_and_end, config, rows, field=0)
        self._rows = rows
        self._config = config

    def encode(self, rows: I64) -> Iterator[tuple[npt.NDArray[np.intp], Ragged]]:
        """(numbers within `rows`, their packets), each row once."""
        family = self._family
        count = family.submissions[0].count[rows] if family.submissions else None
        if count is not None and len(count) and int(count.max()) > 1:
            many = np.nonzero(count > 1)[0]
            yield many, self._with_many(rows[many])
            rest = np.nonzero(count <= 1)[0]
            if len(rest):
                for part, block in self._stamp(rows[rest]):
                    yield rest[part], block
        else:
            yield from self._stamp(rows)

    def _stamp(self, rows: I64) -> Iterator[tuple[npt.NDArray[np.intp], Ragged]]:
        family = self._family
        values = {name: column[rows] for name, column in family.values.items()}
        present = {name: mask[rows] for name, mask in family.present.items()}
        values["begin"] = family.start[rows] + self._shift
        values["end"] = family.end[rows] + self._shift
        if family.submissions:
            submissions, event_ids = family.submissions
            present["submission"] = submissions.count[rows] == 1
            first = np.minimum(submissions.first[rows], max(len(submissions.order) - 1, 0))
            ids = event_ids(submissions.order[first]) if len(submissions.order) else first
            values["submission"] = family.arrows.column(ids)
        for part, block in self._pair.stamp(family.code[rows], values, present):
            yield part, ragged.from_matrix(block)

    def _begin_and_end(self, p: Placeholders) -> pb.Trace:
        begin = sequences.following(sequences.CPU)
        begin.timestamp = p["begin"]
        begin.track_event.CopyFrom(self._begin(p))
        if "submission" in p:
            self._family.arrows.add(p, "submission", begin.track_event)
        return pb.Trace(packet=[begin, self._end(p)])

    def _begin(self, p: Placeholders) -> pb.TrackEvent:
        event = pb.TrackEvent(type=pb.TrackEvent.TYPE_SLICE_BEGIN, track_uuid=p["track"])
        event.name_iid = p["name_iid"]
        event.category_iids.append(p["category_iid"])
        self._family.fill(p, event)
        return event

    def _end(self, p: Placeholders) -> pb.TracePacket:
        end = sequences.following(sequences.CPU)
        end.timestamp = p["end"]
        end.track_event.type = pb.TrackEvent.TYPE_SLICE_END
        end.track_event.track_uuid = p["end_track"]
        self._family.finish(p, end.track_event)
        return end

    def _with_many(self, rows: I64) -> Ragged:
        """Slices that submitted several operations (a graph launch): lists of any length."""
        family = self._family
        assert family.submissions is not None
        submissions, event_ids = family.submissions
        size = submissions.count[rows]
        ends = np.cumsum(size)
        index = np.arange(ends[-1]) - np.repeat(ends - size, size)
        operations = submissions.order[np.repeat(submissions.first[rows], size) + index]
        ids = family.arrows.lists(event_ids(operations), size)

        tail = ("end", "end_track", AT_END)
        event = self._bare(self._begin, rows, without=("begin", "submission", *tail))
        head = self._bare(_head, rows, only=("begin",))
        end = self._bare(self._end, rows, only=tail, field=1)
        event = ragged.length_delimited(11, ragged.concat(event, ids))
        return ragged.concat(ragged.length_delimited(1, ragged.concat(head, event)), end)

    def _bare(
        self,
        fill: Callable[[Placeholders], pb.TracePacket | pb.TrackEvent],
        rows: I64,
        without: Sequence[str] = (),
        only: Sequence[str] | None = None,
        field: int = 0,
    ) -> Ragged:
        """One message a row, not framed, of some of the slots."""

        def wanted(name: str) -> bool:
            return name in only if only is not None else name not in without

        family = self._family
        stamper = Stamper(
            fill,
            self._config.select(c for c in self._config.columns if wanted(c)),
            {name: slot for name, slot in self._rows.items() if wanted(name)},
            field,
        )
        values = {name: column[rows] for name, column in family.values.items() if wanted(name)}
        present = {name: mask[rows] for name, mask in family.present.items() if wanted(name)}
        values |= {"begin": family.start[rows] + self._shift, "end": family.end[rows] + self._shift}
        pieces = list(stamper.stamp(family.code[rows], values, present))
        return ragged.interleave([(r, ragged.from_matrix(b)) for r, b in pieces], len(rows))


def _head(p: Placeholders) -> pb.TracePacket:
    packet = sequences.following(sequences.CPU)
    packet.timestamp = p["begin"]
    return packet
