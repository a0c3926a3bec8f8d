"""Tables made of a source's tables: where the time goes, the steady step, families.

Pure functions over frames with the schemas of `source`. A *unit* is what one process (`pid`) does
on one GPU (`gpu`). Times are ns, shares percent, everything that is a sum is exact.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from nsys2perfetto.analysis.kernel_families import FAMILIES, classify
from nsys2perfetto.report.frames import make
from nsys2perfetto.report.source import Schema

UNIT = ["pid", "gpu"]

STEADY, OUTLIER, WARMUP = "steady", "outlier", "warmup"

KERNELS = "kernels"
OTHER_WORK = "other_work"
"""Part of a step in which the GPU ran something, but no kernel that lies in the step as a whole:
copies, memory sets, whole CUDA graphs, kernels that run across the border of two steps."""
SHORT_GAPS = "short_gaps"
"""Idle time in gaps that are too short to be looked at one by one (`Facts.min_gap_ns`)."""
HOST_PACED = "launch_latency_host_paced"
"""Gaps with the cause `launch_latency` and the pace `host`: an earlier launch would have helped."""

_MEASURES = (
    "wall_ns", "kernel_count", "kernel_ns", "kernel_util_pct", "busy_ns", "busy_util_pct",
    "idle_ns", "largest_gap_ns", "launch_count", "sync_count", "sync_ns", "copy_count",
    "copy_bytes", "allocation_count",
)  # fmt: skip

PARTS: Schema = {
    "pid": pl.Int64,
    "gpu": pl.Int64,
    "phase": pl.String,
    "steps": pl.Int64,
    "part": pl.String,
    "idle": pl.Boolean,
    "count": pl.Int64,
    "total_ns": pl.Int64,
    "per_step_ns": pl.Float64,
    "pct": pl.Float64,
}
"""Where the wall time of steps goes; the parts of a unit add up to it exactly.

`part` is `KERNELS`, `OTHER_WORK`, a cause of gaps (docs/causes.md), `HOST_PACED` or `SHORT_GAPS`;
`idle` tells gaps from work. `count` is the number of kernels or gaps, null where it is not known.
"""

FAMILY: Schema = {
    "family": pl.String,
    "time_pct": pl.Float64,
    "total_ns": pl.Int64,
    "instances": pl.Int64,
    "names": pl.Int64,
    "top_kernel": pl.String,
}
"""Kernels by family; `names` is how many kernels it has, `top_kernel` takes most of its time."""

STEADY_STEP: Schema = {
    "pid": pl.Int64,
    "gpu": pl.Int64,
    "name": pl.String,
    "steps": pl.Int64,
    "med_count": pl.Float64,
    "med_ns": pl.Float64,
    "p5_ns": pl.Float64,
    "p95_ns": pl.Float64,
    "avg_ns": pl.Float64,
    "pct": pl.Float64,
}
"""Each kernel's time per steady step, a step without it counts as 0: SQL's `nsys_steady_step`.

`pct` is percent of the kernel time of the unit's steady steps.
"""

STEP_MEDIANS: Schema = {
    "pid": pl.Int64,
    "gpu": pl.Int64,
    "steps": pl.Int64,
    **dict.fromkeys(_MEASURES, pl.Float64),
}
"""The median over a unit's steady steps of each number that a step has."""


# Where the time goes


def chosen(steps: pl.DataFrame) -> pl.DataFrame:
    """The steps of each unit that stand for its decoding.

    The steady ones; of a unit without any the warm-up and the outliers; without those too,
    the prefills.
    """
    rank = pl.col("phase").replace_strict({STEADY: 0, OUTLIER: 1, WARMUP: 1}, default=2)
    return steps.filter(rank == rank.min().over(UNIT))


def gaps_of_units(gaps: pl.DataFrame, process_gaps: pl.DataFrame) -> pl.DataFrame:
    """`GAP` in which the times are idle for the unit: on shared GPUs those of each process."""
    shared = process_gaps["gpu"].unique().to_list()
    return pl.concat([gaps.filter(~pl.col("gpu").is_in(shared)), process_gaps])


