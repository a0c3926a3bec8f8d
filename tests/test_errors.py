"""Every failure a user can cause is one line and a status, and leaves the files as they were."""

import errno
import os
import resource
import signal
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest

import nsys2perfetto
from nsys2perfetto import errors
from nsys2perfetto.cli import failures, main
from nsys2perfetto.wire.writer import TraceWriter
from tests.command import (
    another_program,
    capture_bytes,
    listing,
    run,
    start,
    without_rights,
    write_capture,
)


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "trace.sqlite")


@pytest.fixture
def command(capsys):
    """Runs the command in this process: exit status, and what it printed where."""

    def command(*arguments):
        status = main.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


@pytest.fixture
def refused(command, tmp_path):
    """Runs the command and checks that it fails as every failure must; returns what it says."""

    def refused(*arguments, status):
        before = listing(tmp_path)
        code, out, err = command(*arguments)
        assert (code, out) == (status, "")
        assert err.startswith("nsys2perfetto: ") and err.endswith("\n")
        line = err.removesuffix("\n")
        assert line.isprintable(), "one line, without control characters"
        assert listing(tmp_path) == before
        return line.removeprefix("nsys2perfetto: ")

    return refused


def test_exit_statuses():
    assert errors.Nsys2PerfettoError.exit_code == errors.CaptureError.exit_code == 1
    assert errors.OutputError.exit_code == 1
    assert errors.UsageError.exit_code == 2


# The capture


def make_directory(path):
    path.mkdir()


def make_other_database(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE kernels (a)")


def make_truncated(path):
    path.write_bytes(capture_bytes()[:20000])


def make_corrupt(path):
    content = bytearray(write_capture(path).read_bytes())
    content[4096 * 3 :] = os.urandom(len(content) - 4096 * 3)
    path.write_bytes(content)


BAD_CAPTURES = {
    "missing.sqlite": (lambda path: None, "no such file"),
    "folder": (make_directory, "is a directory"),
    "text.txt": (lambda path: path.write_text("hello"), "not an SQLite file"),
    "other.sqlite": (make_other_database, "not an nsys export"),
    "empty.sqlite": (Path.touch, "is empty"),
    "truncated.sqlite": (make_truncated, "is truncated"),
    "corrupt.sqlite": (make_corrupt, "is damaged"),
    "report.nsys-rep": (lambda path: path.write_bytes(bytes(999)), "nsys export --type=sqlite"),
}


@pytest.mark.parametrize("verb", ["convert", "info"])
@pytest.mark.parametrize("name", BAD_CAPTURES)
def test_bad_capture(tmp_path, refused, name, verb):
    make, words = BAD_CAPTURES[name]
    make(tmp_path / name)
    line = refused(verb, tmp_path / name, status=1)
    assert words in line
    assert str(tmp_path / name) in line


@pytest.mark.skipif(sys.platform != "linux", reason="locks are seen on Linux only")
def test_locked_capture(capture, refused):
    with another_program(capture, "BEGIN EXCLUSIVE"):
        assert "is locked" in refused(capture, status=1)


def test_bad_capture_is_told_before_the_output(tmp_path, refused):
    (tmp_path / "gone.pftrace").touch()
    assert "gone.sqlite: no such file" in refused(tmp_path / "gone.sqlite", status=1)


def test_control_characters_in_names_stay_out_of_the_terminal(tmp_path, refused):
    assert r"\x1b[2J\nx: no such file" in refused(tmp_path / "\x1b[2J\nx", status=1)
    assert r"\x1b[2J" in refused("trace.sqlite", "--\x1b[2J", status=2)


# The output


def test_output_exists(tmp_path, capture, refused, command):
    trace = tmp_path / "trace.pftrace"
    trace.write_text("precious")
    assert refused(capture, status=2) == (
        f"{trace} exists: use --force to overwrite it, or name another with -o"
    )
    assert command(capture, "--force")[0] == 0
    assert trace.stat().st_size > 1000


def test_failure_keeps_the_old_trace(tmp_path, refused):
    make_corrupt(tmp_path / "trace.sqlite")
    (tmp_path / "trace.pftrace").write_text("precious")
    refused(tmp_path / "trace.sqlite", "--force", status=1)
    assert (tmp_path / "trace.pftrace").read_text() == "precious"


def test_output_is_the_capture(tmp_path, capture, refused):
    for force in ([], ["--force"]):
        line = refused(capture, "-o", capture, *force, status=2)
        assert "is the capture itself" in line
    (tmp_path / "link").symlink_to(capture)
    os.link(capture, tmp_path / "hard")
    for name in ("link", "hard", "./trace.sqlite"):
        line = refused(capture, "-o", tmp_path / name, "-f", status=2)
        assert "is the capture itself" in line


def test_output_would_replace_another_capture(tmp_path, capture, refused):
    other = write_capture(tmp_path / "trace.pftrace")
    line = refused(capture, other, "--force", status=2)
    assert f"{other} is the capture itself" in line


def test_two_captures_with_one_trace(tmp_path, capture, refused):
    line = refused(capture, write_capture(tmp_path / "trace.db"), status=2)
    assert "would both become" in line
    assert refused(capture, capture, status=2).endswith("trace.sqlite is named twice")


def test_several_captures_and_one_file(tmp_path, capture, refused):
    other = write_capture(tmp_path / "b.sqlite")
    line = refused(capture, other, "-o", tmp_path / "x.pftrace", status=2)
    assert "several captures need a directory" in line


def test_output_that_is_no_file(tmp_path, capture, refused):
    (tmp_path / "trace.pftrace").mkdir()
    assert "is a directory" in refused(capture, "--force", status=2)
    assert "no such directory" in refused(capture, "-o", f"{tmp_path}/x/", status=2)
    assert "standard output" in refused(capture, "-o", "-", status=2)
    assert "needs the name" in refused(capture, "-o", "", status=2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_devices_and_pipes_are_never_replaced(tmp_path, capture, refused):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(capture, "-o", tmp_path / "pipe", "-f", status=2)
    assert "not a regular file" in refused(capture, "-o", "/dev/null", "-f", status=2)
    assert Path("/dev/null").is_char_device()


def test_no_folder_for_the_output(tmp_path, capture, refused):
    line = refused(capture, "-o", tmp_path / "no" / "x.pftrace", status=1)
    assert "its folder does not exist" in line
    refused(capture, "-o", capture / "x.pftrace", status=1)


def test_output_name_too_long(tmp_path, capture, refused):
    refused(capture, "-o", tmp_path / ("x" * 300), status=1)


def test_output_that_links_to_itself(tmp_path, capture, refused):
    (tmp_path / "loop").symlink_to("loop")
    assert "link to itself" in refused(capture, "-o", tmp_path / "loop", status=2)


def test_no_permission_for_the_output(capture, command):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        readable = write_capture(Path(folder) / "trace.sqlite")
        if os.geteuid() != 0:
            Path(folder).chmod(0o555)
        with without_rights():
            status, out, err = command(readable)
        assert (status, out) == (1, "")
        assert "trace.pftrace: no permission to write there" in err
        assert [p.name for p in Path(folder).iterdir()] == ["trace.sqlite"]
        Path(folder).chmod(0o755)


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "no space left on the device; nothing was written"),
        (errno.EDQUOT, "no space left"),
        (errno.EIO, "cannot write it: Input/output error"),
    ],
)
@pytest.mark.parametrize("name", ["x.pftrace", "x.pftrace.gz"])
def test_disk_fails(tmp_path, capture, refused, monkeypatch, number, words, name):
    write, calls = TraceWriter.write, []

    def fail_later(self, data):
        calls.append(data)
        if len(calls) > 3:
            raise OSError(number, os.strerror(number))
        write(self, data)

    monkeypatch.setattr(TraceWriter, "write", fail_later)
    assert words in refused(capture, "-o", tmp_path / name, status=1)


