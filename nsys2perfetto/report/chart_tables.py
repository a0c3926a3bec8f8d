"""What the charts of the HTML page draw: tables made of a source's tables.

Pure functions over frames with the schemas of `source`; times are ns, shares percent. Where there
is more than a chart can show, steps that stand for their neighbours are chosen (`drawn_steps`), or
neighbours are added up (`shares`).
"""

from __future__ import annotations

import polars as pl

from nsys2perfetto.report.derive import OUTLIER, SHORT_GAPS, STEADY, cause_and_pace
from nsys2perfetto.report.frames import make
from nsys2perfetto.report.source import Schema

MOST_STEPS = 2_000
"""Steps of a unit up to which each is drawn."""
COLUMNS = 240
"""Most columns of a chart of shares."""
OTHERS = "all others"

GAP_SIZES: Schema = {
    "gpu": pl.Int64,
    "bucket": pl.String,
    "cause": pl.String,
    "count": pl.Int64,
    "total_ns": pl.Int64,
}
"""Idle gaps by size and cause; the causes of a size add up to `GAP_BUCKET` of the idle gaps.

`cause` is one of `derive.PARTS` that are idle; `SHORT_GAPS` are those not looked at one by one.
"""

SHARES: Schema = {
    "column": pl.Int64,
    "first": pl.Int64,
    "last": pl.Int64,
    "steps": pl.Int64,
    "name": pl.String,
    "total_ns": pl.Int64,
}
"""Kernel time by name in each step, or in neighbouring steps together.

`first` and `last` are numbers of steps, `steps` is how many steps the column has; a step without
any kernel has no row.
"""


def gap_sizes(gaps: pl.DataFrame, buckets: pl.DataFrame) -> pl.DataFrame:
    """`GAP_SIZES`; by gpu, then in no order that means anything.

    Args:
        gaps: `GAP` of the GPUs.
        buckets: `GAP_BUCKET`.
    """
    key = ["gpu", "bucket"]
    causes = gaps.group_by(*key, cause=cause_and_pace()).agg(
        count=pl.len().cast(pl.Int64), total_ns=pl.col("dur").sum()
    )
    known = causes.group_by(key).agg(known=pl.col("count").sum(), known_ns=pl.col("total_ns").sum())
    idle = buckets.filter(pl.col("definition") == "idle")
    rest = (
        idle.join(known, on=key, how="left")
        .select(
            *key,
            cause=pl.lit(SHORT_GAPS),
            count=pl.col("count") - pl.col("known").fill_null(0),
            total_ns=pl.col("total_ns") - pl.col("known_ns").fill_null(0),
        )
        .filter(pl.col("count") > 0)
    )
    found = pl.concat([make(GAP_SIZES, causes), make(GAP_SIZES, rest)])
    return found.sort("gpu", "bucket", "cause")


def drawn_steps(steps: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The steps of a unit that a chart shows: all, or extremes of neighbours.

    Of so many steps in a row that the chart stays quick, the shortest and the longest of each
    phase: nothing that sticks out is lost.

    Args:
        steps: `STEP` of one unit, by step.

    Returns:
        Rows of `steps`, and of how many steps in a row they were chosen: 1 where all are there.
    """
    if len(steps) <= MOST_STEPS:
        return steps, 1
    width = -(-len(steps) * 4 // MOST_STEPS)
    numbered = steps.with_row_index("row")
    extremes = numbered.group_by(pl.col("row") // width, "phase").agg(
        shortest=pl.col("row").get(pl.col("wall_ns").arg_min()),
        longest=pl.col("row").get(pl.col("wall_ns").arg_max()),
    )
    rows = pl.concat([extremes["shortest"], extremes["longest"]]).unique().sort()
    chosen = steps[rows]
    return chosen, width


def usual_limit(steps: pl.DataFrame) -> int:
    """The wall time, ns, up to which a chart shows the steps at first.

    It has all steady steps, and the outliers as long as they leave the steady ones readable.

    Args:
        steps: `STEP` of one unit, not empty.
    """
    usual = steps.filter(pl.col("phase") == STEADY)
    usual = usual if len(usual) else steps
    high = int(usual["wall_ns"].max())  # type: ignore[arg-type]
    near = steps.filter(pl.col("phase") == OUTLIER, pl.col("wall_ns") <= 4 * high)["wall_ns"]
    return max([high, *near.to_list()])


def shares(steps: pl.DataFrame, kernels: pl.DataFrame, names: int) -> pl.DataFrame:
    """`SHARES`; by column, and names by their time in all steps, `OTHERS` last.

    Args:
        steps: `STEP` of one unit, by step.
        kernels: Columns `step`, `name` and `total_ns` of the unit; names may repeat in a step.
        names: How many names at most have rows of their own.
    """
    width = max(1, -(-len(steps) // COLUMNS))
    columns = steps.select("step", column=pl.int_range(pl.len()) // width).with_columns(
        first=pl.col("step").min().over("column"),
        last=pl.col("step").max().over("column"),
        steps=pl.len().over("column"),
    )
    mine = kernels.join(columns, on="step", how="inner")
    order = (
        mine.group_by("name")
        .agg(pl.col("total_ns").sum())
        .sort("total_ns", "name", descending=[True, False])
        .select(pl.col("name"), order=pl.int_range(pl.len()))
    )
    # One name more than there is room for is not worth a row called `OTHERS`.
    kept = order.head(names if len(order) > names + 1 else names + 1)
    found = (
        mine.join(kept, on="name", how="left")
        .with_columns(name=pl.when(pl.col("order").is_not_null()).then("name").otherwise(_OTHERS))
        .group_by("column", "first", "last", "steps", "name")
        .agg(pl.col("total_ns").sum(), order=pl.col("order").fill_null(names + 1).first())
    )
    return make(SHARES, found.sort("order", "column", "name"))


_OTHERS = pl.lit(OTHERS)
