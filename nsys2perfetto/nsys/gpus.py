"""The GPUs of the machine, and which of them each process's CUDA device is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import polars as pl

from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.ids import machine_of, pid_of


@dataclass(frozen=True)
class Gpu:
    """One row of TARGET_INFO_GPU. What the export does not tell is None."""

    id: int
    """nsys' own number of the GPU, and the trace's gpu_id; another where two machines share it."""
    name: str
    chip: str | None = None
    compute_capability: tuple[int, int] | None = None
    sm_count: int | None = None
    total_memory: int | None = None
    """Bytes."""
    memory_bandwidth: int | None = None
    """Bytes a second."""
    clock_rate: int | None = None
    """Hz."""
    l2_cache_size: int | None = None
    """Bytes."""
    bus_location: str | None = None
    uuid: str | None = None
    cuda_device: int | None = None

    @property
    def is_cuda(self) -> bool:
        """False for the display adapters of other vendors that nsys lists on Windows."""
        return bool(self.sm_count or (self.compute_capability or (0, 0))[0])


_COLUMNS = {
    "vmId": "int", "id": "int", "deviceId": "int", "name": "text", "chipName": "text",
    "computeMajor": "int", "computeMinor": "int", "smCount": "int", "totalMemory": "int",
    "memoryBandwidth": "int", "clockRate": "int", "l2CacheSize": "int", "busLocation": "text",
    "uuid": "text", "cuDevice": "int",
}  # fmt: skip


Machine = int | None
"""The upper 16 bits of global ids, as TARGET_INFO_GPU.vmId has them; None where not told."""


@dataclass(frozen=True)
class Gpus:
    """All GPUs and the mapping (process, CUDA device) to GPU."""

    by_id: dict[int, Gpu]
    _by_machine: dict[tuple[Machine, int], int]
    """(machine, nsys' number) to GPU."""
    _by_process: dict[tuple[int, int], list[int]]
    """(process id, CUDA device) to nsys' numbers: several where machines share process ids."""
    _by_cuda_device: dict[tuple[Machine, int], int]
    """(machine, CUDA device) to GPU; the machine None is any."""

    def gpu_id(self, global_pid: int | None, device: int | None) -> int:
        """The GPU that a process calls `device`.

        TARGET_INFO_CUDA_DEVICE knows it exactly (3.17.1 on; it alone knows CUDA_VISIBLE_DEVICES),
        else TARGET_INFO_GPU.cuDevice, else nsys' own number (NSYS_SCHEMA section 5). GPUs of the
        process's own machine come first.
        """
        if device is None:
            return 0
        machine = None if global_pid is None else machine_of(global_pid)
        if global_pid is not None and (
            numbers := self._by_process.get((pid_of(global_pid), device))
        ):
            own = (self._by_machine.get((machine, number)) for number in numbers)
            return next((gpu for gpu in own if gpu is not None), numbers[-1])
        anywhere = self._by_cuda_device.get((None, device), device)
        return self._by_cuda_device.get((machine, device), anywhere)


def read(capture: Capture) -> Gpus:
    """Reads TARGET_INFO_GPU (TARGET_INFO_CUDA_GPU in 2020-2021) and TARGET_INFO_CUDA_DEVICE."""
    gpus: dict[int, Gpu] = {}
    by_machine: dict[tuple[Machine, int], int] = {}
    by_device: dict[tuple[Machine, int], int] = {}
    rows = capture.read("TARGET_INFO_GPU", _COLUMNS)  # type: ignore[arg-type]
    rows = rows.with_columns(pl.coalesce("id", "deviceId").alias("id")).drop_nulls("id")
    named = set(rows["id"].to_list())
    free = (n for n in itertools.count() if n not in named)
    for row in rows.iter_rows(named=True):
        machine, number = row["vmId"], row["id"]
        if (machine, number) in by_machine:
            continue
        gpu_id = next(free) if number in gpus else number  # another machine's has it
        gpus[gpu_id] = gpu = _gpu(gpu_id, row)
        by_machine[machine, number] = gpu_id
        if gpu.is_cuda and gpu.cuda_device is not None:
            by_device.setdefault((machine, gpu.cuda_device), gpu_id)
    if not gpus:
        gpus = _early_gpus(capture)
    for gpu in gpus.values():
        if gpu.is_cuda and gpu.cuda_device is not None:
            by_device.setdefault((None, gpu.cuda_device), gpu.id)
    pairs = capture.read(
        "TARGET_INFO_CUDA_DEVICE", {"gpuId": "int", "cudaId": "int", "pid": "int"}
    ).drop_nulls()
    by_process: dict[tuple[int, int], list[int]] = {}
    for number, device, pid in pairs.iter_rows():
        by_process.setdefault((pid, device), []).append(number)
    return Gpus(gpus, by_machine, by_process, by_device)


def _gpu(number: int, row: dict[str, object]) -> Gpu:
    def integer(name: str) -> int | None:
        value = row[name]
        return value if isinstance(value, int) and value > 0 else None

    def text(name: str) -> str | None:
        value = row[name]
        return value if isinstance(value, str) and value else None

    major = integer("computeMajor")
    minor = row["computeMinor"]
    cuda_device = row["cuDevice"]
    return Gpu(
        id=number,
        name=text("name") or "GPU",
        chip=text("chipName"),
        compute_capability=(major, minor if isinstance(minor, int) else 0) if major else None,
        sm_count=integer("smCount"),
        total_memory=integer("totalMemory"),
        memory_bandwidth=integer("memoryBandwidth"),
        clock_rate=integer("clockRate"),
        l2_cache_size=integer("l2CacheSize"),
        bus_location=text("busLocation"),
        uuid=text("uuid"),
        cuda_device=cuda_device if isinstance(cuda_device, int) else None,
    )


def _early_gpus(capture: Capture) -> dict[int, Gpu]:
    rows = capture.read(
        "TARGET_INFO_CUDA_GPU",
        {
            "deviceId": "int",
            "name": "text",
            "pciBusId": "text",
            "computeCapabilityMajor": "int",
            "computeCapabilityMinor": "int",
            "numMultiprocessors": "int",
            "globalMemorySize": "int",
        },
    ).filter(pl.col("deviceId").is_not_null())
    return {
        device: Gpu(
            id=device,
            name=name or "GPU",
            compute_capability=(major, minor or 0) if major else None,
            sm_count=multiprocessors,
            bus_location=bus,
            # The unit of globalMemorySize differs between versions; the size is left out.
            cuda_device=device,
        )
        for device, name, bus, major, minor, multiprocessors, _ in rows.iter_rows()
    }


def stream_names(capture: Capture) -> dict[tuple[int, int, int], str]:
    """Names that the program gave to its streams by NVTX: (pid, context, stream) to name."""
    rows = capture.read(
        "TARGET_INFO_NVTX_CUDA_STREAM",
        {"processId": "int", "contextId": "int", "streamId": "int", "name": "text"},
    ).drop_nulls()
    return {(pid, context, stream): name for pid, context, stream, name in rows.iter_rows()}
