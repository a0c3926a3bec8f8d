"""How long steps take: percentiles and a histogram."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.report.derive import OUTLIER, STEADY, UNIT, WARMUP
from nsys2perfetto.report.frames import make
from nsys2perfetto.report.source import Schema

I64 = npt.NDArray[np.int64]

WITH_OUTLIERS = "steady+outlier"

STEP_TIMES: Schema = {
    "pid": pl.Int64,
    "gpu": pl.Int64,
    "phase": pl.String,
    "steps": pl.Int64,
    "min_ns": pl.Int64,
    "med_ns": pl.Float64,
    "avg_ns": pl.Float64,
    "p95_ns": pl.Float64,
    "p99_ns": pl.Float64,
    "max_ns": pl.Int64,
    "steps_per_second": pl.Float64,
}
"""Wall time of steps by phase; `steps_per_second` is that of the median.

`WITH_OUTLIERS` has the steady steps and the outliers: the times that users of the engine see.
"""

HISTOGRAM: Schema = {
    "pid": pl.Int64,
    "gpu": pl.Int64,
    "from_ns": pl.Int64,
    "to_ns": pl.Int64,
    "steps": pl.Int64,
}
"""Steady steps and outliers by wall time, `from_ns <= wall_ns < to_ns`.

The bins are of equal width over the steady steps; outliers beyond are in one more on either side.
"""

_ORDER = {STEADY: 0, WITH_OUTLIERS: 1, OUTLIER: 2, WARMUP: 3}
_BINS = 10


def step_times(steps: pl.DataFrame) -> pl.DataFrame:
    """`STEP_TIMES` of the phases that occur; by pid, gpu, steady, with outliers, warmup, others.

    Args:
        steps: `STEP`.
    """
    with_outliers = steps.filter(
        pl.col("phase").is_in([STEADY, OUTLIER]),
        (pl.col("phase") == OUTLIER).any().over(UNIT),
    ).with_columns(phase=pl.lit(WITH_OUTLIERS))

    def quantile(share: float) -> pl.Expr:
        return pl.col("wall_ns").quantile(share, "linear")

    found = (
        pl.concat([steps, with_outliers])
        .group_by(*UNIT, "phase")
        .agg(
            steps=pl.len(),
            min_ns=pl.col("wall_ns").min(),
            med_ns=quantile(0.5),
            avg_ns=pl.col("wall_ns").mean(),
            p95_ns=quantile(0.95),
            p99_ns=quantile(0.99),
            max_ns=pl.col("wall_ns").max(),
        )
        .with_columns(
            steps_per_second=pl.when(pl.col("med_ns") > 0).then(1e9 / pl.col("med_ns")),
            order=pl.col("phase").replace_strict(_ORDER, default=len(_ORDER)),
        )
    )
    return make(STEP_TIMES, found.sort(*UNIT, "order"))


def step_histogram(steps: pl.DataFrame) -> pl.DataFrame:
    """`HISTOGRAM` of each unit; by pid, gpu, from_ns. Bins are 1, 2 or 5 times a power of 10 ns.

    Args:
        steps: `STEP`.
    """
    decoding = steps.filter(pl.col("phase").is_in([STEADY, OUTLIER])).sort(UNIT)
    parts = [pl.DataFrame(schema=HISTOGRAM)]
    for (pid, gpu), unit in decoding.group_by(UNIT, maintain_order=True):
        steady = unit.filter(pl.col("phase") == STEADY)
        usual = steady if len(steady) else unit
        edges = _edges(unit["wall_ns"].to_numpy(), usual["wall_ns"].to_numpy())
        bins = {
            "pid": [pid] * (len(edges) - 1),
            "gpu": [gpu] * (len(edges) - 1),
            "from_ns": edges[:-1],
            "to_ns": edges[1:],
            "steps": np.histogram(unit["wall_ns"].to_numpy(), edges)[0],
        }
        parts.append(pl.DataFrame(bins, schema=HISTOGRAM))
    return pl.concat(parts)


def _edges(wall: I64, usual: I64) -> I64:
    """Edges of equal bins over the usual times, and of one more on each side for what is beyond.

    One long stall would else squeeze everything else into a single bin.
    """
    low, high = int(usual.min()), int(usual.max())
    width = nice((high - low) / (_BINS - 1))
    edges = np.arange(low // width, high // width + 2, dtype=np.int64) * width
    if (shortest := int(wall.min())) < edges[0]:
        edges = np.append(shortest, edges)
    if (longest := int(wall.max())) >= edges[-1]:
        edges = np.append(edges, longest + 1)
    return edges


def nice(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, ... that is not less."""
    if least <= 1:
        return 1
    power = 10 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least)
