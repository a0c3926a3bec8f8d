"""`convert`: from an nsys export to a Perfetto trace, start to end.

The pipeline can be read top to bottom in `_run`: read columns, join them, write packets.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from nsys2perfetto import (
    __version__,
    annotation_tracks,
    first_screen,
    notes,
    outputs,
    sizing,
    step_range,
)
from nsys2perfetto.annotation import LEAN_MIN_GAP, MIN_GAP, AnnotationOptions, Annotations
from nsys2perfetto.errors import UsageError
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.model import Model, read
from nsys2perfetto.nsys import exporting
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.reading import Progress, Reading
from nsys2perfetto.result import CaptureInfo, Conversion, GpuInfo
from nsys2perfetto.step_range import Numbers
from nsys2perfetto.tracks import (
    call_tables,
    compat_gpu,
    cuda_api,
    header,
    memory_counters,
    scheduling,
    wake_ups,
)
from nsys2perfetto.tracks import nvtx as nvtx_tracks
from nsys2perfetto.tracks.arrows import CORRELATIONS, FLOWS
from nsys2perfetto.tracks.cuda_api import Calls
from nsys2perfetto.tracks.detail import FULL, LEAN, LEFT_OUT, Detail
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire import cores, packets
from nsys2perfetto.wire.writer import TraceWriter
from nsys2perfetto.writing import Compat, Writing

_MOST_BESIDE = 3_000_000
"""GPU operations up to which annotations are computed while events are written: the memory of both
together, some 100 bytes an operation more, is what the largest captures lack."""


def convert(
    capture: str | Path,
    output: str | Path | None = None,
    *,
    force: bool = False,
    start: int | None = None,
    end: int | None = None,
    pids: Collection[int] = (),
    only: Collection[str] = (),
    skip: Collection[str] = (),
    annotate: AnnotationOptions | None = None,
    lean: bool | Detail = False,
    steps: Numbers | None = None,
    compat: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Converts an nsys capture to a Perfetto trace.

    Args:
        capture: The export (an SQLite file, or a folder of Parquet or Arrow files), which is only
            read; or the report (`.nsys-rep`), which the nsys on the PATH exports to a temporary
            file.
        output: Where the trace goes: a file, compressed if its name ends in `.gz`, or a folder that
            exists. Beside the capture, with the suffix `.pftrace`, where not given.
        force: Overwrite `output` where it exists.
        start, end: ns as the capture counts: only events that overlap this range, taken whole.
        pids: Only events of these processes (ids of the operating system).
        only, skip: Only these families of events, or all but these; see `families.FAMILIES`.
        annotate: Which decode steps, gaps and counters to add; all, found automatically, if None.
        lean: Leave out arguments and arrows (see docs/trace.md), and gaps below 10 us unless
            `annotate` says otherwise: half the loading time and memory, for very large captures.
            A `Detail` says exactly what to write.
        steps: Only what overlaps decode steps of these numbers, first and last; None for no bound.
        compat: Write GPU work and GPU counters as ordinary tracks, for viewers and tools that do
            not know Perfetto's GPU model (see docs/trace.md).
        progress: Called now and then.

    Returns:
        What was read, written and left out. Nothing is ever left out silently.

    Raises:
        UsageError: `output` exists, is the capture itself, a family has no such name, or there are
            no such steps.
        CaptureError: The capture cannot be read.
        OutputError: The trace cannot be written. No half-written file is left.
    """
    families = _chosen(only, skip)
    path = Path(capture)
    exporting.check(path)
    [(path, target)] = outputs.plan([path], None if output is None else os.fspath(output))
    outputs.check(target, force)
    selection = Selection(start, end, frozenset(pids))
    if steps is not None and not (start is None and end is None):
        raise UsageError("steps replace start and end: use one or the other")
    detail = lean if isinstance(lean, Detail) else LEAN if lean else FULL
    if annotate is None:
        annotate = AnnotationOptions(min_gap=MIN_GAP if detail.gaps else LEAN_MIN_GAP)
    progress = progress or (lambda *_: None)
    with exporting.exported(path, progress) as export, Capture(export) as opened:
        try:
            with TraceWriter(target) as out:
                result = _run(
                    opened,
                    selection,
                    families,
                    annotate,
                    detail,
                    steps,
                    compat,
                    out,
                    progress,
                )
                opened.check_unchanged()
            return result.of(exporting.shown(path, export), target.stat().st_size)
        except OSError as error:
            raise outputs.failure(target, error) from None


def _chosen(only: Collection[str], skip: Collection[str]) -> set[str]:
    for name in (*only, *skip):
        if name not in FAMILIES:
            raise UsageError(f"no family {name!r}: there are {', '.join(FAMILIES)}")
    return (set(only) or set(FAMILIES)) - set(skip)


