"""`convert`: from an nsys export to a Perfetto trace, start to end.

The pipeline can be read top to bottom in `_run`: read columns, join them, write packets.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nsys2perfetto import __version__, annotation_tracks, first_screen, notes, outputs, step_range
from nsys2perfetto.annotation import LEAN_MIN_GAP, MIN_GAP, AnnotationOptions
from nsys2perfetto.annotation_tracks import AnnotationTracks
from nsys2perfetto.errors import UsageError
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.model import Model, read
from nsys2perfetto.nsys import source
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.reading import Progress, Reading
from nsys2perfetto.result import CaptureInfo, Conversion, GpuInfo
from nsys2perfetto.step_range import Numbers
from nsys2perfetto.tracks import (
    call_tables,
    compat_gpu,
    counter_tracks,
    cuda_api,
    gpu_counters,
    header,
    instants,
    memory_counters,
    sequences,
    thread_slices,
    wake_ups,
)
from nsys2perfetto.tracks import nvtx as nvtx_tracks
from nsys2perfetto.tracks.arrows import CORRELATIONS, FLOWS
from nsys2perfetto.tracks.compat_gpu import Awaited, CompatGpus
from nsys2perfetto.tracks.cuda_api import Calls
from nsys2perfetto.tracks.detail import FULL, LEAN, LEFT_OUT, Detail
from nsys2perfetto.tracks.gpu_sequence import GpuSequence
from nsys2perfetto.tracks.memory_counters import MemoryCounters
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire import packets
from nsys2perfetto.wire.writer import TraceWriter


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
    """Converts an nsys SQLite export to a Perfetto trace.

    Args:
        capture: The `.sqlite` file; it is only read.
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
    source.check(path)
    [(path, target)] = outputs.plan([path], None if output is None else os.fspath(output))
    outputs.check(target, force)
    selection = Selection(start, end, frozenset(pids))
    if steps is not None and not (start is None and end is None):
        raise UsageError("steps replace start and end: use one or the other")
    detail = lean if isinstance(lean, Detail) else LEAN if lean else FULL
    if annotate is None:
        annotate = AnnotationOptions(min_gap=MIN_GAP if detail.gaps else LEAN_MIN_GAP)
    with Capture(path) as opened:
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
                    progress or (lambda *_: None),
                )
                opened.check_unchanged()
            return result.of_size(target.stat().st_size)
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
    ]
    projected = nvtx_tracks.projection(ranges, calls, operations, pools, tracks, shift, detail)
    if projected is not None:
        derived["nvtx_projection"] = projected

    memory = memory_counters.prepare(
        reading.memory, reading.memory_pools, reading.gpus, tracks, selection.start
    )
    facts: dict[str, str | int] = {"nsys2perfetto_version": __version__}
    part = found.part
    if part is not None:
        facts["steps"] = f"{part.first}..{part.last}"
    if choices := found.choices():
        facts["decode_steps"] = "; ".join(choices)
    if annotate.gaps and len(operations.start):
        facts["min_gap_ns"] = annotate.min_gap
    if detail == LEAN:
        facts["lean"] = LEFT_OUT
    if plain is not None:
        facts["compat"] = compat_gpu.DONE
    if gpu.used:
        facts["gpus"] = ", ".join(g.name for g in gpu.used)
    view = first_screen.view(found, reading.span)
    about = header.packets(reading.metadata, gpu.used, first, shift, facts, view)
    out.write(packets.frame(about))
    writing = _Writing(out, tracks, pools, shift, len(gpu) + sum(map(len, slices)), progress)
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
    return Conversion(
        capture=_info(reading, tracks, calls, [*partial, *memory.notes, *reading.metrics.notes]),
        output=out.path,
        output_size=0,
        families=reading.counts,
        derived=counts,
        time_shift_ns=shift,
        arrows=int((calls.submitting_call >= 0).sum()) if detail.arrows else 0,
        decode_steps=found.choices(),
        part=part,
    )


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


