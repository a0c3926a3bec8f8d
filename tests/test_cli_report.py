"""`nsys2perfetto report`: how it is asked, what it prints, and how it complains."""

import csv
import gzip
import io
import json
import re
import shutil

import pytest

from nsys2perfetto import convert
from nsys2perfetto.cli import main, text
from nsys2perfetto.report import names
from samples.builder import Capture
from samples.builder.scenarios import SCENARIOS
from tests import manual_sql
from tests.documents import quoted, tables
from tests.engine.locate import REPOSITORY
from tests.sessions import in_process
from tests.step_checks import loop
from tests.test_cli_terminal import on_terminal

EAGER = REPOSITORY / "samples" / "decode_eager.sqlite"


@pytest.fixture
def report(capsys):
    """Runs the command in this process, successfully; returns what it printed."""

    def report(*arguments):
        status = main.run(["report", *map(str, arguments)])
        captured = capsys.readouterr()
        assert (status, captured.err) == (0, "")
        return captured.out

    return report


@pytest.fixture
def complaint(capsys):
    """Runs the command, in vain; returns the status and the line that it says."""

    def complaint(*arguments):
        status = main.run(["report", *map(str, arguments)])
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        return status, captured.err.removeprefix("nsys2perfetto: ").rstrip("\n")

    return complaint


# How it is asked


def test_the_page(report):
    out = report(EAGER)
    said = " ".join(out.split())
    assert "A steady decode step takes 731.2 us (median of 27; p95 737.5 us; 3 outliers" in said
    for title in (
        "Where the time of a step goes", "Step times", "Kernels: 10 of 11 ", "Gaps in all",
        "Kernels by family", "Kernels of the steady step", "Gaps by size", "Idle gaps of 1 us",
        "Gaps between kernels longer than 1 ms", "CUDA calls: 10 of 15 ", "Waiting for the GPU",
        "Copies and memory sets", "GPUs, from",
    ):  # fmt: skip
        assert re.search(f"^{title}", out, re.MULTILINE), title
    assert "steady_step_" not in out and "(no rows)" not in out


def test_every_report_by_name(report):
    for name in names.WORDS:
        step = ["11"] if name == "decode_step" else []
        assert report(name, *step, EAGER).strip()
        assert json.loads(report(name, *step, EAGER, "--format", "json"))
    assert report("GAP-total", EAGER) == report("gap_total", EAGER)


def test_options_stand_anywhere(report):
    first = report("--format", "csv", "gap_total", EAGER)
    assert first == report("gap_total", EAGER, "--format=csv")
    assert first == report("gap_total", "--format", "csv", EAGER)


def test_the_manuals_numbers(report):
    [total, _] = json.loads(report("gap_total", EAGER, "--format", "json"))
    assert [total[k] for k in ("total_gap_ns", "total_kernel_ns", "wall_ns")] == list(
        manual_sql.gap_total(EAGER)
    )
    [step] = json.loads(report("decode_step", 11, EAGER, "--format", "json"))
    keys = ("kernel_count", "kernel_ns", "wall_ns", "kernel_util_pct")
    expected = manual_sql.decode_step(EAGER, 11)
    assert [step[k] for k in keys] == [*expected[:3], round(expected.util_pct, 3)]
    assert step["kernels"] and step["gaps"] and step["calls"]


def test_a_file_that_is_called_like_a_report(tmp_path, monkeypatch, report, complaint):
    monkeypatch.chdir(tmp_path)
    for name in ("gap_total", "11"):
        shutil.copy(EAGER, name)
    assert report("gap_total").startswith("gap_total\n")
    assert report("gap_total", "gap_total") == report("gap_total", "./gap_total")
    assert report("decode_step", "11", "11").startswith("Decode step 11\n")
    status, said = complaint("decode_step", "11")
    assert (status, said) == (2, "not so many words, or too few: report decode_step N CAPTURE")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["gap_totals", EAGER], "no report 'gap_totals'; did you mean gap_total? there are: cuda"),
        (["kernels\x1b", EAGER], "no report 'kernels\\x1b'; did you mean kernel_families? there"),
        (["gap_total"], "gap_total of what? Name a capture or a trace: report gap_total CAPTURE"),
        (
            ["x.sqlite", "gap_total"],
            "the name of the report comes first: report gap_total x.sqlite",
        ),
        (["gap_total", EAGER, EAGER], "not so many words, or too few: report gap_total CAPTURE"),
        (["decode_step", EAGER], "not so many words, or too few: report decode_step N CAPTURE"),
        (["decode_step", "x", EAGER], "x is no number of a step: report decode_step N CAPTURE"),
        (["decode_step", "0", EAGER], "there is no decode step 0: they are numbered 1 to 32"),
        ([EAGER, "--top", "0"], "invalid value for '--top'"),
        ([EAGER, "--longer-than", "1h"], "invalid value for '--longer-than': '1h': no such unit"),
        ([EAGER, "--kernel-families", "none"], "none: cannot read the families of kernels: No su"),
        ([EAGER, "--step-graph", "--no-steps"], "--step-graph and --no-steps contradict each oth"),
        ([EAGER, "--step-kernel", "re:("], "not a regular expression: ("),
        ([EAGER, "-o", EAGER, "-f"], f"{EAGER} is what is reported on: name another output"),
        ([EAGER, "-o", EAGER], f"{EAGER} exists: use --force to overwrite it, or name another"),
    ],
)
def test_wrong_usage(arguments, said, complaint):
    status, found = complaint(*arguments)
    assert status == 2 and found.startswith(said)


