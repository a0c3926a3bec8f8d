"""What changed, in a few sentences that say no more than the tables do."""

from __future__ import annotations

from nsys2perfetto.report import derive, totals
from nsys2perfetto.report.comparison import Comparison, Side
from nsys2perfetto.report.formats import time

_CAUSES = {
    "launch_bound": "launch-bound",
    derive.HOST_PACED: "launch latency, host",
    "graph_internal": "graph-internal",
    "unknown": "unknown cause",
}
"""Causes of gaps whose names are not already the words for them, short enough for a table."""

_MOSTLY = {
    "in_sync": "synchronizing",
    "in_launch": "launching",
    "in_memory": "allocating",
    "in_copy": "copying",
    "in_other_cuda": "other CUDA",
    "outside_cuda": "outside CUDA",
}
_WORTH_NAMING = 0.1
"""Share of all changes from which a part of the time is named."""
_MOST_NAMED = 4
_WORTH_A_SENTENCE = 0.005
"""Share of the kernel time from which it is said why that changed."""
_SAME_WORK = 0.02
"""By how much the numbers of kernels may differ if captures hold the same work."""


def about(comparison: Comparison, before: str, after: str) -> list[tuple[str, str]]:
    """What the two are: `before` or `after`, and a line."""
    names = (("before", before, comparison.before), ("after", after, comparison.after))
    return [(label, f"{name}: {_side(side)}") for label, name, side in names]


def _side(side: Side) -> str:
    facts = side.facts
    gpus = sorted(set(facts.gpus.values()))
    said = [f"nsys {facts.nsys_version or 'of unknown version'}"]
    said.append(" and ".join(gpus) + f" x{len(facts.gpus)}" * (len(facts.gpus) > len(gpus)))
    said.append(facts.decode_steps if side.steps and facts.decode_steps else "no decode steps")
    return "; ".join(part for part in said if part)


def verdict(comparison: Comparison) -> list[str]:
    """Slower or faster, and why; the first sentence can stand alone."""
    first = _of_steps(comparison) if comparison.per_step else _of_captures(comparison)
    return [*first, *_mostly_from(comparison), *_effects(comparison)]


def _of_steps(comparison: Comparison) -> list[str]:
    before, after = (v or 0 for v in comparison.value("step_median_ns"))
    took = _from_to(before, after)
    slowdown = comparison.slowdown_pct
    if before == after or slowdown is None:
        said = f"As fast as before: the median step takes {time(after)}"
    else:
        word = "slower" if after > before else "faster"
        said = f"{_percent(slowdown)} {word}: the median step takes {took}"
    rates = comparison.value("tokens_per_s")
    if all(rates):
        one, two = (f"{rate:,.1f}" for rate in rates)
        said += f"; {two} tokens/s of a sequence" + f" instead of {one}" * (one != two)
    sentences = [f"{said}."]
    if comparison.within_scatter:
        sentences.append(
            "That may be chance: steps of one capture differ as much among themselves (the middle "
            f"half of them {_middle_half(comparison)})."
        )
    return sentences


def _middle_half(comparison: Comparison) -> str:
    low, high = comparison.value("step_p25_ns"), comparison.value("step_p75_ns")
    spans = [f"{time(a or 0)} to {time(b or 0)}" for a, b in zip(low, high, strict=True)]
    return f"takes {spans[0]} before, {spans[1]} after"


def _of_captures(comparison: Comparison) -> list[str]:
    before, after = (v or 0 for v in comparison.value("kernel_ns"))
    slowdown = comparison.slowdown_pct
    if not before and not after:
        said = "Neither has kernels"
    elif before == after:
        said = f"As much kernel time as before: {time(after)}"
    elif slowdown is None:
        said = f"{time(after)} of kernel time, none before"
    else:
        word = "more" if after > before else "less"
        said = f"{_percent(slowdown)} {word} kernel time: {_from_to(before, after)}"
    shares = comparison.value("busy_util_pct")
    if None not in shares:
        one, two = (f"{share:.1f} %" for share in shares)
        said += f"; GPUs busy for {two} of the time" + f" instead of {one}" * (one != two)
    return [f"{said}.", *_amounts(comparison)]


