"""The things that rows refer to: GPUs, processes, threads, kernels."""

from __future__ import annotations

from dataclasses import dataclass, field

VM_ID = 1 << 48
"""The machine: hw 0, vm 1 in `hw:8 | vm:8 | pid:24 | tid:24`."""

INVALID_ID = 4294967295
"""nsys' "no stream" and "no event" in CUPTI_ACTIVITY_KIND_SYNCHRONIZATION."""


def global_pid(pid: int, hw: int = 0, vm: int = 1) -> int:
    """The signed 64-bit id of a process, `hw:8 | vm:8 | pid:24 | 0:24`."""
    value = (hw << 56) | (vm << 48) | (pid << 24)
    return value - (1 << 64) if value >= 1 << 63 else value


@dataclass(frozen=True)
class GpuModel:
    """What TARGET_INFO_GPU says of a kind of GPU (bytes, bytes/s, Hz)."""

    name: str
    chip: str
    compute: tuple[int, int]
    sms: int
    memory: int
    bandwidth: int
    clock: int
    l2_cache: int
    warps_per_sm: int = 48
    blocks_per_sm: int = 24
    shared_per_sm: int = 102400
    shared_per_block_optin: int = 101376


RTX_5070_TI = GpuModel(
    name="NVIDIA GeForce RTX 5070 Ti",
    chip="GB203",
    compute=(12, 0),
    sms=70,
    memory=16_597_778_432,
    bandwidth=896_064_000_000,
    clock=2_452_000_000,
    l2_cache=50_331_648,
)
RTX_3090 = GpuModel(
    name="NVIDIA GeForce RTX 3090",
    chip="GA102",
    compute=(8, 6),
    sms=82,
    memory=25_438_126_080,
    bandwidth=936_096_000_000,
    clock=1_695_000_000,
    l2_cache=6_291_456,
    blocks_per_sm=16,
)
A100 = GpuModel(
    name="NVIDIA A100-SXM4-80GB",
    chip="GA100",
    compute=(8, 0),
    sms=108,
    memory=85_094_825_984,
    bandwidth=2_039_040_000_000,
    clock=1_410_000_000,
    l2_cache=41_943_040,
    warps_per_sm=64,
    blocks_per_sm=32,
    shared_per_sm=167_936,
    shared_per_block_optin=166_912,
)
H100 = GpuModel(
    name="NVIDIA H100 80GB HBM3",
    chip="GH100",
    compute=(9, 0),
    sms=132,
    memory=85_520_809_984,
    bandwidth=3_352_320_000_000,
    clock=1_980_000_000,
    l2_cache=52_428_800,
    warps_per_sm=64,
    blocks_per_sm=32,
    shared_per_sm=233_472,
    shared_per_block_optin=232_448,
)


MIG_3G = GpuModel(
    name="NVIDIA A100-SXM4-80GB MIG 3g.40gb",
    chip="GA100",
    compute=(8, 0),
    sms=42,
    memory=42_144_366_592,
    bandwidth=1_019_520_000_000,
    clock=1_410_000_000,
    l2_cache=20_971_520,
    warps_per_sm=64,
    blocks_per_sm=32,
    shared_per_sm=167_936,
    shared_per_block_optin=166_912,
)
"""An instance of a GPU in MIG mode: less of everything, as a GPU of its own."""


@dataclass
class Process:
    """A profiled process.

    Attributes:
        gpus: TARGET_INFO_GPU.id of each of its CUDA devices, by CUDA ordinal.
    """

    pid: int
    name: str
    global_pid: int
    gpus: tuple[int, ...] = (0,)
    last_correlation: int = 0
    last_grid: int = 0

    def next_correlation(self) -> int:
        """A correlation id that is new in this process."""
        self.last_correlation += 1
        return self.last_correlation

    def next_grid(self) -> int:
        """A grid id that is new in this process."""
        self.last_grid += 1
        return self.last_grid


@dataclass(frozen=True)
class Thread:
    """A thread of a profiled process."""

    process: Process
    tid: int
    name: str

    @property
    def global_tid(self) -> int:
        """`hw:8 | vm:8 | pid:24 | tid:24`."""
        return self.process.global_pid | self.tid


Dim3 = tuple[int, int, int]


@dataclass(frozen=True)
class Kernel:
    """A kernel and the configuration it is launched with.

    Attributes:
        name: The short name.
        demangled: The full C++ signature; the short name for `extern "C"` kernels.
        mangled: The symbol; the short name for `extern "C"` kernels.
        static_shared: Bytes; so is `dynamic_shared`.
    """

    name: str
    demangled: str = ""
    mangled: str = ""
    grid: Dim3 = (1, 1, 1)
    block: Dim3 = (128, 1, 1)
    registers: int = 32
    static_shared: int = 0
    dynamic_shared: int = 0
    local_per_thread: int = 0
    extra: dict[str, int] = field(default_factory=dict, hash=False)
    """Further columns of CUPTI_ACTIVITY_KIND_KERNEL."""
