"""The kernels of one forward pass of a small transformer, with realistic names and durations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from samples.builder.engine import Work
from samples.builder.model import Dim3, Kernel

_BANDWIDTH = 780
"""Bytes per ns that a matrix-vector product reaches on an RTX 5070 Ti (of 896 peak)."""

_FLOPS = 70_000
"""Floating point operations per ns that a bf16 matrix product of the prefill reaches."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer with grouped-query attention and bf16 weights."""

    layers: int = 4
    hidden: int = 1024
    heads: int = 16
    kv_heads: int = 8
    head_size: int = 128
    intermediate: int = 3072
    vocabulary: int = 151_936
    context: int = 4096

    @property
    def qkv(self) -> int:
        """Rows of the fused query, key and value projection."""
        return (self.heads + 2 * self.kv_heads) * self.head_size

    @property
    def cache_bytes(self) -> int:
        """Bytes of the key and value cache."""
        return self.layers * 2 * self.context * self.kv_heads * self.head_size * 2

    def weights(self) -> Iterator[int]:
        """Bytes of each weight tensor, in the order in which they are loaded."""
        yield self.vocabulary * self.hidden * 2
        for _ in range(self.layers):
            yield self.qkv * self.hidden * 2
            yield self.hidden * self.heads * self.head_size * 2
            yield 2 * self.intermediate * self.hidden * 2
            yield self.hidden * self.intermediate * 2
        yield self.vocabulary * self.hidden * 2