def test_what_cannot_be_read(tmp_path, complaint):
    status, said = complaint("gap_total", tmp_path / "missing.sqlite")
    assert status == 1 and said.endswith("missing.sqlite: no such file")
    status, said = complaint("decode_step", "1", SCENARIOS["nvtx_zoo"](tmp_path).path)
    assert status == 1 and said.startswith("there are no decode steps: nothing in the capture")


# Options


def test_options_of_captures(report):
    assert json.loads(report("decode_steps", EAGER, "--no-steps", "--format", "json")) == []
    steps = json.loads(report("decode_steps", EAGER, "--format", "json", "--warmup", "5"))
    assert sum(s["phase"] == "warmup" for s in steps) == 10
    kernels = "--step-kernel", "embedding_*"
    [first, *_] = json.loads(report("decode_steps", EAGER, "--format", "json", *kernels))
    assert first["step"] == 1
    out = report("gap_causes", EAGER, "--min-gap", "20us", "--format", "json")
    assert sum(r["count"] for r in json.loads(out)) == 51
    part = json.loads(report("cuda_gpu_kern_sum", EAGER, "--range", "640ms:", "--format", "json"))
    every = json.loads(report("cuda_gpu_kern_sum", EAGER, "--format", "json"))
    assert 0 < sum(r["instances"] for r in part) < sum(r["instances"] for r in every)
    assert json.loads(report("gpu_balance", EAGER, "--pid", "1", "--format", "json")) == []


def test_options_of_reports(tmp_path, report):
    out = report("big_gaps", EAGER, "--longer-than", "2ms", "--format", "json")
    assert [r["gap_ns"] > 2_000_000 for r in json.loads(out)] == [True, True]
    families = tmp_path / "families"
    families.write_text("mine: ^rms_norm\n")
    out = report("kernel_families", EAGER, "--kernel-families", families, "--format", "json")
    assert "mine" in {r["family"] for r in json.loads(out)}
    assert "mine" in report(EAGER, "--kernel-families", families)
    assert len(report("cuda_api_sum", EAGER, "--top", "4").splitlines()) == 5
    assert "<" in report("steady_step", EAGER, "--full-names")


def test_all_gpus_as_one(tmp_path, report):
    path = SCENARIOS["two_processes_two_gpus"](tmp_path).path
    assert len(json.loads(report("gap_total", path, "--format", "json"))) == 4
    both = json.loads(report("gap_total", path, "--all-gpus", "--format", "json"))
    assert [r["gpu"] for r in both] == [None, None]
    expected = manual_sql.gap_total(path)
    assert (both[0]["total_gap_ns"], both[0]["wall_ns"]) == (expected.gap_ns, expected.wall_ns)


def test_why_there_are_no_steps(tmp_path, report):
    path = SCENARIOS["nvtx_zoo"](tmp_path).path
    said = " ".join(report(path).split())
    assert "No decode steps: nothing in the capture tells decode steps" in said
    for name in ("decode_steps", "steady_step", "step_parts", "step_times"):
        out = " ".join(report(name, path).split())
        assert (
            out.startswith("nothing in the capture tells decode steps")
            and "_" not in out.split("token_12")[1]
        )
        assert json.loads(report(name, path, "--format", "json")) == []


# Output


def test_formats_by_name_and_by_option(tmp_path, report):
    for suffix, start in ((".csv", "definition,"), (".json", "[\n"), (".md", "## "), ("", "  def")):
        target = tmp_path / f"out{suffix}"
        assert report("gap_total", EAGER, "-o", target) == ""
        assert target.read_text().startswith(start) and target.read_text().endswith("\n")
    packed = tmp_path / "out.json.gz"
    report(EAGER, "-o", packed)
    assert "verdict" in json.loads(gzip.decompress(packed.read_bytes()))
    report("gap_total", EAGER, "-o", tmp_path / "out.csv", "--force", "--format", "json")
    assert (tmp_path / "out.csv").read_text().startswith("[")
    rows = list(csv.DictReader(io.StringIO(report("gap_total", EAGER, "--format", "csv"))))
    assert [r["definition"] for r in rows] == ["consecutive", "idle"]


