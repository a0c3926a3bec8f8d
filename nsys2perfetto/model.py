"""A capture as joined columns: what `convert` writes and what reports count, from one place."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nsys2perfetto.annotation import AnnotationOptions, Annotations
from nsys2perfetto.nsys import cuda_calls, gpus, nvtx
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.reading import Progress, Reading
from nsys2perfetto.tracks import cuda_api, wake_ups
from nsys2perfetto.tracks import nvtx as nvtx_tracks
from nsys2perfetto.tracks.cuda_api import Calls, Operations
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.gpu_sequence import GpuSequence
from nsys2perfetto.tracks.nvtx import Nvtx
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.wake_ups import Waits


@dataclass(frozen=True)
class Model:
    """What a capture holds, read and joined; nothing is written yet.

    Attributes:
        selection: The part of the capture that it is of.
        reading: The events by table.
        tracks: Processes and threads that have events, and their numbers in a trace.
        gpu: GPU work, with the names of kernels and copies.
        operations: The same in one numbering.
        calls: CUDA calls, joined to the operations that they submitted.
        pools: Names and texts of what is shown on threads.
        ranges: NVTX ranges and marks.
        annotations: Steps, gaps and causes; each computed when it is first asked for.
        known_waits: What calls waited for, if it was found before.
    """

    selection: Selection
    reading: Reading
    tracks: Tracks
    gpu: GpuSequence
    operations: Operations
    calls: Calls
    pools: Pools
    ranges: Nvtx
    annotations: Annotations
    known_waits: Waits | None = None

    @property
    def shift(self) -> int:
        """What a trace adds to every time, so that none is negative, ns; 0 as a rule."""
        return max(0, -self.reading.span[0])

    def find_waits(self) -> Waits:
        """What calls waited for."""
        if self.known_waits is not None:
            return self.known_waits
        records = cuda_calls.event_records(self.reading.capture)
        return wake_ups.find(self.reading.waits, records, self.calls, self.operations)


def read(
    capture: Capture,
    selection: Selection,
    families: Collection[str],
    annotate: AnnotationOptions,
    progress: Progress,
    detail: Detail = FULL,
) -> Model:
    """Reads a capture and joins what belongs together.

    Args:
        capture: The open capture.
        selection: Time range and processes.
        families: The families of events to read.
        annotate: Where decode steps come from.
        progress: Called between the steps.
        detail: How much a trace will say of each operation.

    Raises:
        CaptureError: The capture cannot be read.
    """
    reading = Reading(capture, selection, families, progress)
    progress("joining", 3, 4)
    return join(reading, selection, annotate, detail)


def join(
    reading: Reading, selection: Selection, annotate: AnnotationOptions, detail: Detail = FULL
) -> Model:
    """Joins what was read; arguments as for `read`. The events' correlation ids are used up."""
    tracks = reading.name_tracks()
    gpu = GpuSequence(
        reading.work,
        reading.strings,
        reading.gpus,
        tracks,
        gpus.stream_names(reading.capture),
        sampled={samples.gpu for samples in reading.metrics.sets},
        detail=detail,
    )
    operations = Operations.of(gpu.families)
    calls = cuda_api.join(reading.calls, operations, reading.strings)
    pools = Pools()
    ranges = nvtx_tracks.prepare(
        reading.ranges, nvtx.names(reading.capture, reading.strings), reading.strings, pools
    )
    found = Annotations(reading, gpu, operations, calls, ranges, pools, annotate)
    return Model(selection, reading, tracks, gpu, operations, calls, pools, ranges, found)