def _run(
    capture: Capture,
    selection: Selection,
    families: Collection[str],
    annotate: AnnotationOptions,
    detail: Detail,
    steps: Numbers | None,
    compat: bool,
    out: TraceWriter,
    progress: Progress,
) -> Conversion:
    """Reads, joins and writes."""
    if steps is None:
        model = read(capture, selection, families, annotate, progress, detail)
    else:
        model = step_range.read(capture, selection, families, annotate, progress, detail, steps)
    selection = model.selection
    reading, tracks, gpu, operations = model.reading, model.tracks, model.gpu, model.operations
    calls, pools, ranges, found = model.calls, model.pools, model.ranges, model.annotations
    first, shift = reading.span[0], model.shift
    derived: dict[str, SliceFamily] = {}
    plain = Compat(model, detail) if compat else None
    slices = [
        *_cuda(model, detail, derived, plain),
        *(call_tables.family(t, e, reading.strings, pools) for t, e in reading.tables if len(e)),
        ranges.push_pop(),
        ranges.start_end(tracks),
        scheduling.family(reading.scheduling, tracks, pools),
    ]
    projected = nvtx_tracks.projection(ranges, calls, operations, pools, tracks, shift, detail)
    if projected is not None:
        derived["nvtx_projection"] = projected

    memory = memory_counters.prepare(
        reading.memory, reading.memory_pools, reading.gpus, tracks, selection.start
    )
    facts = _facts(model, annotate, detail, compat)
    view = first_screen.view(found, reading.span)
    about = header.packets(reading.metadata, gpu.used, first, shift, facts, view)
    out.write(packets.frame(about))
    writing = Writing(out, tracks, pools, shift, len(gpu) + sum(map(len, slices)), progress)
    with _prepared(found):
        if plain is None:
            writing.gpu_work(gpu)
        writing.threads([*slices, *derived.values()], ranges, reading)
        if plain is not None:
            writing.slices(plain.gpu_work())
    counts = {name: len(family) for name, family in derived.items()}
    slices.clear()  # of a large capture they and what is added now would fill the memory
    derived.clear()
    added = annotation_tracks.make(found, tracks, pools, detail, overview=plain is None)
    writing.slices(list(added.slices.values()))
    writing.counters(added, memory, reading, plain)
    counts |= {name: len(family) for name, family in added.slices.items()}
    partial = notes.partial(families, selection) if len(operations.start) else []
    slices_written = sum(c.written for c in reading.counts) + sum(counts.values())
    large = sizing.note(_extent(slices_written, reading, found, detail))
    return Conversion(
        capture=_info(
            reading,
            tracks,
            calls,
            [*partial, *memory.notes, *reading.metrics.notes, *([large] if large else [])],
        ),
        output=out.path,
        output_size=0,
        families=reading.counts,
        derived=counts,
        time_shift_ns=shift,
        arrows=int((calls.submitting_call >= 0).sum()) if detail.arrows else 0,
        decode_steps=found.choices(),
        part=found.part,
    )


def _facts(
    model: Model, annotate: AnnotationOptions, detail: Detail, compat: bool
) -> dict[str, str | int]:
    """What the trace's metadata say of how it was made."""
    found = model.annotations
    facts: dict[str, str | int] = {"nsys2perfetto_version": __version__}
    facts["kernels"] = len(model.reading.work["kernel"])
    if found.part is not None:
        facts["steps"] = f"{found.part.first}..{found.part.last}"
    if choices := found.choices():
        facts["decode_steps"] = "; ".join(choices)
    if annotate.gaps and len(model.operations.start):
        facts["min_gap_ns"] = annotate.min_gap
    if detail == LEAN:
        facts["lean"] = LEFT_OUT
    if compat:
        facts["compat"] = compat_gpu.DONE
    if model.gpu.used:
        facts["gpus"] = ", ".join(g.name for g in model.gpu.used)
    return facts


def _prepared(found: Annotations) -> AbstractContextManager[None]:
    """Computes steps, gaps and causes while the block writes, where a core and memory are free."""
    if len(found.operations.start) <= _MOST_BESIDE and cores.available(2) > 1:
        return cores.beside(lambda: annotation_tracks.prepare(found))
    return nullcontext()


def _cuda(
    model: Model, detail: Detail, derived: dict[str, SliceFamily], plain: Compat | None
) -> list[SliceFamily]:
    """CUDA calls, what they waited for, and where they woke up (into `derived`)."""
    reading, calls, operations, pools = model.reading, model.calls, model.operations, model.pools
    api = cuda_api.family(
        calls, operations, pools, detail, CORRELATIONS if plain is None else FLOWS
    )
    if not len(reading.waits):
        return [api]
    found = model.find_waits()
    wake_ups.annotate_calls(found, api, pools)
    orphans = wake_ups.orphans(found, reading.waits, pools, model.tracks)
    reading.orphaned(len(orphans))
    woken = wake_ups.family(
        found, calls, operations, pools, None if plain is None else plain.waited(found)
    )
    if woken is not None:
        derived["wake_up"] = woken
    return [api, orphans]


def _extent(slices: int, reading: Reading, found: Annotations, detail: Detail) -> sizing.Extent:
    first, last = reading.span
    if found.part is not None:
        first, last = max(first, found.part.start), min(last, found.part.end)
    number = found.steps.steps.number
    steps = (int(number.min()), int(number.max())) if len(number) else None
    return sizing.Extent(slices, first, last, steps, lean=detail == LEAN)


def _info(reading: Reading, tracks: Tracks, calls: Calls, more: list[str]) -> CaptureInfo:
    first, last = reading.span
    per_gpu = notes.kernels_by_gpu(reading.work["kernel"])
    known = [g for g in reading.gpus.by_id.values() if g.is_cuda]
    listed = [GpuInfo(g.id, g.name, per_gpu.pop(g.id, 0)) for g in known]
    listed += [GpuInfo(number, "GPU", count) for number, count in per_gpu.items()]
    capture, metadata = reading.capture, reading.metadata
    return CaptureInfo(
        path=capture.path,
        size=capture.size,
        nsys_version=metadata.product_version,
        schema_version=metadata.schema_version,
        session_start_utc_ns=metadata.session_start_utc,
        gpus=sorted(listed, key=lambda g: g.id),
        processes=tracks.listed(),
        first_event_ns=first,
        duration_ns=last - first,
        notes=[*notes.collect(capture, metadata, reading.work, list(reading), calls), *more],
    )
