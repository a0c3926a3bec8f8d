"""The command's options for steps, gaps and counters: what they change in the trace."""

import math
import re
from itertools import combinations, pairwise

import pytest

from nsys2perfetto.cli import main
from samples.builder import Capture, Kernel
from tests.annotated import Annotated, limited_to
from tests.command import write_capture
from tests.step_checks import (
    check_consistent,
    check_contents,
    check_like_the_manual,
    check_rate,
    loop,
    sample,
    the_only_process,
)

DEMANGLED = "void ns::Sampler<float, 4>::pick(float const*, int)"
MANGLED = "_ZN2ns7SamplerIfLi4EE4pickEPKfi"


class Done:
    """What `Annotated` wants to know of a conversion that the command made."""

    def __init__(self, out):
        self.time_shift_ns = 0
        self.out = out


@pytest.fixture
def command(capsys, tmp_path, open_trace):
    """Converts a capture by the command; what it printed is in `result.out`, words unwrapped."""

    def command(path, *options):
        output = tmp_path / "out.pftrace"
        status = main.run([str(path), "-o", str(output), "--force", *map(str, options)])
        printed = capsys.readouterr()
        assert (status, printed.err) == (0, "")
        found = Annotated(path, Done(" ".join(printed.out.split())), output, open_trace)
        assert found.losses == []
        return found

    return command


@pytest.fixture
def refused(capsys, tmp_path):
    """The message with which the command refuses its arguments; nothing may be written."""

    def refused(*arguments, captures=1):
        paths = [write_capture(tmp_path / f"c{n}.sqlite") for n in range(captures)]
        status = main.run([*map(str, paths), *arguments])
        printed = capsys.readouterr()
        assert not list(tmp_path.glob("*.pftrace"))
        assert status == 2, printed.err
        assert printed.out == ""
        [line] = printed.err.splitlines()
        assert line.startswith("nsys2perfetto: ")
        return line

    return refused


@pytest.fixture(scope="module")
def samplers(tmp_path_factory):
    """Ten steps: layers, then a sampler with three names, then one called `finish`, in turns."""
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    pick = Kernel("pick", DEMANGLED, MANGLED)
    at = 1_000_000
    for n in range(10):
        at = loop(capture, thread, at, 2, marker=pick if n % 2 else Kernel("finish_step"))
    return capture.save(tmp_path_factory.mktemp("samplers"), "samplers")


def ends(found, *names):
    work = sorted(found.oracle.gpu_work, key=lambda r: r["start"])
    return [r["end"] for r in work if r["name"] in names]


# --step-kernel


@pytest.mark.parametrize(
    "pattern",
    ["pick", "PI?K", "p[hi]ck", "void ns::Sampler<*", "_ZN2ns7Sampler*", "*Sampler*",
     "/^pick$/", "/Sampler<float/", "re:E4pick", "/(?i)SAMPLER/"],
)  # fmt: skip
def test_a_kernel_by_any_of_its_names(pattern, samplers, command):
    found = command(samplers, "--step-kernel", pattern, "--min-gap", 0)
    check_one_loop_with(found, DEMANGLED, "pick")
    told = found.metadata["trace_attribute.decode_steps"]
    assert told.startswith(f"10 decode steps, from 10 kernels {pattern}")
    assert "10 decode steps, from 10 kernels" in found.result.out


def check_one_loop_with(found, demangled, name):
    """As `check_one_loop`, with another marker than the manual's."""
    check_consistent(found)
    assert [s["end"] for s in found.steps] == ends(found, name)
    process = the_only_process(found)
    check_contents(found, found.steps, process, 0)
    sql = limited_to(found.path, process, 0)
    sql.execute("create temp table StringIds as select * from main.StringIds")
    sql.execute("update temp.StringIds set value = 'no ' || value where value like 'argmax%'")
    sql.execute("update temp.StringIds set value = 'argmax' where value = ?", (demangled,))
    check_like_the_manual(found.steps, sql)
    sql.close()


def test_several_kernels_are_one_marker(samplers, command):
    found = command(samplers, "--step-kernel", "pick", "--step-kernel", "/^finish/")
    assert [s["end"] for s in found.steps] == ends(found, "pick", "finish_step")
    assert "20 kernels pick or /^finish/" in found.result.out


@pytest.mark.parametrize("pattern", ["pic", "Sampler", "/^ick/", "/PICK/", "nothing*"])
def test_a_pattern_without_a_kernel_is_told(pattern, samplers, command):
    found = command(samplers, "--step-kernel", pattern)
    assert found.steps == [] and found.gaps
    assert f"no kernel is called {pattern}" in found.result.out
    assert f"no kernel is called {pattern}" in found.metadata["trace_attribute.decode_steps"]


