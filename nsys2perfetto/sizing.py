"""What a trace asks of the trace processor, and what to do where that is much.

Perfetto's UI runs the trace processor in the browser, in a memory of at most 4 GB, and everything
is loaded before anything is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGE = 2_000_000
"""Slices from which a trace is called large: a million kernels and their calls. They take the
browser's engine some 20 s to load (docs/benchmarks.md, "What fields cost")."""

_PART = 500_000
"""Slices of the part that is suggested: loaded in a few seconds."""
_BYTES, _LEAN_BYTES = 400, 200
"""Memory of the engine for each slice with all that belongs to it; of lean traces (likewise)."""
_MOST_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Extent:
    """How much a trace holds.

    Attributes:
        slices: Of all kinds, those that the tool adds too.
        start, end: ns as the capture counts: first and last event.
        steps: Numbers of the first and the last decode step; None where there are none.
        lean: Whether it is lean already.
    """

    slices: int
    start: int
    end: int
    steps: tuple[int, int] | None = None
    lean: bool = False


def note(extent: Extent, large: int = LARGE) -> str | None:
    """What to do about a large trace, with the options for this one; None for others.

    The parts lie in the middle: the beginning is seldom what one looks for.

    Args:
        extent: Of the trace.
        large: Slices from which it is one.
    """
    if extent.slices < large:
        return None
    needed = extent.slices * (_LEAN_BYTES if extent.lean else _BYTES)
    fits = "more than" if needed > _MOST_BYTES else "of"
    share = min(1.0, _PART / extent.slices)
    begin, end = _middle(extent.start, extent.end, max(1, int((extent.end - extent.start) * share)))
    ways = [] if extent.lean else ["all with --lean (about half)"]
    if extent.steps is not None:
        first, last = extent.steps
        low, high = _middle(first, last + 1, max(1, int((last + 1 - first) * share)))
        ways.append(f"a part with --steps {low}..{high - 1}")
    ways.append(f"a part with --range {begin / 1e9:.3f}s:{max(end, begin + 10**6) / 1e9:.3f}s")
    return (
        f"a large trace: its {extent.slices / 1e6:.1f} million slices need about "
        f"{needed / 1e9:.1f} GB in the browser, {fits} the 4 GB there are. If it loads too slowly, "
        f"convert {' or '.join(ways)}"
    )


def _middle(low: int, high: int, width: int) -> tuple[int, int]:
    """The `width` in the middle of [low, high)."""
    begin = low + (high - low - width) // 2
    return begin, begin + width