def within(gaps: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """The gaps that begin in one of the steps; of one that lasts beyond it the part inside.

    Args:
        gaps: `GAP` of the units, see `gaps_of_units`.
        steps: `STEP`.
    """
    end = pl.col("ts") + pl.col("dur")
    border = steps.select(*UNIT, "step", border=end)
    inside = gaps.join(border, on=[*UNIT, "step"], how="inner")
    return inside.with_columns(dur=pl.min_horizontal(end, "border") - pl.col("ts"))


def step_parts(steps: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """`PARTS` of each unit: work, then idle parts; the largest first, `SHORT_GAPS` last.

    A gap belongs to the step in which it begins; what of it lies beyond the step does not count.

    Args:
        steps: `STEP`; all of them count, see `chosen`.
        gaps: `GAP` of the units, see `gaps_of_units`.
    """
    sums = steps.group_by(UNIT).agg(
        phase=pl.when(pl.col("phase").n_unique() == 1)
        .then(pl.col("phase").first())
        .otherwise(pl.lit("decode")),
        steps=pl.len().cast(pl.Int64),
        kernel_count=pl.col("kernel_count").sum(),
        kernel_ns=pl.col("kernel_ns").sum(),
        busy_ns=pl.col("busy_ns").sum(),
        wall_ns=pl.col("wall_ns").sum(),
    )
    return _parts(sums, within(gaps, steps), UNIT)


def gpu_parts(balance: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """`PARTS` of each GPU from its first operation to its last; `pid`, `phase`, `steps` are null.

    Args:
        balance: `GPU_BALANCE`.
        gaps: `GAP` of the GPUs.
    """
    sums = balance.select(
        "gpu", "kernel_count", "kernel_ns", "busy_ns", "wall_ns", phase=None, steps=None
    )
    return _parts(sums, gaps, ["gpu"])


def _parts(sums: pl.DataFrame, gaps: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Parts of each row of `sums`: its kernels, other work, and gaps by cause."""
    about = [*key, "phase", "steps", "wall_ns"]
    kernels = pl.min_horizontal("kernel_ns", "busy_ns")
    work = pl.concat(
        [
            sums.select(*about, part=pl.lit(KERNELS), count="kernel_count", total_ns=kernels),
            sums.select(
                *about,
                part=pl.lit(OTHER_WORK),
                count=pl.lit(None, pl.Int64),
                total_ns=pl.col("busy_ns") - kernels,
            ).filter(pl.col("total_ns") > 0),
        ]
    ).with_columns(idle=False, last=False)
    causes = (
        gaps.group_by(*key, part=cause_and_pace())
        .agg(count=pl.len().cast(pl.Int64), total_ns=pl.col("dur").sum())
        .join(sums.select(about), on=key, how="inner")
    )
    explained = causes.group_by(key).agg(explained=pl.col("total_ns").sum())
    rest = (
        sums.join(explained, on=key, how="left")
        .select(
            *about,
            part=pl.lit(SHORT_GAPS),
            count=pl.lit(None, pl.Int64),
            total_ns=pl.col("wall_ns") - pl.col("busy_ns") - pl.col("explained").fill_null(0),
            last=True,
        )
        .filter(pl.col("total_ns") != 0)
    )
    idle = pl.concat([causes.with_columns(last=False).select(rest.columns), rest])
    parts = pl.concat([work, idle.with_columns(idle=True).select(work.columns)])
    return (
        parts.sort(
            *key,
            "idle",
            "last",
            "total_ns",
            "part",
            descending=[False] * len(key) + [False, False, True, False],
        )
        .with_columns(
            pid=pl.col("pid") if "pid" in key else pl.lit(None, pl.Int64),
            per_step_ns=pl.col("total_ns") / pl.col("steps"),
            pct=_share(pl.col("total_ns"), pl.col("wall_ns")),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in PARTS.items())
    )


def cause_and_pace() -> pl.Expr:
    """Cause of a gap, `HOST_PACED` told apart from other launch latency."""
    host = (pl.col("cause") == "launch_latency") & (pl.col("pace") == "host").fill_null(False)
    return pl.when(host).then(pl.lit(HOST_PACED)).otherwise(pl.col("cause"))


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(100 * part / whole)


# The steady step


def steady_step(
    steps: pl.DataFrame, step_kernels: pl.DataFrame, full_names: bool = False
) -> pl.DataFrame:
    """`STEADY_STEP`; by pid, gpu, avg_ns falling, name.

    Args:
        steps: `STEP`.
        step_kernels: `STEP_KERNEL`.
        full_names: By demangled instead of short name.
    """
    steady = steps.filter(pl.col("phase") == STEADY)
    number = steady.group_by(UNIT).agg(steps=pl.len().cast(pl.Int64))
    kernels = (
        step_kernels.join(steady.select(*UNIT, "step"), on=[*UNIT, "step"], how="semi")
        .group_by(*UNIT, "step", name="demangled_name" if full_names else "name")
        .agg(pl.col("count").sum(), pl.col("total_ns").sum())
        .join(number, on=UNIT)
    )
    taken_apart = (
        kernels.group_by(*UNIT, "name")
        .agg(
            steps=pl.col("steps").first(),
            med_count=_quantile("count", 0.5),
            med_ns=_quantile("total_ns", 0.5),
            p5_ns=_quantile("total_ns", 0.05),
            p95_ns=_quantile("total_ns", 0.95),
            total_ns=pl.col("total_ns").sum(),
        )
        .with_columns(
            avg_ns=pl.col("total_ns") / pl.col("steps"),
            pct=_share(pl.col("total_ns"), pl.col("total_ns").sum().over(UNIT)),
        )
    )
    return make(STEADY_STEP, taken_apart, *UNIT, "-avg_ns", "name")


def step_medians(steps: pl.DataFrame) -> pl.DataFrame:
    """`STEP_MEDIANS`; by pid, gpu.

    Args:
        steps: `STEP`.
    """
    steady = steps.filter(pl.col("phase") == STEADY)
    medians = steady.group_by(UNIT).agg(pl.col(_MEASURES).median(), steps=pl.len())
    return make(STEP_MEDIANS, medians, *UNIT)


def _quantile(column: str, share: float) -> pl.Expr:
    """Linear interpolation between the neighbours in a group, as if it had `steps` rows.

    Those that it lacks are 0: a kernel that does not run in a step has no row there.
    """
    values = pl.col(column).sort()
    place = share * (pl.col("steps").first() - 1)
    missing = pl.col("steps").first() - pl.len()

    def at(position: pl.Expr) -> pl.Expr:
        row = position.cast(pl.Int64) - missing
        return pl.when(row >= 0).then(values.get(row.clip(lower_bound=0))).otherwise(0)

    low, high = at(place.floor()), at(place.ceil())
    return low + (high - low) * (place - place.floor())


# Families


def families_of(
    kernel_names: pl.DataFrame, families: Iterable[tuple[str, str]] = FAMILIES
) -> pl.DataFrame:
    """`KERNEL_NAME` with a column `family`."""
    found = classify(
        kernel_names["name"].to_list(), kernel_names["demangled_name"].to_list(), tuple(families)
    )
    return kernel_names.with_columns(family=pl.Series(found, dtype=pl.String))


def kernel_families(
    kernel_names: pl.DataFrame,
    families: Iterable[tuple[str, str]] = FAMILIES,
    full_names: bool = False,
) -> pl.DataFrame:
    """`FAMILY`; total_ns falling, then family.

    Args:
        kernel_names: `KERNEL_NAME`.
        families: Family to expression, by priority; see `kernel_groups.load`.
        full_names: Kernels by demangled instead of short name.
    """
    name = "demangled_name" if full_names else "name"
    kernels = (
        families_of(kernel_names, families)
        .group_by("family", name)
        .agg(pl.col("total_ns").sum(), pl.col("count").sum())
    )
    found = (
        kernels.sort("total_ns", name, descending=[True, False])
        .group_by("family", maintain_order=True)
        .agg(
            pl.col("total_ns").sum(),
            instances=pl.col("count").sum(),
            names=pl.len(),
            top_kernel=pl.col(name).first(),
        )
        .with_columns(time_pct=_share(pl.col("total_ns"), pl.col("total_ns").sum()).fill_null(0))
    )
    return make(FAMILY, found, "-total_ns", "family")
