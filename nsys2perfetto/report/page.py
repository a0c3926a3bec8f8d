"""The one page: the verdict first, and below it what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import polars as pl

from nsys2perfetto.analysis.gaps import BUCKETS
from nsys2perfetto.report import derive, formats, gap_tables, reports, verdict
from nsys2perfetto.report.reports import Options, Section, without_constants
from nsys2perfetto.report.source import Facts, Source

TOP = 10
"""Rows of each ranking that people are shown, unless they ask for another number."""

Unit = dict[str, Any]
"""`pid` and `gpu` of what a process does on a GPU."""

_BAR = 40
"""Characters of the histogram's longest bar."""
_RANKINGS = {
    "cuda_gpu_kern_sum", "kernel_families", "steady_step", "big_gaps", "cuda_api_sum", "sync_sum",
    "cuda_gpu_mem_time_sum",
}  # fmt: skip
"""Sections of which people are shown the beginning."""
_SPREAD = ("min_ns", "stddev_ns", "p95_ns", "p99_ns")
"""Columns of summaries that the page leaves out for people."""
_DEFINITIONS = (
    "consecutive: from the end of a kernel to the start of the next, in order of start, as the "
    "nsys manual counts; below 0 where kernels overlap. idle: the GPU did nothing at all.",
)


@dataclass(frozen=True)
class Page:
    """The page.

    Attributes:
        facts: What the capture is.
        verdict: Sentences.
        sections: Tables, whole for programs, the beginning of each for people.
        has_steps: Whether the verdict is on decode steps.
    """

    facts: Facts
    verdict: tuple[str, ...]
    sections: tuple[Section, ...]
    has_steps: bool


def build(source: Source, options: Options) -> Page:
    """Makes the page.

    Where several processes or GPUs have steps, each has a line of its own; what takes a step
    apart is shown to people for the one with the most time in its steps.
    """
    source, top = remembering(source), options.top or TOP
    options = replace(options, top=None)
    steps = source.steps()
    unit = next(iter(units(steps)), None)
    sections = [
        *parts_and_times(source, options, unit),
        *_gpus(source, options, unit is None),
        _kernels(source, options),
        *reports.kernel_families(source, options),
        *steady(source, options, unit),
        *(replace(s, above=_DEFINITIONS) for s in reports.gap_total(source, options)),
        _buckets(source, options),
        _causes(source, options),
        *(_longest_first(s) for s in reports.big_gaps(source, options)),
        *(_less(s) for s in reports.cuda_api_sum(source, options)),
        *reports.sync_sum(source, options),
        *(_less(s) for s in reports.cuda_gpu_mem_time_sum(source, options)),
    ]
    said = _on_steps(source, options, unit) if unit else _on_gpu(source, options)
    shown = tuple(_beginning(s, top) for s in sections)
    return Page(source.facts, tuple(said), shown, unit is not None)


def remembering(source: Source) -> Source:
    """A source that asks another each question once, and keeps the answers."""
    return source if isinstance(source, _Remembering) else cast(Source, _Remembering(source))


class _Remembering:
    """See `remembering`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._answers: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "facts":
            return self._source.facts
        ask: Callable[..., pl.DataFrame] = getattr(self._source, name)

        def answer(*arguments: Any) -> pl.DataFrame:
            key = (name, arguments)
            if key not in self._answers:
                self._answers[key] = ask(*arguments)
            return self._answers[key]

        return answer


def units(steps: pl.DataFrame) -> list[Unit]:
    """The units that have steps; those with the most time in their decoding come first."""
    sums = derive.chosen(steps).group_by(derive.UNIT).agg(pl.col("wall_ns").sum())
    found = sums.sort("wall_ns", *derive.UNIT, descending=[True, False, False])
    return found.select(derive.UNIT).to_dicts()


def of_unit(unit: Unit, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a unit."""
    return frame.filter(pl.col("pid") == unit["pid"], pl.col("gpu") == unit["gpu"])


def _number_of_units(frame: pl.DataFrame) -> int:
    return len(frame.select(derive.UNIT).unique())


# The verdict


def _on_steps(source: Source, options: Options, unit: Unit) -> list[str]:
    steps = of_unit(unit, derive.chosen(source.steps()))
    gaps = derive.gaps_of_units(source.gaps(), source.process_gaps())
    kernels = derive.steady_step(source.steps(), source.step_kernels(), options.full_names)
    said = verdict.of_steps(
        derive.step_parts(steps, gaps),
        of_unit(unit, reports.times_of_steps(source, options)[0].frame),
        derive.within(gaps, steps),
        of_unit(unit, kernels),
        derive.kernel_families(source.kernel_names(), options.families),
    )
    number = _number_of_units(source.steps())
    if number > 1:
        where = f"Process {unit['pid']} on GPU {unit['gpu']}, one of {number} with steps"
        said[0] = f"{where}: {said[0][0].lower()}{said[0][1:]}"
    return said


