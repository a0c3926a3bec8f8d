"""The command: what it accepts, what it prints, and how it behaves in every kind of terminal."""

import importlib
import json
import re
import shlex
from pathlib import Path

import click
import pytest

import nsys2perfetto
from nsys2perfetto import outputs
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.cli import main, options, text
from nsys2perfetto.families import FAMILIES
from samples.builder.scenarios import SCENARIOS
from tests.command import KERNELS, listing, run, write_capture
from tests.conftest import CAPTURES
from tests.engine.locate import REPOSITORY
from tests.sessions import in_process
from tests.test_cli_summary import conversion

HEAVY = ("numpy", "polars", "perfetto", "google", "adbc_driver_manager", "rich")


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "trace.sqlite")


@pytest.fixture
def command(capsys):
    """Runs the command in this process, successfully; returns what it printed."""

    def command(*arguments):
        status = main.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert (status, captured.err) == (0, "")
        return captured.out

    return command


def too_wide(out):
    """Lines of more than 80 columns, but for those that a long word such as a path stretches."""
    lines = [line for line in out.splitlines() if len(line) > text.WIDTH]
    return [line for line in lines if max(map(len, line.split())) < text.WIDTH // 2]


def commands():
    return {name: main.commands.get_command(None, name) for name in main.COMMANDS}


# Help


def test_help_tells_a_newcomer_everything(command):
    for arguments in (["--help"], ["-h"]):
        out = command(*arguments)
        assert out.startswith("Usage: nsys2perfetto CAPTURE... [OPTIONS]\n")
        assert "https://ui.perfetto.dev" in out
        for name, words in main.COMMANDS.items():
            assert f"  {name} " in out and words.split(".")[0][:40] in out
        for option in commands()["convert"].params:
            assert isinstance(option, click.Argument) or max(option.opts, key=len) in out
        for line in main.EXAMPLES.splitlines():
            assert f"  {line}\n" in out
        assert max(map(len, out.splitlines())) <= 80


def test_examples_work(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for name in ("trace", "run1", "run2", "before", "after"):
        write_capture(tmp_path / f"{name}.sqlite")
    (tmp_path / "traces").mkdir()
    for line in main.EXAMPLES.splitlines():
        program, *arguments = shlex.split(line.split("   ")[0])
        assert program == "nsys2perfetto"
        if arguments[0] == "open":
            continue  # it waits for a browser: see test_cli_open
        with in_process():
            command(*arguments, *["--force"] * (arguments[0] != "info"))
    assert {p.name for p in (tmp_path / "traces").iterdir()} == {"run1.pftrace", "run2.pftrace"}


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_and_option_has_help(name, command):
    found = commands()[name]
    assert found.name == name and found.help
    assert importlib.import_module(f"nsys2perfetto.cli.{name}").command is found
    for option in found.params:
        assert isinstance(option, click.Argument) or option.help
    out = command(name, "--help")
    assert out.startswith(f"Usage: nsys2perfetto {name} ")
    assert command(name, "-h") == out


def test_no_arguments_show_the_help(capsys):
    assert main.run([]) == 2
    assert capsys.readouterr().err.startswith("Usage: nsys2perfetto CAPTURE...")
    for name in main.COMMANDS:
        assert main.run([name]) == 2
        err = capsys.readouterr().err
        assert err.startswith("nsys2perfetto: ") and err.count("\n") == 1
        assert err.endswith(f" (see nsys2perfetto {name} --help)\n")


def test_version(command):
    assert command("--version") == f"nsys2perfetto {nsys2perfetto.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([name, "--help"] for name in main.COMMANDS), ["x", "--bad"],
     ["missing.sqlite"], ["x.sqlite", "--only", "nothing"]],
    ids=" ".join,
)  # fmt: skip
def test_nothing_heavy_is_imported_before_it_is_needed(arguments):
    show = "import atexit, sys; atexit.register(lambda: print(*sys.modules))"
    _, out, _ = run(*arguments, before=show)
    loaded = {name.split(".")[0] for name in out.splitlines()[-1].split()}
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)


# Which trace goes where


def test_default_command_converts_beside_the_capture(tmp_path, capture, command):
    command(capture)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trace.pftrace", "trace.sqlite"]
    first = (tmp_path / "trace.pftrace").read_bytes()
    command("convert", capture, "--force")
    assert (tmp_path / "trace.pftrace").read_bytes() == first


