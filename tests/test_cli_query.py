"""`nsys2perfetto query`: where SQL comes from, how rows are written, and how it ends."""

import gzip
import io
import json
import os
import signal
import sys
from pathlib import Path

import click
import polars as pl
import pytest

from nsys2perfetto.cli import main
from nsys2perfetto.query import package
from tests.command import environment, listing, run, start, write_capture
from tests.engine.locate import REPOSITORY
from tests.sessions import in_process
from tests.test_cli import too_wide

FAKE = REPOSITORY / "tests" / "fake_engine.py"
SQL = "SELECT name, instances AS n, med_ns FROM nsys_kernel_summary"
ROW = {"name": "gemm_kernel", "n": 300, "med_ns": 9000.0}


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "trace.sqlite")


@pytest.fixture(autouse=True)
def engine():
    with in_process():
        yield


@pytest.fixture
def command(capsys):
    """Runs the command in this process, successfully; returns what it printed."""

    def command(*arguments):
        status = main.run(["query", *(str(a) for a in arguments)])
        captured = capsys.readouterr()
        assert (status, captured.err) == (0, "")
        return captured.out

    return command


@pytest.fixture
def failure(capsys):
    """Runs it without success; returns status and lines of standard error."""

    def failure(*arguments):
        status = main.run(["query", *(str(a) for a in arguments)])
        captured = capsys.readouterr()
        assert captured.out == ""
        return status, captured.err.splitlines()

    return failure


def stdin(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# Where it all comes from


def test_a_capture_and_its_trace_give_the_same(capture, command, tmp_path):
    before = listing(tmp_path)
    out = command(capture, SQL)
    assert out == "name           n  med_ns\ngemm_kernel  300    9000\n"
    assert listing(tmp_path) == before
    assert main.run([str(capture), "-q"]) == 0
    assert command(tmp_path / "trace.pftrace", SQL) == out


def test_sql_from_everywhere(capture, command, tmp_path, monkeypatch):
    file = tmp_path / "query.sql"
    file.write_bytes(
        b"\xef\xbb\xbf-- of my own\nCREATE VIEW mine AS SELECT 7 AS x;\nSELECT * FROM mine;\n"
    )
    expected = "x\n7\n"
    assert command(capture, "--file", file) == expected
    stdin(monkeypatch, file.read_bytes())
    assert command(capture, "--file", "-") == expected
    stdin(monkeypatch, file.read_bytes())
    assert command(capture, "-") == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a trace or a capture, and SQL (see nsys2perfetto query --help)"),
        (["C"], "no SQL: give it as an argument, in a file with --file, or - for stdin"),
        (["C", "SELECT 1", "--file", "x"], "SQL and --file contradict each other: give one"),
        (["C", "--file", "no.sql"], "no.sql: cannot read the SQL: No such file or directory"),
        (["C", "--file", "."], ".: cannot read the SQL: Is a directory"),
        (["C", "--file", "latin.sql"], "latin.sql: the SQL is not UTF-8"),
        (["C", "SELECT 1", "--format", "parquet"], "parquet is not for reading: name a file with "
         "-o"),
        (["C", "SELECT 1", "-o", "out.csv"], "out.csv exists: use --force to overwrite it, or name "
         "another with -o"),
        (["C", "SELECT 1", "-o", "C", "-f"], "trace.sqlite is what is asked: name another output "
         "with -o"),
        (["C", "SELECT 1", "-o", "."], ". is a directory: name a file with -o"),
    ],
)  # fmt: skip
def test_wrong_usage(capture, failure, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.sql").write_bytes(b"SELECT '\xe4'")
    (tmp_path / "out.csv").touch()
    status, err = failure(*("trace.sqlite" if a == "C" else a for a in arguments))
    assert (status, err) == (2, [f"nsys2perfetto: {message}"])


def test_closed_standard_input(capture, failure, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    message = "nsys2perfetto: standard input is closed: give the SQL as an argument"
    assert failure(capture, "-") == (2, [message])


# How rows are written


def test_formats(capture, command):
    assert command(capture, SQL, "--format", "csv") == "name,n,med_ns\ngemm_kernel,300,9000.0\n"
    assert json.loads(command(capture, SQL, "--format", "json")) == [ROW]
    lines = command(capture, SQL, "--format", "markdown").splitlines()
    assert len(lines) == 3 and lines[2].startswith("| gemm_kernel |")
    big = "SELECT 9223372036854775807 AS a, NULL AS b, 'x' || char(10) || 'y' AS c"
    assert command(capture, big, "--format", "csv") == 'a,b,c\n9223372036854775807,,"x\ny"\n'
    assert json.loads(command(capture, big, "--format", "json")) == [
        {"a": 2**63 - 1, "b": None, "c": "x\ny"}
    ]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("out.csv", lambda path: pl.read_csv(path).to_dicts()),
        ("out.json", lambda path: json.loads(path.read_text())),
        ("out.parquet", lambda path: pl.read_parquet(path).to_dicts()),
        ("out.json.gz", lambda path: json.loads(gzip.decompress(path.read_bytes()))),
    ],
)
def test_files(capture, command, tmp_path, name, read):
    target = tmp_path / name
    for force in ((), ("--force",)):
        assert command(capture, SQL, "-o", target, *force) == ""
        assert read(target) == [ROW]
    assert {path.name for path in tmp_path.iterdir()} == {"trace.sqlite", name}


