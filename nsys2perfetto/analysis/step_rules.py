"""The rules that cut the time of one (process, GPU) into steps; see `steps` for their order.

Each rule returns where it cuts, or None where it does not convince. Times are int64 ns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nsys2perfetto.analysis import markers
from nsys2perfetto.analysis.intervals import ascending
from nsys2perfetto.analysis.markers import KernelNames, Sampler
from nsys2perfetto.analysis.step_tables import (
    AUTO,
    COPY,
    GRAPH,
    KERNEL,
    NONE,
    NVTX,
    Ranges,
    Request,
    Unit,
)

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

TRAINING_SHARE = 0.01
"""Share of kernels that only training has from which on no steps are looked for unasked."""

MIN_STEPS = 2
"""Fewer spans than this are no decode loop, unless the user named the marker."""
REACH = 0.5
"""A sampler that is in use for less than this share of another one's time is passed over: it may
have run in a warm-up only."""
MIN_RANGES = 3
WITH_WORK = 0.9
MIN_REPLAYS = 5
MIN_COPIES = 8
MIN_COPY_KERNELS = 8
MAX_COPY_BYTES = 1024
_SHORT = 60
REGULAR = 0.8
"""Share of the spans between replays or copies that must be alike."""


@dataclass
class Cuts:
    """Where the time of a unit is cut, and by what; arrays of shape (spans,).

    Attributes:
        rule: KERNEL, NVTX, GRAPH or COPY.
        marker: The same in words, with the pattern.
        count: Markers found.
        t0, t1: The spans, ascending, disjoint.
        markers: How many markers end each.
        closer: Row of the last of them in the unit's table.
        from_start: Whether the first span holds all that came before the first marker.
        begins: Where a run begins for another reason than a prefill.
        opened: When the marker began, if a prefill ends before it and not with it.
        warnings: Sentences for the user.
    """

    rule: str
    marker: str
    count: int
    t0: Int64s
    t1: Int64s
    markers: Int64s
    closer: Int64s
    from_start: bool = True
    begins: Bools | None = None
    opened: Int64s | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.t0)


# --- kernels ----------------------------------------------------------------------------------


def by_kernel(unit: Unit, is_marker: Bools, label: str) -> Cuts | None:
    """Cuts at the ends of marker kernels.

    Where markers take more than half of the summed kernel time, as the one kernel a token of some
    engines does, each one ends a step; else those with no other kernel between them end one.

    Args:
        unit: Where.
        is_marker: Of each kernel configuration.
        label: The marker in words.
    """
    k = unit.kernels
    rows = np.flatnonzero(is_marker[k.config])
    if not len(rows):
        return None
    duration = k.end - k.start
    alone = int(duration[rows].sum()) * 2 > int(duration.sum())
    heads = np.ones(len(rows), np.bool_)
    warnings = []
    if alone and len(np.unique(k.names.number[k.config[rows]])) > 1:
        if len(rows) == len(k.start):
            return None
        alone = False
    if alone and len(rows) > 1 and (np.diff(rows) == 1).mean() > REACH:
        warnings.append(
            "the marker is most of what the GPU does: each one counts as a step, "
            "also where nothing runs between two of them"
        )
    if not alone:
        heads[1:] = np.diff(rows) > 1
    return _partition(unit, KERNEL, label, k.end[rows], rows, np.flatnonzero(heads), warnings)


def by_known_sampler(unit: Unit, samplers: list[tuple[Sampler, Bools]]) -> Cuts | None:
    """Cuts at the kernels of the first known sampler that is in use most of the time.

    Args:
        unit: Where.
        samplers: In order of preference, each with the kernel configurations that are its own.
    """
    candidates = [by_kernel(unit, mask, sampler.label) for sampler, mask in samplers]
    found = [cuts for cuts in candidates if cuts is not None and len(cuts) >= MIN_STEPS]
    if not found:
        return None
    reach = [int(cuts.t1[-1] - cuts.t1[0]) for cuts in found]
    chosen = next(c for c, r in zip(found, reach, strict=True) if r >= REACH * max(reach))
    others = [f"{c.marker}, {c.count} times" for c in found if c is not chosen]
    if others:
        chosen.warnings.append(f"not used as markers, but there too: {'; '.join(others)}")
    return chosen


# --- NVTX ranges ------------------------------------------------------------------------------


def by_ranges(unit: Unit, *, asked_for: Bools | None) -> Cuts | None:
    """Cuts along NVTX ranges: a step is what a range launched, from first start to last end.

    Unasked, ranges count whose names speak of a token or of decoding and are equal but for numbers
    (`token_12_processing`): at least `MIN_RANGES` on one thread that do not overlap there, nine of
    ten with GPU work. Of several such families the one that spans most GPU time is taken, which is
    the outermost. Where the spans overlap on the GPU, their ends cut the time as markers do.

    Args:
        unit: Where.
        asked_for: Which names of ranges the user asked for; None to find out.
    """
    ranges = unit.ranges
    if ranges is None or not len(ranges.unit):
        return None
    if asked_for is not None:
        rows = np.flatnonzero(asked_for[ranges.name] & (ranges.operations > 0))
        return _along(unit, ranges, rows, "NVTX ranges") if len(rows) else None
    family = markers.step_families(ranges.names)
    frame = pl.DataFrame({
        "family": family.gather(ranges.name.astype(np.uint32)),
        "thread": ranges.thread, "start": ranges.start, "end": ranges.end,
        "work": ranges.operations > 0, "span": ranges.gpu_end - ranges.gpu_start,
    }).with_row_index("row")  # fmt: skip
    overlaps = (pl.col("start").sort() < pl.col("end").sort_by("start").shift(1)).any()
    families = (
        frame.drop_nulls("family")
        .group_by("family", "thread", maintain_order=True)
        .agg(
            pl.col("row").filter("work"),
            overlaps.alias("overlaps"),
            pl.col("work").mean().alias("with_work"),
            pl.col("span").filter("work").sum().alias("span"),
        )
        .filter(
            (pl.col("row").list.len() >= MIN_RANGES)
            & ~pl.col("overlaps")
            & (pl.col("with_work") >= WITH_WORK)
        )
        .sort("span", descending=True, maintain_order=True)
    )
    if not len(families):
        return None
    rows = families["row"][0].to_numpy().astype(np.int64)
    return _along(unit, ranges, rows, f"NVTX ranges {families['family'][0]}")


def _along(unit: Unit, ranges: Ranges, rows: Int64s, label: str) -> Cuts:
    rows = rows[np.lexsort((ranges.gpu_start[rows], ranges.gpu_end[rows]))]
    t0, t1 = ranges.gpu_start[rows], ranges.gpu_end[rows]
    names = ranges.names.gather(ranges.name[rows].astype(np.uint32))
    if (t0[1:] < t1[:-1]).any():
        cuts = _partition(unit, NVTX, label, t1, rows, np.arange(len(rows)), [])
        cuts.warnings.append(
            "the ranges overlap on the GPU: a step lasts from the end of the one before to its own"
        )
        rows = cuts.closer
        names = ranges.names.gather(ranges.name[rows].astype(np.uint32))
    else:
        one = np.ones(len(rows), np.int64)
        cuts = Cuts(NVTX, label, len(rows), t0, t1, one, rows, from_start=False)
    number = markers.counters(names)
    begins = np.zeros(len(number), np.bool_)
    # Where the number in the name starts again, so does the program.
    begins[1:] = (number[1:] < number[:-1]) & (number[1:] >= 0)
    cuts.begins = begins
    return cuts


# --- CUDA graphs ------------------------------------------------------------------------------


def by_replays(unit: Unit, *, asked_for: bool) -> Cuts | None:
    """Cuts at the ends of the launches of the graph that is launched most often.

    Unasked at least `MIN_REPLAYS`, most of them in about the same interval. Of graphs launched
    equally often (the pieces of one step) the one that ends last.
    """
    replays = unit.replays
    if replays is None or not len(replays.unit):
        return None
    count = np.bincount(replays.graph)
    last = np.full(len(count), np.iinfo(np.int64).min)
    np.maximum.at(last, replays.graph, replays.end)
    graph = int(np.lexsort((last, count))[-1])
    rows = np.flatnonzero(replays.graph == graph)
    rows = rows[ascending(replays.end[rows])]
    if not asked_for:
        period = np.diff(replays.end[rows])
        if len(rows) < MIN_REPLAYS or not _alike(period, 0.5):
            return None
    label = f"replays of CUDA graph {graph}"
    cuts = _partition(unit, GRAPH, label, replays.end[rows], rows, np.arange(len(rows)), [])
    cuts.opened = replays.start[cuts.closer]
    others = len(replays.unit) - len(rows)
    if others > len(rows) // 5:
        cuts.warnings.append(
            f"other CUDA graphs were launched as well ({others} times): "
            "a step may hold several of them"
        )
    return cuts


# --- copies -----------------------------------------------------------------------------------


def by_copies(unit: Unit) -> Cuts | None:
    """Cuts at the ends of copies to the host that may carry a token.

    Strict, since many a program reads a number back in a loop: the copies that occur most often
    have one size of at most 1 KiB, a multiple of 4 bytes; there are at least `MIN_COPIES` with at
    least `MIN_COPY_KERNELS` kernels between them, nearly always as many; and the kernels' names
    speak of attention and of matrix products.
    """
    copies, k = unit.copies, unit.kernels
    if copies is None:
        return None
    small = (copies.size > 0) & (copies.size <= MAX_COPY_BYTES) & (copies.size % 4 == 0)
    if np.count_nonzero(small) < MIN_COPIES or not len(k.start):
        return None
    size = int(np.argmax(np.bincount(copies.size[small])))
    rows = np.flatnonzero(copies.size == size)
    before = np.searchsorted(k.start, copies.start[rows])
    heads = np.flatnonzero(np.append(True, np.diff(before) > 0))
    between = np.diff(before[heads])
    if len(heads) < MIN_COPIES or not _alike(between, 0.05):
        return None
    if np.median(between) < MIN_COPY_KERNELS or not all(
        k.names.containing(words)[k.config].any() for words in (markers.ATTENTION, markers.PRODUCT)
    ):
        return None
    label = f"copies of {size} bytes to the host"
    return _partition(unit, COPY, label, copies.end[rows], rows, heads, [])


def _alike(values: Int64s, share: float) -> bool:
    """Whether most of the values are within this share (or 1) of the median."""
    if not len(values):
        return False
    middle = np.median(values)
    return bool((np.abs(values - middle) <= np.maximum(share * middle, 1)).mean() >= REGULAR)


def _partition(
    unit: Unit, rule: str, label: str, end: Int64s, row: Int64s, heads: Int64s, warnings: list[str]
) -> Cuts:
    """Cuts the time at the ends of groups of markers, the first span from the first operation on.

    Args:
        end: Of each marker, in order, ns.
        row: Of each marker.
        heads: The first marker of each group.
    """
    size = np.diff(np.append(heads, len(end)))
    t1 = np.maximum.reduceat(end, heads)
    reach = np.maximum.accumulate(t1)
    # With several streams a group may end before the one before it: the two are one.
    news = np.append(True, reach[1:] > reach[:-1])
    t1, group = t1[news], np.cumsum(news) - 1
    last = np.append(np.flatnonzero(news)[1:], len(news)) - 1
    return Cuts(
        rule,
        label,
        len(end),
        np.append(np.int64(min(unit.first, int(t1[0]))), t1[:-1]),
        t1,
        np.bincount(group, weights=size).astype(np.int64),
        row[heads[last] + size[last] - 1],
        warnings=warnings,
    )


WHOLE_GRAPHS = (
    "the kernels inside CUDA graphs are missing, since the graphs were traced as a whole: capture "
    "with --cuda-graph-trace=node to see them"
)

Rule = Callable[[Unit], "Cuts | str"]


# --- the choice of the rule -------------------------------------------------------------------


def rule_of(request: Request, names: KernelNames, ranges: Ranges | None) -> Rule | None:
    """How to cut a unit: a function that returns the cuts, or says why there are none."""
    shown = " or ".join(request.patterns)
    if request.rule == NONE:
        return None
    if request.rule == KERNEL:
        chosen = markers.match(names, request.patterns)
        return lambda unit: (
            by_kernel(unit, chosen, f"kernels {shown}") or _no_kernel(unit, chosen, shown)
        )
    if request.rule == NVTX:
        asked_for = None
        if ranges is not None and request.patterns:
            asked_for = markers.step_ranges(ranges.names, request.patterns)
        return lambda unit: (
            by_ranges(unit, asked_for=asked_for) or f"no NVTX range {shown} with work on this GPU"
        )
    if request.rule == GRAPH:
        return lambda unit: by_replays(unit, asked_for=True) or "no CUDA graph was launched"
    if request.rule != AUTO:
        raise ValueError(f"no such rule: {request.rule}")
    return _automatic(names)


def _automatic(names: KernelNames) -> Rule:
    samplers = [
        (sampler, found)
        for sampler in markers.KNOWN_SAMPLERS
        if (found := markers.match(names, sampler.patterns, sampler.names)).any()
    ]
    training = names.containing(markers.TRAINING)

    def rule(unit: Unit) -> Cuts | str:
        config = unit.kernels.config
        trained = int(np.count_nonzero(training[config])) if training.any() else 0
        if trained > TRAINING_SHARE * len(config):
            example = config[np.flatnonzero(training[config])[0]]
            return (
                f"{trained} kernels are those of training ({_short(names, int(example))}): "
                "no decode steps are looked for unless a marker is named (--step-kernel)"
            )
        return (
            by_known_sampler(unit, samplers)
            or by_ranges(unit, asked_for=None)
            or by_replays(unit, asked_for=False)
            or by_copies(unit)
            or _nothing(unit)
        )

    return rule


def _nothing(unit: Unit) -> str:
    """Why there are no steps, and what to do."""
    if len(unit.kernels.start):
        return (
            "nothing in the capture tells decode steps: name the kernel that ends a step "
            "(--step-kernel), or put an NVTX range named like token_12 around each step"
        )
    if unit.replays is not None and unit.replays.whole.any():
        return WHOLE_GRAPHS
    return "no kernels"


def _no_kernel(unit: Unit, chosen: Bools, shown: str) -> str:
    if not chosen[unit.kernels.config].any():
        return f"no kernel is called {shown}"
    return f"all kernels are called {shown}: no steps can be told from that"


def _short(names: KernelNames, config: int) -> str:
    label = names.label(int(names.number[config]))
    return label if len(label) <= _SHORT else f"{label[: _SHORT - 3]}..."