def test_the_automatic_marker_gives_way(command):
    found = command(sample("decode_eager"), "--step-kernel", "embedding*")
    assert [s["end"] for s in found.steps] == ends(found, "embedding_kernel")
    check_consistent(found)


# --step-nvtx


@pytest.fixture(scope="module")
def ranges(tmp_path_factory):
    """Steps under ranges `forward 0`, ..., and a range `other` around each two of them."""
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    at = begin = 1_000_000
    spans = []
    for n in range(8):
        before, begin = begin, at
        at = loop(capture, thread, at, 1, marker=Kernel("last"))
        capture.nvtx_push_pop(thread, f"forward {n}", begin - 500, at - 8_000)
        spans.append((begin + 4_000, at - 9_500))
        at += 20_000
        if n % 2:
            capture.nvtx_push_pop(thread, "other", before - 800, at - 10_000)
    return capture.save(tmp_path_factory.mktemp("ranges"), "ranges"), spans


@pytest.mark.parametrize("pattern", ["forward *", "FORWARD ?", r"/forward \d/", r"re:^for.*\d$"])
def test_ranges_by_name(pattern, ranges, command):
    path, spans = ranges
    found = command(path, "--step-nvtx", pattern, "--min-gap", 0)
    check_consistent(found)
    assert [(s["start"], s["end"]) for s in found.steps] == spans
    check_contents(found, found.steps, the_only_process(found), 0)
    between = [g for g in found.gaps if "step" not in g]
    assert [(g["start"], g["end"]) for g in between] == [
        (a[1], b[0]) for a, b in pairwise(spans)
    ], "what lies between the ranges is in no step"
    check_rate(found)
    assert "8 decode steps, from 8 NVTX ranges" in found.result.out


def test_several_range_patterns(ranges, command):
    path, spans = ranges
    found = command(path, "--step-nvtx", "forward 1", "--step-nvtx", "forward 6")
    assert [(s["start"], s["end"]) for s in found.steps] == [spans[1], spans[6]]
    found = command(path, "--step-nvtx", "other")
    assert [(s["start"], s["end"]) for s in found.steps] == [
        (a[0], b[1]) for a, b in zip(spans[::2], spans[1::2], strict=True)
    ]


def test_no_such_range(ranges, command):
    for path in (ranges[0], sample("decode_eager")):
        found = command(path, "--step-nvtx", "nothing*")
        assert found.steps == []
        assert "no NVTX range nothing*" in found.result.out


# --step-graph


def test_replays_instead_of_the_marker(command):
    found = command(sample("decode_graph"), "--step-graph")
    check_consistent(found)
    check_contents(found, found.steps, the_only_process(found), 0)
    replays = {}
    for r in found.work[0]:
        if r["graphNodeId"]:
            replays.setdefault(r["correlationId"], []).append(r)
    # A prefill before a replay ends where the replay begins; a graph does not end a prefill.
    last = [max(r["end"] for r in nodes) for nodes in replays.values()]
    steps = [s for s in found.steps if s["phase"] != "PREFILL"]
    assert [s["end"] for s in steps] == last
    assert len(last) == 28
    starts = {min(r["start"] for r in nodes) for nodes in replays.values()}
    prefills = [s for s in found.steps if s["phase"] == "PREFILL"]
    assert len(prefills) == 2 and all(s["end"] in starts for s in prefills)
    assert "from 28 replays of CUDA graph" in found.result.out


def test_no_graph_to_replay(command):
    found = command(sample("decode_eager"), "--step-graph")
    assert found.steps == []
    assert "no CUDA graph was launched" in found.result.out


# --no-steps, --warmup


def test_no_steps(command):
    found = command(sample("decode_eager"), "--no-steps", "--min-gap", 0)
    assert found.steps == [] and found.families == []
    assert len(found.gaps) > 1_000
    assert all("step" not in g and "run" not in g for g in found.gaps)
    assert not [c for c in found.counters if c.name == "Steps per second"]
    assert "trace_attribute.decode_steps" not in found.metadata
    assert "decode step" not in found.result.out
    assert found.counter("Utilization").rows


