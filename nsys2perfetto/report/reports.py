"""The named reports: one function each, from a source to sections of text and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from nsys2perfetto.analysis.kernel_families import FAMILIES
from nsys2perfetto.errors import Nsys2PerfettoError, UsageError
from nsys2perfetto.report import derive, gap_tables, step_times
from nsys2perfetto.report.formats import short_time
from nsys2perfetto.report.source import Source


@dataclass(frozen=True)
class Options:
    """What the user chose.

    Attributes:
        full_names: Kernels by demangled instead of short names.
        all_gpus: Take the work of all GPUs as that of one, as the manual's SQL does.
        top: At most so many rows of each ranking; None for all.
        longer_than: Shortest gap that is not yet big, ns.
        families: Family to expression, by priority, see `kernel_groups.load`.
        step: Number of the step that is taken apart.
    """

    full_names: bool = False
    all_gpus: bool = False
    top: int | None = None
    longer_than: int = 1_000_000
    families: Sequence[tuple[str, str]] = FAMILIES
    step: int | None = None


@dataclass(frozen=True)
class Section:
    """One table, and what is said about it.

    Attributes:
        name: Of the report that it is, and its key in JSON.
        frame: The table for programs.
        title: For people.
        shown: The table for people: fewer columns, or other ones. None for `frame`.
        above: Lines of text before the table.
        below: Lines after it, as they are (a chart).
        hidden: Whether it is for programs only.
    """

    name: str
    frame: pl.DataFrame
    title: str
    shown: pl.DataFrame | None = None
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def for_people(self) -> pl.DataFrame:
        """The table that people are shown."""
        return self.frame if self.shown is None else self.shown


Report = Callable[[Source, Options], list[Section]]

_STATISTICS = ["avg_ns", "med_ns", "min_ns", "max_ns", "stddev_ns", "p95_ns", "p99_ns"]
_STEP_COLUMNS = [
    "pid", "gpu", "run", "step", "phase", "ts", "wall_ns", "kernel_count", "kernel_ns",
    "kernel_util_pct", "busy_util_pct", "idle_ns", "largest_gap_ns", "launch_count", "sync_count",
    "allocation_count", "copy_count",
]  # fmt: skip
_UNITS = ["pid", "gpu", "run"]


def rounded(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with three decimals: ns and percent have no more that mean anything."""
    return frame.with_columns(pl.col(pl.Float64).round(3))


def without_constants(frame: pl.DataFrame, names: Sequence[str] = _UNITS) -> pl.DataFrame:
    """The frame without those of the named columns that are the same in every row."""
    same = [n for n in names if n in frame.columns and frame[n].n_unique() <= 1]
    return frame.drop(same)


def _ranked(name: str, frame: pl.DataFrame, title: str, options: Options) -> Section:
    """A ranking; for people the names come last, where long ones disturb nothing."""
    frame = rounded(frame if options.top is None else frame.head(options.top))
    names = [c for c in ("name", "waited_for", "family", "top_kernel") if c in frame.columns]
    return Section(name, frame, title, frame.select(pl.exclude(names), *names))


# Summaries


def cuda_gpu_kern_sum(source: Source, options: Options) -> list[Section]:
    """Kernels by name, the most expensive first."""
    frame = source.kernel_summary(options.full_names)
    return [_ranked("cuda_gpu_kern_sum", frame, "Kernels", options)]


def cuda_api_sum(source: Source, options: Options) -> list[Section]:
    """CUDA calls by name, the most expensive first."""
    return [_ranked("cuda_api_sum", source.api_summary(), "CUDA calls", options)]


def cuda_gpu_mem_time_sum(source: Source, options: Options) -> list[Section]:
    """Copies and memory sets by kind."""
    title = "Copies and memory sets"
    return [_ranked("cuda_gpu_mem_time_sum", source.copy_summary(), title, options)]


def sync_sum(source: Source, options: Options) -> list[Section]:
    """Calls that waited for a GPU, and how long they took to return once the work was done."""
    return [_ranked("sync_sum", source.sync_summary(), "Waiting for the GPU", options)]


def kernel_families(source: Source, options: Options) -> list[Section]:
    """Kernels by family: gemm, attention, norm, ..."""
    frame = derive.kernel_families(source.kernel_names(), options.families, options.full_names)
    section = _ranked("kernel_families", frame, "Kernels by family", options)
    return [replace(section, shown=section.frame)]


