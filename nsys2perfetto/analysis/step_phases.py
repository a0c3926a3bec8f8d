"""Which spans between markers are prefills, where runs begin, and which steps are steady.

Everything here works on one (process, GPU) and on a handful of numbers for each span; times are
int64 ns. Statistics are robust ones (medians), since a capture holds stalls and warm-up by nature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Int8s = NDArray[np.int8]
Bools = NDArray[np.bool_]
Float64s = NDArray[np.float64]

PHASES = ("prefill", "warmup", "steady", "outlier")
PREFILL, WARMUP, STEADY, OUTLIER = range(4)

UNLIKE = 0.5
"""A span whose kernel names resemble those of the usual span less than this is no decode step;"""
LESS_LIKE = 0.75
"""less than this suffices where less than half of its kernels are launched in the usual shapes."""
MORE_KERNELS = 1.5
MORE_TIME = 2.0
"""Times the median of kernels or of summed kernel time that make a span a prefill."""
RESHAPED = 0.25
USUAL_SHAPES = 0.75
MOSTLY = 0.6
"""Where so many spans have at least `USUAL_SHAPES` of their launches in the usual shapes, one with
less than `RESHAPED` is a prefill: grids grow with the number of tokens."""
WHOLE = 0.8
"""A span that holds this much of the usual one in the same shapes is a decode step, whatever else
is in it (tuning, compilation) and however slow it is."""
LARGE = 3.0
OFTEN = 0.2
"""Where more than this share of the spans have this many times the usual kernels, these are no
prefills."""
REGIME = 4
ALIKE = 0.9
"""So many unusual spans in a row that are so much alike are decode steps of another kind (another
batch size), if they do not take longer."""

OUTLIER_Z = 5.0
OUTLIER_SHARE = 0.05
"""A step is an outlier when it is off by more than this many robust sigmas and this share."""
WARM_SHARE = 0.10
"""A step within this share of the later ones has settled, however little those scatter."""
KERNELS_SHARE = 0.05
FEW_KERNELS = 2
SHORT_RUN = 6
"""Runs of fewer decode steps are compared with the steps of all runs."""

_SIGMA = 1.4826  # median absolute deviation to standard deviation, for a normal distribution
_DECILE_SIGMA = 1 / 2.563  # the same for the distance between the first and the last decile
_CELLS = 1 << 23


@dataclass(frozen=True)
class Work:
    """What ran, in order of start; arrays of shape (n,)."""

    start: Int64s
    end: Int64s
    name: Int64s
    """Number of the kernel's name, 0 and up."""
    launch: Int64s | None = None
    """Number of its launch configuration, grid and block included; None where it is not known."""


@dataclass(frozen=True)
class Features:
    """What tells spans apart; arrays of shape (spans,)."""

    kernels: Int64s
    kernel_ns: Int64s
    likeness: Float64s
    """To the usual span: kernels in common / kernels in either, by name, 0 to 1."""
    counts: Int64s
    """Kernels of each name, shape (spans, names)."""
    usual_shapes: Float64s
    """Share of its kernels launched like one of the usual span's; 1 where that is not known."""
    whole: Float64s
    """Their number / kernels of the usual span; 0 where that is not known."""


def features(work: Work, t0: Int64s, t1: Int64s) -> Features:
    """Compares spans by the kernels that began in ``[t0, t1)``.

    The usual span is the one whose multiset of kernel names occurs most often (of equals the one
    that takes the least time); where none occurs in a tenth of the spans, the one with the median
    kernel time. The first span is left out of it, as it holds what came before the first step.
    """
    low, high = np.searchsorted(work.start, t0), np.searchsorted(work.start, t1)
    high = np.maximum(low, high)
    summed = np.append(np.int64(0), np.cumsum(work.end - work.start))
    kernel_ns = summed[high] - summed[low]
    counts = _count_names(work.name, low, high)
    usual = _usual_span(work.name, low, high, kernel_ns)
    n = len(t0)
    shapes, whole = np.ones(n), np.zeros(n)
    if work.launch is not None and len(work.launch):
        known = np.zeros(int(work.launch.max()) + 1, np.bool_)
        known[work.launch[low[usual] : high[usual]]] = True
        summed = np.append(np.int64(0), np.cumsum(known[work.launch]))
        seen = summed[high] - summed[low]
        shapes, whole = _ratio(seen, high - low), seen / max(int(high[usual] - low[usual]), 1)
    return Features(
        kernels=high - low,
        kernel_ns=kernel_ns,
        likeness=_likeness(counts, counts[usual]),
        counts=counts,
        usual_shapes=shapes,
        whole=whole,
    )


def _likeness(counts: Int64s, others: Int64s) -> Float64s:
    """Kernels in common / kernels in either, row by row."""
    common = np.minimum(counts, others).sum(axis=-1)
    return _ratio(common, counts.sum(axis=-1) + others.sum(axis=-1) - common)


