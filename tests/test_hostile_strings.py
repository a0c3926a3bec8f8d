"""Texts of a capture that a terminal would obey: no command prints one as it is."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3

import pytest

from nsys2perfetto import convert
from nsys2perfetto.cli import main, terminal
from tests.engine import query
from tests.engine.locate import REPOSITORY
from tests.sessions import in_process

HOSTILE = "\x1b]0;t\x07\x1b[2J\x9b31m\x7f\x85\r\b\x00\u202e\u2028\ud7ff|`*<b>"
"""Escapes, bells, deletions, a change of direction, and what is markup elsewhere."""

FORMATS = ("table", "csv", "json", "markdown")


def spoil(path):
    """Adds the hostile text, and bytes that are no text, to each text of a capture."""
    bad = HOSTILE.encode() + b"\xff\xed\xa0\x80"
    with contextlib.closing(sqlite3.connect(path)) as db:
        tables = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            # The names of settings are what their values are found by.
            texts = [
                row[1]
                for row in db.execute(f"PRAGMA table_info({table})")
                if row[2] == "TEXT" and not (table.startswith("META_DATA") and row[1] == "name")
            ]
            for column in texts:
                db.execute(
                    f"UPDATE {table} SET {column} = CAST(CAST({column} AS BLOB) || ? AS TEXT)",
                    [bad],
                )
        db.commit()
    return path


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / "\x1b[31mred\n.sqlite"
    shutil.copy(REPOSITORY / "samples" / "decode_eager.sqlite", path)
    return spoil(path)


@pytest.fixture
def shown(monkeypatch, capsys):
    """Runs a command as if a terminal without colours read it; returns all that it shows."""
    monkeypatch.setattr(terminal, "is_terminal", lambda _stream: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")  # no progress
    monkeypatch.setenv("COLUMNS", "120")

    def shown(*arguments, status=0):
        found = main.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert found == status, captured
        said = captured.out + captured.err
        assert said
        for line in said.split("\n"):
            assert line.isprintable(), (arguments, line)
        return said

    return shown


def test_what_is_said_of_a_capture_and_its_conversion(capture, shown):
    for arguments in (["info"], ["info", "-v"], ["-f"], ["-f", "-v", "--lean"]):
        assert r"\x1b[31mred\n.sqlite" in shown(*arguments, capture)
    [found] = json.loads(shown("info", "--json", capture))
    assert found["processes"][0]["name"]


@pytest.mark.parametrize("form", FORMATS)
def test_reports(capture, shown, form):
    """The page holds all of them but one."""
    assert r"\x1b" in shown("report", capture, "--format", form).replace(r"\u001b", r"\x1b")
    shown("report", "decode_step", "11", capture, "--format", form)


@pytest.mark.parametrize("form", FORMATS)
def test_comparisons(capture, shown, form):
    shown("compare", capture, REPOSITORY / "samples" / "decode_graph.sqlite", "--format", form)


@pytest.mark.parametrize("form", FORMATS)
def test_queries(capture, shown, tmp_path, form):
    """Of names that stand in the trace as they are."""
    with in_process():
        trace = convert(capture, tmp_path / "trace.pftrace").output
        asked = 'SELECT name, 1 AS "\x1b[1m" FROM nsys_kernel_summary'
        out = shown("query", trace, asked, "--format", form)
        assert "argmax" in out
        if form == "table":
            shown("query", trace, "SELECT '\x1b[2J', nope", status=1)


def test_a_trace_has_the_texts_as_they_are(capture, tmp_path, open_trace):
    """Text that is not UTF-8 is mended; everything else is the program's own."""
    with open_trace(convert(capture, tmp_path / "trace.pftrace").output) as tp:
        query.assert_clean(tp)
        found = query.rows(tp, "SELECT DISTINCT name FROM gpu_slice WHERE name GLOB 'argmax*'")
    before_nul = HOSTILE.partition("\0")[0]
    assert all(row["name"].removeprefix("argmax").partition("\x1b")[2] for row in found)
    assert all(before_nul in row["name"] for row in found)
