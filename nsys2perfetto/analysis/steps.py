"""Decode steps: from what they are told, where they begin and end, and what they are.

The rule is that of the nsys manual (section on decode steps): step k spans from the end of marker
k - 1 to the end of marker k, and a kernel belongs to it when ``start >= t0 and end <= t1``. What
comes before the first marker, from the first operation on, is load and prefill. Each (process,
GPU), here called a *unit*, is looked at on its own.

Several markers with no other kernel between them (in order of start) are one: a partial and a
final reduction, one marker for each row of a batch.

What takes the part of markers is chosen in this order: kernels that pick a token
(`markers.KNOWN_SAMPLERS`), NVTX ranges around steps, replays of a CUDA graph, copies of a few bytes
to the host. Each must convince (see `step_rules`): a training run has no decode steps, and where
nothing convinces none are made up. Runs and phases: see `step_phases`. Times are int64 ns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsys2perfetto.analysis import step_phases
from nsys2perfetto.analysis.intervals import distinct
from nsys2perfetto.analysis.step_phases import PHASES, STEADY, WARMUP, Work
from nsys2perfetto.analysis.step_rules import WHOLE_GRAPHS, Cuts, rule_of
from nsys2perfetto.analysis.step_tables import (
    AUTO,
    COPY,
    GRAPH,
    KERNEL,
    NONE,
    NVTX,
    Copies,
    Kernels,
    Ranges,
    Replays,
    Request,
    Unit,
    parts,
    replays_of,
    take,
)

__all__ = [
    "AUTO", "COPY", "GRAPH", "KERNEL", "NONE", "NVTX", "PHASES", "Choice", "Copies", "Found",
    "Kernels", "Ranges", "Replays", "Request", "Steps", "find_steps", "replays_of",
]  # fmt: skip

Int64s = NDArray[np.int64]
Int8s = NDArray[np.int8]
Bools = NDArray[np.bool_]

SCATTER = 0.3
"""Coefficient of variation of the decode steps' kernel counts above which the user is warned."""
ACROSS = 0.02
"""Share of the borders with a kernel across them above which the user is warned."""
MIDST = 0.95
"""Share of a usual decode step in what comes before the first marker that makes it one of them."""
EAGER = 8
"""More kernels than usual between two replays of a graph that make a prefill."""


@dataclass(frozen=True)
class Steps:
    """Steps by unit and time; arrays of shape (steps,)."""

    unit: Int64s
    t0: Int64s
    t1: Int64s
    number: Int64s
    """1, 2, ... in the unit: of the marker that ends the step, as the manual counts them."""
    run: Int64s
    """1, 2, ... in the unit; a prefill begins a run."""
    step: Int64s
    """1, 2, ... in the run; its prefill is 1."""
    phase: Int8s
    """Index into `step_phases.PHASES`."""
    markers: Int64s
    """How many markers ended it: more than one for a burst, 0 for a prefill before a graph."""
    closer: Int64s
    """Row of the last of them among the kernels, ranges, replays or copies; -1: none."""

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def wall_ns(self) -> Int64s:
        """How long each step took."""
        return self.t1 - self.t0


@dataclass(frozen=True)
class Choice:
    """What the steps of a unit were told from.

    Attributes:
        unit: Number of the (process, GPU).
        rule: KERNEL, NVTX, GRAPH, COPY, or NONE where there are no steps.
        marker: The same in words, with the pattern; empty for NONE.
        count: Markers found.
        steps: Steps made of them.
        warnings: Sentences for the user, without the name of the unit; why, for NONE.
    """

    unit: int
    rule: str
    marker: str
    count: int
    steps: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The steps of all units, and how those of each came about."""

    steps: Steps
    choices: list[Choice]


def find_steps(
    kernels: Kernels,
    operation_unit: Int64s,
    operation_start: Int64s,
    request: Request,
    *,
    ranges: Ranges | None = None,
    replays: Replays | None = None,
    copies: Copies | None = None,
) -> Found:
    """Finds the steps of every unit.

    Args:
        kernels: All kernels.
        operation_unit: Of all GPU work, kernels included, shape (operations,).
        operation_start: Likewise, ns.
        request: What the user asked for.
        ranges: NVTX ranges; those that `markers.step_ranges` finds are enough.
        replays: Launches of CUDA graphs.
        copies: Copies to the host.

    Raises:
        ValueError: a pattern of the request is not a regular expression though it says so.
    """
    rule = rule_of(request, kernels.names, ranges)
    if rule is None:
        return Found(_joined([]), [])
    units = distinct(operation_unit)
    first = np.full(len(units), np.iinfo(np.int64).max)
    np.minimum.at(first, np.searchsorted(units, operation_unit), operation_start)
    found: list[Steps] = []
    choices: list[Choice] = []
    for number, begin, k, r, g, c in zip(
        units.tolist(),
        first.tolist(),
        parts(kernels, units),
        parts(ranges, units),
        parts(replays, units),
        parts(copies, units),
        strict=True,
    ):
        unit = Unit(k.table, begin, r.table, g.table, c.table)
        cuts = rule(unit)
        if isinstance(cuts, str):
            choices.append(Choice(number, NONE, "", 0, 0, (cuts,)))
            continue
        rows = {KERNEL: k.rows, NVTX: r.rows, GRAPH: g.rows, COPY: c.rows}[cuts.rule]
        if rows is not None:
            cuts.closer = rows[cuts.closer]
        steps = _steps(unit, cuts, number, request.warmup)
        found.append(steps)
        choices.append(
            Choice(number, cuts.rule, cuts.marker, cuts.count, len(steps), tuple(cuts.warnings))
        )
    return Found(_joined(found), choices)


# --- from cuts to steps -----------------------------------------------------------------------


def _steps(unit: Unit, cuts: Cuts, number: int, warmup: int | None) -> Steps:
    """Runs, numbers and phases of a unit's spans; adds to the warnings."""
    work = _work(unit)
    if cuts.opened is not None:
        prefill = _split_prefills(cuts, work.start)
    else:
        spans = step_phases.features(work, cuts.t0, cuts.t1)
        prefill = step_phases.prefills(spans, first=cuts.from_start)
        if cuts.from_start and len(cuts) > 2 and spans.whole[0] >= MIDST:
            cuts.warnings.append(
                "what comes before the first marker looks like a decode step: "
                "the capture may begin in the midst of decoding"
            )
    run, step = step_phases.number_runs(prefill, cuts.begins)
    start = unit.kernels.start
    kernels = np.searchsorted(start, cuts.t1) - np.searchsorted(start, cuts.t0)
    phase = step_phases.phases(run, prefill, kernels, cuts.t1 - cuts.t0, warmup)
    if cuts.opened is not None and warmup is None:
        # The step after a prefill is its replay only, without what usually happens before one.
        phase[1:][prefill[:-1]] = WARMUP
    cuts.warnings += _doubts(unit, cuts, kernels[phase >= STEADY])
    n = len(cuts)
    return Steps(
        unit=np.full(n, number, np.int64),
        t0=cuts.t0,
        t1=cuts.t1,
        number=np.arange(1, n + 1),
        run=run,
        step=step,
        phase=phase,
        markers=cuts.markers,
        closer=cuts.closer,
    )


