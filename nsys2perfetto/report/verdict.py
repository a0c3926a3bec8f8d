"""Where the time goes, in one to three sentences, and what to look at next.

The sentences say what the tables say, no more: shares of the wall time of the steady steps (or,
without steps, of a GPU's time from its first operation to its last). What the causes of gaps mean,
and what helps against them, is from docs/causes.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from nsys2perfetto.analysis import kernel_families
from nsys2perfetto.report.derive import HOST_PACED, KERNELS, OTHER_WORK, OUTLIER, SHORT_GAPS, STEADY
from nsys2perfetto.report.formats import fit, time

_WORDS = {
    KERNELS: "kernels",
    OTHER_WORK: "other GPU work",
    SHORT_GAPS: "short gaps",
    HOST_PACED: "launch latency at the host's pace",
    "synchronization": "synchronization",
    "allocation": "memory allocation",
    "copy": "copies",
    "launch_bound": "launch-bound gaps",
    "launch_latency": "launch latency",
    "stream_dependency": "waits between streams",
    "graph_internal": "gaps inside CUDA graphs",
    "profiler_overhead": "profiler overhead",
    "unknown": "gaps of unknown cause",
}
"""Part of the time to the words for it; a part that is not here is said as it is."""

_ADVICE = {
    HOST_PACED: "the GPU runs as fast as the host launches: launch more quickly, fuse kernels, or "
    "use CUDA graphs",
    "synchronization": "the host waits for the GPU before it launches on: look for waits that can "
    "go, or launch the next work before waiting",
    "allocation": "the host allocates or frees memory before it launches on: allocate before the "
    "loop, or from a pool",
    "copy": "the host is held up by copies: use pinned memory and asynchronous copies",
    "launch_latency": "the work was queued and the GPU took its time: fewer, larger kernels, or "
    "CUDA graphs",
    "stream_dependency": "streams wait for each other's events: look at the order of the work",
    "graph_internal": "between nodes of CUDA graphs: fewer, larger kernels, or fewer dependencies",
    "profiler_overhead": "not there without the profiler",
    "unknown": "the launches are not in the capture: capture CUDA calls to learn why",
}
"""What to look at, by cause."""

_LATE = {
    "outside_cuda_ns": "the host launched late, mostly busy outside CUDA with the program's own "
    "code: do less between launches, or launch ahead",
    "launch_ns": "the host launched late, mostly in other launches: CUDA graphs or fused kernels",
    "other_cuda_ns": "the host launched late, mostly in other CUDA calls, such as loading modules: "
    "warm up before",
    "sync_ns": "the host launched late, in good part after waiting for the GPU: launch ahead",
    "memory_ns": "the host launched late, in good part after allocating memory: use a pool",
    "copy_ns": "the host launched late, in good part after copies: make them asynchronous",
}
"""The same for `launch_bound`, by what the launching threads did for most of the time."""

_WORTH_NAMING = 1.0
"""Percent of the time from which a part is named."""
_UNAVOIDABLE_NS = 2_000
"""Mean length of gaps up to which launch latency is what any GPU takes, about (docs/causes.md)."""
_NAME = 60
"""Most characters of a kernel's name in a sentence."""
_WORTH_A_SENTENCE = 5.0
"""Percent of the time from which idle time gets a sentence."""


def of_steps(
    parts: pl.DataFrame,
    times: pl.DataFrame,
    gaps: pl.DataFrame,
    kernels: pl.DataFrame,
    families: pl.DataFrame,
) -> list[str]:
    """The verdict on the steps of one unit.

    Args:
        parts: `derive.PARTS` of the unit.
        times: `step_times.STEP_TIMES` of the unit.
        gaps: `source.GAP` of the unit's steps.
        kernels: `derive.STEADY_STEP` of the unit, may be empty.
        families: `derive.FAMILY` of the whole capture.

    Returns:
        One to three sentences; empty without steps.
    """
    if parts.is_empty():
        return []
    phase, steps = parts["phase"][0], parts["steps"][0]
    row = next(iter(times.filter(pl.col("phase") == phase).to_dicts()), None)
    kind = {"steady": "steady decode step", "decode": "decode step"}.get(phase, f"{phase} step")
    if row is None:
        wall = float(parts["per_step_ns"].sum())
        took = f"A {kind} takes {time(wall)} (mean of {steps:,})"
    else:
        took = (
            f"A {kind} takes {time(row['med_ns'])} (median of {steps:,}; "
            f"p95 {time(row['p95_ns'])}{_outliers(times)})"
        )
        if phase == STEADY:
            took += f", {row['steps_per_second']:,.1f} tokens/s of one sequence"
    return [f"{took}: {_composition(parts)}.", *_next(parts, gaps, kernels, families)]


def of_gpu(
    balance: Mapping[str, Any],
    parts: pl.DataFrame,
    gaps: pl.DataFrame,
    kernels: pl.DataFrame,
    families: pl.DataFrame,
    copies: pl.DataFrame,
) -> list[str]:
    """The verdict on the whole time of one GPU.

    Args:
        balance: Row of `source.GPU_BALANCE`.
        parts: `derive.PARTS` of the GPU.
        gaps: `source.GAP` of the GPU.
        kernels: `source.SUMMARY` of the kernels.
        families: `derive.FAMILY`.
        copies: `source.COPY_SUMMARY`.
    """
    if parts.is_empty():
        return []
    first = (
        f"GPU {balance['gpu']} was busy for {balance['busy_util_pct'] or 0:.1f}% of the "
        f"{time(balance['wall_ns'])} from its first operation to its last: "
        f"{_composition(parts)}."
    )
    return [first, *_next(parts, gaps, kernels, families, copies)]


