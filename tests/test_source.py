"""Every file that is no readable capture is told apart, and reading a capture leaves no trace."""

import contextlib
import os
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest

from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys import source
from nsys2perfetto.nsys.capture import Capture
from tests.command import (
    KERNELS,
    another_program,
    capture_bytes,
    listing,
    without_rights,
    write_capture,
)

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="locks are seen on Linux only")


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "trace.sqlite")


def complaint(path):
    """What is said of a file that is no capture; always one line that names it."""
    with pytest.raises(CaptureError) as raised:
        read_all(path)
    text = str(raised.value)
    assert text.isprintable()
    assert source.printable(path.name) in text
    return text


def read_all(path):
    """Reads everything, both ways that there are; returns the number of kernels."""
    for fast in (True, False):
        with Capture(path, fast=fast) as opened:
            for table, columns in opened.tables.items():
                for kind in ("text", "int"):
                    opened.read(table, dict.fromkeys(columns, kind))
            kernels = len(opened.read(KERNEL, {"start": "int", "demangledName": "int"}))
            assert opened.count(KERNEL) == kernels
    return kernels


def test_a_capture_is_read(capture):
    source.check(capture)
    assert read_all(capture) == KERNELS


# What is no file, or no SQLite


def test_missing(tmp_path, capture):
    assert complaint(tmp_path / "x.sqlite").endswith("x.sqlite: no such file")
    assert complaint(tmp_path / "trace").endswith("did you mean " + str(capture) + "?")
    assert "no such file" in complaint(tmp_path / "no_folder" / "x.sqlite")
    assert "cannot read it: Not a directory" in complaint(capture / "x.sqlite")


