"""Comparisons: the numbers against plain sums over both files, and what is said about them."""

import itertools
import json

import polars as pl
import pytest

import nsys2perfetto
from nsys2perfetto.analysis.causes import ACTIVITIES, VERDICTS
from nsys2perfetto.analysis.steps import NONE, Request
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.report import comparison
from nsys2perfetto.report import comparison_text as written
from nsys2perfetto.report import comparison_words as words
from nsys2perfetto.report.comparison import SECTIONS, compare
from nsys2perfetto.report.formats import time
from nsys2perfetto.report.opening import open_source
from samples.builder import Capture
from samples.builder.scenarios import SCENARIOS
from tests import compared, runs, sessions
from tests.compared import BODY, FUSED, GEMM, NORM, STEPS, Sums, decode_loop
from tests.conftest import CAPTURES
from tests.engine.locate import REPOSITORY

SAMPLES = [REPOSITORY / "samples" / f"decode_{kind}.sqlite" for kind in ("eager", "graph")]
PAIR = [CAPTURES / f"train_2gpu_{when}_2026.2.1.sqlite" for when in ("before", "after")]
NO_STEPS = AnnotationOptions(steps=Request(NONE))
NAMES = written.Names("before.sqlite", "after.sqlite")
CHANGES = ("kernels", "families", "gaps", "api", "parts")


def compared_files(before, after, annotate=None, **options):
    """The comparison of two files, and the sources' steps."""
    with (
        open_source(before, annotate=annotate) as one,
        open_source(after, annotate=annotate) as two,
    ):
        return compare(one, two, **options)


def one_line(text):
    return " ".join(text.split())


def steady(path):
    """Numbers of the steady steps."""
    with open_source(path) as tables:
        return tables.steps().filter(pl.col("phase") == "steady")["step"].to_list()


def by_name(frame, key="name"):
    return {row[key]: row for row in frame.to_dicts()}


def assert_sums(frame, before, after, divisors=(1, 1), key="name"):
    """Rows are those of two dicts of name to (ns, count), and the columns agree."""
    rows = by_name(frame, key)
    assert set(rows) == set(before) | set(after)
    for name, row in rows.items():
        for side, sums, by in zip(("before", "after"), (before, after), divisors, strict=True):
            ns, count = sums.get(name, (None, None))
            assert row[f"{side}_ns"] == (None if ns is None else pytest.approx(ns / by)), name
            assert row[f"{side}_count"] == (None if ns is None else pytest.approx(count / by))
        check_row(row)


def check_row(row):
    """The rule of all changes."""
    one, two = row["before_ns"], row["after_ns"]
    change = (two or 0) - (one or 0)
    assert row["change_ns"] == pytest.approx(change)
    assert row["change_pct"] == (pytest.approx(100 * change / one) if one else None)
    assert row["change_count"] == pytest.approx(
        (row["after_count"] or 0) - (row["before_count"] or 0)
    )
    if "status" in row:
        assert row["status"] == ("new" if one is None else "vanished" if two is None else None)


def check_whole(found):
    """What holds for every comparison."""
    for name in SECTIONS:
        frame = found.section(name)
        schema = getattr(comparison, name.upper())
        assert dict(frame.schema) == dict(schema), name
    for name in CHANGES:
        rows = found.section(name).to_dicts()
        for row in rows:
            check_row(row)
        sizes = [abs(row["change_ns"]) for row in rows]
        assert sizes == sorted(sizes, reverse=True), name
    wall = "step_mean_ns" if found.per_step else "wall_ns"
    metrics = by_name(found.summary, "metric")
    kernel_ns = [metrics["kernel_ns"][side] for side in ("before", "after")]
    for side, kernels in zip(("before", "after"), kernel_ns, strict=True):
        column = f"{side}_ns"
        assert found.parts[column].sum() == pytest.approx(metrics[wall][side])
        idle = found.parts.filter(pl.col("kind").is_in(["gaps", "short_gaps"]))[column].sum()
        assert idle == pytest.approx(metrics["idle_ns"][side], abs=1e-3)
        assert found.kernels[column].sum() == pytest.approx(kernels)
        assert found.families[column].sum() == pytest.approx(kernels)
        causes = found.parts.filter(pl.col("kind") == "gaps")[column].sum()
        assert found.gaps[column].sum() == pytest.approx(causes)
    effects = found.effects
    together = effects.count + effects.duration + effects.new + effects.vanished
    assert together == pytest.approx(kernel_ns[1] - kernel_ns[0], abs=1e-3)