@pytest.mark.parametrize("warmup", [0, 1, 3, 25, 100])
def test_warm_up_steps_are_counted_in_each_run(warmup, command):
    found = command(sample("decode_eager"), "--warmup", warmup)
    for s in found.steps:
        if s["index"] == 1:
            assert s["phase"] == "PREFILL"
        else:
            assert (s["phase"] == "WARMUP") == (s["index"] <= warmup + 1), s
    starts = {s["start"]: s for s in found.steps}
    steady = {s for s, row in starts.items() if row["phase"] == "STEADY" and row["kernel_ns"]}
    assert {f["start"] for f in found.families if f["start"] in starts} == steady


# --min-gap, --no-gaps, --util-window, --no-counters


def test_gaps_from_a_length_on(command):
    every = command(sample("decode_eager"), "--min-gap", "0")
    lengths = sorted(g["dur"] for g in every.gaps)
    default = command(sample("decode_eager"))
    assert sorted(g["dur"] for g in default.gaps) == [n for n in lengths if n >= 1_000]
    found = command(sample("decode_eager"), "--min-gap", "20.5us")
    assert sorted(g["dur"] for g in found.gaps) == [n for n in lengths if n >= 20_500]
    exactly = lengths[len(lengths) // 2]
    found = command(sample("decode_eager"), "--min-gap", f"{exactly}")
    assert sorted(g["dur"] for g in found.gaps) == [n for n in lengths if n >= exactly]


def test_no_gaps(command):
    found = command(sample("decode_eager"), "--no-gaps")
    assert found.gaps == [] and len(found.steps) == 32
    assert "idle_gap" not in found.result.out


def test_windows_of_a_width(command):
    found = command(sample("decode_eager"), "--util-window", "2ms")
    times = [t for t, _ in found.counter("Utilization").rows]
    assert {b - a for a, b in pairwise(times[:-1])} == {2_000_000}
    assert 0 < times[-1] - times[-2] <= 2_000_000
    one = command(sample("decode_eager"), "--util-window", "10s")
    (start, value), (end, _) = one.counter("Utilization").rows
    busy = sum(g["dur"] for g in command(sample("decode_eager"), "--min-gap", 0).gaps)
    assert math.isclose(value, 100 - 100 * busy / (end - start))


def test_no_counters(command):
    """Neither those of the GPU nor the steps per second; what nsys recorded itself stays."""
    found = command(sample("decode_eager"), "--no-counters")
    names = {c.name for c in found.counters}
    assert not {n for n in names if re.match("Util|Kernels in|Launch queue|Copy through", n)}
    assert len(found.steps) == 32 and found.gaps
    assert "Steps per second" not in names


def test_nothing_but_what_nsys_recorded(command):
    found = command(sample("decode_graph"), "--no-steps", "--no-gaps", "--no-counters")
    assert found.slices == []
    assert not [c for c in found.counters if c.type == "gpu_counter"]


# Refusals


@pytest.mark.parametrize(
    "first, second",
    [
        *combinations(
            (["--step-kernel", "x"], ["--step-nvtx", "y"], ["--step-graph"], ["--no-steps"]), 2
        )
    ],
    ids=lambda a: a[0],
)
def test_rules_contradict_each_other(first, second, refused):
    for arguments in ([*first, *second], [*second, *first]):
        line = refused(*arguments)
        assert first[0] in line and second[0] in line


@pytest.mark.parametrize("option", ["--step-kernel", "--step-nvtx"])
@pytest.mark.parametrize("pattern", ["/(/", "re:*", "/[a/", "re:(?P<a"])
def test_what_is_no_regular_expression(option, pattern, refused):
    line = refused(option, "fine*", option, pattern)
    assert "not a regular expression" in line
    assert pattern.strip("/").removeprefix("re:") in line


@pytest.mark.parametrize("option", ["--step-kernel", "--step-nvtx"])
def test_what_is_no_regular_expression_is_said_once(option, refused):
    """A mistake in the arguments is one, however many captures there are."""
    refused(option, "/(/", captures=2)


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--warmup", "-1"], "--warmup"),
        (["--warmup", "x"], "--warmup"),
        (["--warmup", "1.5"], "--warmup"),
        (["--min-gap", "-1us"], "--min-gap"),
        (["--min-gap", "abc"], "abc"),
        (["--min-gap", "1.5"], "1.5"),
        (["--util-window", "0"], "--util-window"),
        (["--util-window", "-5ms"], "--util-window"),
        (["--util-window", "0.2ns"], "--util-window"),
        (["--util-window", "5parsec"], "5parsec"),
        (["--step-kernel"], "--step-kernel"),
        (["--step-nvtx"], "--step-nvtx"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else None,
)
def test_values_that_make_no_sense(arguments, word, refused):
    assert word in refused(*arguments)
