"""What stands at the head of a trace: clocks, metadata, GPUs, descriptors of our extensions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from uuid import UUID

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.nsys.gpus import Gpu
from nsys2perfetto.nsys.metadata import Metadata
from nsys2perfetto.protos import trace_extensions
from nsys2perfetto.tracks import sequences

_MAX_GPU_ID = 255
"""A larger number of a GPU is damage: the list of GPUs is indexed by it."""


def packets(
    metadata: Metadata,
    gpus: Iterable[Gpu],
    first: int,
    shift: int,
    facts: dict[str, str | int],
    view: tuple[int, int] | None = None,
) -> Iterator[pb.TracePacket]:
    """The packets before everything else.

    Args:
        metadata: Of the capture.
        gpus: The GPUs to describe.
        first: Start of the first event, ns as the capture counts.
        shift: ns added to every timestamp.
        facts: More metadata, by name.
        view: The time that the UI shows first, ns as the capture counts; None for everything.
    """
    yield sequences.start(sequences.DESCRIPTORS)
    packet = sequences.following(sequences.DESCRIPTORS)
    packet.extension_descriptor.extension_set.MergeFromString(trace_extensions())
    yield packet
    if (clocks := _clocks(metadata, first, shift)) is not None:
        yield clocks
    yield _attributes(metadata, shift, facts)
    yield _gpu_info(gpus)
    if view is not None:
        yield from _view(view, shift)


def _clocks(metadata: Metadata, first: int, shift: int) -> pb.TracePacket | None:
    """Maps the trace's time to UTC, at the start of the session or of the first event.

    It must lie before every event: the engine does not convert backwards from a snapshot.

    The trace's clock is called BOOTTIME because that is the engine's default; its zero is nsys'.
    """
    zero = metadata.utc_of_zero
    if zero is None:
        return None
    at = max(0, min(first, metadata.time_shift) + shift)
    packet = sequences.following(sequences.DESCRIPTORS)
    snapshot = packet.clock_snapshot
    snapshot.primary_trace_clock = pb.BUILTIN_CLOCK_BOOTTIME
    utc = zero - shift + at
    for clock, time in ((pb.BUILTIN_CLOCK_BOOTTIME, at), (pb.BUILTIN_CLOCK_REALTIME, utc)):
        snapshot.clocks.add(clock_id=clock, timestamp=max(0, time))
    return packet


def _view(view: tuple[int, int], shift: int) -> Iterator[pb.TracePacket]:
    """Makes the UI open with this time on the screen.

    It shows the time for which the trace says that its tracing was under way, which a recorder of
    Perfetto's puts down with such packets: after its last data source has started, until it ends.
    """
    for time, happened in zip(view, ("all_data_sources_started", "tracing_disabled"), strict=True):
        packet = sequences.following(sequences.DESCRIPTORS)
        packet.timestamp = max(0, time + shift)
        setattr(packet.service_event, happened, True)
        yield packet


def _attributes(metadata: Metadata, shift: int, facts: dict[str, str | int]) -> pb.TracePacket:
    """Facts for the table `metadata`, as `trace_attribute.nsys2perfetto_version` and so on."""
    values: dict[str, str | int | None] = {
        "nsys_version": metadata.product_version,
        "nsys_schema_version": metadata.schema_version,
        "session_start_utc_ns": metadata.session_start_utc,
        "time_shift_ns": shift,
        **facts,
    }
    packet = sequences.following(sequences.DESCRIPTORS)
    for key, value in values.items():
        if value is None:
            continue
        attribute = packet.trace_attributes.attribute.add(key=key)
        if isinstance(value, int):
            attribute.long_value = value
        else:
            attribute.string_value = value
    return packet


def _gpu_info(gpus: Iterable[Gpu]) -> pb.TracePacket:
    """GpuInfo: the place in the list is the gpu_id, so gaps in nsys' numbers stay empty."""
    by_id = {g.id: g for g in gpus if 0 <= g.id <= _MAX_GPU_ID}
    packet = sequences.following(sequences.DESCRIPTORS)
    packet.gpu_info.SetInParent()
    for number in range(max(by_id, default=-1) + 1):
        entry = packet.gpu_info.gpus.add()
        if number in by_id:
            _describe(entry, by_id[number])
    return packet


def _describe(entry: pb.GpuInfo.Gpu, gpu: Gpu) -> None:
    entry.name = short_name(gpu.name)
    entry.model = gpu.name
    entry.vendor = "NVIDIA"
    if gpu.compute_capability:
        entry.architecture = architecture(*gpu.compute_capability)
    if gpu.bus_location:
        entry.pci_bdf = gpu.bus_location
    if gpu.uuid:
        with contextlib.suppress(ValueError):
            entry.uuid = UUID(gpu.uuid.removeprefix("GPU-")).bytes
    extra = {
        "chip": gpu.chip,
        "compute_capability": "{}.{}".format(*gpu.compute_capability)
        if gpu.compute_capability
        else None,
        "multiprocessors": gpu.sm_count,
        "total_memory_bytes": gpu.total_memory,
        "memory_bandwidth_bytes_per_s": gpu.memory_bandwidth,
        "clock_rate_hz": gpu.clock_rate,
        "l2_cache_bytes": gpu.l2_cache_size,
    }
    for key, value in extra.items():
        if value is not None:
            entry.extra_info.add(key=key, value=str(value))


def short_name(name: str) -> str:
    """`NVIDIA GeForce RTX 4060 Ti` as `RTX 4060 Ti`: the UI repeats it in every title."""
    for prefix in ("NVIDIA ", "GeForce ", "Tesla ", "Quadro "):
        name = name.removeprefix(prefix)
    return name.strip() or "GPU"


def architecture(major: int, minor: int) -> str:
    """The name of a compute capability's architecture (CUDA C++ Programming Guide)."""
    names = {(7, 5): "Turing", (8, 9): "Ada Lovelace"}
    families = {
        3: "Kepler", 5: "Maxwell", 6: "Pascal", 7: "Volta", 8: "Ampere", 9: "Hopper",
        10: "Blackwell", 11: "Blackwell", 12: "Blackwell",
    }  # fmt: skip
    return names.get((major, minor)) or families.get(major) or f"compute {major}.{minor}"