def test_an_output_is_whole_or_not_there(tmp_path, complaint):
    target = tmp_path / "nowhere" / "out.json"
    status, said = complaint(EAGER, "-o", target)
    assert (status, said) == (1, f"{target}: its folder does not exist")
    assert list(tmp_path.iterdir()) == []
    status, said = complaint(EAGER, "-o", tmp_path)
    assert status == 2 and "is a directory" in said


@pytest.fixture(scope="module")
def long_names(tmp_path_factory):
    """Kernels with long and with hostile names, in a process with a hostile name."""
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(4242, "app\x1b[2J"), 4243, "worker")
    for n, name in enumerate(["void " + "very_" * 40 + "long<int>", "\x1b[31mred\x07", "a\nb\r|c"]):
        capture.launch(
            thread, name, at=10_000 * n, call=1_000, start=10_000 * n + 5_000, duration=2_000
        )
    return capture.save(tmp_path_factory.mktemp("long"), "long\x1bname")


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_the_terminal(long_names, columns):
    for name in ("cuda_gpu_kern_sum", "kernel_families", "big_gaps"):
        options = ["--longer-than", "1us", "--top", "3"]
        status, shown = on_terminal(
            "report", name, long_names, *options, COLUMNS=str(columns), NO_COLOR="1"
        )
        assert status == 0
        # Numbers are never cut, so that only what has few of them fits 80 columns.
        if columns == 120 or name == "kernel_families":
            assert max(map(len, shown.splitlines())) <= columns
            assert "..." in shown or name == "kernel_families"


def test_names_are_whole_where_no_terminal_is(long_names, report):
    for form in ("table", "json", "csv", "markdown"):
        assert "very_" * 40 in report("cuda_gpu_kern_sum", long_names, "--format", form)


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_names_cannot_do_anything_to_a_terminal(long_names, form):
    for name in ([], ["cuda_gpu_kern_sum"]):
        status, shown = on_terminal(
            "report", *name, long_names, "--format", form, COLUMNS="120", NO_COLOR="1"
        )
        assert status == 0
        assert all(line.isprintable() for line in shown.replace("\r\n", "\n").split("\n"))


def test_colour_on_a_terminal():
    _, shown = on_terminal("report", EAGER, COLUMNS="120")
    assert "\x1b[1mStep times\x1b[0m" in shown
    _, shown = on_terminal("report", EAGER, NO_COLOR="1")
    assert "\x1b" not in shown


def test_sentences_fit_80_columns(report):
    lines = report(EAGER).splitlines()
    prose = lines[: lines.index(next(x for x in lines if x.startswith("Where the time")))]
    assert max(map(len, prose[1:])) <= text.WIDTH


# Traces


def test_a_trace_gives_the_same(tmp_path, report):
    trace = convert(EAGER, tmp_path / "trace.pftrace").output
    with in_process():
        for arguments in (["--format", "json"], ["decode_step", "11"], ["big_gaps"]):
            options = [a for a in arguments if a.startswith("-") or a == "json"]
            name = [a for a in arguments if a not in options]
            assert report(*name, trace, *options) == report(*name, EAGER, *options)
        assert report(trace).split("\n")[1:] == report(EAGER).split("\n")[1:]


@pytest.mark.parametrize(
    "option", [["--no-steps"], ["--warmup", "2"], ["--range", "1s:"], ["--pid", "5"]]
)
def test_options_of_captures_are_refused_for_traces(tmp_path, option, complaint):
    trace = convert(EAGER, tmp_path / "trace.pftrace").output
    with in_process():
        status, said = complaint(trace, *option)
    assert status == 2 and "is a trace already" in said


def test_several_units_have_a_line_each(tmp_path, report):
    capture = Capture("3.16.1")
    capture.gpu()
    for n in range(2):
        thread = capture.thread(capture.process(50 + n, f"rank{n}"), 50 + n, f"rank{n}")
        loop(capture, thread, 1_000_000 + 2_345 * n, 12, late=3_000 * n)
    out = report(capture.save(tmp_path, "shared"))
    assert re.search(r"^ +50 +0 +steady +11 ", out, re.MULTILINE)
    assert re.search(r"^ +51 +0 +steady +11 ", out, re.MULTILINE)
    assert "(mean of 11 steady steps of process 51 on GPU 0)" in out


def test_every_report_is_documented():
    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    documented_reports = [quoted(cells[0])[0] for cells in tables(page, "report")]
    assert documented_reports == list(names.WORDS)


def test_help_lists_every_report(report):
    out = report("--help")
    for name, words in names.NAMES.items():
        assert re.search(rf"^  {name} +{re.escape(words)}$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= text.WIDTH
