"""Idle gaps as slices, named so that size and cause are read at a glance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis.causes import ACTIVITIES, NONE, VERDICTS, Causes
from nsys2perfetto.analysis.gaps import IdleGaps, bucket
from nsys2perfetto.analysis.steps import Steps
from nsys2perfetto.protos import extensions_pb2 as ext
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
_SCALES = ((1, "ns"), (1_000, "us"), (1_000_000, "ms"), (1_000_000_000, "s"))


def family(
    gaps: IdleGaps,
    causes: Causes,
    steps: Steps,
    step_of_gap: I64,
    table: GpuTable,
    pid_of_unit: I64,
    places: dict[int, tuple[int, int]],
    pools: Pools,
    category: str = CATEGORY,
) -> SliceFamily:
    """The gaps as slices.

    Args:
        gaps: From `gaps.idle`.
        causes: Of the same gaps.
        steps: All steps.
        step_of_gap: Row of the step in which each gap begins, -1 for none.
        table: All GPU work.
        pid_of_unit: Process id of each (process, GPU), shape (units,).
        places: `gaps.track` to the uuid of its track and its GPU.
        pools: For names.
        category: Of the slices.
    """
    idle, verdict = gaps.gap, causes.verdict
    before, after = gaps.previous, gaps.next
    step = step_of_gap
    in_step = step >= 0
    some = np.maximum(step, 0)
    event_id = table.operations.event_id
    known = causes.mostly != NONE
    distinct, name = names(idle, verdict)
    values: dict[str, npt.NDArray[np.generic]] = {
        "name_iid": pools.names.iids(distinct).to_numpy()[name],
        "idle_ns": idle,
        "bucket": bucket(idle) + 1,
        "cause": verdict + 1,
        "pace": np.where(causes.host_paced, ext.HOST, ext.DEVICE),
        "mostly": causes.mostly + 1,
        "previous_event_id": event_id[before],
        "next_event_id": event_id[after],
        "previous": table.name[before],
        "next": table.name[after],
        "launch_lateness_ns": causes.lateness,
        "process_id": pid_of_unit[table.unit[after]],
        "run": steps.run[some] if len(steps) else some,
        "step": steps.step[some] if len(steps) else some,
    }
    present = {
        "run": in_step,
        "step": in_step,
        "mostly": known,
        "pace": known,
        "launch_lateness_ns": known,
    }
    for activity, part in zip(ACTIVITIES, causes.split, strict=True):
        values[f"{activity}_ns"] = part
    values = {name: compact(column) for name, column in values.items()}
    kinds: dict[str, AnnotationKind] = {"previous": "text", "next": "text"}
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
        rows={
            name: RowSlot.fitting(column, name in present)  # type: ignore[arg-type]
            for name, column in values.items()
        },
        values=values,
        present=present,
        in_order=True,
    )


def compact(column: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Integers in 32 bits where they fit: half the memory of many columns."""
    limit = 1 << 31
    if column.dtype == np.int64 and len(column):
        integers: I64 = column  # type: ignore[assignment]
        if -limit <= int(integers.min()) and int(integers.max()) < limit:
            return integers.astype(np.int32)
    return column


def names(idle: I64, verdict: npt.NDArray[np.int8]) -> tuple[pl.Series, I64]:
    """`12.3us launch bound`: three digits of the size, and the verdict.

    Returns:
        The distinct names, a few ten thousand at most however many gaps there are; and the row of
        each gap's name among them.
    """
    scale = np.searchsorted([1_000, 1_000_000, 1_000_000_000], idle, side="right")
    unit = np.array([s for s, _ in _SCALES])[scale]
    # How many ns one step of the last shown digit is: 12.3us are 123 steps of 100 ns.
    whole = idle // unit
    digits = np.where(scale == 0, 0, np.where(whole >= 100, 0, np.where(whole >= 10, 1, 2)))
    step = unit // np.array([1, 10, 100])[digits]
    shown = np.minimum((idle + step // 2) // step, _LARGEST_SHOWN)
    key = ((shown * 4 + scale) * 4 + digits) * len(VERDICTS) + verdict
    there = np.zeros(int(key.max(initial=0)) + 1, np.bool_)
    there[key] = True
    distinct = np.flatnonzero(there)
    row = np.cumsum(there) - 1
    texts = [_name(*divmod(k, len(VERDICTS))) for k in distinct.tolist()] if len(idle) else []
    return pl.Series(texts, dtype=pl.String), row[key]


def _name(key: int, verdict: int) -> str:
    shown, scale, digits = key // 16, key // 4 % 4, key % 4
    number = f"{shown / 10**digits:.{digits}f}"
    return f"{number}{_SCALES[scale][1]} {VERDICTS[verdict].replace('_', ' ')}"