def _work(unit: Unit) -> Work:
    """The unit's kernels, and its graphs where they are all that is seen of their kernels."""
    k = unit.kernels
    start, end, name = k.start, k.end, k.names.number[k.config]
    launch = None if k.names.launch is None else k.names.launch[k.config]
    if unit.replays is not None and unit.replays.whole.any():
        g = take(unit.replays, unit.replays.whole)
        start = np.append(start, g.start)
        order = np.argsort(start, kind="stable")
        start, end = start[order], np.append(end, g.end)[order]
        name = np.append(name, len(k.names.table) + g.graph)[order]
        if launch is not None:
            launch = np.append(launch, len(k.names) + g.graph)[order]
    return Work(start, end, name, launch)


def _split_prefills(cuts: Cuts, start: Int64s) -> Bools:
    """Parts prefills from the replays that follow them: a graph does not end a prefill.

    A prefill is before a replay where much more work began since the replay before than is usual.

    Args:
        cuts: With `opened`; changed in place.
        start: Of all work, ascending.

    Returns:
        Which spans are prefills now.
    """
    opened = cuts.t0 if cuts.opened is None else np.maximum(cuts.opened, cuts.t0)
    before = np.searchsorted(start, opened) - np.searchsorted(start, cuts.t0)
    rows = np.flatnonzero(before > 2 * np.median(before[1:] if len(before) > 1 else 0) + EAGER)
    if not before[0]:
        cuts.t0[0] = opened[0]
    cuts.t0 = np.insert(cuts.t0, rows + 1, opened[rows])
    cuts.t1 = np.insert(cuts.t1, rows, opened[rows])
    cuts.markers = np.insert(cuts.markers, rows, 0)
    cuts.closer = np.insert(cuts.closer, rows, -1)
    return np.insert(np.zeros(len(opened), np.bool_), rows, True)


def _doubts(unit: Unit, cuts: Cuts, kernels: Int64s) -> list[str]:
    """Sentences on what speaks against these steps.

    Args:
        unit: Where.
        cuts: The spans.
        kernels: Kernels of each steady step.
    """
    doubts = []
    if unit.replays is not None and unit.replays.whole.any():
        doubts.append(WHOLE_GRAPHS)
    if len(kernels) > 2 and kernels.std() > SCATTER * kernels.mean():
        doubts.append(
            f"the steps differ much, from {kernels.min()} to {kernels.max()} kernels: is it "
            "speculative decoding, several streams, mixed batches? Another marker may fit better "
            "(--step-kernel)"
        )
    ends = np.maximum.accumulate(unit.kernels.end)
    before = np.searchsorted(unit.kernels.start, cuts.t1)
    inside = before > 0
    across = int(np.count_nonzero(ends[before[inside] - 1] > cuts.t1[inside]))
    if across > ACROSS * len(cuts):
        doubts.append(
            f"at the end of {across} of {len(cuts)} steps another kernel still runs: "
            "a kernel that is in no step as a whole counts for none"
        )
    return doubts


def _joined(parts: list[Steps]) -> Steps:
    columns = {}
    for name in Steps.__dataclass_fields__:
        kind = np.int8 if name == "phase" else np.int64
        columns[name] = np.concatenate([np.empty(0, kind), *(getattr(p, name) for p in parts)])
    return Steps(**columns)
