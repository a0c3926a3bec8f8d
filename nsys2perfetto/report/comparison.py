"""What changed between two captures: in an average decode step, or in the captures as a whole.

A pure function of two sources. Where both captures have steady decode steps, every number is that
of an average steady step: the total of all steady steps, of all processes on all GPUs, divided by
how many there are. So numbers add up, and the length of a capture does not matter. Otherwise every
number is the total of the capture. A change is after - before; its percentage is of what was
before, null where that is 0 or absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from nsys2perfetto.analysis import kernel_families
from nsys2perfetto.report.source import Facts, Schema, Source
from nsys2perfetto.report.totals import Totals, of_capture, of_steps

_INT, _REAL, _TEXT = pl.Int64, pl.Float64, pl.String

_CHANGE: Schema = {
    "before_ns": _REAL,
    "after_ns": _REAL,
    "change_ns": _REAL,
    "change_pct": _REAL,
    "before_count": _REAL,
    "after_count": _REAL,
    "change_count": _REAL,
}
"""Null where something is absent; `change_*` take what is absent for 0."""

SUMMARY: Schema = {
    "metric": _TEXT,
    "unit": _TEXT,
    "before": _REAL,
    "after": _REAL,
    "change": _REAL,
    "change_pct": _REAL,
}
"""One row a number; `unit` is `ns`, `bytes`, `percent`, `per_s` or `count`."""

PARTS: Schema = {"kind": _TEXT, "part": _TEXT, **_CHANGE}
"""All of the time of a step (or of the GPUs), each moment once: the rows add up to it.

`kind` is `kernels` (a row a family), `other_work` (what the GPU did beside kernels, less what ran
at the same time as something else: below 0 where kernels overlap), `gaps` (a row a cause) or
`short_gaps` (idle time in gaps that are too short to be listed).
"""

KERNELS: Schema = {
    "name": _TEXT,
    "status": _TEXT,
    **_CHANGE,
    "before_avg_ns": _REAL,
    "after_avg_ns": _REAL,
    "change_avg_pct": _REAL,
}
"""Kernels by name; `status` is `new`, `vanished`, or null where both have it; `avg` is of one."""

FAMILIES: Schema = {"family": _TEXT, "status": _TEXT, **_CHANGE}
"""Kernels by family."""

GAPS: Schema = {"cause": _TEXT, "mostly": _TEXT, "status": _TEXT, **_CHANGE}
"""Idle gaps by cause, and by what the launching thread mostly did; the words of `source.GAP`."""

API: Schema = {"name": _TEXT, "status": _TEXT, **_CHANGE}
"""CUDA calls by name."""

SECTIONS = ("summary", "parts", "kernels", "families", "gaps", "api")
"""The tables of a comparison."""


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        facts: What it is.
        steps: Its decode steps, all phases.
        steady: Those that are steady.
    """

    facts: Facts
    steps: int
    steady: int


@dataclass(frozen=True)
class Effects:
    """What the change of the summed kernel time is made of; ns, together the change.

    Attributes:
        count: Kernels that both have, launched more or less often, each as long as before.
        duration: Kernels that both have, each taking longer or shorter.
        new: Kernels that only the second has.
        vanished: Kernels that only the first has; 0 or below.
    """

    count: float
    duration: float
    new: float
    vanished: float


@dataclass(frozen=True)
class Comparison:
    """What changed; each table has exactly the columns and types of its schema.

    Attributes:
        before: What was.
        after: What is.
        per_step: Whether numbers are of an average steady step; else of the whole capture.
        summary: `SUMMARY`.
        parts: `PARTS`; what changed most first.
        kernels: `KERNELS`; likewise.
        families: `FAMILIES`; likewise.
        gaps: `GAPS`; likewise.
        api: `API`; likewise.
    """

    before: Side
    after: Side
    per_step: bool
    summary: pl.DataFrame
    parts: pl.DataFrame
    kernels: pl.DataFrame
    families: pl.DataFrame
    gaps: pl.DataFrame
    api: pl.DataFrame

    def section(self, name: str) -> pl.DataFrame:
        """The table of a name in `SECTIONS`."""
        table = getattr(self, name)
        assert isinstance(table, pl.DataFrame)
        return table

    def value(self, metric: str) -> tuple[float | None, float | None]:
        """A number of the summary, before and after; None where there is none."""
        rows = self.summary.filter(pl.col("metric") == metric).select("before", "after").rows()
        return rows[0] if rows else (None, None)

    @property
    def measure(self) -> str:
        """The metric by which it got slower or faster: the median step, or all kernel time."""
        return "step_median_ns" if self.per_step else "kernel_ns"

    @property
    def slowdown_pct(self) -> float | None:
        """How much `measure` grew; None where there is nothing to compare with."""
        before, after = self.value(self.measure)
        return 100 * (after - before) / before if before and after is not None else None

    @property
    def within_scatter(self) -> bool:
        """Whether the medians differ by less than steps of one capture differ among themselves.

        That is the distance between their quartiles, in the capture where it is larger. Always
        False without steps.
        """
        before, after = self.value("step_median_ns")
        low, high = self.value("step_p25_ns"), self.value("step_p75_ns")
        if before is None or after is None or None in (*low, *high):
            return False
        scatter = max(h - lo for h, lo in zip(high, low, strict=True))  # type: ignore[operator]
        return 0 < abs(after - before) <= scatter

    @property
    def effects(self) -> Effects:
        """Whether kernels became more or slower."""
        k = self.kernels
        both = k.filter(pl.col("status").is_null())
        more = both.select((pl.col("change_count") * pl.col("before_avg_ns")).sum()).item()

        def of(status: str) -> float:
            return float(k.filter(pl.col("status") == status)["change_ns"].sum())

        change = float(both["change_ns"].sum())
        return Effects(float(more), change - float(more), of("new"), of("vanished"))


