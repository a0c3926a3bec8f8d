"""Idle gaps as slices, named so that size and cause are read at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis.causes import ACTIVITIES, NONE, VERDICTS, Causes
from nsys2perfetto.analysis.columns import Column, Computed
from nsys2perfetto.analysis.gaps import BUCKETS, IdleGaps, bucket
from nsys2perfetto.analysis.steps import Steps
from nsys2perfetto.protos import extensions_pb2 as ext
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.gpu_table import GpuTable
from nsys2perfetto.tracks.thread_pools import AnnotationKind, Pools, annotate
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire.stamp import RowSlot
from nsys2perfetto.wire.template import Placeholders

I64 = npt.NDArray[np.int64]

CATEGORY = "nsys.gap"
PROCESS_CATEGORY = "nsys.process_gap"
"""Gaps of one process on a GPU that others use too: the GPU may have been busy for them."""

_LARGEST_SHOWN = 999_999
"""Seconds: what is longer is damage, and shown as this."""
_CHUNK = 1 << 16
_COMMON = ("bucket", "cause", "mostly", "pace", "process_id", "run", "step")
"""Arguments that many gaps have in common, so that they share their set of arguments."""
_SCALES = ((1, "ns"), (1_000, "us"), (1_000_000, "ms"), (1_000_000_000, "s"))


@dataclass(frozen=True)
class ShownGaps:
    """Idle gaps that have a slice.

    Attributes:
        gaps: In order of time on each track.
        causes: Why each is there.
        steps: What `step_of_gap` refers to.
        step_of_gap: Row of the step in which each begins, -1 for none.
    """

    gaps: IdleGaps
    causes: Causes
    steps: Steps
    step_of_gap: I64

    def __len__(self) -> int:
        return len(self.gaps)


def family(
    shown: ShownGaps,
    table: GpuTable,
    pid_of_unit: I64,
    places: dict[int, tuple[int, int]],
    pools: Pools,
    category: str = CATEGORY,
    detail: Detail = FULL,
) -> SliceFamily:
    """The gaps as slices.

    Args:
        shown: The gaps.
        table: All GPU work.
        pid_of_unit: Process id of each (process, GPU), shape (units,).
        places: `gaps.track` to the uuid of its track and its GPU.
        pools: For names.
        category: Of the slices.
        detail: How much is said of each.
    """
    gaps, causes, steps, step_of_gap = shown.gaps, shown.causes, shown.steps, shown.step_of_gap
    verdict, lateness = causes.verdict, causes.lateness
    before, after = gaps.previous, gaps.next
    known = causes.mostly != NONE
    some = len(steps) > 0
    distinct, name = names(gaps, verdict)
    iid = pools.names.iids(distinct).to_numpy().astype(np.int32)
    event_id, unit = table.operations.event_id, table.unit

    def row_of(values: I64) -> Computed:
        return Computed(lambda rows: values[np.maximum(step_of_gap[rows], 0)])

    last = table.operations.event_id(np.array([len(table.name)]))
    # Computed piece by piece when they are written: a gap has many values. Its length and what is 0
    # are left out: each argument costs the trace processor as much as a field of the slice does.
    values: dict[str, tuple[Column, npt.NDArray[Any]]] = {
        "name_iid": (Computed(lambda rows: iid[name[rows]]), iid),
        "bucket": (
            Computed(lambda rows: bucket(gaps.end[rows] - gaps.start[rows]) + 1),
            np.array([len(BUCKETS)]),
        ),
        "cause": (Computed(lambda rows: verdict[rows] + 1), np.array([len(VERDICTS)])),
        "pace": (
            Computed(lambda rows: np.where(causes.host_paced[rows], ext.HOST, ext.DEVICE)),
            np.array([ext.HOST, ext.DEVICE]),
        ),
        "mostly": (Computed(lambda rows: causes.mostly[rows] + 1), np.array([len(ACTIVITIES)])),
        "next_event_id": (Computed(lambda rows: event_id(after[rows])), last),
        "previous": (Computed(lambda rows: table.name[before[rows]]), table.name),
        "next": (Computed(lambda rows: table.name[after[rows]]), table.name),
        "launch_lateness_ns": (lateness, lateness),
        "process_id": (Computed(lambda rows: pid_of_unit[unit[after[rows]]]), pid_of_unit),
    }
    if some:
        values["run"] = row_of(steps.run), steps.run
        values["step"] = row_of(steps.step), steps.step
    parts = dict(zip((f"{activity}_ns" for activity in ACTIVITIES), causes.split, strict=True))
    values |= {name: (part, part) for name, part in parts.items()}
    if not detail.gaps:
        values = {n: v for n, v in values.items() if n == "name_iid" or n in _COMMON}
    in_step = Computed(lambda rows: step_of_gap[rows] >= 0)
    present: dict[str, Column] = {"mostly": known, "pace": known, "launch_lateness_ns": known}
    present |= {"run": in_step, "step": in_step} if some else {}
    present |= {name: _is_not_zero(part) for name, part in parts.items()}
    present = {name: column for name, column in present.items() if name in values}
    kinds: dict[str, AnnotationKind] = {}
    if detail.gaps:
        kinds |= {"previous": "text", "next": "text"}
    iids = pools.annotations.lookup(kinds)
    fields = [n for n in values if n not in {"name_iid", *kinds}]
    signed = {f.name for f in ext.GpuGap.DESCRIPTOR.fields if f.cpp_type == f.CPPTYPE_INT64}

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
        gap = ext.GpuGap(gpu=p["gpu"])
        for name in fields:
            if name in p:
                setattr(gap, name, p.signed(name) if name in signed else p[name])
        event.MergeFromString(ext.TrackEventExtensions(gpu_gap=gap).SerializeToString())
        annotate(p, event, kinds, iids)

    keys = sorted(places)
    config = pl.DataFrame(
        {
            "track": [places[k][0] for k in keys],
            "gpu": [places[k][1] for k in keys],
            "category_iid": [pools.categories.iid(category)] * len(keys),
        },
        schema={"track": pl.Int64, "gpu": pl.Int64, "category_iid": pl.Int64},
    )
    return SliceFamily(
        "idle_gap",
        config,
        gaps.start,
        gaps.end,
        np.searchsorted(np.array(keys, np.int64), gaps.track).astype(np.uint32),
        fill,
        rows={n: RowSlot.fitting(widest, n in present) for n, (_, widest) in values.items()},
        values={n: column for n, (column, _) in values.items()},
        present=present,
        in_order=True,
    )


def _is_not_zero(values: npt.NDArray[Any]) -> Computed:
    return Computed(lambda rows: values[rows] != 0)


def names(gaps: IdleGaps, verdict: npt.NDArray[np.int8]) -> tuple[pl.Series, npt.NDArray[np.int32]]:
    """`12.3us launch bound`: three digits of the size, and the verdict.

    Returns:
        The distinct names, a few ten thousand at most however many gaps there are; and the row of
        each gap's name among them.
    """
    key = np.empty(len(gaps), np.int32)
    for low in range(0, len(gaps), _CHUNK):
        part = slice(low, low + _CHUNK)
        key[part] = _keys(gaps.end[part] - gaps.start[part], verdict[part])
    there = np.zeros(int(key.max(initial=0)) + 1, np.bool_)
    there[key] = True
    distinct = np.flatnonzero(there)
    texts = [_name(*divmod(k, len(VERDICTS))) for k in distinct.tolist()] if len(gaps) else []
    row = np.cumsum(there, dtype=np.int32) - 1
    return pl.Series(texts, dtype=pl.String), row[key]


def _keys(idle: I64, verdict: npt.NDArray[np.int8]) -> I64:
    """A number below 2^28 for each name: its digits, their unit and precision, the verdict."""
    scale = np.searchsorted([1_000, 1_000_000, 1_000_000_000], idle, side="right")
    unit = np.array([s for s, _ in _SCALES])[scale]
    # How many ns one step of the last shown digit is: 12.3us are 123 steps of 100 ns.
    whole = idle // unit
    digits = np.where(scale == 0, 0, np.where(whole >= 100, 0, np.where(whole >= 10, 1, 2)))
    step = unit // np.array([1, 10, 100])[digits]
    shown = np.minimum((idle + step // 2) // step, _LARGEST_SHOWN)
    return ((shown * 4 + scale) * 4 + digits) * len(VERDICTS) + verdict


def _name(key: int, verdict: int) -> str:
    shown, scale, digits = key // 16, key // 4 % 4, key % 4
    number = f"{shown / 10**digits:.{digits}f}"
    return f"{number}{_SCALES[scale][1]} {VERDICTS[verdict].replace('_', ' ')}"