def _on_gpu(source: Source, options: Options) -> list[str]:
    """Without steps: about the GPU with the most work."""
    why = source.facts.decode_steps
    gpu = _main_gpu(source)
    if gpu is None:
        return ["There is no GPU work in this capture."]
    mine = pl.col("gpu") == gpu["gpu"]
    said = verdict.of_gpu(
        gpu,
        derive.gpu_parts(source.gpu_balance(), source.gaps()).filter(mine),
        source.gaps().filter(mine),
        source.kernel_summary(options.full_names),
        derive.kernel_families(source.kernel_names(), options.families),
        source.copy_summary(),
    )
    return [f"No decode steps: {why}." if why else "There are no decode steps.", *said]


def _main_gpu(source: Source) -> dict[str, Any] | None:
    """The row of the GPU that worked longest."""
    balance = source.gpu_balance().sort("busy_ns", "gpu", descending=[True, False])
    return balance.row(0, named=True) if len(balance) else None


# Sections about steps


def parts_and_times(source: Source, options: Options, unit: Unit | None) -> list[Section]:
    """Where the time of a unit's step goes, and how long steps take."""
    [parts] = reports.step_parts(source, options)
    [times] = reports.times_of_steps(source, options)
    [histogram] = reports.step_histogram(source, options)
    if unit is None:
        return [replace(section, hidden=True) for section in (parts, times, histogram)]
    mine = of_unit(unit, parts.frame)
    shown = mine.select("pct", "per_step_ns", pl.col("count") / pl.col("steps"), in_plain_words())
    if _number_of_units(times.frame) > 1:
        times = replace(times, shown=_units(times.frame, parts.frame))
    return [
        replace(parts, title=f"{parts.title} ({_whose(mine, unit)})", shown=shown),
        replace(times, below=_chart(of_unit(unit, histogram.frame))),
        replace(histogram, hidden=True),
    ]


def _whose(parts: pl.DataFrame, unit: Unit) -> str:
    number, phase = parts["steps"][0], parts["phase"][0]
    return f"mean of {number:,} {phase} steps of process {unit['pid']} on GPU {unit['gpu']}"


def _units(times: pl.DataFrame, parts: pl.DataFrame) -> pl.DataFrame:
    """One line for each process on each GPU: step times, and what takes most of a step."""
    first = times.group_by(derive.UNIT, maintain_order=True).first()
    causes = (
        parts.filter("idle")
        .group_by(derive.UNIT, maintain_order=True)
        .agg(
            idle_pct=pl.col("pct").sum(),
            mostly=pl.col("part").sort_by("total_ns", descending=True).first(),
        )
    )
    kernels = parts.filter(pl.col("part") == derive.KERNELS).select(*derive.UNIT, kernels_pct="pct")
    return (
        first.select(*derive.UNIT, "phase", "steps", "med_ns", "p95_ns", "p99_ns", "max_ns")
        .join(kernels, on=derive.UNIT, how="left", maintain_order="left")
        .join(causes, on=derive.UNIT, how="left", maintain_order="left")
    )


def _chart(histogram: pl.DataFrame) -> tuple[str, ...]:
    """The histogram as bars."""
    if histogram.is_empty():
        return ()
    most = max(histogram["steps"].to_list())
    [(title, start)] = formats.readable(histogram.select("from_ns"))
    unit = title.rsplit("_", 1)[1]
    rows = zip(start.to_list(), histogram["steps"].to_list(), strict=True)
    width = max(len(text) for text in start.to_list())
    return (
        "",
        *(
            f"from {begin:>{width}} {unit}  {steps:>7,}  {'#' * -(-steps * _BAR // most)}".rstrip()
            for begin, steps in rows
        ),
    )


def steady(source: Source, options: Options, unit: Unit | None) -> list[Section]:
    """A unit's steady step taken apart."""
    [section] = reports.steady_step(source, options)
    [medians] = reports.step_medians(source, options)
    found = of_unit(unit, medians.frame).to_dicts() if unit else []
    if unit is None or not found:
        return [replace(section, hidden=True), replace(medians, hidden=True)]
    shown = of_unit(unit, section.frame).select(
        "pct", "med_count", "med_ns", "p5_ns", "p95_ns", "name"
    )
    return [
        replace(section, shown=shown, above=(_in_words(found[0]),)),
        replace(medians, hidden=True),
    ]


