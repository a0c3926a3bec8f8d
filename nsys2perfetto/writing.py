"""Writes what `conversion` has made, part by part, in an order in which the engine can read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nsys2perfetto.annotation_tracks import AnnotationTracks
from nsys2perfetto.model import Model
from nsys2perfetto.reading import Progress, Reading
from nsys2perfetto.tracks import (
    compat_gpu,
    counter_tracks,
    cpu_samples,
    gpu_counters,
    instants,
    sequences,
    thread_slices,
    wake_ups,
)
from nsys2perfetto.tracks.compat_gpu import Awaited, CompatGpus
from nsys2perfetto.tracks.detail import Detail
from nsys2perfetto.tracks.gpu_sequence import GpuSequence
from nsys2perfetto.tracks.memory_counters import MemoryCounters
from nsys2perfetto.tracks.nvtx import Nvtx
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire import packets
from nsys2perfetto.wire.writer import TraceWriter

Data = bytes | npt.NDArray[np.uint8]


class Compat:
    """What a trace without GPU model has instead, made in the order of `conversion._run`."""

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
class Writing:
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

    def threads(self, slices: list[SliceFamily], ranges: Nvtx, reading: Reading) -> None:
        """What happened on threads, and messages."""
        # Placing slices and marks makes tracks and interns names, so what announces them comes
        # second.
        body = _Ahead(thread_slices.packets(slices, self.tracks, self.shift))
        marks = _Ahead(ranges.marks(self.tracks, self.shift))
        samples = _Ahead(
            cpu_samples.write(reading.samples, reading.strings, self.tracks, self.shift)
        )
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
        for part in samples:
            self.out.write(part)

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

    def __init__(self, chunks: Iterator[Data]) -> None:
        self._rest = chunks
        self._first = next(chunks, None)

    def __iter__(self) -> Iterator[Data]:
        if self._first is not None:
            yield self._first
        yield from self._rest