class Compat:
    """What a trace without GPU model has instead; made step by step in the order of `_run`."""

    def __init__(self, model: Model, detail: Detail) -> None:
        self._model = model
        self._detail = detail
        self._awaited = Awaited(np.empty(0, np.int64))
        found = model.annotations
        busy = found.table.gpu if found.options.counters else np.empty(0, np.int64)
        self.gpus = CompatGpus(model.gpu.used, model.tracks, np.unique(busy).tolist())

    def waited(self, found: wake_ups.Waits) -> int:
        """Notes what was waited for; the number of the first wake-up's arrow."""
        model = self._model
        rows, _ = wake_ups.woken(found, model.calls, model.operations)
        self._awaited = Awaited(found.awaited[rows])
        return compat_gpu.first_wake_up(model.operations)

    def gpu_work(self) -> list[SliceFamily]:
        """Kernels, copies, memory sets, graph launches."""
        model = self._model
        calls = model.calls if self._detail.arrows else None
        return self.gpus.slices(model.gpu, model.operations, calls, self._awaited, model.pools)


@dataclass
class _Writing:
    """Writes all events, part by part; what a part refers to is announced before it."""

    out: TraceWriter
    tracks: Tracks
    pools: Pools
    shift: int
    total: int
    progress: Progress
    done: int = 0
    _started: bool = False

    def gpu_work(self, gpu: GpuSequence) -> None:
        """Kernels, copies, memory sets, graph launches."""
        self.progress("writing", 0, self.total)
        for chunk in gpu.packets(self.shift):
            self.out.write(chunk)
        self._advance(len(gpu))

    def threads(
        self, slices: list[SliceFamily], ranges: nvtx_tracks.Nvtx, reading: Reading
    ) -> None:
        """What happened on threads, and messages."""
        # Placing slices and marks makes tracks and interns names, so what announces them comes
        # second.
        body = _Ahead(thread_slices.packets(slices, self.tracks, self.shift))
        marks = _Ahead(ranges.marks(self.tracks, self.shift))
        messages = packets.frame(
            instants.messages(reading.messages, self.tracks, self.pools, self.shift)
        )
        self._announce()
        for chunk in body:
            self.out.write(chunk)
            self._advance(thread_slices.CHUNK)
        for chunk in marks:
            self.out.write(chunk)
        self.out.write(messages)

    def slices(self, slices: list[SliceFamily]) -> None:
        """Slices on tracks of their own: steps, their families, gaps."""
        body = _Ahead(thread_slices.packets(slices, self.tracks, self.shift))
        self._announce()
        for chunk in body:
            self.out.write(chunk)

    def counters(
        self,
        added: AnnotationTracks,
        memory: MemoryCounters,
        reading: Reading,
        plain: Compat | None,
    ) -> None:
        """Counters on tracks and of GPUs."""
        for chunk in counter_tracks.packets(added.counters, self.shift):
            self.out.write(chunk)
        for chunk in memory.packets(self.shift, reading.span[0]):
            self.out.write(chunk)
        metrics = gpu_counters.of_metrics(reading.metrics, added.gpu_counters)
        blocks = [*added.gpu_counters, *metrics]
        if plain is None:
            for data in gpu_counters.packets(blocks, self.shift):
                self.out.write(data)
        else:
            values = plain.gpus.counters(blocks)
            self._announce()
            for chunk in counter_tracks.packets(values, self.shift):
                self.out.write(chunk)

    def _announce(self) -> None:
        """Descriptors of tracks and interned strings that are new."""
        self.out.write(packets.frame(self.tracks.packets()))
        if not self._started:
            self.out.write(packets.frame([sequences.start(sequences.CPU)]))
            self._started = True
        for entries in self.pools.entries():
            for packet in packets.interned(sequences.following(sequences.CPU), entries):
                self.out.write(packet)

    def _advance(self, events: int) -> None:
        self.done = min(self.total, self.done + events)
        self.progress("writing", self.done, self.total)


class _Ahead:
    """An iterator of chunks whose first chunk is already made."""

    def __init__(self, chunks: Iterator[npt.NDArray[np.uint8]]) -> None:
        self._rest = chunks
        self._first = next(chunks, None)

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        if self._first is not None:
            yield self._first
        yield from self._rest


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
