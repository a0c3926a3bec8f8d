"""`--steps A..B`: what the trace says of these steps is what a trace of the whole capture says."""

import functools

import pytest

from nsys2perfetto import convert
from nsys2perfetto.analysis.steps import KERNEL, NONE, Request
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.errors import UsageError
from nsys2perfetto.families import FAMILIES
from samples.builder import Capture
from tests.annotated import EVERYTHING
from tests.command import run
from tests.documents import REPOSITORY
from tests.loaded import Loaded, place, without_ids

EAGER = REPOSITORY / "samples" / "decode_eager.sqlite"
ADDED = ("nsys.step", "nsys.step.family", "nsys.gap", "nsys.process_gap", "nvtx_gpu")


def ahead(folder):
    """A host that launches six steps ahead of two GPUs; NVTX ranges around the launches.

    The second GPU is used by another process too, whose steps are longer.
    """
    capture = Capture("3.17.1")
    for gpu in range(2):
        capture.gpu(gpu)
    for number, (period, devices) in enumerate(((100_000, (0, 1)), (150_000, (1,)))):
        process = capture.process(4000 + number, f"engine{number}", gpus=devices)
        thread = capture.thread(process, 4000 + number, "main")
        for step in range(20):
            launched = 1_000_000 + step * 40_000
            begins = 1_300_000 + step * period
            capture.nvtx_push_pop(thread, f"token_{step}", launched - 1_000, launched + 39_000)
            for device in range(len(devices)):
                for i in range(8):
                    name = "argmax_kernel" if i == 7 else f"gemm_{i}"
                    capture.launch(
                        thread, name, at=launched + 2_000 * (2 * i + device), call=1_500,
                        start=begins + 10_000 * i + device * 3_000, duration=8_000, device=device,
                    )  # fmt: skip
    return capture.save(folder, "ahead")


CAPTURES = {
    "decode_eager": (5, 9),
    "decode_graph": (4, 6),
    "ahead": (10, 12),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory, open_trace):
    """`(capture, options)` of `convert` to its result and trace, each once."""
    folder = tmp_path_factory.mktemp("steps")

    @functools.cache
    def path_of(name):
        samples = REPOSITORY / "samples" / f"{name}.sqlite"
        return ahead(folder) if name == "ahead" else samples

    @functools.cache
    def make(name, **options):
        target = folder / f"{abs(hash((name, *sorted(options.items(), key=str))))}.pftrace"
        options = {"annotate": EVERYTHING} | options
        result = convert(path_of(name), target, force=True, **options)
        return result, Loaded(target, open_trace)

    return make


@pytest.mark.parametrize(("name", "steps"), CAPTURES.items())
def test_steps_are_those_of_the_whole_trace_field_by_field(name, steps, converted):
    _, whole = converted(name)
    result, part = converted(name, steps=steps)
    wanted = [
        (s, a) for s, a in whole.of("nsys.step") if steps[0] <= a["decode_step.number"] <= steps[1]
    ]
    assert len(wanted) >= steps[1] - steps[0] + 1
    assert part.of("nsys.step") == wanted
    assert result.decode_steps == converted(name)[0].decode_steps
    shares = {(s["track"], s["ts"]) for s, _ in part.of("nsys.step.family")}
    inside = [s for s, _ in wanted if s["ts"] in {ts for _, ts in shares}]
    assert len(inside) == len([s for s, a in wanted if a["decode_step.phase"] == "STEADY"])


@pytest.mark.parametrize(("name", "steps"), CAPTURES.items())
def test_everything_in_it_is_said_as_in_the_whole_trace(name, steps, converted):
    _, whole = converted(name)
    _, part = converted(name, steps=steps)
    known = {}
    for s, a in whole.slices:
        known.setdefault(place(s), []).append(without_ids(a))
    for s, a in part.slices:
        if s["category"] != "nvtx_gpu":
            assert without_ids(a) in known[place(s)], s


@pytest.mark.parametrize(("name", "steps"), CAPTURES.items())
def test_every_event_that_overlaps_is_in_it(name, steps, converted):
    _, whole = converted(name)
    result, part = converted(name, steps=steps)
    start, end = result.part.start, result.part.end
    assert (start, end) == (
        min(s["ts"] for s, _ in part.of("nsys.step")),
        max(s["ts"] + s["dur"] for s, _ in part.of("nsys.step")),
    )
    there = {place(s) for s, _ in part.slices}
    overlap = [
        s
        for s, _ in whole.slices
        if s["ts"] + s["dur"] >= start and s["ts"] <= end and s["category"] not in ADDED
    ]
    missing = [s for s in overlap if place(s) not in there]
    # The end of a wait is told from work that may lie outside.
    assert {s["category"] for s in missing} <= {"cuda_wake_up"} and len(missing) <= 2
    # What is there beside them launched something of it, or is a range around such a launch.
    besides = there - {place(s) for s in overlap}
    outside = [s for s, _ in part.slices if place(s) in besides and s["category"] not in ADDED]
    launching = {place(call) for call, _ in part.arrows}
    for s in outside:
        if s["category"] == "nvtx":
            inside = [c for c in launching if s["ts"] <= c[0] <= s["ts"] + s["dur"]]
            assert inside, s
        else:
            assert place(s) in launching, s


