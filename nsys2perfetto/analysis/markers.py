"""Which names speak of decode steps: kernels that end one, NVTX ranges around one.

The default marker is that of the nsys manual (section "decode steps"): kernels `LIKE 'argmax%'`.
`KNOWN_SAMPLERS` lists the kernels that end a step in the engines of others; a new engine is one
more line there.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

SHORT, DEMANGLED, MANGLED = "short", "demangled", "mangled"
ALL_NAMES = (SHORT, DEMANGLED, MANGLED)


@dataclass(frozen=True)
class Sampler:
    """The kernel with which an engine picks the next token.

    Attributes:
        engine: Whose kernel it is.
        patterns: As for `match`; kernels of several patterns make up one marker.
        source: Where the kernel is defined, or what its name was taken from.
        names: Which of a kernel's names count.
    """

    engine: str
    patterns: tuple[str, ...]
    source: str
    names: tuple[str, ...] = (SHORT,)

    @property
    def label(self) -> str:
        """How to name the choice to the user."""
        return f"{' or '.join(self.patterns)} ({self.engine})"


KNOWN_SAMPLERS = (
    # In order of preference: what is special comes before what many engines have, and what ends a
    # step of speculative decoding before the samplers that its draft model runs as well.
    Sampler(
        "the manual's marker; llama.cpp's argmax_f32",
        ("argmax*",),
        # llama.cpp: ggml/src/ggml-cuda/argmax.cu (argmax_f32), when it samples on the GPU
        "MANUAL, section on decode steps: LIKE 'argmax%'",
        (SHORT, DEMANGLED),
    ),
    Sampler(
        "SGLang, speculative",
        ("VerifyTreeGreedy*", "TreeSpeculativeSamplingTargetOnly"),
        "sglang: sgl-kernel/csrc/speculative/{eagle_utils.cu,speculative_sampling.cuh}",
    ),
    Sampler(
        "vLLM, speculative",
        ("rejection_greedy_sample_kernel", "rejection_random_sample_kernel"),
        "vllm: vllm/v1/sample/rejection_sampler.py (Triton: all names are the same)",
    ),
    Sampler(
        "FlashInfer, speculative",
        ("ChainSpeculativeSampling",),
        "flashinfer: include/flashinfer/sampling.cuh",
    ),
    Sampler(
        "FlashInfer, as SGLang and vLLM use it",
        # TopK-, TopP-, MinP- and TopKTopPSamplingFromProbKernel among them
        ("*SamplingFromProbKernel", "*SamplingFromLogitsKernel"),
        "flashinfer: include/flashinfer/sampling.cuh",
    ),
    Sampler(
        "TensorRT-LLM",
        # The second stage of top-k; top-p over sorted and over unsorted tokens, whose name lost a
        # letter in later versions. A radix pass is launched several times in a row: one burst.
        ("topKStage2Sampling", "topPSsampling", "airTopPS*ampling"),
        "TensorRT-LLM: cpp/tensorrt_llm/kernels/sampling{TopK,TopP,AirTopP}Kernels.cu",
    ),
    Sampler(
        "LMDeploy TurboMind",
        ("*turbomind::sampling<*",),
        "lmdeploy: src/turbomind/kernels/sampling_kernels.cu",
        (DEMANGLED,),
    ),
    Sampler(
        "candle, mistral.rs",
        ("fast_argmax_*",),
        "candle: candle-kernels/src/reduce.cu (FAST_OP; extern C: all names are the same)",
    ),
    Sampler(
        "MLX",
        ("*arg_reduce_general<*ArgMax<*",),
        "mlx: mlx/backend/cuda/arg_reduce.cu; not seen in a capture",
        (DEMANGLED,),
    ),
    Sampler(
        "PyTorch argmax: transformers, vLLM, SGLang, TensorRT-LLM's PyTorch backend",
        # reduce_kernel<512, 1, ReduceOp<float, ArgMaxOps<float>, unsigned int, long, 4, 4>>
        ("*ArgMaxOps<*",),
        "pytorch: aten/src/ATen/native/cuda/ReduceArgMaxKernel.cu; nsys listings of captures",
        (DEMANGLED,),
    ),
    Sampler(
        "PyTorch multinomial",
        ("sampleMultinomialOnce",),
        "pytorch: aten/src/ATen/native/cuda/MultinomialKernel.cu",
    ),
    Sampler(
        "vLLM, Gumbel sampling",
        # Followed by PyTorch's argmax over blocks, which is preferred where it is in the capture.
        ("_gumbel_sample_kernel",),
        "vllm: vllm/v1/worker/gpu/sample/gumbel.py (Triton)",
    ),
)
"""What ends a decode step, in order of preference.