def _in_words(medians: dict[str, Any]) -> str:
    """The medians of the steady steps in a sentence."""
    t = {n.removesuffix("_ns"): formats.time(v) for n, v in medians.items() if n.endswith("_ns")}
    count = {name: f"{value:,.10g}" for name, value in medians.items() if name.endswith("count")}
    return (
        f"Medians of a step: wall {t['wall']}; {count['kernel_count']} kernels in {t['kernel']} "
        f"({medians['kernel_util_pct']:.1f}%); idle {t['idle']}, longest gap {t['largest_gap']}; "
        f"launches {count['launch_count']}, waiting calls {count['sync_count']} ({t['sync']}), "
        f"allocations and frees {count['allocation_count']}, copies {count['copy_count']} "
        f"({medians['copy_bytes']:,.10g} bytes)."
    )


# Other sections


def _gpus(source: Source, options: Options, with_parts: bool) -> list[Section]:
    """The GPUs, and where the time of the one that worked longest goes."""
    [parts] = reports.gpu_parts(source, options)
    gpu = _main_gpu(source)
    if gpu is None or not with_parts:
        return [*reports.gpu_balance(source, options), replace(parts, hidden=True)]
    mine = parts.frame.filter(pl.col("gpu") == gpu["gpu"])
    shown = mine.select("pct", "total_ns", "count", in_plain_words())
    title = f"Where the time of GPU {gpu['gpu']} goes"
    return [*reports.gpu_balance(source, options), replace(parts, title=title, shown=shown)]


def in_plain_words() -> pl.Expr:
    """The column `part` of `PARTS` for people."""
    idle = pl.when("idle").then(pl.lit("idle: ")).otherwise(pl.lit(""))
    words = pl.col("part").map_elements(verdict.words, pl.String)
    return (idle + words).alias("part")


def _kernels(source: Source, options: Options) -> Section:
    """The ranking of kernels with their families."""
    [section] = reports.cuda_gpu_kern_sum(source, options)
    names = derive.families_of(source.kernel_names(), options.families)
    column = "demangled_name" if options.full_names else "name"
    family = names.group_by(name=column).agg(pl.col("family").sort_by("total_ns").last())
    shown = section.for_people.drop(_SPREAD).join(
        family, on="name", how="left", maintain_order="left"
    )
    return replace(section, shown=shown.select(pl.exclude("name"), "name"))


def _less(section: Section) -> Section:
    return replace(section, shown=section.for_people.drop(_SPREAD))


def _buckets(source: Source, options: Options) -> Section:
    """Both definitions side by side, summed over the GPUs."""
    [section] = reports.gap_buckets(source, options)
    sums = section.frame.group_by("definition", "bucket").agg(
        pl.col("count").sum(), pl.col("total_ns").sum()
    )
    shown = pl.DataFrame({"bucket": BUCKETS})
    for definition in ("consecutive", "idle"):
        one = sums.filter(pl.col("definition") == definition).select(
            "bucket",
            pl.col("count").alias(definition),
            pl.col("total_ns").alias(f"{definition}_ns"),
            (100 * pl.col("count") / pl.col("count").sum()).alias(f"{definition}_pct"),
        )
        shown = shown.join(one, on="bucket", how="left", maintain_order="left")
    shown = shown.filter(pl.any_horizontal(pl.col("consecutive", "idle").is_not_null()))
    shown = shown.select(s for s in shown if s.null_count() < len(s))
    gpus = section.frame["gpu"].n_unique()
    title = section.title + (f", of {gpus} GPUs together" if gpus > 1 else "")
    return replace(section, title=title, shown=shown)


def _causes(source: Source, options: Options) -> Section:
    """Without what the threads did in each: the largest part of it is named instead."""
    [section] = reports.gap_causes(source, options)
    most = pl.max_horizontal(gap_tables.ACTIVITIES)
    # What the host did while the GPU took its time has nothing to do with the gap.
    late = 2 * pl.col("host_paced_ns") > pl.col("total_ns")
    shown = section.frame.select(
        "gpu",
        "pct",
        "total_ns",
        "count",
        "avg_ns",
        "max_ns",
        (100 * pl.col("host_paced_ns") / pl.col("total_ns")).alias("host_paced_pct"),
        "cause",
        pl.coalesce(
            pl.when(late, pl.col(name) == most).then(pl.lit(name.removesuffix("_ns")))
            for name in gap_tables.ACTIVITIES
        ).alias("host_mostly_in"),
    )
    return replace(section, shown=without_constants(shown))


def _longest_first(section: Section) -> Section:
    longest = section.for_people.sort("gap_ns", descending=True, maintain_order=True)
    return replace(section, shown=longest)


def _beginning(section: Section, rows: int) -> Section:
    """The section with so many rows as people want to see on a page."""
    shown = section.for_people
    if len(shown) <= rows or section.name not in _RANKINGS:
        return section
    title = f"{section.title}: {rows} of {len(shown):,} (all: report {section.name})"
    return replace(section, title=title, shown=shown.head(rows))
