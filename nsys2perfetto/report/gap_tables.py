"""Tables made of gaps: by cause, by size, and the big ones with what is known of them.

Pure functions over frames with the schemas of `source`; times are ns, shares percent.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nsys2perfetto.report.derive import SHORT_GAPS, cause_and_pace, within
from nsys2perfetto.report.frames import make
from nsys2perfetto.report.source import CONSECUTIVE_GAP, Schema

ACTIVITIES = ("sync_ns", "launch_ns", "memory_ns", "copy_ns", "other_cuda_ns", "outside_cuda_ns")

GAP_CAUSES: Schema = {
    "gpu": pl.Int64,
    "cause": pl.String,
    "count": pl.Int64,
    "total_ns": pl.Int64,
    "pct": pl.Float64,
    "avg_ns": pl.Float64,
    "max_ns": pl.Int64,
    "host_paced_ns": pl.Int64,
    **dict.fromkeys(ACTIVITIES, pl.Int64),
}
"""Idle gaps of each GPU by cause: what the launching threads did meanwhile adds up to `total_ns`.

`pct` is percent of the gaps' total; `host_paced_ns` is the part in gaps that an earlier launch
would have made shorter (docs/causes.md).
"""

BIG_GAPS: Schema = {
    **CONSECUTIVE_GAP,
    "idle_ns": pl.Int64,
    "cause": pl.String,
    "mostly": pl.String,
    "pace": pl.String,
    "pid": pl.Int64,
    "step": pl.Int64,
}
"""Gaps between kernels, and what is known of the time in them.

`idle_ns` is how much of the gap the GPU did nothing at all: the rest are copies and memory sets.
`cause`, `mostly`, `pace`, `pid` and `step` are those of the longest idle gap in it; null where
there is none that was looked at.
"""

STEP_GAPS: Schema = {
    "pid": pl.Int64,
    "gpu": pl.Int64,
    "step": pl.Int64,
    "cause": pl.String,
    "count": pl.Int64,
    "total_ns": pl.Int64,
    "max_ns": pl.Int64,
}
"""Idle time of steps by cause, `SHORT_GAPS` for the rest; adds up to the step's `idle_ns`."""


def gap_causes(gaps: pl.DataFrame) -> pl.DataFrame:
    """`GAP_CAUSES`; by gpu, total_ns falling, cause.

    Args:
        gaps: `GAP` of the GPUs.
    """
    dur = pl.col("dur")
    found = (
        gaps.group_by("gpu", "cause")
        .agg(
            pl.col(ACTIVITIES).sum(),
            count=pl.len(),
            total_ns=dur.sum(),
            avg_ns=dur.mean(),
            max_ns=dur.max(),
            host_paced_ns=dur.filter(pl.col("pace") == "host").sum(),
        )
        .with_columns(pct=100 * pl.col("total_ns") / pl.col("total_ns").sum().over("gpu"))
    )
    return make(GAP_CAUSES, found, "gpu", "-total_ns", "cause")


def step_gaps(step: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """`STEP_GAPS`; by pid, gpu, step, total_ns falling, cause, `SHORT_GAPS` last.

    Args:
        step: `STEP`.
        gaps: `GAP` of the units, see `derive.gaps_of_units`.
    """
    key = ["pid", "gpu", "step"]
    causes = (
        within(gaps, step)
        .group_by(*key, cause=cause_and_pace())
        .agg(count=pl.len(), total_ns=pl.col("dur").sum(), max_ns=pl.col("dur").max())
    )
    explained = causes.group_by(key).agg(explained=pl.col("total_ns").sum())
    rest = (
        step.join(explained, on=key, how="left")
        .select(
            *key,
            cause=pl.lit(SHORT_GAPS),
            count=None,
            total_ns=pl.col("idle_ns") - pl.col("explained").fill_null(0),
            max_ns=None,
        )
        .filter(pl.col("total_ns") != 0)
    )
    return pl.concat(
        [
            make(STEP_GAPS, causes, *key, "-total_ns", "cause"),
            make(STEP_GAPS, rest, *key),
        ]
    ).sort(key, maintain_order=True)


def big_gaps(consecutive: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """`BIG_GAPS`, in the order of `consecutive`.

    An idle gap that touches the time between two kernels in order of start lies in it as a whole:
    before it ran the first kernel, after it the second.

    Args:
        consecutive: `CONSECUTIVE_GAP`; without GPU where all count as one, nothing is known then
            of the time in the gaps if `gaps` are of several GPUs.
        gaps: `GAP` of the GPUs, by gpu, ts.
    """
    gpus = gaps["gpu"].unique().sort()
    one = gpus[0] if len(gpus) == 1 else None
    wanted = consecutive["gpu"].fill_null(one if one is not None else -1).to_numpy()
    first = np.zeros(len(consecutive), np.int64)
    last = np.zeros(len(consecutive), np.int64)
    start = consecutive["ts"].to_numpy()
    end = start + consecutive["gap_ns"].to_numpy()
    for gpu in gpus.to_list():
        offset = int(gaps["gpu"].search_sorted(gpu, "left"))
        times = gaps.filter(pl.col("gpu") == gpu)["ts"].to_numpy()
        mine = np.flatnonzero(wanted == gpu)
        first[mine] = offset + np.searchsorted(times, start[mine], side="left")
        last[mine] = offset + np.searchsorted(times, end[mine], side="left")
    last = np.maximum(first, last)
    length = gaps["dur"].to_numpy()
    sums = np.append(0, np.cumsum(length))
    # Row of the longest idle gap in each: the rows of all, by gap and falling length.
    counts = last - first
    owner = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[owner]
    order = np.lexsort((-length[row], owner))
    chosen = order[np.searchsorted(owner, np.flatnonzero(counts > 0))]
    longest = pl.Series([None] * len(counts), dtype=pl.UInt32).scatter(
        np.flatnonzero(counts > 0), row[chosen]
    )
    known = gaps.select("cause", "mostly", "pace", "pid", "step")[longest]
    return make(
        BIG_GAPS,
        pl.concat(
            [consecutive.with_columns(idle_ns=sums[last] - sums[first]), known], how="horizontal"
        ),
    )