def _amounts(comparison: Comparison) -> list[str]:
    """That totals mean little where the captures hold different amounts of work."""
    before, after = (v or 0 for v in comparison.value("kernel_count"))
    if not before or not after or abs(after - before) <= _SAME_WORK * before:
        return []
    one, two = (
        (v or 0) / n for v, n in zip(comparison.value("wall_ns"), (before, after), strict=True)
    )
    change = f", {100 * (two / one - 1):+.1f} %" if one else ""
    return [
        f"But they hold different numbers of kernels, {after:,.0f} instead of {before:,.0f}, and "
        f"perhaps different amounts of work. "
        f"For each kernel {_from_to(one, two)} of GPU time went by{change}; each % below compares "
        f"single launches."
    ]


def _mostly_from(comparison: Comparison) -> list[str]:
    """The largest changes among the parts of the time."""
    rows = comparison.parts.select("kind", "part", "change_ns").rows()
    changed = sum(abs(change) for *_, change in rows)
    worth = [row for row in rows if abs(row[2]) >= _WORTH_NAMING * changed > 0][:_MOST_NAMED]
    if not worth:
        return []
    said = ", ".join(f"{part(kind, name)} {_signed(change)}" for kind, name, change in worth)
    whole = sum(change for *_, change in rows)
    of = "mean step" if comparison.per_step else "time from first to last GPU work"
    return [f"What changed most in the {of} ({_signed(whole)}): {said}."]


def _effects(comparison: Comparison) -> list[str]:
    """Whether kernels became more or slower."""
    effects = comparison.effects
    terms = (
        ("launched more often", "launched less often", effects.count),
        ("each slower", "each faster", effects.duration),
        ("new ones", "new ones", effects.new),
        ("gone", "gone", effects.vanished),
    )
    before, after = (v or 0 for v in comparison.value("kernel_ns"))
    least = max(1, _WORTH_A_SENTENCE * max(before, after))
    said = [f"{up if ns > 0 else down} {_signed(ns)}" for up, down, ns in terms if abs(ns) >= least]
    return [f"Kernels ({_signed(after - before)} in sum): {', '.join(said)}."] if said else []


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the numbers aright."""
    one, two = comparison.before, comparison.after
    found = []
    if not comparison.per_step:
        found.append(_whole_captures(comparison))
    gpus = [sorted(side.facts.gpus.values()) for side in (one, two)]
    if all(gpus) and gpus[0] != gpus[1]:
        found.append("They ran on different GPUs.")
    shortest = [side.facts.min_gap_ns for side in (one, two)]
    if shortest[0] != shortest[1]:
        found.append(
            f"One lists gaps from {time(min(shortest))} on, the other from "
            f'{time(max(shortest))}: shorter ones than that are in "idle (short gaps)".'
        )
    return found


def _whole_captures(comparison: Comparison) -> str:
    """Why no steps are compared."""
    sides = {"before": comparison.before, "after": comparison.after}
    without = [name for name, side in sides.items() if not side.steady]
    who = "Neither has" if len(without) == 2 else f"Only one, not {without[0]}, has"
    why = list(dict.fromkeys(sides[name].facts.decode_steps for name in without))
    reasons = f" ({'; '.join(why)})" if all(why) else ""
    return f"{who} steady decode steps{reasons}, so whole captures are compared."


def part(kind: str, name: str) -> str:
    """A part of the time in words."""
    if kind == derive.KERNELS:
        return f"{name} kernels"
    if kind in (totals.GAPS, derive.SHORT_GAPS):
        return f"idle ({cause(name)})"
    return "copies and other work"


def cause(name: str) -> str:
    """A cause of gaps in words."""
    return _CAUSES.get(name, name.replace("_", " "))


def mostly(word: str | None) -> str:
    """What a launching thread did in a gap, in words."""
    return "" if word is None else _MOSTLY.get(word, word.replace("_", " "))


def _from_to(before: float, after: float) -> str:
    return f"{time(after)} instead of {time(before)}"


def _percent(change: float) -> str:
    """Without its sign; what is not 0 does not look like it."""
    size = abs(change)
    return "Less than 0.1 %" if size < 0.05 else f"{size:,.1f} %"


def _signed(ns: float) -> str:
    return ("+" if round(ns) > 0 else "") + time(ns)
