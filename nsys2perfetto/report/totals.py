"""What a capture comes to, in a form in which two can be compared: sums, and by how many steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from nsys2perfetto.report import derive
from nsys2perfetto.report.derive import KERNELS, OTHER_WORK, SHORT_GAPS
from nsys2perfetto.report.source import Source

_STEP = ["pid", "gpu", "step"]
_SUMS = (pl.col("count").sum(), pl.col("total_ns").sum())

GAPS = "gaps"
"""Kind of a part that is a cause of gaps."""


@dataclass(frozen=True)
class Metric:
    """A number of the summary.

    Attributes:
        value: None where there is none.
        unit: `ns`, `bytes`, `percent`, `per_s` or `count`.
    """

    value: float | None
    unit: str


@dataclass(frozen=True)
class Totals:
    """Sums over all steady steps, or over a capture.

    Attributes:
        divisor: By what counts and totals are to be divided: how many steps there are, or 1.
        metrics: The summary, divided already.
        parts: kind, part, count, total_ns; together the time of the steps or of the GPUs.
        kernels: name, count, total_ns.
        families: family, count, total_ns.
        gaps: cause, mostly, count, total_ns.
        api: name, count, total_ns.
    """

    divisor: int
    metrics: dict[str, Metric]
    parts: pl.DataFrame
    kernels: pl.DataFrame
    families: pl.DataFrame
    gaps: pl.DataFrame
    api: pl.DataFrame


def of_steps(
    source: Source, families: Sequence[tuple[str, str]], full_names: bool, shortest_gap: int
) -> Totals:
    """Sums over the steady steps of all processes on all GPUs; there must be one.

    Args:
        source: Where the tables come from.
        families: For `kernel_families.classify`.
        full_names: Tell kernels apart by their demangled names.
        shortest_gap: Gaps below this count as short ones, ns.
    """
    all_steps = source.steps()
    steps = all_steps.filter(pl.col("phase") == derive.STEADY)
    steady = steps.select(_STEP)
    kernels = source.step_kernels().join(steady, on=_STEP, how="semi")
    by_family = _families(kernels, families)
    idle = derive.gaps_of_units(source.gaps(), source.process_gaps())
    border = steps.select(*_STEP, end=pl.col("ts") + pl.col("dur"))
    # What of a gap lies beyond its step is not the step's idle time.
    length = pl.min_horizontal(pl.col("ts") + pl.col("dur"), "end") - pl.col("ts")
    gaps = _gaps(idle.join(border, on=_STEP), length, shortest_gap)
    return Totals(
        divisor=steps.height,
        metrics=_step_metrics(steps, all_steps.filter(pl.col("phase") == derive.OUTLIER).height),
        parts=_parts(by_family, gaps, int(steps["busy_ns"].sum()), int(steps["wall_ns"].sum())),
        kernels=_kernels(kernels, full_names),
        families=by_family,
        gaps=gaps,
        api=source.step_calls().join(steady, on=_STEP, how="semi").group_by("name").agg(_SUMS),
    )


def of_capture(
    source: Source, families: Sequence[tuple[str, str]], full_names: bool, shortest_gap: int
) -> Totals:
    """Sums over all that a capture holds; arguments as for `of_steps`."""
    names = source.kernel_names()
    by_family = _families(names, families)
    gaps = _gaps(source.gaps(), pl.col("dur"), shortest_gap)
    balance = source.gpu_balance()
    api = source.api_summary().select("name", pl.col("instances").alias("count"), "total_ns")
    return Totals(
        divisor=1,
        metrics=_capture_metrics(source, balance, api),
        parts=_parts(by_family, gaps, int(balance["busy_ns"].sum()), int(balance["wall_ns"].sum())),
        kernels=_kernels(names, full_names),
        families=by_family,
        gaps=gaps,
        api=api,
    )


def _step_metrics(steps: pl.DataFrame, outliers: int) -> dict[str, Metric]:
    wall = steps["wall_ns"]

    def quantile(q: float) -> Metric:
        return Metric(wall.quantile(q, "linear"), "ns")

    def mean(column: str, unit: str = "count") -> Metric:
        return Metric(int(steps[column].sum()) / steps.height, unit)

    median = quantile(0.5)
    return {
        "steady_steps": Metric(steps.height, "count"),
        "outlier_steps": Metric(outliers, "count"),
        "step_median_ns": median,
        "step_p95_ns": quantile(0.95),
        "step_p25_ns": quantile(0.25),
        "step_p75_ns": quantile(0.75),
        "tokens_per_s": Metric(1e9 / median.value if median.value else None, "per_s"),
        "step_mean_ns": mean("wall_ns", "ns"),
        "busy_ns": mean("busy_ns", "ns"),
        "idle_ns": mean("idle_ns", "ns"),
        "kernel_ns": mean("kernel_ns", "ns"),
        "busy_util_pct": _percent(int(steps["busy_ns"].sum()), int(wall.sum())),
        "kernel_util_pct": _percent(int(steps["kernel_ns"].sum()), int(wall.sum())),
        "kernel_count": mean("kernel_count"),
        "launch_count": mean("launch_count"),
        "sync_count": mean("sync_count"),
        "sync_ns": mean("sync_ns", "ns"),
        "allocation_count": mean("allocation_count"),
        "copy_count": mean("copy_count"),
        "copy_bytes": mean("copy_bytes", "bytes"),
    }


def _capture_metrics(source: Source, balance: pl.DataFrame, api: pl.DataFrame) -> dict[str, Metric]:
    copies, waits = source.copy_summary(), source.sync_summary()
    copied = copies.filter(pl.col("name") != "Memset")

    def total(frame: pl.DataFrame, column: str, unit: str = "count") -> Metric:
        return Metric(int(frame[column].sum()), unit)

    wall = int(balance["wall_ns"].sum())
    return {
        "gpus": Metric(balance.height, "count"),
        "wall_ns": total(balance, "wall_ns", "ns"),
        "busy_ns": total(balance, "busy_ns", "ns"),
        "idle_ns": total(balance, "idle_ns", "ns"),
        "kernel_ns": total(balance, "kernel_ns", "ns"),
        "busy_util_pct": _percent(int(balance["busy_ns"].sum()), wall),
        "kernel_util_pct": _percent(int(balance["kernel_ns"].sum()), wall),
        "kernel_count": total(balance, "kernel_count"),
        "copy_count": total(copied, "instances"),
        "copy_ns": total(copied, "total_ns", "ns"),
        "copy_bytes": total(copied, "total_bytes", "bytes"),
        "call_count": total(api, "count"),
        "call_ns": total(api, "total_ns", "ns"),
        "sync_count": total(waits, "instances"),
        "sync_ns": total(waits, "total_ns", "ns"),
    }


def _percent(part: int, whole: int) -> Metric:
    return Metric(100 * part / whole if whole else None, "percent")


def _kernels(rows: pl.DataFrame, full_names: bool) -> pl.DataFrame:
    """Rows with name, demangled_name, count and total_ns, by one of the names."""
    name = pl.coalesce("demangled_name", "name") if full_names else pl.col("name")
    return rows.group_by(name.alias("name")).agg(_SUMS)


def _families(rows: pl.DataFrame, families: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """The same rows by family."""
    names = rows.group_by("name", "demangled_name").agg(_SUMS)
    return derive.families_of(names, families).group_by("family").agg(_SUMS)


def _gaps(rows: pl.DataFrame, length: pl.Expr, shortest: int) -> pl.DataFrame:
    """Gaps by cause; what counts is their `length`, all of which are long enough as a whole."""
    return (
        rows.filter(pl.col("dur") >= shortest)
        .group_by(derive.cause_and_pace().alias("cause"), "mostly")
        .agg(pl.len().cast(pl.Int64).alias("count"), length.sum().alias("total_ns"))
    )


def _parts(families: pl.DataFrame, gaps: pl.DataFrame, busy: int, wall: int) -> pl.DataFrame:
    """Families and causes, and what they leave of the busy and of the idle time."""
    rest = pl.DataFrame(
        {
            "kind": [OTHER_WORK, SHORT_GAPS],
            "part": [OTHER_WORK, SHORT_GAPS],
            "count": [None, None],
            "total_ns": [
                busy - int(families["total_ns"].sum()),
                wall - busy - int(gaps["total_ns"].sum()),
            ],
        },
        {"kind": pl.String, "part": pl.String, "count": pl.Int64, "total_ns": pl.Int64},
    )
    by_cause = gaps.group_by("cause").agg(_SUMS)
    return pl.concat(
        [
            families.select(
                kind=pl.lit(KERNELS), part="family", count="count", total_ns="total_ns"
            ),
            by_cause.select(kind=pl.lit(GAPS), part="cause", count="count", total_ns="total_ns"),
            rest,
        ]
    )
