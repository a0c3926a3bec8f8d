"""From what decode steps are told: kernels, NVTX ranges, CUDA graphs, copies, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from nsys2perfetto.analysis import steps as st
from tests.step_loops import BODY, PREFILL, Loop, decode, find

# --- kernels -------------------------------------------------------------------------------------


def test_a_step_ends_with_its_marker():
    found = find(decode(steps=3))
    assert found.counts == [10, 9, 9, 9]
    assert found.runs == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert found.phases == ["prefill", "steady", "steady", "steady"]
    assert found.choice.rule == st.KERNEL
    assert "argmax*" in found.choice.marker
    assert (found.choice.count, found.choice.steps) == (4, 4)
    assert found.choice.warnings == ()
    rows = found.steps.closer
    assert (found.kernels.end[rows] == found.steps.t1).all()


def test_the_order_of_the_rows_does_not_matter():
    loops = decode(), decode(Loop(unit=3, at=1_007), steps=4)
    straight, shuffled = find(*loops), find(*loops, shuffle=True)
    for name in ("unit", "t0", "t1", "run", "step", "phase", "markers"):
        assert getattr(straight.steps, name).tolist() == getattr(shuffled.steps, name).tolist()
    assert (shuffled.kernels.end[shuffled.steps.closer] == shuffled.steps.t1).all()


def test_a_burst_of_markers_ends_one_step():
    partial = find(decode(end=("argmax_partial", "argmax_final")))
    rows_of_a_batch = find(decode(end=("argmax",) * 8))
    assert partial.counts == [11, *[10] * 6]
    assert partial.steps.markers.tolist() == [2] * 7
    assert rows_of_a_batch.counts == [17, *[16] * 6]
    assert rows_of_a_batch.steps.markers.tolist() == [8] * 7
    assert (rows_of_a_batch.choice.count, rows_of_a_batch.choice.steps) == (56, 7)


def test_a_burst_on_two_streams_ends_with_its_last_end():
    loop = Loop()
    for _ in range(4):
        loop.run(*BODY).run("argmax", ns=60, gap=-58).run("argmax", ns=10).pause(100)
    found = find(loop)
    assert len(found.steps) == 4
    assert found.counts == [10] * 4
    long = [row for row in loop.rows if row[1] - row[0] == 60]
    assert found.steps.t1.tolist() == [row[1] for row in long]


def test_every_kernel_a_marker_is_no_nonsense():
    one_kernel_a_token = Loop()
    for _ in range(20):
        one_kernel_a_token.run("megakernel", ns=1_000)
    found = find(one_kernel_a_token, rule=st.KERNEL, patterns=["mega*"])
    assert found.counts == [1] * 20
    with_setup = Loop().run("fill", "fill")
    with_setup.rows += [(s + 100, e + 100, n, g) for s, e, n, g in one_kernel_a_token.rows]
    assert len(find(with_setup, rule=st.KERNEL, patterns=["mega*"]).steps) == 20
    everything = find(decode(), rule=st.KERNEL, patterns=["*"])
    assert len(everything.steps) == 0
    assert everything.choice.rule == st.NONE
    assert "all kernels" in everything.choice.warnings[0]


def test_patterns_of_the_user():
    loop = decode(end=("sample_a",))
    assert len(find(loop).steps) == 0
    assert "--step-kernel" in find(loop).choice.warnings[0]
    assert find(loop, rule=st.KERNEL, patterns=["/^sample/"]).counts == [10, *[9] * 6]
    assert len(find(loop, rule=st.KERNEL, patterns=["other", "SAMPLE*"]).steps) == 7
    nothing = find(loop, rule=st.KERNEL, patterns=["other"])
    assert nothing.choice == st.Choice(0, "none", "", 0, 0, ("no kernel is called other",))
    with pytest.raises(ValueError, match="regular"):
        find(loop, rule=st.KERNEL, patterns=["/(/"])
    with pytest.raises(ValueError, match="no such rule"):
        find(loop, rule="guess")


def test_no_steps_are_wanted():
    found = find(decode(), rule=st.NONE)
    assert (len(found.steps), found.choices) == (0, [])


def test_nothing_at_all():
    found = find()
    assert (len(found.steps), found.choices, found.counts) == (0, [], [])
    assert len(find(Loop().run("argmax")).steps) == 0  # one marker is no loop


def test_each_gpu_and_process_has_steps_of_its_own():
    found = find(decode(Loop(0), 5), Loop(1).run(*BODY * 4), decode(Loop(2, 1_234), 8))
    assert [(c.unit, c.rule, c.steps) for c in found.choices] == [
        (0, "kernel", 6), (1, "none", 0), (2, "kernel", 9),
    ]  # fmt: skip
    assert found.steps.unit.tolist() == [0] * 6 + [2] * 9
    assert found.counts == [10, *[9] * 5, 10, *[9] * 8]


def test_a_sampler_that_only_the_warm_up_uses_is_passed_over():
    loop = decode(steps=2)
    for _ in range(30):
        loop.run(*BODY).run("TopKTopPSamplingFromProbKernel")
    found = find(loop)
    assert "FlashInfer" in found.choice.marker
    assert len(found.steps) == 30
    assert "argmax" in found.choice.warnings[0]


def test_training_has_no_decode_steps():
    loop = Loop()
    for _ in range(10):
        loop.run(*BODY * 3, "argmax", "flash_bwd_kernel").copy(4)
        loop.step("decode", *BODY)
    found = find(loop)
    assert len(found.steps) == 0
    assert "flash_bwd_kernel" in found.choice.warnings[0]
    assert len(find(loop, rule=st.KERNEL, patterns=["argmax"]).steps) == 10


# --- NVTX ranges ---------------------------------------------------------------------------------


def test_nvtx_ranges_give_the_steps():
    loop = Loop().run("load")
    for token in range(5):
        loop.run("between")
        loop.step(f"token_{token}_processing", *BODY)
        loop.step(f"layer_1_token_{token}")
    loop.ranges = [r for r in loop.ranges if r[2] <= r[3]]
    found = find(loop)
    assert found.choice.rule == st.NVTX
    assert found.choice.marker == "NVTX ranges token_#_processing"
    assert found.counts == [8] * 5  # what is between the ranges is in no step
    assert found.phases == ["steady"] * 5
    assert found.runs == [(1, i) for i in range(1, 6)]


def test_the_count_starts_again_with_the_program():
    loop = Loop()
    for token in (0, 1, 2, 3, 0, 1, 2):
        loop.step(f"token_{token}", *BODY)
    assert find(loop).runs == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]


def test_the_outer_of_two_families_is_taken():
    loop = Loop()
    for token in range(4):
        start = loop.now
        loop.step(f"decode inner {token}", *BODY).run("tail")
        loop.ranges.append((f"token {token}", 2, start, loop.now - 2))
    assert find(loop).choice.marker == "NVTX ranges token #"
    assert find(loop).counts == [9] * 4
    named = find(loop, rule=st.NVTX, patterns=["decode inner*"])
    assert named.counts == [8] * 4
    assert "no NVTX range" in find(loop, rule=st.NVTX, patterns=["x"]).choice.warnings[0]


def test_ranges_that_overlap_on_the_gpu_partition_the_time():
    loop = Loop()
    for token in range(4):
        loop.step(f"token {token}", *BODY)
    loop.ranges = [(name, thread, start, end + 30) for name, thread, start, end in loop.ranges]
    found = find(loop)
    assert (found.steps.t0[1:] == found.steps.t1[:-1]).all()
    assert "overlap" in found.choice.warnings[0]


def test_too_few_ranges_or_without_work_are_no_steps():
    assert len(find(Loop().step("token 1", *BODY).step("token 2", *BODY)).steps) == 0
    assert len(find(*(Loop().step(f"stage {i}", *BODY) for i in range(1))).steps) == 0


# --- graphs and copies ---------------------------------------------------------------------------


def graph_loop(steps=8, *, whole=0, tail=("sample",)):
    loop = Loop().run(*PREFILL * 2)
    for _ in range(steps):
        loop.replay(0, *(() if whole else BODY), whole=whole).run(*tail)
    return loop


def test_replays_of_a_graph_give_the_steps():
    found = find(graph_loop())
    assert found.choice.rule == st.GRAPH
    assert found.counts == [18, 8, *[9] * 7]
    assert found.phases == ["prefill", "warmup", *["steady"] * 7]
    assert "warmup" not in find(graph_loop(), warmup=0).phases
    assert found.runs == [(1, i) for i in range(1, 10)]
    assert found.steps.closer.tolist() == [-1, *range(8)]
    two = graph_loop().pause(500).run(*PREFILL * 2)
    for _ in range(6):
        two.replay(0, *BODY).run("sample")
    assert find(two).runs == [(1, i) for i in range(1, 10)] + [(2, i) for i in range(1, 8)]


def test_whole_graphs_are_explained():
    found = find(graph_loop(whole=100, tail=()))
    assert found.choice.rule == st.GRAPH
    assert found.counts == [18, *[0] * 8]
    assert "--cuda-graph-trace=node" in found.choice.warnings[0]


def test_replays_need_to_be_regular():
    loop = Loop().run("fill")
    for pause in (1, 5_000, 40, 90_000, 300, 2, 700_000):
        loop.replay(0, *BODY).pause(pause)
    assert len(find(loop).steps) == 0
    assert len(find(loop, rule=st.GRAPH).steps) == 7
    assert len(find(graph_loop(steps=4)).steps) == 0
    assert "no CUDA graph" in find(decode(), rule=st.GRAPH).choice.warnings[0]


def test_the_pieces_of_a_step_are_not_steps():
    loop = Loop()
    for _ in range(8):
        loop.replay(0, *BODY).replay(1, *BODY).replay(2, "head").run("sample").pause(9)
    found = find(loop)
    assert found.choice.marker == "replays of CUDA graph 2"
    assert found.counts == [17, *[18] * 7]


LLM = ("rms_norm", "gemv", "flash_attention", "gemv", "add", "mlp_gemv", "rope", "head_gemv")


def test_copies_of_a_token_give_the_steps():
    loop = Loop().run(*LLM * 3, grid=64).copy(4)
    for _ in range(10):
        loop.run(*LLM).copy(4)
    loop.copy(1 << 20)
    found = find(loop)
    assert found.choice.rule == st.COPY
    assert "4 bytes" in found.choice.marker
    assert found.counts == [24, *[8] * 10]
    assert found.phases == ["prefill", *["steady"] * 10]


@pytest.mark.parametrize(
    "kernels",
    [
        ["dot", "axpy"] * 6,  # a solver that reads its residual
        ["gemv"] * 12,  # no attention
        ["flash_attention", "gemv"],  # too few kernels
    ],
)
def test_copies_of_other_programs_give_none(kernels):
    loop = Loop()
    for _ in range(20):
        loop.run(*kernels).copy(4)
    assert len(find(loop).steps) == 0


def test_irregular_or_large_copies_give_none():
    irregular, large = Loop(), Loop()
    for i in range(20):
        irregular.run(*LLM * (1 + i * 7 % 5)).copy(4)
        large.run(*LLM).copy(4096)
    assert len(find(irregular).steps) == 0
    assert len(find(large).steps) == 0


# --- anything ------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    rows=hs.lists(
        hs.tuples(
            hs.integers(0, 1),
            hs.sampled_from(["argmax", "argmax_2", "gemv", "attention", "", "x_bwd_"]),
            hs.integers(0, 40),
            hs.integers(-30, 30),
            hs.integers(0, 9),
        ),
        max_size=60,
    ),
    rule=hs.sampled_from([st.AUTO, st.KERNEL, st.NVTX, st.GRAPH]),
    pattern=hs.sampled_from(["*", "argmax*", "/2/", "token*"]),
)
def test_steps_of_anything_are_sound(rows, rule, pattern):
    loops = Loop(0), Loop(1)
    for unit, name, ns, gap, what in rows:
        loop = loops[unit]
        loop.run(name, ns=ns, gap=gap, grid=1 + ns % 2)
        if what == 0:
            loop.copy(4)
        elif what == 1:
            loop.replay(ns % 2, "gemv", whole=ns % 3)
        elif what < 5:
            loop.step(f"token {what}", name)
    found = find(*loops, rule=rule, patterns=[pattern], shuffle=True)
    steps = found.steps
    assert (steps.t0 <= steps.t1).all()
    same = steps.unit[1:] == steps.unit[:-1]
    assert (steps.t0[1:] >= steps.t1[:-1])[same].all()
    for choice in found.choices:
        own = steps.unit == choice.unit
        assert own.sum() == choice.steps
        assert steps.markers[own].sum() == choice.count
        assert (choice.rule == st.NONE) == (choice.steps == 0)
        assert choice.rule != st.NONE or len(choice.warnings) == 1
        assert steps.number[own].tolist() == list(range(1, choice.steps + 1))
        if choice.rule == st.KERNEL:
            assert (found.kernels.end[steps.closer[own]] <= steps.t1[own]).all()
            assert (found.kernels.unit[steps.closer[own]] == choice.unit).all()