def forward(shape: Shape, tokens: int, position: int) -> list[Work]:
    """One pass over `tokens` tokens, the last at `position`, and the argmax of its logits."""
    rows = tokens * shape.hidden
    works = [Work(((_own("embedding_kernel", (tokens, 1, 1)), 1_400 + rows // 300),))]
    for _ in range(shape.layers):
        works += _layer(shape, tokens, position)
    works.append(_norm(shape, tokens))
    works.append(_product(shape.vocabulary, shape.hidden, 1))
    works.append(Work(((_argmax(shape), 13_500),)))
    return works


def _layer(shape: Shape, tokens: int, position: int) -> list[Work]:
    rows = tokens * shape.hidden
    width = shape.heads * shape.head_size
    attention = _own(
        "attention_kernel", (shape.heads, tokens, 1), (128, 1, 1), registers=96, dynamic=33_792
    )
    rope = _own("rope_kernel", (shape.heads + shape.kv_heads, tokens, 1), (64, 1, 1))
    add = _own("add_kernel", (max(1, rows // 256), 1, 1))
    mlp = _own(
        "fused_mlp_intermediate_kernel",
        (shape.intermediate // 8, tokens, 1),
        registers=56,
        static=1024,
    )
    attention_ns = 3_900 + position * 22 + tokens * 45
    mlp_ns = max(
        2 * shape.intermediate * shape.hidden * 2 // _BANDWIDTH,
        4 * tokens * shape.intermediate * shape.hidden // _FLOPS,
    )
    add_ns = 1_350 + rows // 400
    return [
        _norm(shape, tokens),
        _product(shape.qkv, shape.hidden, tokens),
        Work(((rope, 1_700 + rows // 350),)),
        Work(((attention, attention_ns),), allocate=tokens * width * 2),
        _product(shape.hidden, width, tokens, split=True),
        Work(((add, add_ns),)),
        _norm(shape, tokens),
        Work(((mlp, mlp_ns),), allocate=tokens * shape.intermediate * 2),
        _product(shape.hidden, shape.intermediate, tokens, free=True),
        Work(((add, add_ns),), free=True),
    ]


def _own(
    name: str,
    grid: Dim3,
    block: Dim3 = (256, 1, 1),
    *,
    registers: int = 32,
    static: int = 0,
    dynamic: int = 0,
) -> Kernel:
    """A kernel of the engine itself: `extern "C"`, so its three names are the same."""
    return Kernel(
        name,
        grid=grid,
        block=block,
        registers=registers,
        static_shared=static,
        dynamic_shared=dynamic,
    )


def _norm(shape: Shape, tokens: int) -> Work:
    kernel = _own("rms_norm_kernel", (tokens, 1, 1), registers=28, static=128)
    return Work(((kernel, 1_900 + tokens * shape.hidden // 500),))


def _argmax(shape: Shape) -> Kernel:
    return _own("argmax_kernel", (1, 1, 1), (1024, 1, 1), registers=24, static=8192)


_GEMV = Kernel(
    "gemv2T_kernel_val",
    "void gemv2T_kernel_val<int, int, __nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, "
    "(int)128, (int)16, (int)4, (int)4, (bool)0, (bool)0, cublasGemvParamsEx<int, "
    "cublasGemvTensorStridedBatched<const __nv_bfloat16>, cublasGemvTensorStridedBatched<"
    "const __nv_bfloat16>, cublasGemvTensorStridedBatched<__nv_bfloat16>, float>>(T13, T5, T5)",
    "_Z17gemv2T_kernel_valIii13__nv_bfloat16S0_S0_fLi128ELi16ELi4ELi4ELb0ELb0E18cublasGemvParams"
    "ExIi30cublasGemvTensorStridedBatchedIKS0_ES4_S2_IS0_EfEEvT11_T4_S8_",
    registers=80,
    static_shared=2_560,
)
_CUTLASS = Kernel(
    "Kernel2",
    "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8>"
    "(T1::Params)",
    "_ZN7cutlass7Kernel2I66cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8"
    "EEvNT_6ParamsE",
    registers=72,
    dynamic_shared=20_480,
)
_SPLIT_REDUCE = Kernel(
    "splitKreduce_kernel",
    "void cublasLt::splitKreduce_kernel<(int)32, (int)16, int, float, __nv_bfloat16, float, "
    "__nv_bfloat16, (bool)0, __nv_bfloat16, __nv_bfloat16, __nv_bfloat16, (bool)1, (bool)0, "
    "(bool)0>(cublasLt::cublasSplitKParams<T6>, const T4 *, const T9 *, T8 *, T5 *, const T6 *)",
    "_ZN8cublasLt19splitKreduce_kernelILi32ELi16Eif13__nv_bfloat16fS1_Lb0ES1_S1_S1_Lb1ELb0ELb0E"
    "EEvNS_18cublasSplitKParamsIT4_EEPKT2_PKT7_PT6_PT3_PKS3_",
    registers=40,
)
_GEMM = Kernel(
    "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x4_tn",
    registers=122,
    block=(128, 1, 1),
    dynamic_shared=98_304,
)


def _product(
    outputs: int, inputs: int, tokens: int, *, split: bool = False, free: bool = False
) -> Work:
    """A matrix product by cuBLAS: a matrix-vector kernel for one token, a tensor core one else.

    With `split` the one-token product is a split-K pair of kernels in one cuBLAS call.
    """
    duration = outputs * inputs * 2 // _BANDWIDTH + 900
    if tokens > 1:
        flops = 2 * tokens * outputs * inputs
        kernel = _with_grid(_GEMM, ((tokens + 127) // 128, outputs // 64, 1))
        kernels: tuple[tuple[Kernel, int], ...] = ((kernel, max(duration, flops // _FLOPS)),)
    elif split:
        kernels = (
            (_with_grid(_CUTLASS, (outputs // 16, 1, 4), (64, 1, 1)), duration),
            (_with_grid(_SPLIT_REDUCE, (outputs // 512, 1, 1), (32, 16, 1)), 1_500),
        )
    else:
        kernels = ((_with_grid(_GEMV, (outputs // 16, 1, 1)), duration),)
    return Work(kernels, library="cublasGemmEx", free=free)


def _with_grid(kernel: Kernel, grid: Dim3, block: Dim3 | None = None) -> Kernel:
    return Kernel(
        kernel.name,
        kernel.demangled,
        kernel.mangled,
        grid=grid,
        block=block or kernel.block,
        registers=kernel.registers,
        static_shared=kernel.static_shared,
        dynamic_shared=kernel.dynamic_shared,
    )