@pytest.mark.parametrize(("name", "steps"), CAPTURES.items())
def test_arrows_lead_to_all_its_work(name, steps, converted):
    _, whole = converted(name)
    _, part = converted(name, steps=steps)
    arrows = {(place(a), place(b)) for a, b in whole.arrows}
    there = {place(s) for s, _ in part.slices}
    wanted = {(a, b) for a, b in arrows if b in there and (a in there or "cuda_wake_up" not in b)}
    assert {(place(a), place(b)) for a, b in part.arrows} == wanted


@pytest.mark.parametrize(("name", "steps"), CAPTURES.items())
def test_gaps_are_those_that_begin_in_it(name, steps, converted):
    _, whole = converted(name)
    result, part = converted(name, steps=steps)
    start, end = result.part.start, result.part.end
    wanted = [
        (place(s), without_ids(a))
        for s, a in whole.gaps()
        if start <= s["ts"] < end and s["ts"] + s["dur"] <= end
    ]
    found = [(place(s), without_ids(a)) for s, a in part.gaps()]
    assert [g for g in found if g[0][0] + g[0][1] <= end] == wanted and wanted
    for s, a in part.gaps():
        after = part.operation.get(a["gpu_gap.next_event_id"])
        assert after is None or after["ts"] == s["ts"] + s["dur"]
    # Nothing of a step is missing, even where its first gap follows the step before.
    for s, a in whole.gaps():
        if s["category"] == "nsys.gap" and s["ts"] in {x["ts"] for x, _ in part.of("nsys.step")}:
            assert (place(s), without_ids(a)) in found


@pytest.mark.parametrize(("name", "steps"), CAPTURES.items())
def test_counters_are_those_of_the_whole_trace(name, steps, converted):
    _, whole = converted(name)
    result, part = converted(name, steps=steps)
    values = {row for row in whole.counters if row[2] in ("Utilization", "Kernels in flight")}
    rows = [row for row in part.counters if row[2] in ("Utilization", "Kernels in flight")]
    inside = [row for row in rows if result.part.start <= row[0] < result.part.end]
    assert len(inside) > 10 and set(inside[:-4]) <= values


def test_launches_ahead_come_along(converted):
    result, part = converted("ahead", steps=(10, 12))
    calls = [s for s, _ in part.of("cuda_runtime")]
    kernels = [s for s, _ in part.slices if s["category"] is None]
    assert min(s["ts"] for s in calls) < result.part.start - 500_000
    assert len(part.arrows) == len(kernels) > 3 * 8 * 2
    ranges = {s["name"] for s, _ in part.of("nvtx")}
    assert {"token_9", "token_10", "token_11"} <= ranges and "token_3" not in ranges
    assert {s["name"] for s, _ in part.of("nvtx_gpu")} >= {"token_9", "token_10"}
    assert not result.capture.notes


def test_the_numbers_are_those_of_all_processes_and_gpus(converted):
    _, part = converted("ahead", steps=(3, 4))
    numbers = {}
    for _, a in part.of("nsys.step"):
        key = a["decode_step.gpu"], a["decode_step.process_id"]
        numbers.setdefault(key, []).append(a["decode_step.number"])
    assert numbers == {(0, 4000): [3, 4], (1, 4000): [3, 4], (1, 4001): [3, 4]}


def test_what_was_read_adds_up(converted):
    whole, _ = converted("decode_eager")
    result, part = converted("decode_eager", steps=(5, 9))
    rows = {f.family: f.read for f in whole.families}
    assert {f.family: f.read + f.filtered for f in result.families} == rows
    for family in result.families:
        assert family.read == family.written + family.joined
    assert part.metadata["trace_attribute.steps"] == "5..9"
    kernels = next(f for f in result.families if f.family == "kernel")
    assert len([s for s, _ in part.slices if s["track"] and "Stream" in s["track"]]) >= kernels.read


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [((30, None), (30, 32)), ((None, 2), (1, 2)), ((32, 99), (32, 32)), ((None, None), (1, 32))],
)
def test_open_bounds(asked, numbers, converted):
    result, _ = converted("decode_eager", steps=asked)
    assert (result.part.first, result.part.last) == numbers