@pytest.mark.parametrize(
    "capture, trace",
    [
        ("trace.sqlite", "trace.pftrace"),
        ("TRACE.SQLITE", "TRACE.pftrace"),
        ("a.b.sqlite3", "a.b.pftrace"),
        ("x.db", "x.pftrace"),
        ("run.1", "run.1.pftrace"),
        ("plain", "plain.pftrace"),
        (".sqlite", ".sqlite.pftrace"),
    ],
)
def test_default_name(capture, trace):
    assert outputs.default_name(Path(capture)) == trace
    assert outputs.plan([Path("some") / capture], None) == [
        (Path("some") / capture, Path("some") / trace)
    ]


def test_output_is_a_file_or_a_directory(tmp_path, capture, command):
    (tmp_path / "traces").mkdir()
    command(capture, "-o", tmp_path / "other name.pftrace")
    command(capture, "--output", tmp_path / "traces")
    command("--output", f"{tmp_path}/traces/", "-f", capture)
    command(capture, "-o", tmp_path / "packed.pftrace.gz")
    plain = (tmp_path / "other name.pftrace").read_bytes()
    assert (tmp_path / "traces" / "trace.pftrace").read_bytes() == plain
    assert (tmp_path / "packed.pftrace.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_several_captures(tmp_path, capture, command):
    other = write_capture(tmp_path / "other.sqlite")
    out = command(capture, other)
    assert out.count("Open it:") == 2
    assert out.index("trace.pftrace") < out.index("other.pftrace")
    assert (tmp_path / "trace.pftrace").exists() and (tmp_path / "other.pftrace").exists()


def test_a_file_that_is_called_like_a_command(tmp_path, capture, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    capture.rename("info")
    command("./info")
    assert Path("info.pftrace").exists()
    assert "gemm" not in command("info", "info")


def test_nothing_else_is_written(tmp_path, capture, command):
    before = listing(tmp_path)
    command("info", capture)
    assert listing(tmp_path) == before
    command(capture)
    after = listing(tmp_path)
    assert after.pop("trace.pftrace")
    assert after == before


# Filters


@pytest.mark.parametrize(
    "given, ns",
    [
        ("1.5s", 1_500_000_000),
        ("200ms", 200_000_000),
        ("3us", 3_000),
        ("3µs", 3_000),
        ("3μs", 3_000),
        ("7ns", 7),
        ("1234", 1234),
        ("1_000", 1000),
        ("1e9", 10**9),
        ("1.5e3", 1500),
        ("-2ms", -2_000_000),
        ("+.5s", 500_000_000),
        (" 2 s ", 2_000_000_000),
        ("1min", 60_000_000_000),
        ("0.1234567894s", 123_456_789),
        ("1740043800123456789", 1740043800123456789),
        ("0", 0),
    ],
)
def test_time(given, ns):
    assert options.parse_time(given) == ns


@pytest.mark.parametrize(
    "given", ["", "s", "1.5", "1h", "1s2", "abc", "1e999", "nan", "inf", "0x10", "5e18s", "1,5s"]
)
def test_no_time(given):
    with pytest.raises(ValueError, match=r"\w"):
        options.parse_time(given)


@pytest.mark.parametrize(
    "given, span",
    [
        ("1s:2s", (10**9, 2 * 10**9)),
        ("1s/2s", (10**9, 2 * 10**9)),
        (":2s", (None, 2 * 10**9)),
        ("1s:", (10**9, None)),
        ("-1ms:0", (-(10**6), 0)),
    ],
)
def test_range(given, span):
    assert options.parse_range(given) == span


@pytest.mark.parametrize("given", ["", ":", "1s", "1s:2s:3s", "a:b"])
def test_no_range(given):
    with pytest.raises(ValueError, match=r"\w"):
        options.parse_range(given)


@pytest.mark.parametrize(
    "given, steps",
    [
        ("5..9", (5, 9)), ("5:9", (5, 9)), ("5", (5, 5)), ("5..", (5, None)), ("..9", (None, 9)),
        (" 5 .. 9 ", (5, 9)),
    ],
)  # fmt: skip
def test_steps(given, steps):
    assert options.parse_steps(given) == steps


@pytest.mark.parametrize(
    "given", ["", "..", ":", "a", "1...2", "1..2..3", "2..1", "0", "-1", "1.5"]
)
def test_no_steps(given):
    with pytest.raises(ValueError, match=r"\w"):
        options.parse_steps(given)


def test_filters_reach_convert(capture, monkeypatch, capsys):
    calls = []

    def convert(*arguments, progress, annotate, **named):
        assert annotate == AnnotationOptions()
        calls.append((arguments, named))
        return conversion()

    monkeypatch.setattr(nsys2perfetto, "convert", convert, raising=False)
    arguments = "--start 1s --end 2s --pid 1,2 --pid 3 --pid 2 --only kernel,CUDA-API --only nvtx"
    assert main.run([str(capture), *arguments.split(), "--skip", "osrt", "-q"]) == 0
    [((source, target), named)] = calls
    assert (source, target) == (capture, capture.with_name("trace.pftrace"))
    assert named == {
        "force": False,
        "lean": False,
        "compat": False,
        "steps": None,
        "start": 10**9,
        "end": 2 * 10**9,
        "pids": (1, 2, 3),
        "only": ("kernel", "cuda_api", "nvtx"),
        "skip": ("osrt",),
    }
    assert main.run([str(capture), "--range", "-5:1us", "--force"]) == 0
    assert {k: v for k, v in calls[1][1].items() if v} == {"force": True, "start": -5, "end": 1000}


def test_filters_work(capture, command):
    out = command(capture, "--range", "1s:1.00001s", "--skip", "message,overhead")
    assert "range     only events that overlap 1.000 s to 1.000 s" in out
    assert re.search(rf"^  kernel +1 +1 +{KERNELS - 1}$", out, re.M)
    out = command(capture, "--only", "kernel", "--force")
    assert re.search(rf"^  cuda_api +0 +0 +{KERNELS}$", out, re.M)
    out = command(capture, "--pid", "99", "--force")
    assert "process   only 99" in out
    assert "! nothing is in the trace: --pid left out all 600 events" in " ".join(out.split())


# What is printed


def test_summary_agrees_with_convert(tmp_path, capture, command):
    out = command(capture, "-v")
    result = nsys2perfetto.convert(capture, tmp_path / "again.pftrace")
    assert result.capture.gpus[0].kernels == KERNELS
    for count in result.families:
        written = count.written + count.joined
        assert re.search(rf"^  {count.family} +{count.read:,} +{written:,}\b", out, re.M)
    assert f"{result.arrows:,} arrows" in out
    assert f"({text.size(result.output_size)})" in out
    assert "in all" in out


def test_quiet_prints_nothing(capture, command):
    assert command(capture, "--quiet") == ""


# info


def test_info(capture, command):
    out = command("info", capture)
    assert "process 4242: app (GPU 0)" in out
    assert re.search(rf"thread 4243 +worker +{KERNELS} events", out)
    assert re.search(rf"^  kernel +{KERNELS}  CUPTI_ACTIVITY_KIND_KERNEL$", out, re.M)
    assert re.search(
        rf"^    0  NVIDIA GeForce RTX 5070 Ti +12.0 +70  15.\d GiB +{KERNELS}$", out, re.M
    )
    assert all(line.isprintable() for line in out.splitlines())


def test_info_as_json(tmp_path, capture, command):
    [found] = json.loads(command("info", "--json", capture))
    assert found["capture"] == str(capture)
    assert found["gpus"][0]["multiprocessors"] == 70
    assert found["gpus"][0]["kernels"] == KERNELS
    [process] = [p for p in found["processes"] if p["pid"] == 4242]
    assert process["threads"] == [{"tid": 4243, "name": "worker", "events": KERNELS}]
    rows = {e["family"]: e["rows"] for e in found["events"]}
    assert rows["kernel"] == rows["cuda_api"] == KERNELS
    assert set(rows) <= set(FAMILIES)
    other = write_capture(tmp_path / "other.sqlite")
    assert len(json.loads(command("info", "--json", capture, other))) == 2


def test_info_goes_on_after_a_bad_capture(tmp_path, capture, capsys):
    assert main.run(["info", "--json", str(tmp_path / "no.sqlite"), str(capture)]) == 1
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 1
    assert "no such file" in captured.err


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_kind_of_capture_is_told_about(tmp_path, name, command):
    scenario = SCENARIOS[name](tmp_path)
    for out in (
        command("info", scenario.path),
        command("info", "-v", scenario.path),
        command(scenario.path, "-v"),
    ):
        assert all(line.isprintable() for line in out.splitlines())
        assert too_wide(out) == []
    [found] = json.loads(command("info", "--json", scenario.path))
    assert {e["table"]: e["rows"] for e in found["events"]}.items() <= scenario.rows.items()


@pytest.mark.parametrize("real", sorted(CAPTURES.glob("*.sqlite")), ids=lambda path: path.stem)
def test_real_captures_are_told_about(real, command, tmp_path):
    trace = tmp_path / "trace.pftrace"
    for out in (command("info", real, "-v"), command(real, "-v", "-o", trace)):
        assert too_wide(out) == []


def test_console_script_is_the_same_command():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert 'nsys2perfetto = "nsys2perfetto.cli.main:main"' in text
