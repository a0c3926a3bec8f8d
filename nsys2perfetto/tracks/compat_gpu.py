"""GPU work as ordinary slices, for viewers and tools that do not know Perfetto's GPU model.

Below a track for each GPU stands one for each stream. A track's slices must nest, and what ran at
the same time is no call stack; so operations of a stream that overlap go to lanes, sibling tracks
of the same name, which the UI shows as one. Arguments have the names of the native trace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import columns, nesting
from nsys2perfetto.analysis.correlate import Submissions
from nsys2perfetto.nsys.gpus import Gpu
from nsys2perfetto.tracks import counter_tracks
from nsys2perfetto.tracks.arrows import ARROW_IN, FLOW_SLOT, FLOWS, end_flow, flow_column
from nsys2perfetto.tracks.counter_tracks import CounterValues
from nsys2perfetto.tracks.cuda_api import Calls, Operations
from nsys2perfetto.tracks.gpu_counters import CounterBlock, CounterSpec
from nsys2perfetto.tracks.gpu_family import GpuFamily
from nsys2perfetto.tracks.gpu_queues import STAGES
from nsys2perfetto.tracks.gpu_sequence import GpuSequence
from nsys2perfetto.tracks.header import short_name
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import AnnotationKind, Pools, annotate
from nsys2perfetto.tracks.thread_slices import AT_END, SliceFamily, with_own_track
from nsys2perfetto.wire.template import Placeholders

I64 = npt.NDArray[np.int64]

DONE = "GPU work and GPU counters are ordinary tracks"
"""For the trace's metadata."""
CATEGORY = "gpu."
"""The category of a slice begins so; a key of `gpu_queues.STAGES` follows."""
UTILIZATION = "Utilization"
"""The counter that is the GPU's own track."""

_GPU_HELP = "{}: its streams, the busiest first, and its counters."
_BUSY_HELP = " The curve is its utilization: percent of the time in which it did any work."
_OWN_GROUP = "nsys2perfetto"
_COUNTERS_FROM = 1_000_000
"""Ranks of counters: behind all streams."""
_NO_TOOL_READS = ["sm__maximum_warps_per_active_cycle_pct"]
"""Arguments of kernels that repeat another one under a name of Perfetto's GPU tools."""


@dataclass(frozen=True)
class Awaited:
    """Operations that a waiting call woke up after, in the order of `wake_ups.woken`.

    Attributes:
        operation: Row of the operation that was waited for.
    """

    operation: I64

    def submissions(self, low: int, high: int) -> Submissions:
        """The wake-ups of each operation of the rows `low` to `high` - 1."""
        order = np.argsort(self.operation, kind="stable")
        bounds = np.searchsorted(self.operation[order], np.arange(low, high + 1))
        return Submissions(order, bounds[:-1], np.diff(bounds))


