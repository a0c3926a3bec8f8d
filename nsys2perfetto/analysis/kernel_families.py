"""Families of kernels by name: gemm, attention, norm, ... for shares and comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

OTHER = "other"

FAMILIES: tuple[tuple[str, str], ...] = (
    ("sampling", r"argmax|arg_max|topk|top_k|topp|top_p|sampl|multinomial|softmax_topk|gumbel"),
    ("nccl", r"nccl|allreduce|all_reduce|allgather|all_gather|reduce_?scatter|nvshmem|one_shot"),
    ("attention", r"attention|attn|flash|fmha|mha|paged|mla_|decode_kernel|prefill_kernel"),
    ("rope", r"rope|rotary"),
    ("norm", r"norm|rms"),
    ("quantization", r"quant|dequant|fp8_|int8_|scaled_(fp8|int8)"),
    ("moe", r"moe|expert|grouped_gemm_router|router"),
    (
        "gemm",
        r"gemm|gemv|cutlass|cublas|matmul|mat_mul|mul_mat|mlp|linear|wgmma|xmma|nvjet|splitK|dot_",
    ),
    ("softmax", r"softmax"),
    ("activation", r"silu|gelu|relu|swiglu|sigmoid|act_and_mul|activation"),
    ("embedding", r"embed|gather|index_select|get_rows"),
    ("kv cache", r"kv_?cache|reshape_and_cache|cache_kernel|concat_and_cache|copy_blocks"),
    ("copy", r"copy|memcpy|memset|fill|transpose|permute|cast|convert|cat_|concat|contiguous"),
    ("elementwise", r"elementwise|add|mul|residual|vectorized|unary|binary|pointwise"),
    ("reduce", r"reduc|sum|mean|scan|cumsum"),
)
"""Family and the expression that finds it in a kernel's demangled or short name, case ignored.

The first that matches decides. The short name is tried before the demangled one: the template
arguments of a PyTorch kernel name many things that it is not.
"""


def classify(
    short: Sequence[str | None],
    demangled: Sequence[str | None],
    families: Iterable[tuple[str, str]] = FAMILIES,
) -> list[str]:
    """The family of each kernel; `OTHER` where nothing matches.

    Args:
        short: Short names, one a kernel (not one a launch).
        demangled: Demangled names, likewise.
        families: Family to expression, by priority.
    """
    compiled = [(name, re.compile(expression, re.IGNORECASE)) for name, expression in families]

    def find(text: str | None) -> str | None:
        return next((name for name, test in compiled if text and test.search(text)), None)

    return [find(s) or find(d) or OTHER for s, d in zip(short, demangled, strict=True)]
