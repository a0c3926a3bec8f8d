"""Names of kernels and NVTX ranges that speak of decode steps."""

from __future__ import annotations

import re
import sqlite3

import polars as pl
import pytest

from nsys2perfetto.analysis import markers
from nsys2perfetto.analysis.markers import KNOWN_SAMPLERS, KernelNames, match

ARGMAX_OPS = (
    "void at::native::reduce_kernel<(int)512, (int)1, at::native::ReduceOp<float, "
    "at::native::ArgMaxOps<float>, unsigned int, long, (int)4, (int)4>>(T3)"
)
MAX_OPS = ARGMAX_OPS.replace("ArgMaxOps", "MaxOps")


def names(*kernels) -> KernelNames:
    """From (short, demangled, mangled) or just one name for all three."""
    rows = [k if isinstance(k, tuple) else (k, k, k) for k in kernels]
    return KernelNames(*([row[i] for row in rows] for i in range(3)))


def sampler_of(kernel) -> str | None:
    """The engine of the first sampler that fits."""
    one = names(kernel)
    return next(
        (s.engine for s in KNOWN_SAMPLERS if match(one, s.patterns, s.names).any()), None
    )  # fmt: skip


# --- kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "engine"),
    [
        ("argmax_kernel", "manual"),
        ("argmax_f32", "llama.cpp"),
        (("argmax", "void ns::argmax<float>(float *)", None), "manual"),
        (("k", "ArgMax_reduce(float *)", None), "manual"),
        (("reduce_kernel", ARGMAX_OPS, None), "PyTorch argmax"),
        ("sampleMultinomialOnce", "PyTorch multinomial"),
        ("rejection_greedy_sample_kernel", "vLLM"),
        ("_gumbel_sample_kernel", "vLLM"),
        ("TopKTopPSamplingFromProbKernel", "FlashInfer"),
        ("SamplingFromLogitsKernel", "FlashInfer"),
        ("ChainSpeculativeSampling", "FlashInfer, speculative"),
        ("VerifyTreeGreedyRagged", "SGLang"),
        ("topKStage2Sampling", "TensorRT-LLM"),
        ("airTopPSampling", "TensorRT-LLM"),
        ("airTopPSsampling", "TensorRT-LLM"),
        (("sampling", "void turbomind::sampling<float, (int)256>(...)", None), "LMDeploy"),
        ("fast_argmax_bf16", "candle"),
        (
            (
                "arg_reduce_general",
                "void mlx::core::cu::arg_reduce_general<float, ArgMax<float>, 1>",
                None,
            ),
            "MLX",
        ),
    ],
)
def test_a_known_sampler(kernel, engine):
    assert engine in (sampler_of(kernel) or "")


@pytest.mark.parametrize(
    "kernel",
    [
        ("reduce_kernel", MAX_OPS, None),
        "topkGatingSoftmax",
        "fast_max_f32",
        "gatherTopK",
        "softmax_warp_forward",
        ("sampling", "void other::sampling<float>(...)", None),
        "cutlass_Kernel2",
        (None, None, None),
    ],
)
def test_no_sampler(kernel):
    assert sampler_of(kernel) is None


def test_the_default_marker_is_the_manuals_like():
    values = ["argmax", "ARGMAX_kernel", "argmax%", "arg_max", "fast_argmax", "void argmax<f>", ""]
    with sqlite3.connect(":memory:") as db:
        like = [bool(db.execute("SELECT ? LIKE 'argmax%'", [v]).fetchone()[0]) for v in values]
    assert match(names(*values), KNOWN_SAMPLERS[0].patterns).tolist() == like


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("gemv*", [True, False, False]),
        ("GEMV_f32", [True, False, False]),
        ("gemv", [False, False, False]),
        ("*ArgMaxOps*", [False, True, False]),
        ("_Z4gemm*", [False, False, True]),
        ("/^gem[mv]/", [True, False, True]),
        ("/^GEM/", [False, False, False]),
        ("re:(?i)^GEM", [True, False, True]),
        ("/", [False, False, False]),
        ("*", [True, True, True]),
    ],
)
def test_a_pattern_is_a_glob_or_a_regular_expression_on_any_name(pattern, expected):
    three = names("gemv_f32", ("reduce_kernel", ARGMAX_OPS, "_Z1r"), ("gemm", "gemm(x)", "_Z4gemm"))
    assert match(three, [pattern]).tolist() == expected
    assert match(three, ["nothing", pattern]).tolist() == expected
    assert match(three, []).tolist() == [False] * 3


def test_a_bad_regular_expression_is_the_users_error():
    with pytest.raises(ValueError, match="not a regular expression"):
        match(names("x"), ["/(/"])


def test_every_sampler_says_where_it_is_from():
    for sampler in KNOWN_SAMPLERS:
        assert sampler.source and sampler.engine and sampler.patterns
        assert sampler.engine in sampler.label


def test_configurations_share_the_rows_of_the_table():
    three = KernelNames(["a", "a", None], ["A", "A", "B"], [None, None, None],
                        pl.DataFrame({"gridX": [1, 2, 1]}))  # fmt: skip
    assert three.number.tolist() == [0, 0, 1]
    assert three.launch is not None
    assert three.launch.tolist() == [0, 1, 2]
    assert [three.label(0), three.label(1)] == ["a", "B"]
    assert len(KernelNames([], [], [])) == 0
    assert match(KernelNames([], [], []), ["*"]).tolist() == []


@pytest.mark.parametrize(
    "kernel",
    [
        "flash_bwd_kernel",
        "void at::native::layer_norm_backward_kernel<float>",
        "void at::native::multi_tensor_apply_kernel<...FusedAdamMathFunctor...>",
        "cudnn::cnn::wgrad_alg0_engine",
    ],
)
def test_kernels_of_training(kernel):
    assert names(kernel, "rms_norm_kernel").containing(markers.TRAINING).tolist() == [True, False]


# --- NVTX ranges ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("token_12_processing", "token_#_processing"),
        ("Decode step 7", "Decode step #"),
        ("decode", "decode"),
        ("DecodeStep", "DecodeStep"),
        ("_forward_step 5: 0 ctx reqs, 8 gen tokens", "_forward_step #: # ctx reqs, # gen tokens"),
    ],
)
def test_ranges_around_steps(name, family):
    assert markers.step_families(pl.Series([name])).to_list() == [family]
    assert markers.step_ranges(pl.Series([name]), []).tolist() == [True]


@pytest.mark.parametrize(
    "name",
    [
        "layer_3_token_12", "tokenizer", "detokenize", "decoder_layer_3", "decoder",
        "token_embedding", "sample_token", "decode_jpeg", "decode attention", "token dispatch",
        "train_step 12", "step 3", "forward", "aten::to, op_id = 12", "", None,
    ],
)  # fmt: skip
def test_ranges_around_other_things(name):
    assert markers.step_families(pl.Series([name], dtype=pl.String)).to_list() == [None]


def test_ranges_that_the_user_names():
    ranges = pl.Series(["step 1", "Step 2", "other", None])
    assert markers.step_ranges(ranges, ["step*"]).tolist() == [True, True, False, False]
    assert markers.step_ranges(ranges, ["/^oth/", "/2$/"]).tolist() == [False, True, True, False]


def test_the_one_number_in_a_name():
    ranges = pl.Series(["token_12", "12_34", "none", "007", None, "9" * 30])
    assert markers.counters(ranges).tolist() == [12, -1, -1, 7, -1, -1]


def test_polars_and_python_agree_on_the_expressions():
    for regex in (markers.TRAINING, markers.ATTENTION, markers.PRODUCT):
        re.compile(regex)
