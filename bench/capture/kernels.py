"""Names and launch configurations of the kernels in a benchmark capture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shape import STEP_KERNELS, Shape

# Of a small transformer's decode step: (short name, arguments of its template and call, mean ns).
FAMILIES = [
    ("rms_norm_kernel", "(const __half *, const __half *, __half *, int, float)", 2_100),
    (
        "gemvNSP_kernel",
        "(cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<const T1>>)",
        9_400,
    ),
    ("rope_kernel", "(__half *, const float *, const float *, int, int)", 1_700),
    ("write_kv_cache_kernel", "(const __half *, const __half *, __half *, __half *, int)", 1_500),
    ("decode_attention_kernel", "(const __half *, const __half *, __half *, int, float)", 6_800),
    ("fused_mlp_kernel", "(const __half *, const __half *, const __half *, __half *, int)", 14_300),
    ("residual_add_kernel", "(__half *, const __half *, unsigned long)", 1_400),
    ("splitKreduce_kernel", "(cublasSplitKParams<T6>, const T4 *, const T5 *, T5 *, T6)", 2_600),
]
ARGMAX = ("argmax_kernel", "(const float *, int, int *)", 5_200)


@dataclass
class Kernels:
    """Every distinct launch configuration: the columns of the kernel table that go with it.

    All arrays are (configurations,); `columns` has registers, grid, block and shared memory
    (bytes), `name` is the number of the kernel, `mean_ns` the typical duration in ns, `runtime`
    says which are launched through the CUDA runtime (cuBLAS) instead of the driver.
    """

    columns: dict[str, np.ndarray]
    name: np.ndarray
    mean_ns: np.ndarray
    runtime: np.ndarray


def strings(shape: Shape) -> list[tuple[str, str, str]]:
    """Short, demangled and mangled name of each kernel; number 0 is the marker `argmax_kernel`."""
    names = [_spell(*ARGMAX[:2], variant=None)]
    for number in range(shape.names - 1):
        variant, family = divmod(number, len(FAMILIES))
        names.append(_spell(*FAMILIES[family][:2], variant=variant))
    return names


def _spell(short: str, arguments: str, variant: int | None) -> tuple[str, str, str]:
    if variant is None:
        return short, f"{short}{arguments}", f"_Z{len(short)}{short}PKfiPi"
    tile = 32 << variant % 4
    demangled = f"void engine::{short}<__half, (int){tile}, (int){variant}, (bool)1>{arguments}"
    mangled = f"_ZN6engine{len(short)}{short}I6__halfLi{tile}ELi{variant}ELb1EEEvPKT_S4_PS2_iif"
    return short, demangled, mangled


def configurations(shape: Shape) -> Kernels:
    """The launch configurations; number 0 is `argmax_kernel`, the rest go round the others."""
    number = np.arange(shape.configurations)
    name = np.where(number == 0, 0, (number - 1) % (shape.names - 1) + 1)
    variant = number // shape.names
    means = np.array([ns for _, _, ns in FAMILIES])
    one = np.ones_like(number)
    return Kernels(
        columns={
            "registersPerThread": 24 + name * 8 % 208,
            "gridX": np.where(number == 0, 1, 1 + name * 13 % 512 + variant * 16),
            "gridY": 1 + variant % 4,
            "gridZ": one,
            "blockX": 32 << name % 5,
            "blockY": one,
            "blockZ": one,
            "staticSharedMemory": name % 7 * 1024,
            "dynamicSharedMemory": variant % 3 * 4096,
            "sharedMemoryExecuted": 8192 << name % 4,
        },
        name=name,
        mean_ns=np.where(number == 0, ARGMAX[2], means[(name - 1) % len(means)])
        + variant % 50 * 20,
        runtime=(name > 0) & np.isin((name - 1) % len(means), (1, 7)),
    )


def launched(shape: Shape, first: int, count: int) -> np.ndarray:
    """Configuration of each kernel in `count` steps from `first` on: (count, STEP_KERNELS)."""
    body = STEP_KERNELS - 1
    others = shape.configurations - 1
    column = np.arange(body)
    # A step repeats the same launches, as decoding does, unless there are more than fit into one.
    shift = np.arange(first, first + count)[:, None] * body if others > body else 0
    chosen = np.zeros((count, STEP_KERNELS), np.int64)
    chosen[:, :body] = (column + shift) % others + 1
    return chosen