def test_disk_is_full_for_real(tmp_path, capture):
    """Files of this process may not grow beyond 4096 bytes."""
    before = listing(tmp_path)
    limit = (4096, 4096)
    status, out, err = run(
        capture, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    assert (status, out) == (1, "")
    assert "trace.pftrace: cannot write it: File too large" in err
    assert err.count("\n") == 1
    assert listing(tmp_path) == before


# Usage


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["x.sqlite", "--forse"], "no such option '--forse'"),
        (["x.sqlite", "--start"], "'--start' requires an argument"),
        (["x.sqlite", "--start", "1.5"], "'1.5' has no unit; did you mean 1.5s or 1.5ms?"),
        (["x.sqlite", "--end", "5 parsecs"], "no such unit; use s, ms, us or ns"),
        (["x.sqlite", "--range", "7"], "not a range such as 1.5s:2s"),
        (["x.sqlite", "--range", "2s:1s"], "the time range ends before it starts"),
        (["x.sqlite", "--range", "1s:2s", "--start", "1s"], "--range replaces --start and --end"),
        (["x.sqlite", "--pid", "me"], "'me' is not a process id"),
        (["x.sqlite", "--only", "kernels"], "did you mean kernel? there are: kernel, memcpy"),
        (["x.sqlite", "--skip", ","], "name at least one of kernel"),
        (["x.sqlite", "-q", "-v"], "-q and -v contradict each other"),
        (["inof", "x.sqlite"], "no such file or command; did you mean `nsys2perfetto info`?"),
        (["info", "--jsn", "x.sqlite"], "no such option '--jsn'"),
    ],
)
def test_wrong_usage(refused, arguments, words):
    assert words in refused(*arguments, status=2)


