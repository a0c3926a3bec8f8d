"""The command: what it accepts, what it prints, and how it behaves in every kind of terminal."""

import importlib
import json
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import pytest

import nsys2perfetto
from nsys2perfetto.cli import main, options, outputs, summary, text
from nsys2perfetto.cli.progress import Progress
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.result import CaptureInfo, Conversion, FamilyCount, GpuInfo
from samples.builder.scenarios import SCENARIOS
from tests.command import KERNELS, environment, listing, run, start, write_capture
from tests.conftest import CAPTURES
from tests.engine.locate import REPOSITORY

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
    for name in ("trace", "run1", "run2"):
        write_capture(tmp_path / f"{name}.sqlite")
    (tmp_path / "traces").mkdir()
    for line in main.EXAMPLES.splitlines():
        program, *arguments = line.split("   ")[0].split()
        assert program == "nsys2perfetto"
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
        assert capsys.readouterr().err == (
            f"nsys2perfetto: missing argument 'CAPTURE...' (see nsys2perfetto {name} --help)\n"
        )


def test_version(command):
    assert command("--version") == f"nsys2perfetto {nsys2perfetto.__version__}\n"


def test_help_is_fast():
    """Under 0.2 s: the best of a few, since the machine may be busy."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        assert run("--help")[0] == 0
        times.append(time.perf_counter() - began)
    assert min(times) < 0.2


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["convert", "--help"], ["info", "--help"], ["x", "--bad"],
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


def test_filters_reach_convert(capture, monkeypatch, capsys):
    calls = []

    def convert(*arguments, progress, **named):
        calls.append((arguments, named))
        return conversion()

    monkeypatch.setattr(nsys2perfetto, "convert", convert, raising=False)
    arguments = "--start 1s --end 2s --pid 1,2 --pid 3 --pid 2 --only kernel,CUDA-API --only nvtx"
    assert main.run([str(capture), *arguments.split(), "--skip", "osrt", "-q"]) == 0
    [((source, target), named)] = calls
    assert (source, target) == (capture, capture.with_name("trace.pftrace"))
    assert named == {
        "force": False,
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


# The summary


def conversion(**changes):
    """A result with something in every field."""
    info = CaptureInfo(
        path=Path("folder/my.sqlite"),
        size=123_456_789,
        nsys_version="2024.6.2.225",
        schema_version="3.16.1",
        session_start_utc_ns=1_740_043_800_123_456_789,
        gpus=[GpuInfo(0, "NVIDIA H100 80GB HBM3", 1_000_000), GpuInfo(1, "NVIDIA H100", 1)],
        processes=[(4242, "app")],
        duration_ns=12_345_678_901,
        notes=["3 CUDA graphs are shown as one slice each, " + "with a long explanation " * 9],
    )
    families = [
        FamilyCount("kernel", "CUPTI_ACTIVITY_KIND_KERNEL", 1_000_001, 1_000_001, 5, 0, {}, 10**9),
        FamilyCount("cuda_wait", "WAITS", 10, 0, 0, 7, {"ends before it starts": 3}, 2500),
        FamilyCount("osrt", "OSRT_API", 0, 0, 77),
    ]
    result = Conversion(
        capture=info,
        output=Path("folder/my.pftrace"),
        output_size=15_800_000,
        families=families,
        derived={"wake_up": 7, "nvtx_projection": 0},
        time_shift_ns=190_000_000,
        arrows=999,
    )
    return replace(result, **changes)


def test_summary_says_it_all():
    out = "\n".join(summary.lines(conversion(), summary.Request()))
    for words in [
        "2024.6.2.225 (schema 3.16.1), file of 123 MB",
        "GPU 0     NVIDIA H100 80GB HBM3, 1,000,000 kernels",
        "GPU 1     NVIDIA H100, 1 kernel\n",
        "session   began 2025-02-20 09:30:00 UTC",
        "duration  12.35 s from first to last event",
        "kernel     1,000,001  1,000,001         5         0",
        "cuda_wait         10          7         0         3",
        "total      1,000,011  1,000,008        82         3",
        "999 arrows from CUDA calls to the GPU work they submitted",
        "left out: 3 cuda_wait: ends before it starts",
        "every time was shifted by 190.0 ms (190,000,000 ns)",
        "  ! 3 CUDA graphs are shown as one slice each",
        "Wrote folder/my.pftrace (15.8 MB)",
        "Open it: drag folder/my.pftrace into https://ui.perfetto.dev",
    ]:
        assert words in out, words
    assert "7 wake_up slices" in " ".join(out.split())
    assert "nvtx_projection" not in out and "KERNEL" not in out


def test_verbose_summary_adds_tables_and_times():
    out = "\n".join(summary.lines(conversion(), summary.Request(), {"reading": 1.5, "in all": 2}))
    assert re.search(r"^  kernel .* 1\.000 s$", out, re.M)
    assert re.search(r"^  kernel +CUPTI_ACTIVITY_KIND_KERNEL$", out, re.M)
    assert re.search(r"^  in all +2\.00 s$", out, re.M)
    assert "written as part of other events: 7 cuda_wait" in out


@pytest.mark.parametrize("timings", [None, {"reading other events": 123.456}])
def test_summary_fits_eighty_columns_of_ascii(timings):
    lines = summary.lines(conversion(), summary.Request(1, 2, (1,)), timings)
    assert max(map(len, lines)) <= text.WIDTH
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_summary_of_an_old_and_empty_capture():
    info = replace(
        conversion().capture,
        nsys_version=None,
        schema_version=None,
        session_start_utc_ns=None,
        gpus=[],
        notes=[],
    )
    out = "\n".join(summary.lines(conversion(capture=info, families=[]), summary.Request()))
    assert "nsys      older than 2022" in out
    assert "GPU       none listed in the capture" in out
    assert "start time not in the capture" in out
    assert "no events in this capture" in out


def test_control_characters_of_a_capture_stay_out_of_the_terminal():
    evil = "\x1b[2Jevil\x07\n\u202e"
    info = replace(
        conversion().capture,
        path=Path(evil),
        nsys_version=evil,
        schema_version=evil,
        gpus=[GpuInfo(0, evil, 1)],
        notes=[evil],
    )
    count = FamilyCount("kernel", evil, 1, 0, 0, 0, {evil: 1})
    result = conversion(capture=info, output=Path(evil), families=[count], derived={evil: 1})
    lines = summary.lines(result, summary.Request(), {evil: 1.0})
    assert all(line.isprintable() for line in lines)


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


@pytest.mark.parametrize(
    "number, shown",
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (9_996, "10.0 kB"),
     (123_456, "123 kB"), (999_600, "1.00 MB"), (15_800_000, "15.8 MB"), (2**40, "1.10 TB")],
)  # fmt: skip
def test_size(number, shown):
    assert text.size(number) == shown


@pytest.mark.parametrize(
    "ns, shown",
    [(0, "0 ns"), (999, "999 ns"), (1500, "1.500 us"), (-2_000_000, "-2.000 ms"),
     (84_312_345, "84.31 ms"), (1_234_567_890, "1.235 s"), (3_600 * 10**9, "3,600.0 s")],
)  # fmt: skip
def test_duration(ns, shown):
    assert text.duration(ns) == shown


def test_dates_beyond_all_calendars_are_left_out():
    assert text.utc(1_740_043_800_123_456_789) == "2025-02-20 09:30:00 UTC"
    assert text.utc(2**70) is None
    assert text.utc(-(2**70)) is None


def test_long_names_are_shortened_in_the_middle():
    assert text.fit("short", 10) == "short"
    assert text.fit("abcdefghijkl", 9) == "abc...jkl"


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


# Terminals and surroundings


def on_terminal(capture, *arguments, before="", **changes):
    """Runs the command on a pseudo terminal; returns the exit status and all that it showed."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    env = environment(**{"TERM": "xterm-256color", **changes})
    with start(
        capture, *arguments, before=before, env=env, stdout=theirs, stderr=theirs, text=False
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:
                break
            if not more:
                break
            shown += more
        process.wait(60)
    os.close(ours)
    return process.returncode, shown.decode()


EAGER = "import nsys2perfetto.cli.progress as p; p.PATIENCE = 0\n"


def test_progress_and_colour_on_a_terminal(capture):
    status, shown = on_terminal(capture, before=EAGER)
    assert status == 0
    assert "trace.sqlite" in shown and "writing" in shown and "%" in shown
    assert "\x1b[32mWrote" in shown
    assert shown.rstrip().endswith("ui.perfetto.dev")


def test_terminal_without_colour(capture):
    status, shown = on_terminal(capture, NO_COLOR="1")
    assert status == 0
    assert "\x1b" not in shown
    assert "Wrote" in shown


def test_dumb_terminal(capture):
    status, shown = on_terminal(capture, before=EAGER, TERM="dumb")
    assert (status, "\x1b" in shown) == (0, False)


def test_quiet_terminal(capture):
    assert on_terminal(capture, "-q", before=EAGER) == (0, "")


def test_short_conversions_show_no_bar(capture):
    _, shown = on_terminal(capture, before=EAGER.replace("= 0", "= 60"))
    assert "%" not in shown


def test_no_progress_and_no_colour_in_a_pipe(capture):
    status, out, err = run(capture, before=EAGER)
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    assert out.isascii()


def test_progress_takes_the_time_of_stages():
    with Progress("x", visible=False) as progress:
        progress("reading", 0, 2)
        progress("writing", 1, 2)
        progress("writing", 2, 2)
    assert list(progress.seconds) == ["starting", "reading", "writing", "in all"]
    parts = [progress.seconds[s] for s in ("starting", "reading", "writing")]
    assert sum(parts) == pytest.approx(progress.seconds["in all"])


ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.skipif(sys.platform != "linux", reason="locales of Linux")
@pytest.mark.parametrize("extra", [ASCII, {"PYTHONIOENCODING": "ascii"}, {"LANG": None}])
def test_any_locale(tmp_path, extra):
    capture = write_capture(tmp_path / "日本 ü.sqlite")
    for arguments in (["info", capture], [capture], [capture]):
        status, _, err = run(*arguments, env=environment(**extra))
        assert status == (2 if err else 0)
        assert "Traceback" not in err
    assert "exists: use --force" in err


def test_surroundings_do_not_matter(tmp_path, capture):
    """No home, no terminal size, another working directory, a stray configuration."""
    env = environment(HOME=None, COLUMNS="7", TERM=None, LANG=None)
    status, out, err = run("trace.sqlite", env=env, cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "Wrote trace.pftrace" in out


def test_console_script_is_the_same_command():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert 'nsys2perfetto = "nsys2perfetto.cli.main:main"' in text