def words(part: str) -> str:
    """A part of the time in words."""
    return _WORDS.get(part, part.replace("_", " "))


def _outliers(times: pl.DataFrame) -> str:
    """How many steps took much longer or shorter than the steady ones."""
    found = times.filter(pl.col("phase") == OUTLIER)
    if found.is_empty():
        return ""
    row = found.row(0, named=True)
    if row["steps"] == 1:
        return f"; 1 outlier of {time(row['max_ns'])}"
    return f"; {row['steps']:,} outliers of {time(row['min_ns'])} to {time(row['max_ns'])}"


def _composition(parts: pl.DataFrame) -> str:
    """`kernels 61.2 %, idle 38.8 % (launch-bound gaps 20.1 %, ...)`."""
    work = parts.filter(~pl.col("idle"))
    said = [f"{words(row['part'])} {row['pct'] or 0:.1f}%" for row in _worth(work)]
    idle = parts.filter("idle")
    total = idle["pct"].sum()
    if total:
        causes = [f"{words(row['part'])} {row['pct']:.1f}%" for row in _worth(idle)[:4]]
        said.append(f"idle {total:.1f}%" + (f" ({', '.join(causes)})" if causes else ""))
    return ", ".join(said)


def _worth(parts: pl.DataFrame) -> list[dict[str, Any]]:
    return parts.filter((pl.col("pct") >= _WORTH_NAMING) | (pl.col("part") == KERNELS)).to_dicts()


def _next(
    parts: pl.DataFrame,
    gaps: pl.DataFrame,
    kernels: pl.DataFrame,
    families: pl.DataFrame,
    copies: pl.DataFrame | None = None,
) -> list[str]:
    """What to look at: at most two sentences, the larger part of the time first."""
    idle = parts.filter("idle")
    share = {part: float(pct or 0) for part, pct in parts.select("part", "pct").rows()}
    sentences = []
    if float(idle["pct"].sum()) >= _WORTH_A_SENTENCE:
        sentences.append((max(share[part] for part in idle["part"]), _of_gaps(idle, gaps)))
    if len(kernels) and share[KERNELS] >= _WORTH_NAMING:
        sentences.append((share[KERNELS], _of_kernels(kernels, families)))
    if copies is not None and len(copies) and share.get(OTHER_WORK, 0) >= _WORTH_A_SENTENCE:
        sentences.append((share[OTHER_WORK], _of_copies(copies)))
    return [text for _, text in sorted(sentences, key=lambda s: -s[0])][:2]


def _of_gaps(idle: pl.DataFrame, gaps: pl.DataFrame) -> str:
    """About the largest idle part against which something can be done."""
    if gaps.is_empty():
        return (
            "Why the GPU was idle is not known: all gaps are shorter than those that are looked "
            "at, or the trace was made without gaps."
        )
    mean = pl.col("total_ns") / pl.col("count")
    tiny = (pl.col("part") == SHORT_GAPS) | (
        (pl.col("part") == "launch_latency") & (mean <= _UNAVOIDABLE_NS)
    )
    between = float(idle.filter(tiny)["pct"].sum())
    causes = idle.filter(~tiny, pl.col("pct") >= _WORTH_NAMING)
    helpful = causes.filter(pl.col("part") != "profiler_overhead")
    causes = (helpful if len(helpful) else causes).sort(
        "total_ns", "part", descending=[True, False]
    )
    looks = [(row["pct"], _of_cause(row, gaps)) for row in causes.head(1).to_dicts()]
    if not looks or between >= _WORTH_A_SENTENCE:
        few = (
            f"the number of kernels: short waits between them are {between:.1f}%, fewer and "
            f"larger kernels have less"
        )
        looks.append((between, few))
    return f"Look at {'; and at '.join(text for _, text in sorted(looks, reverse=True))}."


def _of_cause(part: dict[str, Any], gaps: pl.DataFrame) -> str:
    """A cause of gaps, how many there are, and what helps."""
    advice = _ADVICE.get(part["part"], "see docs/causes.md")
    if part["part"] == "launch_bound":
        late = gaps.filter(pl.col("cause") == "launch_bound")
        advice = _LATE[max(_LATE, key=lambda column: int(late[column].sum()))]
    mean = time(part["total_ns"] / part["count"])
    number = f"{part['count']:,}"
    if part["steps"]:
        number = f"{_number(part['count'] / part['steps'])} a step"
    return f"{words(part['part'])} ({number}, {mean} each on average): {advice}"


def _of_kernels(kernels: pl.DataFrame, families: pl.DataFrame) -> str:
    """About the kernel and the family with the most time."""
    top = kernels.row(0, named=True)
    share = top["pct"] if "pct" in top else top["time_pct"]
    about = f"{share or 0:.1f}% of the kernel time"
    if "med_count" in top:
        about += f", {_number(top['med_count'])} a step"
    text = f"Look at the kernel {fit(top['name'] or '', _NAME)} ({about})"
    family = families.row(0, named=True) if len(families) else None
    if family and family["family"] != kernel_families.OTHER:
        text += f"; the family {family['family']} is {family['time_pct'] or 0:.1f}% of all kernels"
    return text + "."


def _of_copies(copies: pl.DataFrame) -> str:
    """About the kind of copies with the most time, of all GPUs."""
    top = copies.row(0, named=True)
    return (
        f"Look at the copies: {top['name']} takes {time(top['total_ns'])}, {top['instances']:,} "
        f"of {time(top['avg_ns'])} on average."
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")