def test_a_format_that_is_named_comes_before_the_name(capture, command, tmp_path):
    command(capture, SQL, "-o", tmp_path / "out.csv", "--format", "json")
    assert json.loads((tmp_path / "out.csv").read_text()) == [ROW]
    command(capture, SQL, "-o", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text().startswith("name")


def test_a_failure_leaves_the_file_that_was_there(capture, failure, tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("old")
    status, _ = failure(capture, "SELECT nope", "-o", target, "--force")
    assert (status, target.read_text()) == (1, "old")
    status, [line] = failure(capture, "SELECT 1", "-o", tmp_path / "no" / "out.csv")
    assert status == 1 and line.endswith("its folder does not exist")


def test_hostile_names_do_not_reach_the_terminal(capture, command):
    out = command(capture, "SELECT char(27) || '[2J' AS a, char(8238) AS \"b\x1b[1m\"")
    assert out.isprintable() or out.replace("\n", "").isprintable()


# Mistakes


def test_a_mistake_in_sql_is_shown(capture, failure):
    assert failure(capture, "SELECT 1,\n  nope\nFROM slice") == (
        1,
        ["nsys2perfetto: no such column: nope (line 2, column 3)", "    nope", "    ^"],
    )
    long = "SELECT " + "1, " * 200 + "nope FROM slice"
    status, [message, excerpt, caret] = failure(capture, long)
    assert status == 1 and message.endswith("no such column: nope (line 1, column 608)")
    assert len(excerpt) <= 122 and excerpt[caret.index("^") :].startswith("nope")
    assert failure(capture, "") == (1, ["nsys2perfetto: No valid SQL to run"])


def test_what_is_no_trace(failure, tmp_path):
    (tmp_path / "empty.pftrace").touch()
    for name, message in (("absent", "no such file"), ("empty.pftrace", "is empty")):
        status, [line] = failure(tmp_path / name, "SELECT 1")
        assert status == 1 and message in line


# The list of views


def test_the_schema(command, failure, tmp_path):
    out = command("--schema")
    assert command("--list") == out
    for view in package.views().values():
        assert f"\n{view.name} ({view.module})\n" in f"\n{out}"
    assert not too_wide(out)
    rows = json.loads(command("--schema", "--format", "json"))
    assert {row["view"] for row in rows} == set(package.views())
    assert rows[0].keys() == {"view", "module", "column", "type", "description"}
    command("--schema", "-o", tmp_path / "schema.csv")
    assert pl.read_csv(tmp_path / "schema.csv").to_dicts() == rows
    command("--schema", "-o", tmp_path / "schema.txt")
    assert (tmp_path / "schema.txt").read_text() == out


def test_the_schema_needs_nothing_heavy():
    status, out, err = run(
        "query", "--schema",
        before="import sys, atexit\natexit.register(lambda: print("
        "[m for m in ('polars', 'perfetto', 'numpy') if m in sys.modules]))",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert out.endswith("[]\n")


def test_every_option_has_help():
    for parameter in main.commands.get_command(None, "query").params:
        assert isinstance(parameter, click.Argument) or parameter.help


# As a process, on an engine that starts at once


posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "a.pftrace"
    path.write_bytes(b"\x0a\x00")
    return path


@posix
def test_the_engine_of_the_option_and_of_the_variable(trace):
    expected = (0, "one\n  1\n", "")
    assert run("query", trace, "SELECT 1", "--engine", FAKE) == expected
    assert (
        run("query", trace, "SELECT 1", env=environment(NSYS2PERFETTO_ENGINE=str(FAKE))) == expected
    )
    status, out, err = run("query", trace, "SELECT 1", "--engine", trace)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "a.pftrace, is not executable: run `chmod +x` on it" in err


@posix
def test_an_engine_that_dies_is_one_line(trace):
    status, out, err = run("query", trace, "crash", "--engine", FAKE)
    assert (status, out) == (1, "")
    assert err == (
        "nsys2perfetto: the trace processor ended with status 7: CHECK(it works); "
        "open the trace again\n"
    )


@posix
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_it_and_its_engine(trace, number, status):
    """While the engine is busy; standard error stays empty."""
    before = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    with start("query", trace, "slow", "--engine", FAKE, before=before) as process:
        guardian = None
        while guardian is None:
            assert process.poll() is None
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            if not children.exists():
                process.kill()
                pytest.skip("looks into /proc")
            found = [Path(f"/proc/{child}") for child in children.read_text().split()]
            guardian = next((p for p in found if b"--http-port" in cmdline(p)), None)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (status, "", "")
        assert not cmdline(guardian)


def cmdline(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@posix
def test_a_reader_that_leaves_and_a_full_disk(trace):
    reading, writing = os.pipe()
    os.close(reading)
    with start("query", trace, "SELECT 1", "--engine", FAKE, stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as stdout:
            process = start("query", trace, "SELECT 1", "--engine", FAKE, stdout=stdout)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert err == "nsys2perfetto: cannot write to standard output: No space left on device\n"