Left out on purpose are kernels that run in every layer too: the top-k of expert routing
(`topkGating*`, PyTorch's `gatherTopK`), softmax, random numbers.
"""

TRAINING = r"(?i)backward|_bwd|bwd_|wgrad|multi_tensor_apply|fused_?adam|_adamw?_"
"""Kernels that only training has; `dgrad` is left out: inference runs it for transposed
convolutions."""

ATTENTION = r"(?i)attn|attention|flash|fmha|softmax|rope|rotary|_mha|mha_"
PRODUCT = r"(?i)gemm|gemv|matmul|mul_mat|cutlass|nvjet|xmma|wmma|linear"

# A word for one token, on its own: not `tokenizer`, `detokenize`, `decoder`.
_STEP_WORD = r"(?:^|[^A-Za-z])(?i:tokens?|decode|decoding)(?:[^a-z]|$)"
# What happens several times in a step, or to other data than tokens.
_NO_STEP = (
    r"(?i)layer|attn|attention|mlp|ffn|block|embed|norm|cache|kv|expert|moe|dispatch|permut|combine|"
    r"sampl|copy|upload|h2d|d2h|alloc|encode|image|video|jpeg|png|frame|audio|loss"
)


class KernelNames:
    """The three names of each kernel configuration, every combination of them once.

    Args:
        short: shape (configurations,), null where there is none.
        demangled: likewise.
        mangled: likewise.
        shapes: What tells the launches of one kernel apart, grid and block, a row a configuration;
            not what differs though the launch is the same, as streams or nodes of graphs do.
    """

    def __init__(
        self,
        short: Sequence[str | None] | pl.Series,
        demangled: Sequence[str | None] | pl.Series,
        mangled: Sequence[str | None] | pl.Series,
        shapes: pl.DataFrame | None = None,
    ) -> None:
        columns = {SHORT: short, DEMANGLED: demangled, MANGLED: mangled}
        frame = pl.DataFrame(
            {name: pl.Series(values, dtype=pl.String) for name, values in columns.items()}
        ).with_columns(pl.all().fill_null(""))
        self.table = frame.unique(maintain_order=True)
        """The distinct combinations: columns short, demangled, mangled; "" for none."""
        self.number = number_rows(frame)
        """Row of the table, shape (configurations,)."""
        self.launch: Int64s | None = None
        """Number of the combination of names and `shapes`, shape (configurations,)."""
        if shapes is not None:
            self.launch = number_rows(
                shapes.with_columns(pl.Series("name of the kernel", self.number))
            )

    def __len__(self) -> int:
        return len(self.number)

    def containing(self, regex: str) -> Bools:
        """Which configurations have the expression in their short or demangled name."""
        found = self.table.select(
            pl.col(SHORT).str.contains(regex) | pl.col(DEMANGLED).str.contains(regex)
        ).to_series()
        return np.asarray(found.to_numpy()[self.number], np.bool_)

    def label(self, number: int) -> str:
        """The shortest sensible name of a row of the table."""
        return next((name for name in self.table.row(number) if name), "[unnamed kernel]")


def number_rows(frame: pl.DataFrame) -> Int64s:
    """The number of each row, alike for equal rows: 0, 1, ... in order of first occurrence."""
    distinct = frame.unique(maintain_order=True)
    numbered = distinct.with_columns(
        pl.int_range(len(distinct), dtype=pl.Int64, eager=True).alias("number of the row")
    )
    joined = frame.join(
        numbered, on=frame.columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return np.asarray(joined["number of the row"].to_numpy(), np.int64)


def match(names: KernelNames, patterns: Iterable[str], which: Sequence[str] = ALL_NAMES) -> Bools:
    """Which kernel configurations any of the patterns fits, shape (configurations,).

    Args:
        names: Of the configurations.
        patterns: See `compile_pattern`.
        which: The names on which a pattern may fit; one is enough.

    Raises:
        ValueError: a pattern is not a regular expression though it says so.
    """
    tests = [compile_pattern(pattern) for pattern in patterns]
    rows = names.table.select(which).rows()
    fits = [any(test(name) for name in row if name for test in tests) for row in rows]
    return np.array(fits, np.bool_)[names.number]


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A test for names.

    Args:
        pattern: A glob (`argmax*`) fits the whole name, small and capital letters alike, as SQL's
            LIKE does; `/argmax.*f32/` or `re:argmax.*f32` is a regular expression that fits any
            part of a name, letters as they are (begin it with `(?i)` to ignore that).

    Raises:
        ValueError: it is not a regular expression though it says so.
    """
    regex: str | None = None
    if pattern.startswith("re:"):
        regex = pattern[3:]
    elif len(pattern) > 2 and pattern.startswith("/") and pattern.endswith("/"):
        regex = pattern[1:-1]
    if regex is None:
        glob = re.compile(fnmatch.translate(pattern), re.IGNORECASE)
        return lambda name: glob.match(name) is not None
    try:
        compiled = re.compile(regex)
    except re.error as error:
        raise ValueError(f"not a regular expression: {regex} ({error})") from error
    return lambda name: compiled.search(name) is not None


def step_families(names: pl.Series) -> pl.Series:
    """What the names of NVTX ranges around steps have in common: the name with # for numbers.

    Args:
        names: Of ranges, shape (n,).

    Returns:
        Shape (n,); null where a name does not speak of one token or one decode step.
    """
    frame = pl.DataFrame({"name": names.cast(pl.String)})
    name = pl.col("name")
    speaks = name.str.contains(_STEP_WORD) & ~name.str.contains(_NO_STEP)
    return frame.select(
        pl.when(speaks).then(name.str.replace_all(r"\d+", "#")).alias("family")
    ).to_series()


def step_ranges(names: pl.Series, patterns: Sequence[str]) -> Bools:
    """Which NVTX ranges may stand for steps, shape (n,): those that are worth projecting.

    Args:
        names: Of ranges, shape (n,).
        patterns: The user's (see `compile_pattern`); none for those of `step_families`.
    """
    if not patterns:
        return np.asarray(step_families(names).is_not_null().to_numpy(), np.bool_)
    tests = [compile_pattern(pattern) for pattern in patterns]
    distinct = names.drop_nulls().unique()
    fitting = [name for name in distinct if any(test(name) for test in tests)]
    return np.asarray(names.is_in(fitting).fill_null(False).to_numpy(), np.bool_)


def counters(names: pl.Series) -> Int64s:
    """The number in each name, where it has exactly one; else -1. Shape (n,)."""
    numbers = names.cast(pl.String).str.extract_all(r"\d+")
    single = numbers.list.len() == 1
    first = numbers.list.first().cast(pl.Int64, strict=False)
    return np.asarray(first.zip_with(single, pl.Series([None] * len(names), dtype=pl.Int64))
                      .fill_null(-1).to_numpy(), np.int64)  # fmt: skip