def _count_names(name: Int64s, low: Int64s, high: Int64s) -> Int64s:
    """How many kernels of each name every span has, shape (spans, names).

    With very many spans the rarer names share a column, so that the table stays small.
    """
    spans = len(low)
    names = int(name.max()) + 1 if len(name) else 1
    most = max(8, _CELLS // max(spans, 1))
    if names > most:
        rank = np.empty(names, np.int64)
        rank[np.argsort(-np.bincount(name, minlength=names), kind="stable")] = np.arange(names)
        name, names = np.minimum(rank, most - 1)[name], most
    if not spans:
        return np.zeros((0, names), np.int64)
    first, last = int(low[0]), int(high[-1])
    # Spans follow each other, perhaps with time between them that belongs to none.
    lengths = np.stack((high - low, np.append(low[1:], last) - high), axis=1).reshape(-1)
    rows = np.stack((np.arange(spans), np.full(spans, spans)), axis=1).reshape(-1)
    key = np.repeat(rows * names, lengths) + name[first:last]
    table: Int64s = np.bincount(key, minlength=(spans + 1) * names)[: spans * names]
    return table.reshape(spans, names)


def _usual_span(name: Int64s, low: Int64s, high: Int64s, kernel_ns: Int64s) -> int:
    """Index of the span that stands for all decode steps."""
    spans = len(low)
    skip = 1 if spans > 1 else 0
    # Any odd multipliers without a pattern do: equal sums then mean equal multisets.
    weight = (np.arange(1, int(name.max(initial=0)) + 2, dtype=np.uint64) * _ODD) ** np.uint64(3)
    summed = np.append(np.uint64(0), np.cumsum(weight[name]))
    signature = (summed[high] - summed[low])[skip:]
    _, first, group, size = np.unique(
        signature, return_index=True, return_inverse=True, return_counts=True
    )
    often = int(size.max())
    if often >= max(2, (spans - skip) / 10):
        time = np.bincount(group.reshape(-1), weights=kernel_ns[skip:]) / size
        best = np.flatnonzero(size == often)
        return skip + int(first[best[np.argmin(time[best])]])
    by_time = np.argsort(kernel_ns[skip:], kind="stable")
    return skip + int(by_time[(len(by_time) - 1) // 2])


_ODD = np.uint64(0x9E3779B97F4A7C15)


def prefills(spans: Features, *, first: bool) -> Bools:
    """Which spans are prefills: each begins a run, unless it follows another one (chunks).

    A span is no decode step when it is unlike the usual one: by its kernel names (`UNLIKE`,
    `LESS_LIKE`), by having more than `MORE_KERNELS` times the median of kernels or more than
    `MORE_TIME` times the median of summed kernel time (which host stalls do not touch), or by the
    shapes of its launches (`RESHAPED`). It is one all the same when it holds a usual step as a
    whole (`WHOLE`), or when it is one of many (`REGIME`).

    Args:
        spans: In order of time.
        first: Whether the first span holds all that came before the first marker; it then counts
            as prefill whatever is in it.
    """
    n = len(spans.kernels)
    if not n:
        return np.zeros(0, np.bool_)
    usual = spans.likeness >= UNLIKE
    if n > 1:
        usual[0] = False
    if not usual.any():
        usual[:] = True
    kernels = _lower_median(spans.kernels[usual])
    kernel_ns = _lower_median(spans.kernel_ns[usual])
    slow = spans.kernel_ns > MORE_TIME * kernel_ns
    shapes = spans.usual_shapes
    found = (
        (spans.likeness < UNLIKE)
        | ((spans.likeness < LESS_LIKE) & (shapes < 0.5))
        | (spans.kernels > MORE_KERNELS * kernels)
        | slow
        | ((shapes < RESHAPED) & bool((shapes >= USUAL_SHAPES).mean() >= MOSTLY))
    ) & (spans.whole < WHOLE)
    rows = np.flatnonzero(found & ~slow)
    if len(rows) >= REGIME:
        follows = np.diff(rows) == 1
        follows[follows] = (
            _likeness(spans.counts[rows[1:][follows]], spans.counts[rows[:-1][follows]]) >= ALIKE
        )
        group = np.cumsum(np.append(True, ~follows)) - 1
        found[rows[np.bincount(group)[group] >= REGIME]] = False
    # A prefill goes through the same layers: spans of several times the kernels that come again and
    # again are the large model's of speculative decoding, the usual ones the small model's.
    large = spans.kernels > LARGE * kernels
    if large[1:].sum() > OFTEN * n:
        found[large] = False
    if first:
        found[0] = True
    return found


def number_runs(prefill: Bools, begins: Bools | None) -> tuple[Int64s, Int64s]:
    """The run of each span and its number in that run, both from 1.

    Args:
        prefill: Which spans are prefills; the first of several in a row begins a run.
        begins: Which spans begin one for another reason.
    """
    begins = np.zeros(len(prefill), np.bool_) if begins is None else begins.copy()
    begins[1:] |= prefill[1:] & ~prefill[:-1]
    begins[:1] = True
    run: Int64s = np.cumsum(begins)
    position = np.arange(len(run))
    return run, position - np.flatnonzero(begins)[run - 1] + 1


def phases(run: Int64s, prefill: Bools, kernels: Int64s, wall: Int64s, warmup: int | None) -> Int8s:
    """The phase of each span.

    Warm-up: the leading decode steps of a run until the first one that has settled, which is when
    its kernel count is that of the later half of the run's steps and its time is not above theirs
    (within 5 robust sigmas, or `WARM_SHARE`; of kernels `KERNELS_SHARE` or `FEW_KERNELS`).
    Outliers: see `_outliers`.

    Args:
        run: shape (n,), ascending.
        prefill: shape (n,).
        kernels: Of each span.
        wall: Of each span, ns.
        warmup: How many decode steps of each run are warm-up; None to find out.

    Returns:
        Shape (n,), indices into `PHASES`.
    """
    phase = np.full(len(run), STEADY, np.int8)
    phase[prefill] = PREFILL
    rows = np.flatnonzero(~prefill)
    if not len(rows):
        return phase
    group = run[rows]
    heads = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    size = np.diff(np.append(heads, len(rows)))
    position = np.arange(len(rows)) - np.repeat(heads, size)
    length = np.repeat(size, size)
    if warmup is not None:
        warm = position < warmup
    else:
        later = position >= length // 2
        # Number 0 stands for all runs together.
        pool = np.where(length < SHORT_RUN, np.int64(0), group)
        pooled = np.append(group[later], np.zeros(np.count_nonzero(later), np.int64))
        unsettled = np.zeros(len(rows), np.bool_)
        for values, share, least in ((kernels, KERNELS_SHARE, FEW_KERNELS), (wall, WARM_SHARE, 0)):
            value = values[rows].astype(np.float64)
            middle, sigma = _spread(pooled, np.append(value[later], value[later]), pool)
            off = value - middle if values is wall else np.abs(value - middle)
            unsettled |= off > np.maximum(np.maximum(OUTLIER_Z * sigma, share * middle), least)
        settled = np.where(unsettled, len(rows), position)
        warm = position < np.repeat(np.minimum.reduceat(settled, heads), size)
    phase[rows[warm]] = WARMUP
    rest = rows[~warm]
    phase[rest[_outliers(run[rest], wall[rest].astype(np.float64))]] = OUTLIER
    return phase


def _outliers(run: Int64s, wall: Float64s) -> Bools:
    """Steps whose time is off by more than `OUTLIER_Z` sigmas and `OUTLIER_SHARE`.

    The sigma comes from the median absolute deviation or from the deciles, whichever is larger: a
    change that affects more than a tenth of a run's steps is not one of single steps. The trend
    (attention takes longer with every token) is taken out first, in runs of a dozen steps or more.
    Runs of fewer than five steps have no outliers.
    """
    if not len(run):
        return np.zeros(0, np.bool_)
    heads = np.flatnonzero(np.append(True, run[1:] != run[:-1]))
    size = np.diff(np.append(heads, len(run)))
    length = np.repeat(size, size)
    position = np.arange(len(run)) - np.repeat(heads, size)
    third = length // 3
    early, late = position < third, position >= length - third
    level = _quantile(run, wall, run, 0.5)
    if early.any():
        rise = _quantile(run[late], wall[late], run, 0.5) - _quantile(
            run[early], wall[early], run, 0.5
        )
        slope = np.where(length >= 12, rise / np.maximum(length - third, 1), 0.0)
        flat = wall - slope * (position - (length - 1) / 2)
    else:
        flat = wall
    middle, sigma = _spread(run, flat, run)
    deciles = _quantile(run, flat, run, 0.9) - _quantile(run, flat, run, 0.1)
    sigma = np.maximum(sigma, deciles * _DECILE_SIGMA)
    off = np.abs(flat - middle)
    return (off > OUTLIER_Z * sigma) & (off > OUTLIER_SHARE * level) & (length >= 5)


def _spread(group: Int64s, value: Float64s, ask: Int64s) -> tuple[Float64s, Float64s]:
    """Median and robust sigma of the groups that are asked for."""
    middle = _quantile(group, value, group, 0.5)
    deviation = np.abs(value - middle)
    return _quantile(group, value, ask, 0.5), _SIGMA * _quantile(group, deviation, ask, 0.5)


def _quantile(group: Int64s, value: Float64s, ask: Int64s, q: float) -> Float64s:
    """The quantile of the values of each group that is asked for; NaN where it has none.

    The median is the mean of the two middle values, the others are values that occur, the nearer
    to the middle.
    """
    order = np.lexsort((value, group))
    group, value = group[order], value[order]
    heads = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else group
    known = group[heads]
    size = np.diff(np.append(heads, len(group)))
    place = (size - 1) * q
    low, high = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
    if q > 0.5:
        high = low
    elif q < 0.5:
        low = high
    of_group = (value[heads + low] + value[heads + high]) / 2
    found = np.searchsorted(known, ask)
    found = np.minimum(found, max(len(known) - 1, 0))
    if not len(known):
        return np.full(len(ask), np.nan)
    return np.where(known[found] == ask, of_group[found], np.nan)


def _lower_median(values: Int64s) -> int:
    return int(np.sort(values)[(len(values) - 1) // 2])


def _ratio(part: Int64s, whole: Int64s) -> Float64s:
    """Share of the whole, where nothing of nothing is all of it."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)