class CompatGpus:
    """The tracks of all GPUs.

    Args:
        known: The GPUs of the trace, for their names.
        tracks: Hands out the tracks.
        busy: GPUs that have the counter `Utilization`.
    """

    def __init__(self, known: Iterable[Gpu], tracks: Tracks, busy: Collection[int]) -> None:
        self._tracks = tracks
        self._busy = set(busy)
        self._known = {g.id: g for g in known}
        self._width = max((len(str(n)) for n in self._known), default=1)
        self._roots: dict[int, int] = {}

    def root(self, number: int) -> int:
        """The uuid of a GPU's track, `GPU 0 RTX 4090`."""
        if number not in self._roots:
            gpu = self._known.get(number) or Gpu(number, "GPU")
            # The UI sorts by text, and shows blanks in a row as one.
            name = f"GPU {number:>{self._width}}"
            if (short := short_name(gpu.name)) != "GPU":
                name += f" {short}"
            text = _GPU_HELP.format(gpu.name)
            if number in self._busy:
                self._roots[number] = counter_tracks.counter_track(
                    self._tracks, None, name, "%", text + _BUSY_HELP, ranks=True
                )
            else:
                self._roots[number] = self._tracks.child(None, name, text, ranks=True)
        return self._roots[number]

    def slices(
        self,
        gpu: GpuSequence,
        operations: Operations,
        calls: Calls | None,
        awaited: Awaited,
        pools: Pools,
    ) -> list[SliceFamily]:
        """The operations; to be written after all calls, of which some begin at the same time.

        Args:
            gpu: All GPU work.
            operations: The same in one numbering.
            calls: Whose arrows lead to it; None for no arrows.
            awaited: What arrows lead from it to wake-ups.
            pools: For names and texts.
        """
        if not gpu.families:
            return []
        queue = columns.joined(
            [columns.spread(f.config["queue_iid"].to_numpy(), f.events.code) for f in gpu.families]
        )
        lane = nesting.lanes(queue, operations.start, operations.end)
        uuids = self._streams(gpu, queue, lane, operations)
        result = []
        for family in gpu.families:
            low = family.first_event_id - 1
            rows = slice(low, low + len(family.events))
            made = _family(family, gpu, self._tracks, pools)
            _place(made, family, lane[rows], uuids)
            _connect(made, rows, operations, calls, awaited)
            result.append(made)
        return result

    def _streams(
        self, gpu: GpuSequence, queue: I64, lane: npt.NDArray[np.int32], operations: Operations
    ) -> dict[tuple[int, int], int]:
        """The track of each (queue, lane); the busiest stream of a GPU stands first."""
        first = int(queue.min())
        busy = np.bincount(queue - first, operations.end - operations.start)
        lanes = np.zeros(len(busy), np.int64)
        np.maximum.at(lanes, queue - first, lane + 1)
        uuids: dict[tuple[int, int], int] = {}
        listed = gpu.queues.listed().select("queue_iid", "name", "gpu", "globalPid", "contextId")
        order = sorted(listed.iter_rows(), key=lambda row: (-busy[row[0] - first], row[0]))
        for rank, (number, name, on, process, context) in enumerate(order):
            program = f"{self._tracks.name_of_process(process)} ({self._tracks.pid(process)})"
            text = f"What the GPU did for {program}, CUDA context {context}."
            for i in range(int(lanes[number - first])):
                uuids[number, i] = self._tracks.child(self.root(on), name, text, rank=rank)
        return uuids

    def counters(self, blocks: Iterable[CounterBlock]) -> list[CounterValues]:
        """Counters of GPUs as tracks: their own below the GPU, metrics in groups.

        A value stands at the begin of its interval, where engines that know counters of GPUs put
        it too, and 0 at the end of the last.
        """
        groups: dict[tuple[int, str], int] = {}
        result = []
        columns = [
            (b, *pair) for b in blocks if len(b) for pair in zip(b.specs, b.values, strict=True)
        ]
        for rank, (block, spec, value) in enumerate(columns, _COUNTERS_FROM):
            track = self._counter(block.gpu, spec, rank, groups)
            result.append(
                CounterValues(
                    track,
                    np.append(block.start, block.time),
                    np.append(value, np.zeros(1, value.dtype)),
                )
            )
        return result

    def _counter(
        self, gpu: int, spec: CounterSpec, rank: int, groups: dict[tuple[int, str], int]
    ) -> int:
        root = self.root(gpu)
        own = spec.group == _OWN_GROUP
        if own and spec.name == UTILIZATION and gpu in self._busy:
            return root
        parent: int = root
        if spec.group and not own:
            if (gpu, spec.group) not in groups:
                text = "GPU metrics, sampled by nsys."
                groups[gpu, spec.group] = self._tracks.child(root, spec.group, text, rank=rank)
            parent = groups[gpu, spec.group]
        return counter_tracks.counter_track(
            self._tracks, parent, spec.name, spec.unit, spec.description, rank=rank
        )


def _family(family: GpuFamily, gpu: GpuSequence, tracks: Tracks, pools: Pools) -> SliceFamily:
    """The operations of a family as slices, not placed yet."""
    arguments = _arguments(family, gpu, tracks)
    kinds: dict[str, AnnotationKind] = {c.name: _kind(c) for c in arguments}
    slots = [pools.texts.iids(c).alias(c.name) if kinds[c.name] == "text" else c for c in arguments]
    category = CATEGORY + gpu.queues.kinds(family.config["stage_iid"])
    config = pl.DataFrame(
        [
            pools.names.iids(gpu.names.texts(family.config["name_iid"])).alias("name_iid"),
            pools.categories.iids(category).alias("category_iid"),
            *slots,
        ]
    )
    per_row: dict[str, AnnotationKind] = {"bytes": "uint", "throughput_gb_s": "double"}
    kinds |= {name: per_row[name] for name in family.values}
    iids = pools.annotations.lookup(part for name in kinds for part in name.split("."))

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
        annotate(p, event, kinds, iids)
        end_flow(p, ARROW_IN, event)

    return SliceFamily(
        family.name,
        config,
        family.events.start,
        family.events.end,
        family.events.code,
        fill,
        rows=dict(family.rows),
        values=dict(family.values),
        present=dict(family.present),
        finish=lambda p, event: end_flow(p, AT_END, event),
    )


