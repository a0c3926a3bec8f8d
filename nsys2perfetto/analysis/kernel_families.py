"""Families of kernels by name: gemm, attention, norm, ... for shares and comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import polars as pl

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
    short: Sequence[str | None] | pl.Series,
    demangled: Sequence[str | None] | pl.Series,
    families: Iterable[tuple[str, str]] = FAMILIES,
) -> list[str]:
    """The family of each kernel; `OTHER` where nothing matches.

    Args:
        short: Short names, one a kernel (not one a launch).
        demangled: Demangled names, likewise.
        families: Family to expression, by priority.
    """
    chosen = list(families)
    frame = pl.DataFrame(
        {"short": pl.Series(short, dtype=pl.String), "long": pl.Series(demangled, dtype=pl.String)}
    )
    by_short = _find(frame["short"], chosen)
    long = pl.select(pl.when(by_short.is_null()).then(frame["long"])).to_series()
    return by_short.fill_null(_find(long, chosen)).fill_null(OTHER).to_list()


def _find(names: pl.Series, families: Sequence[tuple[str, str]]) -> pl.Series:
    """The first family whose expression matches each name; null for none."""
    distinct = names.drop_nulls().unique()
    family = pl.Series([None] * len(distinct), dtype=pl.String)
    for name, expression in families:
        left = family.is_null()
        if not left.any():
            break
        rows = left.arg_true()
        found = rows.filter(_matches(distinct.gather(rows), expression))
        family = family.scatter(found, name)
    known = pl.DataFrame({"name": distinct, "family": family})
    return pl.DataFrame({"name": names}).join(known, on="name", how="left", maintain_order="left")[
        "family"
    ]


def _matches(names: pl.Series, expression: str) -> pl.Series:
    """Whether an expression is found in each name.

    Names of templates grow to many thousands of characters, of which Rust's expressions read a
    gigabyte a second and Python's ten million. But Python's know more (looking ahead, say).
    """
    try:
        return names.str.contains(f"(?i){expression}")
    except pl.exceptions.ComputeError:
        compiled = re.compile(expression, re.IGNORECASE)
        found = [compiled.search(name) is not None for name in names.to_list()]
        return pl.Series(found, dtype=pl.Boolean)
