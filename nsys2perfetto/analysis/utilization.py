"""How busy a GPU was, window by window: utilization, kernels in flight, queue depth, throughput.

All of it is exact integration over windows, not sampling. A native GPU counter's sample covers the
time that *ends* at its timestamp, so the value of a window belongs at the window's end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsys2perfetto.analysis.intervals import Coverage, Spread

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]

MOST_WINDOWS = 20_000
"""A counter with more samples a GPU than this is slow to draw and tells no more."""

WINDOWS_PER_STEP = 10
_WINDOWS_WITHOUT_STEPS = 2_000
_SHORTEST_NS = 1_000


@dataclass(frozen=True)
class Windows:
    """Values over adjoining windows.

    Attributes:
        edges: ns, ascending, shape (windows + 1,): window i is ``[edges[i], edges[i + 1])``.
        value: the mean over each window, shape (windows,).
    """

    edges: Int64s
    value: Float64s

    @property
    def end(self) -> Int64s:
        """Where each window ends, ns: the timestamp of its native counter sample."""
        return self.edges[1:]


def windows(t0: int, t1: int, width: int) -> Int64s:
    """Edges of the windows that divide ``[t0, t1)``; the last one may be shorter.

    Args:
        t0: ns.
        t1: ns; no window where it is not after t0.
        width: ns, > 0.

    Returns:
        Edges, shape (windows + 1,).

    Raises:
        ValueError: the width is not positive.
    """
    if width <= 0:
        raise ValueError(f"a window must be longer than {width} ns")
    count = max(0, -(-(t1 - t0) // width))
    edges = t0 + width * np.arange(count + 1, dtype=np.int64)
    if count:
        edges[-1] = t1
    return edges


def covered_ns(start: Int64s, end: Int64s, edges: Int64s) -> Int64s:
    """The sum over all intervals of what lies in each window, exactly; shape (windows,).

    One pass over the intervals and no copy of them where they come in order, unlike `Coverage`,
    which answers for any number of tracks at once. The covered time up to t is the sum of t - start
    over the intervals that have begun, less that of t - end over those that have ended; the sums
    may wrap around in 64 bits, their differences between two edges are right all the same.

    Args:
        start: shape (n,), ns; of overlapping intervals each counts.
        end: shape (n,), ns, ``start <= end``.
        edges: from :func:`windows`, shape (windows + 1,).
    """
    until = _elapsed(start, edges) - _elapsed(end, edges)
    return np.diff(until)


def _elapsed(times: Int64s, edges: Int64s) -> Int64s:
    """The sum of edge - time over the times before each edge, modulo 2^64."""
    if (times[1:] < times[:-1]).any():
        times = np.sort(times, kind="stable")  # quick where sorted runs follow each other
    count = np.searchsorted(times, edges)
    # Sums between edges, then over them: no array as long as the intervals is needed.
    bounds = np.concatenate(([0], count))
    sums = np.add.reduceat(np.append(times, 0), bounds)[:-1]
    sums[bounds[:-1] == bounds[1:]] = 0
    before = np.cumsum(sums)
    return count * edges - before


def busy_pct(work: Coverage, track: int, edges: Int64s) -> Windows:
    """Percent of each window in which a GPU was busy, 0 .. 100.

    Args:
        work: over the *union* of the GPU's operations (`intervals.union`).
        track: the GPU.
        edges: from :func:`windows`.
    """
    covered = work.covered_between(track, edges)
    return Windows(edges, 100.0 * covered / np.diff(edges))


def mean_in_flight(work: Coverage, track: int, edges: Int64s) -> Windows:
    """How many operations were running, on average over each window.

    Args:
        work: over the operations themselves (kernels alone for "kernels in flight").
        track: the GPU.
        edges: from :func:`windows`.
    """
    return Windows(edges, work.covered_between(track, edges) / np.diff(edges))


def queued(track: Int64s, submitted: Int64s, start: Int64s) -> Coverage:
    """Coverage of the time in which operations were launched but had not started yet.

    Its :func:`mean_in_flight` is the depth of the launch queue.

    Args:
        track: the GPU of each operation, shape (n,).
        submitted: when its call began, ns; rows without a call in the capture left out.
        start: ns; before `submitted` (clocks that disagree) counts as not queued at all.
    """
    return Coverage(track, submitted, start)


def throughput(copies: Spread, track: int, edges: Int64s) -> Windows:
    """Copied bytes per ns, which is GB/s (10^9 bytes a second), averaged over each window.

    Args:
        copies: bytes spread over the copies' durations, tracks being (GPU, direction), say.
        track: which of them.
        edges: from :func:`windows`.
    """
    return Windows(edges, copies.amount_between(track, edges) / np.diff(edges))


def default_window(step_ns: Int64s, total_ns: int) -> int:
    """A window that shows what happens within a step, without too many samples.

    A tenth of the median step, or a 2000th of the whole where there are no steps, rounded down to
    1, 2 or 5 times a power of ten; never below 1 us, and never so short that the whole would have
    more than `MOST_WINDOWS` windows.

    Args:
        step_ns: durations of the (steady) steps, ns; may be empty.
        total_ns: length of the whole GPU timeline.

    Returns:
        ns.
    """
    if len(step_ns):
        wanted = int(np.median(step_ns)) // WINDOWS_PER_STEP
    else:
        wanted = total_ns // _WINDOWS_WITHOUT_STEPS
    least = max(_SHORTEST_NS, -(-total_ns // MOST_WINDOWS))
    return max(_round_down(wanted), _round_up(least))


def _round_down(nanoseconds: int) -> int:
    """The largest of 1, 2, 5, 10, 20, ... that is not above; 1 for everything below."""
    scale = 10 ** (len(str(max(nanoseconds, 1))) - 1)
    return next((m * scale for m in (5, 2) if m * scale <= nanoseconds), scale)


def _round_up(nanoseconds: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, ... that is not below."""
    scale = 10 ** (len(str(max(nanoseconds, 1))) - 1)
    return next((m * scale for m in (1, 2, 5) if m * scale >= nanoseconds), 10 * scale)