def test_python_function_refuses_the_same(tmp_path, capture):
    (tmp_path / "trace.pftrace").touch()
    with pytest.raises(errors.UsageError, match="exists"):
        nsys2perfetto.convert(capture)
    with pytest.raises(errors.UsageError, match="no family 'kernels'"):
        nsys2perfetto.convert(capture, force=True, only=["kernels"])
    with pytest.raises(nsys2perfetto.Nsys2PerfettoError, match="no such file"):
        nsys2perfetto.convert(tmp_path / "no.sqlite")
    with pytest.raises(errors.CaptureError, match="no such file"):
        nsys2perfetto.inspect(tmp_path / "no.sqlite")


# Several captures


def test_one_bad_capture_does_not_stop_the_others(tmp_path, capture, command):
    last = write_capture(tmp_path / "z.sqlite")
    status, out, err = command(capture, tmp_path / "gone.sqlite", last)
    assert status == 1
    assert err == f"nsys2perfetto: {tmp_path}/gone.sqlite: no such file\n"
    assert out.count("Open it:") == 2
    assert {p.name for p in tmp_path.glob("*.pftrace")} == {"trace.pftrace", "z.pftrace"}


def test_one_trace_that_exists_does_not_stop_the_others(tmp_path, capture, command):
    (tmp_path / "trace.pftrace").write_text("precious")
    status, _, err = command(capture, write_capture(tmp_path / "z.sqlite"))
    assert status == 1
    assert "--force" in err
    assert (tmp_path / "trace.pftrace").read_text() == "precious"
    assert (tmp_path / "z.pftrace").exists()


# Stopped, and bugs

SLOW = """
import sys, time
from nsys2perfetto.wire.writer import TraceWriter
write = TraceWriter.write
def slow(self, data):
    write(self, data)
    print("writing", file=sys.stderr, flush=True)
    time.sleep(60)
TraceWriter.write = slow
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_stopped_while_writing(tmp_path, capture, number, status):
    before = listing(tmp_path)
    with start(capture, before=SLOW) as process:
        assert process.stderr.readline() == "writing\n"
        assert len(list(tmp_path.iterdir())) == 2, "a temporary file is there"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (status, "", "")
    assert listing(tmp_path) == before


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_an_ignored_signal_stays_ignored(tmp_path, capture):
    """As under nohup."""
    once = SLOW.replace("time.sleep(60)", "time.sleep(1); TraceWriter.write = write")
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with start(capture, before=ignore + once) as process:
        assert process.stderr.readline() == "writing\n"
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "trace.pftrace").exists()


def test_handlers_are_put_back(capture, command):
    before = signal.getsignal(signal.SIGTERM)
    command("info", capture)
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_bug_shows_its_traceback(tmp_path, capture, command, monkeypatch):
    def broken(*_, **__):
        raise KeyError("something inside")

    monkeypatch.setattr(nsys2perfetto, "convert", broken, raising=False)
    status, out, err = command(capture)
    assert (status, out) == (1, "")
    assert "Traceback" in err and "KeyError: 'something inside'" in err
    assert err.splitlines()[-1].startswith("nsys2perfetto: this is a bug in version ")


def test_no_memory(capture, command, monkeypatch):
    def greedy(*_, **__):
        raise MemoryError

    monkeypatch.setattr(nsys2perfetto, "convert", greedy, raising=False)
    status, _, err = command(capture)
    assert status == 1
    assert err == (
        "nsys2perfetto: not enough memory: take a part of the capture with --range, --pid or "
        "--only\n"
    )


# Standard output


def test_reader_of_the_summary_is_gone(tmp_path, capture):
    """`nsys2perfetto a b | true`: the traces are written all the same."""
    last = write_capture(tmp_path / "z.sqlite")
    reading, writing = os.pipe()
    os.close(reading)
    status, _, err = run(capture, last, stdout=writing)
    os.close(writing)
    assert (status, err) == (0, "")
    assert len(list(tmp_path.glob("*.pftrace"))) == 2


@pytest.mark.parametrize("arguments", [["--help"], ["info", "trace.sqlite"]])
def test_reader_of_text_is_gone(tmp_path, capture, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    status, _, err = run(*arguments, stdout=writing, cwd=tmp_path)
    os.close(writing)
    assert (status, err) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_is_full(tmp_path, capture):
    with Path("/dev/full").open("w") as full:
        status, _, err = run("info", capture, stdout=full)
    assert status == 1
    assert err == "nsys2perfetto: cannot write to standard output: No space left on device\n"


def test_standard_output_is_closed(tmp_path, capture):
    status, _, err = run(capture, stdout=None, preexec_fn=lambda: os.close(1))
    assert (status, err) == (0, "")
    assert (tmp_path / "trace.pftrace").exists()


def test_report_of_exits():
    assert failures.report(SystemExit(3)) == 3
    assert failures.report(SystemExit("text")) == 1
    assert failures.report(KeyboardInterrupt()) == 130
