"""`convert`: from an nsys export to a Perfetto trace, start to end.

The pipeline can be read top to bottom in `_Conversion.run`: read columns, join them, write packets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nsys2perfetto import notes
from nsys2perfetto.errors import OutputError, UsageError
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.nsys import cuda_calls, gpu_work, gpus, metadata, nvtx, processes
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Events, Selection
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.nsys.source import printable
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.result import CaptureInfo, Conversion, FamilyCount, GpuInfo
from nsys2perfetto.tracks import (
    call_tables,
    copies,
    cuda_api,
    header,
    instants,
    kernels,
    sequences,
    thread_slices,
    wake_ups,
)
from nsys2perfetto.tracks import nvtx as nvtx_tracks
from nsys2perfetto.tracks.compute_args import ComputeArgs
from nsys2perfetto.tracks.gpu_family import GpuFamily
from nsys2perfetto.tracks.gpu_queues import Queues
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.strings import StringPool
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire import packets, writer
from nsys2perfetto.wire.writer import TraceWriter

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

SUFFIX = ".pftrace"


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
    progress: Progress | None = None,
) -> Conversion:
    """Converts an nsys SQLite export to a Perfetto trace.

    Args:
        capture: The `.sqlite` file; it is only read.
        output: Where the trace goes; beside the capture, with the suffix `.pftrace`, where not
            given. A name that ends in `.gz` is compressed.
        force: Overwrite `output` where it exists.
        start, end: ns as the capture counts: only events that overlap this range, taken whole.
        pids: Only events of these processes (ids of the operating system).
        only, skip: Only these families of events, or all but these; see `families.FAMILIES`.
        progress: Called now and then.

    Returns:
        What was read, written and left out. Nothing is ever left out silently.

    Raises:
        UsageError: `output` exists, is the capture itself, or a family has no such name.
        CaptureError: The capture cannot be read.
        OutputError: The trace cannot be written. No half-written file is left.
    """
    families = _chosen(only, skip)
    source = Path(capture)
    target = Path(output) if output is not None else source.with_suffix(SUFFIX)
    _check_target(source, target, force)
    selection = Selection(start, end, frozenset(pids))
    with Capture(source) as opened:
        run = _Conversion(opened, selection, families, progress or (lambda *_: None))
        try:
            with TraceWriter(target) as out:
                result = run.run(out)
            return result(target, target.stat().st_size)
        except OSError as error:
            raise _output_error(target, error) from None


def _chosen(only: Collection[str], skip: Collection[str]) -> set[str]:
    for name in (*only, *skip):
        if name not in FAMILIES:
            raise UsageError(f"no family {name!r}: there are {', '.join(FAMILIES)}")
    return (set(only) or set(FAMILIES)) - set(skip)


def _check_target(source: Path, target: Path, force: bool) -> None:
    name = printable(str(target))
    if target.is_dir():
        raise UsageError(f"{name} is a directory: name a file with -o")
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"{name} is the capture itself: name another output with -o")
    if target.exists() and not force:
        raise UsageError(f"{name} exists: use --force to overwrite it, or name another with -o")


def _output_error(target: Path, error: OSError) -> OutputError:
    name = printable(str(target))
    if writer.is_no_space(error):
        return OutputError(f"{name}: no space left on the device; nothing was written")
    if isinstance(error, PermissionError):
        return OutputError(f"{name}: no permission to write there; name another output with -o")
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{name}: its folder does not exist")
    return OutputError(f"{name}: cannot write it: {error.strerror or error}")


class _Conversion:
    """One run; holds what its steps share."""

    def __init__(
        self, capture: Capture, selection: Selection, families: set[str], progress: Progress
    ) -> None:
        self.capture = capture
        self.selection = selection
        self.chosen = families
        self.progress = progress
        self.counts: dict[str, FamilyCount] = {}
        self.derived: dict[str, int] = {}
        self.metadata = metadata.read(capture)
        self.gpus = gpus.read(capture)
        strings = capture.read("StringIds", {"id": "int", "value": "text"})
        self.strings = StringTable(strings["id"], strings["value"])

    def run(self, out: TraceWriter) -> Callable[[Path, int], Conversion]:
        """Reads, joins and writes; the result is complete once the file has its size."""
        # Read.
        self.progress("reading GPU work", 0, 4)
        work = self._read_gpu_work()
        self.progress("reading CUDA calls", 1, 4)
        calls = self._read("cuda_api", cuda_calls.CALLS, cuda_calls.calls)
        self.progress("reading other events", 2, 4)
        tables = [(t, self._read_call_table(t)) for t in call_tables.TABLES]
        ranges = self._read("nvtx", nvtx.TABLE, nvtx.read)
        waits = self._read("cuda_wait", cuda_calls.WAITS, cuda_calls.waits, joined=True)

        # Name.
        everything = [*work.values(), calls, ranges, waits, *(e for _, e in tables)]
        tracks = self._name_tracks(everything)
        shift = max(0, -min((int(e.start.min()) for e in everything if len(e)), default=0))

        # Join.
        self.progress("joining", 3, 4)
        gpu_sequence = _GpuSequence(self, work, tracks)
        operations = cuda_api.Operations.of(gpu_sequence.families)
        joined = cuda_api.join(calls, operations, self.strings)
        pools = Pools()
        api = cuda_api.family(joined, operations, pools)
        slices = [api]
        slices += [call_tables.family(t, e, self.strings, pools) for t, e in tables if len(e)]
        if len(waits):
            found = wake_ups.find(waits, cuda_calls.event_records(self.capture), joined, operations)
            wake_ups.annotate_calls(found, api, pools)
            slices.append(wake_ups.orphans(found, waits, pools, tracks))
            if (woken := wake_ups.family(found, joined, operations, pools)) is not None:
                slices.append(woken)
                self.derived["wake_up"] = len(woken)
        prepared = nvtx_tracks.prepare(
            ranges, nvtx.names(self.capture, self.strings), self.strings, pools
        )
        slices += [prepared.push_pop(), prepared.start_end(tracks)]
        projected = nvtx_tracks.projection(prepared, joined, operations, pools, tracks, shift)
        if projected is not None:
            slices.append(projected)
            self.derived["nvtx_projection"] = len(projected)

        # Write.
        self._write(out, gpu_sequence, slices, prepared, pools, tracks, shift)
        info = self._info(work, everything, tracks, joined)
        arrows = int((joined.submitting_call >= 0).sum())
        counts = [self.counts[f] for f in sorted(self.counts, key=_order)]
        return lambda path, size: Conversion(info, path, size, counts, self.derived, shift, arrows)

    # Reading

    def _read_gpu_work(self) -> dict[str, Events]:
        readers = {
            "kernel": (gpu_work.KERNEL, gpu_work.kernels),
            "memcpy": (gpu_work.MEMCPY, gpu_work.copies),
            "memset": (gpu_work.MEMSET, gpu_work.memory_sets),
            "graph": (gpu_work.GRAPH_TRACE, gpu_work.graph_launches),
        }
        return {f: self._read(f, table, reader) for f, (table, reader) in readers.items()}

    def _read_call_table(self, table: call_tables.CallTable) -> Events:
        return self._read(
            table.family,
            table.table,
            lambda capture, selection: call_tables.read(table, capture, selection),
        )

    def _read(
        self,
        family: str,
        table: str,
        reader: Callable[[Capture, Selection], Events],
        joined: bool = False,
    ) -> Events:
        """Reads a table if its family was chosen, and counts it."""
        if family not in self.chosen:
            total = self.capture.count(table)
            empty = reader(_Nothing(), Selection())  # type: ignore[arg-type]
            if total:
                self._count(FamilyCount(family, table, 0, 0, total))
            return empty
        events = reader(self.capture, self.selection)
        if events.rows_read or events.filtered:
            self._count(
                FamilyCount(
                    family,
                    table,
                    events.rows_read,
                    0 if joined else len(events),
                    events.filtered,
                    len(events) if joined else 0,
                    events.dropped,
                    int((events.end - events.start).sum()),
                )
            )
        return events

    def _count(self, new: FamilyCount) -> None:
        old = self.counts.get(new.family)
        self.counts[new.family] = new if old is None else old.plus(new)

    # Naming

    def _name_tracks(self, everything: list[Events]) -> Tracks:
        threads: set[int] = set()
        owners: set[int] = set()
        for events in everything:
            if "globalTid" in events.config.columns:
                threads.update(events.config["globalTid"].fill_null(0).unique().to_list())
            elif "globalPid" in events.config.columns:
                owners.update(events.config["globalPid"].fill_null(0).unique().to_list())
        owners.update(t & PROCESS_MASK for t in threads)
        tracks = Tracks(
            processes.process_names(self.capture, self.strings, owners),
            processes.thread_names(self.capture, self.strings, threads),
        )
        tracks.use(sorted(owners))
        return tracks

    # Writing

    def _write(
        self,
        out: TraceWriter,
        gpu: _GpuSequence,
        slices: list[SliceFamily],
        ranges: nvtx_tracks.Nvtx,
        pools: Pools,
        tracks: Tracks,
        shift: int,
    ) -> None:
        facts: dict[str, str | int] = {}
        if gpu.used:
            facts["gpus"] = ", ".join(g.name for g in gpu.used)
        out.write(packets.frame(header.packets(self.metadata, gpu.used, shift, facts)))
        events = sum(len(f.events) for f in gpu.families) + sum(len(s) for s in slices)
        done = 0
        for chunk in gpu.packets(shift):
            out.write(chunk)
        done += sum(len(f.events) for f in gpu.families)
        self.progress("writing", done, events)

        # Placing slices and marks creates tracks, so the descriptors can only follow.
        body = thread_slices.packets(slices, tracks, shift)
        first = next(body, None)
        marks = ranges.marks(tracks, shift)
        first_marks = next(marks, None)
        messages = self.metadata.messages if "message" in self.chosen else []
        message_packets = packets.frame(instants.messages(messages, tracks, pools, shift))
        if messages:
            self._count(FamilyCount("message", "DIAGNOSTIC_EVENT", len(messages), len(messages)))
        out.write(packets.frame(tracks.packets()))
        out.write(packets.frame([sequences.start(sequences.CPU)]))
        for entries in pools.entries():
            for packet in packets.interned(sequences.following(sequences.CPU), entries):
                out.write(packet)
        for chunk in _chain(first, body):
            out.write(chunk)
            done = min(events, done + thread_slices.CHUNK)
            self.progress("writing", done, events)
        for chunk in _chain(first_marks, marks):
            out.write(chunk)
        out.write(message_packets)

    # Telling

    def _info(
        self,
        work: dict[str, Events],
        everything: list[Events],
        tracks: Tracks,
        calls: cuda_api.Calls,
    ) -> CaptureInfo:
        ends = [(int(e.start.min()), int(e.end.max())) for e in everything if len(e)]
        duration = max(e for _, e in ends) - min(s for s, _ in ends) if ends else 0
        per_gpu = notes.kernels_by_gpu(work["kernel"])
        known = [g for g in self.gpus.by_id.values() if g.is_cuda]
        listed = [GpuInfo(g.id, g.name, per_gpu.pop(g.id, 0)) for g in known]
        listed += [GpuInfo(number, "GPU", count) for number, count in per_gpu.items()]
        return CaptureInfo(
            path=self.capture.path,
            size=self.capture.size,
            nsys_version=self.metadata.product_version,
            schema_version=self.metadata.schema_version,
            session_start_utc_ns=self.metadata.session_start_utc,
            gpus=sorted(listed, key=lambda g: g.id),
            processes=tracks.listed(),
            duration_ns=duration,
            notes=notes.collect(self.capture, self.metadata, work, everything, calls),
        )


class _Nothing:
    """Stands for a capture of which nothing was chosen: it has no tables."""

    tables: dict[str, list[str]] = {}  # noqa: RUF012 - never written

    def has(self, table: str, *columns: str) -> bool:
        return False

    def batches(self, *_: object) -> Iterator[object]:
        return iter(())


class _GpuSequence:
    """Everything on the GPU sequence."""

    def __init__(self, run: _Conversion, work: dict[str, Events], tracks: Tracks) -> None:
        names, args = StringPool(2), ComputeArgs()
        self._names, self._args = names, args
        self.queues = Queues(run.gpus, tracks, gpus.stream_names(run.capture))
        for events in work.values():
            events.config = self.queues.with_gpu(events.config)
        self.queues.define([e.config for e in work.values() if len(e)])
        makers: dict[str, Callable[[Events], GpuFamily]] = {
            "kernel": lambda e: kernels.family(
                e, run.strings, self.queues, run.gpus, tracks, names, args
            ),
            "memcpy": lambda e: copies.copies(e, self.queues, names, args),
            "memset": lambda e: copies.memory_sets(e, self.queues, names, args),
            "graph": lambda e: copies.graph_launches(e, self.queues, names, args),
        }
        self.families = [makers[f](e) for f, e in work.items() if len(e)]
        first = 1
        for family in self.families:
            family.first_event_id = first
            first += len(family.events)
        numbers = {n for f in self.families for n in f.config["gpu"].unique().to_list()}
        self.used = [
            g for g in run.gpus.by_id.values() if g.id in numbers or (g.is_cuda and not numbers)
        ] + [gpus.Gpu(n, "GPU") for n in sorted(numbers - run.gpus.by_id.keys())]

    def packets(self, shift: int) -> Iterator[bytes | npt.NDArray[np.uint8]]:
        """Interned data, then the packets of every family."""
        if not self.families:
            return
        yield packets.frame([self.queues.interned()])
        interned = [self._names.entries(), *self._args.entries()]
        interned += [entries for f in self.families for entries in f.interned()]
        for entries in interned:
            yield from packets.interned(sequences.following(sequences.GPU), entries)
        for family in self.families:
            yield from family.packets(shift)


def _order(family: str) -> int:
    return list(FAMILIES).index(family)


def _chain(
    first: npt.NDArray[np.uint8] | None, rest: Iterator[npt.NDArray[np.uint8]]
) -> Iterator[npt.NDArray[np.uint8]]:
    if first is not None:
        yield first
    yield from rest


def default_output(capture: str | Path) -> Path:
    """Where the trace of a capture goes when no output is named."""
    return Path(os.path.splitext(capture)[0] + SUFFIX)  # noqa: PTH122 - keeps "a.b" intact