def gpu_balance(source: Source, options: Options) -> list[Section]:
    """How busy each GPU was from its first operation to its last."""
    del options
    title = "GPUs, from the first operation to the last"
    return [Section("gpu_balance", rounded(source.gpu_balance()), title)]


def gpu_parts(source: Source, options: Options) -> list[Section]:
    """Where the time of each GPU goes: kernels, other work, idle time by cause."""
    del options
    frame = rounded(derive.gpu_parts(source.gpu_balance(), source.gaps()))
    frame = frame.drop("pid", "phase", "steps", "per_step_ns")
    shown = without_constants(frame).drop("idle")
    return [Section("gpu_parts", frame, "Where the time of each GPU goes", shown)]


# Gaps


def gap_total(source: Source, options: Options) -> list[Section]:
    """Sum of the gaps, between consecutive kernels and idle."""
    frame = source.gap_total(options.all_gpus)
    return [Section("gap_total", frame, "Gaps in all", without_constants(frame))]


def gap_buckets(source: Source, options: Options) -> list[Section]:
    """Gaps by size, between consecutive kernels and idle."""
    frame = rounded(source.gap_buckets(options.all_gpus))
    return [Section("gap_buckets", frame, "Gaps by size", without_constants(frame))]


def gap_causes(source: Source, options: Options) -> list[Section]:
    """Idle gaps by cause, and what the launching threads did meanwhile."""
    del options
    frame = rounded(gap_tables.gap_causes(source.gaps()))
    title = f"Idle gaps of {short_time(source.facts.min_gap_ns)} or more by cause"
    return [Section("gap_causes", frame, title, without_constants(frame))]


def big_gaps(source: Source, options: Options) -> list[Section]:
    """Long gaps between consecutive kernels: when, in which step, why."""
    found = source.consecutive_gaps(options.longer_than, options.all_gpus)
    frame = gap_tables.big_gaps(found, source.gaps())
    if options.top is not None:
        longest = frame.sort("gap_ns", descending=True, maintain_order=True)
        frame = longest.head(options.top)
    prefix = "_demangled" if options.full_names else ""
    # What the host did while the GPU took its time has nothing to do with the gap.
    mostly = pl.when(pl.col("pace") == "host").then("mostly").alias("mostly")
    shown = frame.select(
        "gpu", "pid", "ts", "gap_ns", "idle_ns", "step", "cause", mostly,
        after=f"prev{prefix}_name", before=f"next{prefix}_name",
    )  # fmt: skip
    title = f"Gaps between kernels longer than {short_time(options.longer_than)}"
    return [Section("big_gaps", frame, title, without_constants(shown))]


# Steps


def decode_steps(source: Source, options: Options) -> list[Section]:
    """Every decode step."""
    frame = rounded(source.steps())
    frame = frame if options.top is None else frame.head(options.top)
    shown = without_constants(frame.select(_STEP_COLUMNS))
    return [Section("decode_steps", frame, "Decode steps", shown, _why_none(source, frame))]


def steady_step(source: Source, options: Options) -> list[Section]:
    """The steady decode steps taken apart by kernel."""
    steps = source.steps()
    frame = rounded(derive.steady_step(steps, source.step_kernels(), options.full_names))
    if options.top is not None:
        frame = frame.group_by(derive.UNIT, maintain_order=True).head(options.top)
    shown = without_constants(frame).drop("steps").select(pl.exclude("name"), "name")
    title = "Kernels of the steady step"
    return [Section("steady_step", frame, title, shown, _why_none(source, steps, steady=True))]


def step_medians(source: Source, options: Options) -> list[Section]:
    """What happens in a steady step: medians of time, kernels, launches, waits, copies."""
    del options
    steps = source.steps()
    frame = rounded(derive.step_medians(steps))
    why = _why_none(source, steps, steady=True)
    shown = without_constants(frame)
    return [Section("step_medians", frame, "The steady step: medians", shown, why)]


