"""What goes wrong around `report`, `compare` and `query`: disks, signals, readers, odd paths."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from nsys2perfetto.cli import main
from nsys2perfetto.errors import CaptureError
from nsys2perfetto.report.opening import open_source
from nsys2perfetto.wire.writer import TraceWriter
from tests.command import environment, listing, run, start, without_rights, write_capture
from tests.sessions import in_process

unix_only = pytest.mark.skipif(os.name == "nt", reason="signals of Unix")

ASK = {
    "report": lambda path: ["report", path],
    "compare": lambda path: ["compare", path, path],
    "query": lambda path: ["query", path, "SELECT name, dur FROM slice"],
}
"""Each command that may write a file, and its arguments for a capture."""

every_command = pytest.mark.parametrize("name", ASK)


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "trace.sqlite")


@pytest.fixture
def refused(capsys, tmp_path):
    """Runs a command in vain: its only line; the files are as they were."""

    def refused(*arguments, status=1):
        before = listing(tmp_path)
        with in_process():
            found = main.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert (found, captured.out) == (status, "")
        assert captured.err.count("\n") == 1 and captured.err[:-1].isprintable()
        assert listing(tmp_path) == before
        return captured.err.removeprefix("nsys2perfetto: ").rstrip("\n")

    return refused


@pytest.fixture
def done(capsys):
    """Runs a command; what it printed, which is printable."""

    def done(*arguments):
        with in_process():
            status = main.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert (status, captured.err) == (0, "")
        assert all(line.isprintable() for line in captured.out.split("\n"))
        return captured.out

    return done


# ---- files


@every_command
@pytest.mark.parametrize("target", ["out.csv", "out.json.gz"])
def test_the_disk_is_full(tmp_path, capture, refused, monkeypatch, name, target):
    (tmp_path / target).write_bytes(b"precious")
    if name == "query":  # asks a trace: the disk has no room for the rows only
        with in_process():
            assert main.run([str(capture), "-q"]) == 0
        capture = tmp_path / "trace.pftrace"

    def full(_self, _data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TraceWriter, "write", full)
    said = refused(*ASK[name](capture), "-o", tmp_path / target, "--force")
    assert said == f"{tmp_path / target}: no space left on the device; nothing was written"


@every_command
def test_a_folder_that_is_read_only(name):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        readable = write_capture(Path(folder) / "trace.sqlite")
        if os.geteuid() != 0:
            Path(folder).chmod(0o555)
        with in_process(), without_rights():
            status = main.run([*map(str, ASK[name](readable)), "-o", f"{folder}/out.csv"])
        assert status == 1
        assert [p.name for p in Path(folder).iterdir()] == ["trace.sqlite"]
        Path(folder).chmod(0o755)


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


@unix_only
@pytest.mark.parametrize(
    ("name", "number"),
    [("report", signal.SIGINT), ("compare", signal.SIGTERM), ("query", signal.SIGTERM)],
)
def test_stopped_while_writing(tmp_path, capture, name, number):
    """A query of a capture writes a trace first, to a folder for temporary files."""
    files, scratch = tmp_path / "files", tmp_path / "scratch"
    files.mkdir(), scratch.mkdir()
    capture = capture.rename(files / capture.name)
    before = listing(files)
    env = environment(TMPDIR=str(scratch), NSYS2PERFETTO_ENGINE=str(fake_engine()))
    command = [*ASK[name](capture), "-o", files / "out.csv"]
    with start(*command, before=SLOW, env=env) as process:
        assert process.stderr.readline() == "writing\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert listing(files) == before
    assert list(scratch.iterdir()) == []


def fake_engine():
    return Path(__file__).with_name("fake_engine.py")


# ---- standard output


def test_the_reader_is_gone(capture):
    """Of a report; what is done about it is the same for all commands."""
    reading, writing = os.pipe()
    os.close(reading)
    status, _, err = run("report", capture, stdout=writing)
    os.close(writing)
    assert (status, err) == (1, "")


@pytest.mark.skipif(sys.platform != "linux", reason="locales of Linux")
def test_no_locale_no_home_no_terminal(tmp_path):
    capture = write_capture(tmp_path / "日本 ü.sqlite")
    ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    env = environment(**ascii_only, HOME="/nonexistent", TMPDIR="/nonexistent", TERM=None)
    target = tmp_path / "ö.md"
    status, out, err = run("report", capture, "-o", target, env=env, cwd=tmp_path)
    assert (status, out, err) == (0, "", "")
    assert "gemm_kernel" in target.read_text(encoding="utf-8")
    status, out, err = run("compare", capture, capture, env=env)
    assert (status, err, out.isascii()) == (0, "", True)


# ---- the capture


@pytest.mark.parametrize("name", ["report", "compare"])
@pytest.mark.parametrize("change", ["grows", "is replaced"])
def test_a_capture_that_changes_while_it_is_read(capture, capsys, monkeypatch, name, change):
    from nsys2perfetto.report import capture_source  # noqa: PLC0415

    read = capture_source.model.read

    def meddling(*arguments):
        if change == "grows":
            with capture.open("ab") as file:
                file.write(bytes(4096))
        else:
            other = capture.with_name("other")
            shutil.copy(capture, other)
            other.replace(capture)
        return read(*arguments)

    monkeypatch.setattr(capture_source.model, "read", meddling)
    target = capture.with_name("out.csv")
    assert main.run([*map(str, ASK[name](capture)), "-o", str(target)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "was changed while it was read" in said.err
    assert not target.exists()


# ---- paths


ODD = {
    "everything": b"-f\n\x1b[2J \xff a'b\"$x`%41?mode=rw&x#b \xe6\x97\xa5",
    "an option": b"--help",
    "long": b"long " * 48,
}


@pytest.mark.skipif(sys.platform != "linux", reason="names that Linux allows")
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_hostile_paths(tmp_path, monkeypatch, done, odd):
    """As names of captures and of outputs, in each command."""
    stem = os.fsdecode(odd)
    (tmp_path / stem[:100]).mkdir()
    monkeypatch.chdir(tmp_path / stem[:100])
    name, trace = f"{stem}.sqlite", Path(f"{stem}.pftrace")
    write_capture(name)
    done("convert", "--", name)
    done("info", "--", name)
    done("info", "--json", "--", name)
    for form in ("table", "json", "markdown"):
        done("compare", f"--format={form}", "--", name, name)
    for command, words in (("report", [name]), ("query", [trace, "SELECT 5 AS x"])):
        shown = done(command, "--format=markdown", "--", *words)
        done(command, f"--output={stem}.md", "--", *words)
        assert Path(f"{stem}.md").read_text(encoding="utf-8") == shown
        Path(f"{stem}.md").unlink()
    assert sorted(p.name for p in Path().iterdir()) == sorted([name, trace.name])


@every_command
def test_a_path_that_no_file_can_have(refused, name):
    assert "File name too long" in refused(*ASK[name]("x" * 5_000))


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_paths_that_no_argument_can_be(path):
    with pytest.raises(CaptureError, match="no file can have this name"), open_source(path):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Unix's")
def test_a_path_longer_than_sqlite_opens(tmp_path, monkeypatch, refused):
    folder = tmp_path / ("a" * 250) / ("b" * 250)
    folder.mkdir(parents=True)
    write_capture(folder / "trace.sqlite")
    for arguments in (["convert"], ["info"], ["report"]):
        said = refused(*arguments, folder / "trace.sqlite")
        assert said.endswith("SQLite opens no file whose path has 512 bytes or more: move it to "
                             "another folder")  # fmt: skip