def _arguments(family: GpuFamily, gpu: GpuSequence, tracks: Tracks) -> pl.DataFrame:
    """A row a configuration, a column an argument, those first that all GPU work has."""
    own = family.arguments().drop(_NO_TOOL_READS, strict=False)
    described = {kind: text for kind, (text, _) in STAGES.items()}
    process = family.events.config["globalPid"].fill_null(0)
    distinct = process.unique().to_list()
    common = {
        "description": gpu.queues.kinds(family.config["stage_iid"]).replace_strict(
            described, return_dtype=pl.String
        ),
        "gpu": family.config["gpu"],
        "process_id": process.replace_strict(
            distinct, [tracks.pid(p) for p in distinct], return_dtype=pl.Int64
        ),
    }
    rest = {c.name: c for c in own if c.name not in common}
    return pl.DataFrame([c.alias(name) for name, c in {**common, **rest}.items()])


def _kind(column: pl.Series) -> AnnotationKind:
    if column.dtype == pl.String:
        return "text"
    if column.dtype.is_float():
        return "double"
    negative = (column.min() or 0) < 0  # type: ignore[operator]
    return "int" if negative else "uint"


def _place(
    made: SliceFamily,
    family: GpuFamily,
    lane: npt.NDArray[np.int32],
    uuids: dict[tuple[int, int], int],
) -> None:
    """Gives every slice the track of its stream and lane."""
    queue = family.config["queue_iid"]
    first = [uuids[number, 0] for number in queue.to_list()]
    made.config = made.config.with_columns(pl.Series("track", first, dtype=pl.Int64))
    moved = np.flatnonzero(lane)
    if not len(moved):
        return
    wanted = pl.DataFrame(
        {"queue": queue.to_numpy()[family.events.code[moved]], "lane": lane[moved].astype(np.int64)}
    )
    table = pl.DataFrame(
        [(*key, uuid) for key, uuid in uuids.items()],
        schema={"queue": pl.Int64, "lane": pl.Int64, "uuid": pl.Int64},
        orient="row",
    )
    track = wanted.join(table, on=["queue", "lane"], how="left", maintain_order="left")["uuid"]
    made.config, made.code = with_own_track(made.config, made.code, moved, track.to_numpy())


def _connect(
    made: SliceFamily, rows: slice, operations: Operations, calls: Calls | None, awaited: Awaited
) -> None:
    """Arrows: from the call that submitted each operation, and to the wake-ups after it.

    The flow of an operation has its event id; those to wake-ups are numbered after all of them.
    """
    if calls is not None:
        call = calls.submitting_call[rows]
        known = call >= 0
        began = made.start.copy()
        began[known] = calls.events.start[call[known]]
        ids = flow_column(operations.event_id(np.arange(rows.start, rows.stop)))
        # Clocks of GPU and CPU can differ: what began before its call is met at its end. (The
        # engine draws the arrow from what began first.)
        in_time = made.start >= began
        late = ~in_time & (made.end >= began)
        for slot, has in ((ARROW_IN, known & in_time), (AT_END, known & late)):
            if has.any():
                made.rows[slot], made.values[slot], made.present[slot] = FLOW_SLOT, ids, has
    if len(awaited.operation):
        first = first_wake_up(operations)
        made.submissions = (
            awaited.submissions(rows.start, rows.stop),
            lambda wake_ups: wake_ups + first,
        )
        made.arrows = FLOWS


def first_wake_up(operations: Operations) -> int:
    """The flow id of the first wake-up."""
    return int(operations.event_id(np.array([len(operations.start)]))[0])