def test_directory(tmp_path):
    assert "is a directory, and empty" in complaint(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in complaint(tmp_path / "pipe")


def test_name_that_no_file_can_have(tmp_path):
    with pytest.raises(CaptureError, match="no file can have this name"):
        source.check(tmp_path / "a\0b")
    assert "File name too long" in complaint(tmp_path / ("x" * 300))


def test_link_to_itself(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot read it" in complaint(tmp_path / "loop")


def test_no_permission():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        capture = write_capture(Path(folder) / "trace.sqlite")
        capture.chmod(0)
        with without_rights():
            assert complaint(capture).endswith("no permission to read it")


def test_folder_that_is_closed(tmp_path, capture):
    tmp_path.chmod(0)
    try:
        with without_rights():
            assert complaint(capture).endswith("no permission to read it")
    finally:
        tmp_path.chmod(0o700)


def test_empty(tmp_path):
    (tmp_path / "x.sqlite").touch()
    assert "is empty: the export did not finish" in complaint(tmp_path / "x.sqlite")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("x.sqlite", b"hello, this is text\n" * 20, "nsys export --type=sqlite REPORT.nsys-rep"),
        ("x", b"\0", "is not an SQLite file"),
        ("x.sqlite", b"\x1f\x8b\x08\0" + bytes(200), "is compressed (gzip): unpack it first"),
        ("x.zip", b"PK\x03\x04" + bytes(200), "is compressed (zip)"),
        ("x.zst", b"\x28\xb5\x2f\xfd" + bytes(200), "is compressed (zstd)"),
        ("x.pftrace", b"\x0a\x10" + bytes(200), "is a Perfetto trace already"),
        ("x.qdstrm", bytes(200), "QdstrmImporter"),
        ("x.parquet", b"PAR1", "is one table of an export: name the folder that it is in"),
        ("x.arrow", b"ARROW1", "is one table of an export"),
        ("x.arrows", b"\xff\xff\xff\xff", "is an Arrow export in one file"),
    ],
)
def test_not_sqlite(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in complaint(tmp_path / name)


@pytest.mark.parametrize("name", ["x.nsys-rep", "X.NSYS-REP", "old.qdrep"])
def test_report_instead_of_its_export(tmp_path, name):
    report = tmp_path / name
    report.write_bytes(b"\x12\x34 report " + bytes(500))
    export = report.with_suffix(".sqlite")
    command = f"`nsys export --type=sqlite --output={export} {report}`"
    assert command in complaint(report)
    write_capture(export)
    assert f"convert its SQLite export {export} instead" in complaint(report)


def test_the_command_to_export_can_be_copied(tmp_path):
    report = tmp_path / "my run.nsys-rep"
    report.write_bytes(bytes(500))
    assert f"--output='{tmp_path}/my run.sqlite' '{report}'" in complaint(report)


def test_sqlite_of_something_else(tmp_path):
    with sqlite3.connect(tmp_path / "x.sqlite") as other:
        other.execute("CREATE TABLE kernels (a)")
    assert "not an nsys export: it has none of nsys' tables" in complaint(tmp_path / "x.sqlite")


def test_database_without_tables(tmp_path):
    with sqlite3.connect(tmp_path / "x.sqlite") as other:
        other.execute("VACUUM")
    complaint(tmp_path / "x.sqlite")


# Damage


@pytest.mark.parametrize("kept", [1, 8, 15, 16, 50, 99, 100, 101, 512, 4095, 4096, 9000, 0.5, -1])
def test_truncated(tmp_path, kept):
    content = capture_bytes()
    end = int(len(content) * kept) if isinstance(kept, float) else kept
    (tmp_path / "x.sqlite").write_bytes(content[:end])
    assert "truncated" in complaint(tmp_path / "x.sqlite")


def root_page(content, table, folder):
    """Number and size of the first page of a table."""
    copy = folder / "copy"
    copy.write_bytes(content)
    with sqlite3.connect(copy) as database:
        page = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (number,) = database.execute(page, [table]).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    return number, size


@pytest.mark.parametrize("filling", [b"\xff", b"\0", b"nonsense"])
def test_corrupt_page(tmp_path, filling):
    content = bytearray(capture_bytes())
    number, size = root_page(content, KERNEL, tmp_path)
    content[(number - 1) * size : number * size] = (filling * size)[:size]
    (tmp_path / "x.sqlite").write_bytes(content)
    assert "is damaged" in complaint(tmp_path / "x.sqlite")


def test_corrupt_schema(tmp_path):
    content = bytearray(capture_bytes())
    content[100:4096] = b"\xff" * 3996
    (tmp_path / "x.sqlite").write_bytes(content)
    assert "is damaged" in complaint(tmp_path / "x.sqlite")


def test_corrupt_header(tmp_path):
    content = bytearray(capture_bytes())
    content[16:100] = b"\x07" * 84
    (tmp_path / "x.sqlite").write_bytes(content)
    complaint(tmp_path / "x.sqlite")


def test_any_single_damaged_page_is_a_clear_error_or_none(tmp_path):
    """Whatever page is hit: an error of ours or a file that still reads, never another error."""
    content = capture_bytes()
    path = tmp_path / "x.sqlite"
    for page in range(1, len(content) // 4096, 3):
        damaged = bytearray(content)
        damaged[page * 4096 + 8 : page * 4096 + 2000] = os.urandom(1992)
        path.write_bytes(damaged)
        try:
            read_all(path)
        except CaptureError as error:
            assert str(error).isprintable()


# Other programs


@pytest.fixture
def hold():
    """Another program that runs statements on a file and stays there."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(another_program(*arguments))


INSERT = "INSERT INTO StringIds VALUES (1000000, 'new')"


@linux_only
@pytest.mark.parametrize(
    "statements",
    [
        ["BEGIN EXCLUSIVE"],
        ["BEGIN EXCLUSIVE", INSERT],
        ["BEGIN IMMEDIATE"],
        ["BEGIN IMMEDIATE", INSERT],
        ["PRAGMA journal_mode=OFF", "BEGIN", INSERT],
        ["PRAGMA locking_mode=EXCLUSIVE", INSERT],
    ],
    ids=lambda s: " ".join(s)[:40],
)
def test_locked(capture, hold, statements):
    writer = hold(capture, *statements)
    assert "is locked: another program is writing it; wait" in complaint(capture)
    writer.communicate()
    assert read_all(capture) == KERNELS


@linux_only
def test_new_file_that_is_being_written(tmp_path, hold):
    """An export that has only begun: nothing is in the file yet, but it is no empty file."""
    hold(tmp_path / "new.sqlite", "BEGIN IMMEDIATE", "CREATE TABLE StringIds (id, value)")
    assert "is locked" in complaint(tmp_path / "new.sqlite")


def test_write_ahead_log_is_not_ignored(capture, hold):
    hold(capture, "PRAGMA journal_mode=WAL", INSERT)
    assert "has an unfinished transaction" in complaint(capture)


@linux_only
def test_transaction_of_a_program_that_died(tmp_path, capture, hold):
    change = "UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET streamId = streamId + 1"
    writer = hold(capture, "PRAGMA cache_size=1", "BEGIN", change)
    writer.kill()
    writer.wait()
    assert (tmp_path / "trace.sqlite-journal").stat().st_size
    assert f"({capture}-journal)" in complaint(capture)
    link = tmp_path / "link.sqlite"
    link.symlink_to("trace.sqlite")
    assert "unfinished transaction" in complaint(link)


def test_finished_journal_is_no_obstacle(tmp_path, capture, hold):
    hold(capture, "PRAGMA journal_mode=PERSIST", INSERT).communicate()
    assert (tmp_path / "trace.sqlite-journal").stat().st_size
    assert read_all(capture) == KERNELS


def test_readers_are_no_obstacle(capture, hold):
    hold(capture, "BEGIN", "SELECT * FROM StringIds")
    assert read_all(capture) == KERNELS


def test_reading_takes_no_lock(capture):
    with Capture(capture) as opened:
        opened.read("StringIds", {"value": "text"})
        with sqlite3.connect(capture, timeout=0) as database:
            database.execute("BEGIN EXCLUSIVE")


# Names, and what stays behind

NAMES = [
    "with blanks.sqlite",
    "日本語 ünï.sqlite",
    "what?.sqlite",
    "100%.sqlite",
    "%41.sqlite",
    "a#b&mode=rw.sqlite",
    "file:x.sqlite",
    "-dash.sqlite",
    "quote'\".sqlite",
    "no_extension",
    "line\nbreak.sqlite",
    "x" * 248 + ".sqlite",
    os.fsdecode(b"not-\xff-utf8.sqlite"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name(tmp_path, name):
    if sys.platform != "linux":
        pytest.skip("other systems forbid some of these names")
    assert read_all(write_capture(tmp_path / name)) == KERNELS


def test_nothing_is_written(tmp_path, capture):
    before = listing(tmp_path)
    read_all(capture)
    assert listing(tmp_path) == before


def test_relative_path(tmp_path, capture, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_all(capture.relative_to(tmp_path)) == KERNELS


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain é 日本", "plain é 日本"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202edlrow", r"\u202edlrow"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("not-\udcff", r"not-\xff"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable(text, shown):
    assert source.printable(text) == shown
    assert source.printable(shown) == shown