def compare(
    before: Source,
    after: Source,
    *,
    families: Sequence[tuple[str, str]] = kernel_families.FAMILIES,
    full_names: bool = False,
) -> Comparison:
    """Compares two captures.

    Args:
        before: What was.
        after: What is.
        families: Family to expression, by priority, as for `kernel_families.classify`.
        full_names: Tell kernels apart by their demangled names.
    """
    sources = (before, after)
    sides = (_side(before), _side(after))
    per_step = all(side.steady for side in sides)
    of: Callable[..., Totals] = of_steps if per_step else of_capture
    # A trace may have been made with another shortest gap: only what both list is compared.
    shortest = max(s.facts.min_gap_ns for s in sources)
    was, now = (of(s, families, full_names, shortest) for s in sources)
    kernels = _changes(was, now, "kernels").with_columns(_average("before"), _average("after"))
    grew = pl.col("after_avg_ns") - pl.col("before_avg_ns")
    return Comparison(
        *sides,
        per_step,
        _summary(was, now),
        _shaped(_changes(was, now, "parts"), PARTS),
        _shaped(
            kernels.with_columns(_percent(grew, "before_avg_ns").alias("change_avg_pct")), KERNELS
        ),
        _shaped(_changes(was, now, "families"), FAMILIES),
        _shaped(_changes(was, now, "gaps"), GAPS),
        _shaped(_changes(was, now, "api"), API),
    )


def _side(source: Source) -> Side:
    steps = source.steps()
    return Side(source.facts, steps.height, steps.filter(pl.col("phase") == "steady").height)


def _summary(was: Totals, now: Totals) -> pl.DataFrame:
    rows = [
        {
            "metric": metric,
            "unit": was.metrics[metric].unit,
            "before": was.metrics[metric].value,
            "after": now.metrics[metric].value,
        }
        for metric in was.metrics
    ]
    frame = pl.DataFrame(rows, {c: t for c, t in SUMMARY.items() if not c.startswith("change")})
    change = pl.col("after") - pl.col("before")
    return frame.with_columns(
        change.alias("change"), _percent(change, "before").alias("change_pct")
    )


def _changes(was: Totals, now: Totals, name: str) -> pl.DataFrame:
    """Rows of both side by side, what changed most first.

    The totals are whole numbers, so that equal captures have no change at all.
    """
    one, two = (getattr(t, name) for t in (was, now))
    keys = [c for c in one.columns if c not in ("count", "total_ns")]

    def side(frame: pl.DataFrame, totals: Totals, prefix: str) -> pl.DataFrame:
        return frame.select(
            *keys,
            (pl.col("total_ns") / totals.divisor).alias(f"{prefix}_ns"),
            (pl.col("count") / totals.divisor).alias(f"{prefix}_count"),
            pl.lit(True).alias(prefix),
        )

    joined = side(one, was, "before").join(
        side(two, now, "after"), on=keys, how="full", coalesce=True, nulls_equal=True
    )
    changes = [
        (pl.col(f"after_{c}").fill_null(0) - pl.col(f"before_{c}").fill_null(0)).alias(
            f"change_{c}"
        )
        for c in ("ns", "count")
    ]
    status = (
        pl.when(pl.col("before").is_null())
        .then(pl.lit("new"))
        .when(pl.col("after").is_null())
        .then(pl.lit("vanished"))
    )
    largest = pl.max_horizontal("before_ns", "after_ns")
    return (
        joined.with_columns(*changes, status.alias("status"))
        .with_columns(_percent(pl.col("change_ns"), "before_ns").alias("change_pct"))
        .sort(
            pl.col("change_ns").abs(),
            largest,
            *keys,
            descending=[True, True, *(False for _ in keys)],
            nulls_last=True,
        )
    )


def _average(prefix: str) -> pl.Expr:
    count = pl.col(f"{prefix}_count")
    return pl.when(count > 0).then(pl.col(f"{prefix}_ns") / count).alias(f"{prefix}_avg_ns")


def _percent(change: pl.Expr, base: str) -> pl.Expr:
    return pl.when(pl.col(base) != 0).then(100 * change / pl.col(base))


def _shaped(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