def test_lean_parts(converted):
    _, full = converted("decode_eager", steps=(5, 9))
    _, lean = converted("decode_eager", steps=(5, 9), lean=True)
    assert [s for s, _ in lean.slices] == [s for s, _ in full.slices]
    assert lean.of("nsys.step") == full.of("nsys.step")
    assert len(lean.arrows) < len(full.arrows)


@pytest.mark.parametrize("skipped", ["memcpy", "cuda_api", "nvtx", "cuda_wait"])
def test_without_some_families(skipped, converted):
    """Steps are those of the whole capture; gaps are computed from what is converted."""
    _, whole = converted("decode_eager", steps=(5, 9))
    result, part = converted("decode_eager", steps=(5, 9), skip=(skipped,))
    assert part.of("nsys.step") == whole.of("nsys.step")
    assert all(f.read == 0 for f in result.families if f.family == skipped)
    counted = {f.family: f.read + f.filtered for f in result.families}
    assert counted == {f.family: f.read + f.filtered for f in converted("decode_eager")[0].families}


def test_only_calls(converted):
    result, part = converted("decode_eager", steps=(5, 9), only=("cuda_api",))
    assert {s["category"] for s, _ in part.slices} <= {"cuda_runtime", "cuda_driver"}
    assert part.slices and result.part.first == 5


def test_of_one_process(converted):
    _, both = converted("ahead", steps=(3, 4))
    result, one = converted("ahead", steps=(3, 4), pids=(4001,))
    mine = [(s, a) for s, a in both.of("nsys.step") if a["decode_step.process_id"] == 4001]
    strip = ["track", "pid"]
    assert [
        ({k: v for k, v in s.items() if k not in strip}, a) for s, a in one.of("nsys.step")
    ] == [({k: v for k, v in s.items() if k not in strip}, a) for s, a in mine]
    assert [pid for pid, _ in result.capture.processes] == [4001]


def test_with_a_marker_of_ones_own(converted):
    options = AnnotationOptions(steps=Request(KERNEL, ("embedding_*",)))
    result, part = converted("decode_eager", steps=(7, 8), annotate=options)
    assert [a["decode_step.number"] for _, a in part.of("nsys.step")] == [7, 8]
    assert "embedding_" in result.decode_steps[0]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_part_is_the_same_whatever_is_left_out(family, converted):
    result, _ = converted("decode_eager", steps=(5, 9), skip=(family,))
    assert (result.part.start, result.part.end) == (
        converted("decode_eager", steps=(5, 9))[0].part.start,
        converted("decode_eager", steps=(5, 9))[0].part.end,
    )


def test_there_are_no_such_steps(tmp_path):
    target = tmp_path / "x.pftrace"
    with pytest.raises(UsageError, match="no decode steps 40 to 50: this capture has 32, numbered"):
        convert(EAGER, target, steps=(40, 50))
    with pytest.raises(UsageError, match="no decode steps 33 on: "):
        convert(EAGER, target, steps=(33, None))
    with pytest.raises(UsageError, match="no decode steps in this capture: no kernel is called x"):
        convert(
            EAGER, target, steps=(1, 2), annotate=AnnotationOptions(steps=Request(KERNEL, ("x",)))
        )
    with pytest.raises(UsageError, match="needs decode steps"):
        convert(EAGER, target, steps=(1, 2), annotate=AnnotationOptions(steps=Request(NONE)))
    with pytest.raises(UsageError, match="steps replace start and end"):
        convert(EAGER, target, steps=(1, 2), start=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["5..9", "5:9", "5 .. 9", " 5:9 "])
def test_ways_to_write_it(text, tmp_path):
    status, out, err = run(EAGER, "-o", tmp_path / "x.pftrace", "--steps", text)
    assert (status, err) == (0, "")
    assert "only events that overlap steps 5 to 9, 632.5 ms to 638.4 ms" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a number of a decode step, or a range such as 100..109"),
        ("..", "'..' is not a number of a decode step, or a range such as 100..109"),
        ("a..b", "'a..b' is not a number of a decode step, or a range such as 100..109"),
        ("9..5", "'9..5' ends before it starts"),
        ("0..5", "'0..5': decode steps are counted from 1"),
    ],
)
def test_what_is_no_range_of_steps(text, message, tmp_path):
    status, _, err = run(EAGER, "-o", tmp_path / "x.pftrace", "--steps", text)
    assert status == 2 and message in err


@pytest.mark.parametrize(
    "other", [["--range", "1s:"], ["--start", "1"], ["--end", "1s"], ["--no-steps"]]
)
def test_what_contradicts_it(other, tmp_path):
    status, _, err = run(EAGER, "-o", tmp_path / "x.pftrace", "--steps", "3", *other)
    assert status == 2
    assert f"--steps and {other[0]} contradict each other: choose one" in err