def assert_nothing_changed(found):
    assert found.summary["change"].fill_null(0).abs().max() in (0, None)
    for name in CHANGES:
        frame = found.section(name)
        changes = [c for c in frame.columns if c.startswith("change")]
        assert all((frame[c].fill_null(0) == 0).all() for c in changes), name
        assert "status" not in frame.columns or frame["status"].is_null().all(), name


# Per step


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_numbers_per_step_are_those_of_the_captures(order):
    paths = [SAMPLES[i] for i in order]
    found = compared_files(*paths)
    steps = [steady(path) for path in paths]
    one, two = (Sums(path, numbers) for path, numbers in zip(paths, steps, strict=True))
    divisors = [len(numbers) for numbers in steps]
    check_whole(found)
    assert found.per_step
    assert_sums(found.kernels, one.kernels, two.kernels, divisors)
    assert_sums(found.api, one.calls, two.calls, divisors)
    for side, sums, count in zip((0, 1), (one, two), divisors, strict=True):
        assert found.value("steady_steps")[side] == count
        assert found.value("step_mean_ns")[side] == pytest.approx(sums.wall / count)
        assert found.value("idle_ns")[side] == pytest.approx(sums.idle / count)
        walls = sorted(b - a for a, b in sums.spans)
        middle = (walls[(count - 1) // 2] + walls[count // 2]) / 2
        assert found.value("step_median_ns")[side] == middle
        assert found.value("tokens_per_s")[side] == pytest.approx(1e9 / middle)
        place = 0.95 * (count - 1)
        low, high = walls[int(place)], walls[min(int(place) + 1, count - 1)]
        expected = low + (high - low) * (place - int(place))
        assert found.value("step_p95_ns")[side] == pytest.approx(expected)
        shown = [gap for gap in sums.gaps if gap >= 1_000]
        column = ("before", "after")[side]
        assert found.gaps[f"{column}_ns"].sum() == pytest.approx(sum(shown) / count)
        assert found.gaps[f"{column}_count"].sum() == pytest.approx(len(shown) / count)


def test_a_slower_kernel_a_fused_one_and_one_more_wait(tmp_path):
    slower = (GEMM[0], GEMM[1] + 4_000)
    before = decode_loop(tmp_path, "before")
    after = decode_loop(tmp_path, "after", body=(NORM, slower, FUSED), waits=1)
    found = compared_files(before, after)
    check_whole(found)
    assert found.value("steady_steps") == (STEPS, STEPS)
    kernels = by_name(found.kernels)
    assert list(kernels)[:4] == [GEMM[0], FUSED[0], "mul_kernel", "silu_kernel"]
    assert kernels[GEMM[0]]["change_ns"] == 4_000
    assert kernels[GEMM[0]]["change_avg_pct"] == pytest.approx(10)
    assert (kernels[FUSED[0]]["status"], kernels[FUSED[0]]["before_ns"]) == ("new", None)
    assert kernels["mul_kernel"]["status"] == "vanished"
    assert kernels["mul_kernel"]["change_pct"] == -100
    # What is left alike has no change at all.
    assert [kernels[n]["change_ns"] for n in ("rms_norm_kernel", "argmax_kernel")] == [0, 0]
    effects = found.effects
    assert (effects.count, effects.duration) == (0, pytest.approx(4_000))
    assert (effects.new, effects.vanished) == (2_600, -4_500)
    # Without the wait kernels follow each other 1 us apart; with it a launch takes 4 us, after
    # the wake-up.
    parts = by_name(found.parts, "part")
    assert parts["synchronization"]["after_ns"] == compared.WAKE_UP + compared.KERNEL_AFTER_LAUNCH
    assert parts["synchronization"]["before_ns"] is None
    assert parts["launch_bound"]["change_ns"] == 0
    assert parts["elementwise"]["change_ns"] == -2_500
    for metric, before_after in {
        "kernel_count": (5, 4),
        "launch_count": (5, 4),
        "sync_count": (1, 2),
        "allocation_count": (0, 0),
        "copy_count": (0, 0),
        "kernel_ns": (53_500, 55_600),
    }.items():
        assert found.value(metric) == before_after, metric
    waits = by_name(found.api)["cudaStreamSynchronize"]
    assert (waits["before_count"], waits["after_count"]) == (1, 2)
    assert found.slowdown_pct == pytest.approx(100 * (91_600 - 84_500) / 84_500)


def test_the_number_of_steps_does_not_matter(tmp_path):
    found = compared_files(
        decode_loop(tmp_path, "short"), decode_loop(tmp_path, "long", steps=3 * STEPS)
    )
    check_whole(found)
    assert found.value("steady_steps") == (STEPS, 3 * STEPS)
    for name in CHANGES:
        assert found.section(name)["change_ns"].abs().max() == 0, name
    assert not found.slowdown_pct


def test_several_gpus_are_one_average_step(tmp_path):
    one = decode_loop(tmp_path, "one")
    two = decode_loop(tmp_path, "two", gpus=2)
    found = compared_files(one, two)
    check_whole(found)
    assert found.value("steady_steps") == (STEPS, 2 * STEPS)
    for name in CHANGES:
        assert found.section(name)["change_ns"].abs().max() == 0, name


def test_processes_on_one_gpu_have_their_own_idle_time(tmp_path):
    """The gaps of the GPU are shorter than those of each process."""

    def alternating(name, pids):
        capture = Capture("3.16.1")
        capture.gpu()
        threads = []
        for pid in pids:
            process = capture.process(pid, "engine")
            threads.append(capture.thread(process, pid + 1, "worker"))
        for step, (number, thread) in itertools.product(range(12), enumerate(threads)):
            at = 1_000_000 + 100_000 * step + 50_000 * number
            for place, (kernel, ns) in enumerate((("gemm", 30_000), ("argmax_kernel", 5_000))):
                start = at + 5_000 + 31_000 * place
                capture.launch(
                    thread, kernel, at=at + 3_000 * place, call=2_000, start=start, duration=ns
                )
        return capture.save(tmp_path, name)

    alone, shared = alternating("alone", [100]), alternating("shared", [100, 200])
    found = compared_files(alone, shared)
    check_whole(found)
    assert found.value("idle_ns") == (65_000, 65_000)
    assert found.parts.filter(pl.col("kind") == "short_gaps")["after_ns"].item() == 0


def test_full_names_and_other_families(tmp_path):
    families = [("matrix", "gemv2T"), ("rest", ".")]
    found = compared_files(*SAMPLES, families=families, full_names=True)
    check_whole(found)
    assert any("<" in name for name in found.kernels["name"])
    assert set(found.families["family"]) == {"matrix", "rest"}
    [row] = found.families.filter(pl.col("family") == "matrix").to_dicts()
    # Nine products by this kernel in a step.
    assert row["before_count"] == 9
    assert compared_files(*SAMPLES).kernels.height == found.kernels.height


# Whole captures


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_whole_captures_are_compared_where_there_are_no_steps(order):
    paths = [SAMPLES[i] for i in order]
    found = compared_files(*paths, annotate=NO_STEPS)
    check_captures(found, *paths)


@pytest.mark.skipif(not PAIR[0].exists(), reason="no real captures")
def test_the_real_pair():
    found = compared_files(*PAIR)
    check_captures(found, *PAIR)
    assert found.kernels["name"][0] == "flash_fwd_kernel"
    text = written.text(found, NAMES)
    assert "Neither has steady decode steps" in text
    assert "3,587 instead of 4,010" in one_line(text)


def check_captures(found, *paths):
    check_whole(found)
    assert not found.per_step
    one, two = (Sums(path) for path in paths)
    assert_sums(found.kernels, one.kernels, two.kernels)
    assert_sums(found.api, one.calls, two.calls)
    for side, path in zip(("before", "after"), paths, strict=True):
        gpus = {work["gpu"] for work in Sums.work_of(path)}
        sums = [Sums(path, gpu=gpu) for gpu in gpus]
        gaps = [gap for each in sums for gap in each.gaps if gap >= 1_000]
        assert found.gaps[f"{side}_ns"].sum() == sum(gaps)
        assert found.gaps[f"{side}_count"].sum() == len(gaps)
        metrics = by_name(found.summary, "metric")
        assert metrics["wall_ns"][side] == sum(each.wall for each in sums)
        assert metrics["idle_ns"][side] == sum(each.idle for each in sums)
        assert metrics["gpus"][side] == len(gpus)


def test_only_one_has_steps(tmp_path):
    without = tmp_path / "none.sqlite"
    without.write_bytes(SAMPLES[0].read_bytes())
    runs.edited(
        without,
        "StringIds",
        script="update StringIds set value = 'pick' where value glob 'argmax*'",
    )
    with open_source(SAMPLES[0]) as one, open_source(without, annotate=NO_STEPS) as two:
        found = compare(one, two)
    check_whole(found)
    assert not found.per_step
    assert (found.before.steady, found.after.steady) == (27, 0)
    assert "Only one, not after, has steady decode steps" in one_line(written.text(found, NAMES))
    row = by_name(found.kernels)
    assert (row["pick"]["status"], row["argmax_kernel"]["status"]) == ("new", "vanished")
    assert row["pick"]["after_ns"] == row["argmax_kernel"]["before_ns"]


# Anything at all


@pytest.mark.parametrize("name", [*SCENARIOS, "decode_eager", "decode_graph"])
def test_nothing_changed_between_equal_captures(name):
    path = runs.scenario(name).path
    found = compared_files(path, path)
    check_whole(found)
    assert_nothing_changed(found)
    for write in (written.text, written.markdown, written.as_json):
        assert write(found, NAMES)


@pytest.mark.parametrize("name", ["decode_eager", "graph_level", "two_processes_two_gpus"])
def test_anything_can_be_compared_with_a_decode_run(name):
    found = compared_files(runs.scenario(name).path, SAMPLES[1])
    check_whole(found)
    assert written.text(found, NAMES)


@pytest.mark.parametrize("name", ["decode_eager", "two_processes_two_gpus", "negative_times"])
def test_a_capture_and_its_trace_are_the_same(name, tmp_path):
    path = runs.scenario(name).path
    trace = nsys2perfetto.convert(path, tmp_path / "it.pftrace").output
    with sessions.in_process():
        found = compared_files(path, trace)
    assert found.before == found.after
    assert_nothing_changed(found)


def test_only_gaps_that_both_list_are_compared(tmp_path):
    with (
        open_source(SAMPLES[0]) as one,
        open_source(SAMPLES[0], annotate=AnnotationOptions(min_gap=20_000)) as two,
    ):
        found = compare(one, two)
    check_whole(found)
    for name in CHANGES:
        assert found.section(name)["change_ns"].abs().max() == 0, name
    said = one_line(written.text(found, NAMES))
    assert f"One lists gaps from {time(1_000)} on, the other from {time(20_000)}:" in said


# What is said


def test_whether_a_difference_is_more_than_the_steps_scatter(tmp_path):
    before = decode_loop(tmp_path, "before", jitter=10_000)
    near = compared_files(before, decode_loop(tmp_path, "near", jitter=10_000, host=21_000))
    far = compared_files(before, decode_loop(tmp_path, "far", jitter=10_000, host=60_000))
    low, high = near.value("step_p25_ns"), near.value("step_p75_ns")
    assert [h - lo for h, lo in zip(high, low, strict=True)] == [10_000, 10_000]
    assert near.within_scatter and not far.within_scatter
    assert "That may be chance" in written.text(near, NAMES)
    assert "That may be chance" not in written.text(far, NAMES)
    assert not compared_files(before, before).within_scatter


def test_what_stands_in_the_first_lines(tmp_path):
    slower = (GEMM[0], GEMM[1] + 4_000)
    before = decode_loop(tmp_path, "before")
    after = decode_loop(tmp_path, "after", body=(NORM, slower, FUSED), waits=1)
    text = written.text(compared_files(before, after), NAMES)
    assert all(len(line) <= 80 for line in text.splitlines())
    said = one_line(text.split("\n\n")[1])
    assert said == (
        f"8.4 % slower: the median step takes {time(91_600)} instead of {time(84_500)}; 10,917.0 "
        f"tokens/s of a sequence instead of 11,834.3. "
        f"What changed most in the mean step (+{time(7_100)}): "
        f"idle (synchronization) +{time(7_000)}, gemm kernels +{time(4_000)}, "
        f"elementwise kernels {time(-2_500)}, idle (launch latency) {time(-2_000)}. "
        f"Kernels (+{time(2_100)} in sum): each slower +{time(4_000)}, new ones +{time(2_600)}, "
        f"gone {time(-4_500)}."
    )
    assert "idle (synchronization)       -   7.00   +7.00    new  0 -> 1" in text
    assert "silu_and_mul_kernel             -   2.60   +2.60    new  0 -> 1       -" in text
    faster = one_line(written.text(compared_files(after, before), NAMES))
    assert f"7.8 % faster: the median step takes {time(84_500)} instead of {time(91_600)}" in faster
    same = one_line(written.text(compared_files(before, before), NAMES))
    assert f"As fast as before: the median step takes {time(84_500)}; 11,834.3 tokens/s" in same


def test_rows_that_are_not_shown_are_summed(tmp_path):
    found = compared_files(*SAMPLES)
    text = written.text(found, NAMES, top=2)
    rest = found.api[2:]
    change = f"{rest['change_ns'].sum() / 1e3:+.2f}"
    assert f"and {rest.height} more, together {change} us" in text
    # The parts are always whole: they add up.
    assert text.count("\nidle (") == found.parts.filter(pl.col("kind") != "kernels").height - 1


def test_names_from_captures_cannot_harm(tmp_path):
    bad = "gemm\x1b[31m|`<b>\u202e\n"
    one = decode_loop(tmp_path, "one")
    two = decode_loop(tmp_path, "two", body=((bad, 9_000), *BODY))
    found = compared_files(one, two)
    names = written.Names("a\x1b]0;b\n.sqlite", "`<script>`.sqlite")
    for out in (
        written.text(found, names),
        written.text(found, names, width=80),
        written.markdown(found, names),
        written.as_json(found, names),
    ):
        assert out.isascii() and all(c.isprintable() or c == "\n" for c in out)
    assert "<script>" not in written.markdown(found, names).replace("\\<", "")
    kernels = json.loads(written.as_json(found, names))["kernels"]
    assert any(row["name"] == bad for row in kernels)


def test_json_is_the_tables():
    found = compared_files(*SAMPLES)
    said = json.loads(written.as_json(found, NAMES))
    for name in SECTIONS:
        assert said[name] == found.section(name).to_dicts(), name
        assert json.loads(written.as_json(found, NAMES, section=name)) == said[name]
    assert said["basis"] == "steady_step"
    assert said["slowdown_pct"] == pytest.approx(found.slowdown_pct)
    assert said["after"]["steady_steps"] == found.after.steady
    assert said["before"]["file"] == NAMES.before
    assert said["verdict"][0].startswith("1.9 % faster")


def test_the_words_for_causes_are_those_there_are():
    assert {"launch_bound", "graph_internal", "unknown"} <= set(VERDICTS)
    assert set(words._MOSTLY) == {f"in_{a}" for a in ACTIVITIES if a != "outside_cuda"} | {
        "outside_cuda"
    }