def step_parts(source: Source, options: Options) -> list[Section]:
    """Where the time of the steady steps goes: kernels, other work, idle time by cause."""
    del options
    steps = source.steps()
    gaps = derive.gaps_of_units(source.gaps(), source.process_gaps())
    frame = rounded(derive.step_parts(derive.chosen(steps), gaps))
    shown = without_constants(frame, [*_UNITS, "phase", "steps"]).drop("idle")
    title = "Where the time of a step goes"
    return [Section("step_parts", frame, title, shown, _why_none(source, frame))]


def times_of_steps(source: Source, options: Options) -> list[Section]:
    """Percentiles of the steps' wall time."""
    del options
    frame = rounded(step_times.step_times(source.steps()))
    shown = without_constants(frame)
    return [Section("step_times", frame, "Step times", shown, _why_none(source, frame))]


def step_histogram(source: Source, options: Options) -> list[Section]:
    """Steady steps and outliers by wall time."""
    del options
    frame = step_times.step_histogram(source.steps())
    shown = without_constants(frame)
    title = "Step times, steady steps and outliers"
    return [Section("step_histogram", frame, title, shown, _why_none(source, frame))]


def decode_step(source: Source, options: Options) -> list[Section]:
    """One decode step taken apart: the manual's numbers, kernels, gaps, CUDA calls."""
    number, steps = options.step, source.steps()
    if number is None:
        raise UsageError("decode_step needs the number of a step: report decode_step 11 CAPTURE")
    frame = steps.filter(pl.col("step") == number)
    if steps.is_empty():
        [*why] = _why_none(source, steps)
        raise Nsys2PerfettoError(f"there are no decode steps: {'; '.join(why)}")
    if frame.is_empty():
        numbers = steps["step"].to_list()
        raise UsageError(
            f"there is no decode step {number}: they are numbered {min(numbers)} to {max(numbers)}"
        )
    kernels = source.step_kernels().filter(pl.col("step") == number)
    calls = source.step_calls().filter(pl.col("step") == number)
    gaps = derive.gaps_of_units(source.gaps(), source.process_gaps())
    causes = gap_tables.step_gaps(frame, gaps)
    names = ["demangled_name" if options.full_names else "name"]
    by_name = (
        kernels.group_by(*derive.UNIT, *names, maintain_order=True)
        .agg(pl.col("count").sum(), pl.col("total_ns").sum())
        .sort(*derive.UNIT, "total_ns", descending=[False, False, True], maintain_order=True)
        .rename({names[0]: "name"})
    )
    share = 100 * pl.col("total_ns") / pl.col("total_ns").sum().over(derive.UNIT)
    last = [pl.exclude("step", "name"), "name"]
    return [
        Section(
            "decode_step",
            rounded(frame),
            f"Decode step {number}",
            without_constants(rounded(frame).select(_STEP_COLUMNS).drop("step")),
        ),
        Section(
            "kernels",
            kernels,
            "Kernels",
            without_constants(by_name.with_columns(pct=share).select(last)),
        ),
        Section("gaps", causes, "Idle time by cause", without_constants(causes.drop("step"))),
        Section(
            "calls",
            calls,
            "CUDA calls that began in the step",
            without_constants(calls.select(last)),
        ),
    ]


def _why_none(source: Source, frame: pl.DataFrame, steady: bool = False) -> tuple[str, ...]:
    """Why there are no steps, or no steady ones; nothing where there are."""
    if frame.is_empty():
        return (source.facts.decode_steps or "no decode steps were found",)
    if steady and frame.filter(pl.col("phase") == derive.STEADY).is_empty():
        return ("none of the decode steps is steady",)
    return ()


REPORTS: dict[str, Report] = {
    "cuda_gpu_kern_sum": cuda_gpu_kern_sum,
    "cuda_api_sum": cuda_api_sum,
    "cuda_gpu_mem_time_sum": cuda_gpu_mem_time_sum,
    "sync_sum": sync_sum,
    "gpu_balance": gpu_balance,
    "gpu_parts": gpu_parts,
    "kernel_families": kernel_families,
    "gap_total": gap_total,
    "gap_buckets": gap_buckets,
    "gap_causes": gap_causes,
    "big_gaps": big_gaps,
    "decode_steps": decode_steps,
    "decode_step": decode_step,
    "steady_step": steady_step,
    "step_medians": step_medians,
    "step_parts": step_parts,
    "step_times": times_of_steps,
    "step_histogram": step_histogram,
}
"""The functions of `names.NAMES`."""
