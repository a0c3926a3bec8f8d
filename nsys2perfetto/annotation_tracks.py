"""Tracks for what was found: steps, gaps below them, and counters of what the GPUs did."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nsys2perfetto import first_screen
from nsys2perfetto.analysis import utilization
from nsys2perfetto.analysis.intervals import Spread, distinct
from nsys2perfetto.analysis.steps import PHASES
from nsys2perfetto.annotation import Annotations
from nsys2perfetto.tracks import counter_tracks, family_slices, gap_slices, step_slices
from nsys2perfetto.tracks.counter_tracks import CounterValues
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.gpu_counters import CounterBlock, CounterSpec
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.thread_slices import SliceFamily

I64 = npt.NDArray[np.int64]

_STEPS = "Decode steps"
_STEPS_HELP = (
    "One slice a decode step: from the end of one marker to the end of the next. Its arguments "
    "decode_step.* say what happened in it."
)
_GAPS = "GPU idle gaps"
_GAPS_HELP = (
    "Times in which the GPU had nothing to do, with their cause: the complement of all GPU work, "
    "judged by the calls that launched it. Arguments gpu_gap.*. Gaps shorter than --min-gap "
    "({} ns) are not shown."
)
_PROCESS_GAPS_HELP = (
    "Times in which the GPU had nothing to do for this process. Others use it too, so it may have "
    "been busy for them."
)
_FAMILIES = "Kernel time by family"
_FAMILIES_HELP = (
    "How a steady step's kernel time divides among families of kernels. The slices are shares laid "
    "side by side from the step's start, not the times at which the kernels ran."
)
_TOKENS = "Steps per second"
_TOKENS_HELP = "1 / step time: tokens per second of one sequence. Holds during each step."
_DIRECTIONS = {1: "HtoD", 2: "DtoH", 8: "DtoD", 10: "PtoP"}
_GROUP = "nsys2perfetto"
_MOST_WINDOWS = 1_000_000
"""However short the user wants them: more would make a trace that no one can open."""


@dataclass
class AnnotationTracks:
    """What is to be written.

    Attributes:
        slices: By name: `decode_step`, `idle_gap`, `step_family`.
        gpu_counters: Native counters of the GPUs.
        counters: Counters on tracks.
    """

    slices: dict[str, SliceFamily] = field(default_factory=dict)
    gpu_counters: list[CounterBlock] = field(default_factory=list)
    counters: list[CounterValues] = field(default_factory=list)


def prepare(found: Annotations) -> None:
    """Computes what `make` will ask for; nothing but `found` changes."""
    if len(found.steps.steps):
        _ = found.measures
    if found.options.counters and len(found.operations.start) and found.counters is None:
        found.counters = counters(found)
    if found.options.gaps:
        for of_processes in (False, True):
            found.shown_gaps(of_processes)


def make(
    found: Annotations,
    tracks: Tracks,
    pools: Pools,
    detail: Detail = FULL,
    overview: bool = True,
) -> AnnotationTracks:
    """Makes the tracks of all steps, gaps and counters.

    Names tell processes and GPUs apart where there are several, since root tracks of the same name
    are shown as one.

    Args:
        found: What was found.
        tracks: Hands out the tracks.
        pools: For names and texts.
        detail: How much is said of each gap.
        overview: Repeat counters of the GPUs where the first screen shows them (`first_screen`).
    """
    result = AnnotationTracks()
    steps, table = found.steps.steps, found.table
    pids = np.array([tracks.pid(u.process) for u in table.units], np.int64)
    with_steps = np.unique(steps.unit).tolist()
    root: dict[int, int] = {}
    for number in with_steps:
        unit = table.units[number]
        name = _STEPS
        if len(table.units) > 1:
            name += f" · GPU {unit.gpu} · {tracks.name_of_process(unit.process)}"
            name += f" {tracks.pid(unit.process)}"
        root[number] = tracks.child(None, name, _STEPS_HELP)
    if root:
        _add_steps(result, found, root, pids, tracks, pools)
    if found.options.counters and len(found.operations.start):
        result.gpu_counters = counters(found) if found.counters is None else found.counters
    shown_first = result.gpu_counters if overview else []
    result.counters += first_screen.utilization(shown_first, tracks)
    if found.options.gaps:
        for name, of_processes, places, category in (
            (
                "idle_gap",
                False,
                _gap_tracks(found, root, tracks, shown_first, result.counters),
                gap_slices.CATEGORY,
            ),
            ("process_gap", True, _process_gap_tracks(found, tracks), gap_slices.PROCESS_CATEGORY),
        ):
            shown = found.shown_gaps(of_processes)
            if len(shown):
                result.slices[name] = gap_slices.family(
                    shown,
                    table,
                    pids,
                    places,
                    pools,
                    category,
                    detail,
                )
    return result


def _add_steps(
    result: AnnotationTracks,
    found: Annotations,
    root: dict[int, int],
    pids: I64,
    tracks: Tracks,
    pools: Pools,
) -> None:
    steps = found.steps.steps
    gpus = np.array([u.gpu for u in found.table.units], np.int64)
    result.slices["decode_step"] = step_slices.family(
        steps, found.measures, gpus, pids, root, pools, found.several_runs
    )
    below = {unit: tracks.child(track, _FAMILIES, _FAMILIES_HELP) for unit, track in root.items()}
    shares = family_slices.family(found, below, pools)
    if len(shares):
        result.slices["step_family"] = shares
    for unit, track in root.items() if found.options.counters else ():
        rows = np.flatnonzero(steps.unit == unit)
        counter = counter_tracks.counter_track(tracks, track, _TOKENS, "steps/s", _TOKENS_HELP)
        # After a step that nothing follows at once, and after the last, there is no rate.
        ends = steps.t1[rows]
        after = np.append(steps.t0[rows][1:] != ends[:-1], True)
        time = np.concatenate([steps.t0[rows], ends[after]])
        rate = np.concatenate([1e9 / np.maximum(steps.wall_ns[rows], 1), np.zeros(after.sum())])
        order = np.argsort(time, kind="stable")
        result.counters.append(CounterValues(counter, time[order], rate[order]))


def _gap_tracks(
    found: Annotations,
    root: dict[int, int],
    tracks: Tracks,
    shown_first: list[CounterBlock],
    counters: list[CounterValues],
) -> dict[int, tuple[int, int]]:
    """Track and number of each GPU: at the root, with the depth of its launch queue below.

    Without counters there is nothing to put below it: then it stands below the steps of the only
    process that has steps on the GPU.
    """
    help_text = _GAPS_HELP.format(found.options.min_gap)
    gpus = distinct(found.gaps.track).tolist()
    blocks = {block.gpu: block for block in shown_first}
    result = {}
    for gpu in gpus:
        owners = [track for unit, track in root.items() if found.table.units[unit].gpu == gpu]
        if len(owners) == 1 and gpu not in blocks:
            track = tracks.child(owners[0], _GAPS, help_text)
        else:
            name = f"{_GAPS} · GPU {gpu}" if len(gpus) > 1 or len(owners) > 1 else _GAPS
            track = tracks.child(None, name, help_text)
        if gpu in blocks:
            below = first_screen.copied(blocks[gpu], "Launch queue depth", tracks, track)
            counters.append(below)
        result[gpu] = (track, gpu)
    return result


def _process_gap_tracks(found: Annotations, tracks: Tracks) -> dict[int, tuple[int, int]]:
    """Track and GPU of each process that shares a GPU, below the process."""
    result = {}
    for number in np.unique(found.process_gaps.track).tolist():
        unit = found.table.units[number]
        parent = tracks.process(unit.process)
        name = f"{_GAPS} of this process · GPU {unit.gpu}"
        result[number] = (tracks.child(parent, name, _PROCESS_GAPS_HELP), unit.gpu)
    return result


def counters(found: Annotations) -> list[CounterBlock]:
    """Utilization and what goes with it, over windows, for each GPU."""
    table, o = found.table, found.operations
    steps = found.steps.steps
    steady = steps.wall_ns[steps.phase == PHASES.index("steady")]
    busy = found.busy_by_gpu
    kernels = table.rows("kernel")
    call = found.calls.submitting_call
    blocks = []
    for gpu in np.unique(busy.track).tolist():
        mine = _rows(busy.track == gpu)
        begin, finish = busy.start[mine], busy.end[mine]
        first, last = int(begin[0]), int(finish.max())
        width = found.options.window or utilization.default_window(steady, last - first)
        width = max(width, -(-(last - first) // _MOST_WINDOWS))
        edges = utilization.windows(first, last, width)
        length = np.diff(edges)
        specs: list[CounterSpec] = []
        values: list[npt.NDArray[np.generic]] = []

        def add(name: str, unit: str, text: str, value: npt.NDArray[np.generic]) -> None:
            specs.append(CounterSpec(name, unit, _GROUP, f"{text}, over windows of {width:,} ns"))  # noqa: B023
            values.append(value)  # noqa: B023

        add("Utilization", "%", "Percent of the time in which the GPU did any work",
            100.0 * utilization.covered_ns(begin, finish, edges) / length)  # fmt: skip
        mine = _rows(table.gpu[kernels] == gpu)
        add("Kernels in flight", "", "How many kernels ran at once, on average",
            utilization.covered_ns(o.start[kernels][mine], o.end[kernels][mine], edges)
            / length)  # fmt: skip
        mine = _rows((table.gpu == gpu) & (call >= 0))
        started = o.start[mine]
        launched = np.minimum(found.calls.events.start[call[mine]], started)
        add("Launch queue depth", "",
            "Operations whose call had begun but which had not started, on average",
            utilization.covered_ns(launched, started, edges) / length)  # fmt: skip
        for kind, direction in _DIRECTIONS.items():
            rows = np.flatnonzero((table.copy_kind == kind) & (table.gpu == gpu))
            if len(rows):
                spread = Spread(table.gpu[rows], o.start[rows], o.end[rows], table.size[rows])
                add(f"Copy throughput {direction}", "GB/s", f"Bytes copied {direction} a second",
                    utilization.throughput(spread, gpu, edges).value)  # fmt: skip
        blocks.append(CounterBlock(gpu, specs, edges[1:], values, int(edges[0])))
    return blocks


def _rows(mask: npt.NDArray[np.bool_]) -> slice | I64:
    """The rows of a mask; a slice, which copies nothing, where it is true throughout."""
    return slice(None) if mask.all() else np.flatnonzero(mask)
