"""Files that were made, or damaged, so that reading them would never end or give wrong rows."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import struct
import sys
from contextlib import closing
from pathlib import Path

import pytest

import nsys2perfetto
from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys.capture import Capture
from samples.builder import Capture as Builder
from tests.command import KERNELS, capture_bytes, environment, listing, run, write_capture

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
PAGE = 4096


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "trace.sqlite")


@pytest.fixture
def edited(capture):
    """Runs SQL on the capture."""

    def edited(*statements):
        with closing(sqlite3.connect(capture, isolation_level=None)) as db:
            for statement in statements:
                db.execute(statement)
        return capture

    return edited


def complaint(path):
    """What the command says of a file, without end if it is not careful; nothing is written."""
    before = listing(path.parent)
    said = set()
    for arguments in ([path], ["info", path]):
        status, out, err = run(*arguments, timeout=60)
        assert (status, out) == (1, "")
        said.add(err)
    assert listing(path.parent) == before
    [text] = said
    assert text.startswith("nsys2perfetto: ") and text[:-1].isprintable() and text[-1] == "\n"
    return text


# ---- the schema


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM moved",
        "WITH RECURSIVE more AS (SELECT * FROM moved UNION ALL SELECT * FROM more) "
        "SELECT * FROM more",
        "SELECT a.* FROM moved a, moved b, moved c, moved d, moved e WHERE a.start < 0",
        "SELECT start, zeroblob(1000000000) AS correlationId FROM moved",
        "SELECT * FROM not_there",
        f"SELECT * FROM {KERNEL}",
    ],
)
def test_views_are_named_and_not_read(edited, query):
    path = edited(f"ALTER TABLE {KERNEL} RENAME TO moved", f"CREATE VIEW {KERNEL} AS {query}")
    for arguments in ([path], ["info", path]):
        status, out, err = run(*arguments, timeout=60)
        assert (status, err) == (0, "")
        assert f"not read, since they are views and no tables: {KERNEL}" in " ".join(out.split())


def test_virtual_tables_are_not_read(edited):
    try:
        path = edited("CREATE VIRTUAL TABLE x USING fts5(start)", "INSERT INTO x VALUES ('a')")
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no full-text search")
    result = nsys2perfetto.convert(path)
    assert "not read, since they are views and no tables: x" in result.capture.notes


def test_names_in_the_schema_that_are_no_text(edited):
    path = edited("CREATE TABLE x (a)", "PRAGMA writable_schema = ON",
                  "UPDATE sqlite_master SET name = CAST(x'FF41' AS TEXT), tbl_name = "
                  "CAST(x'FF41' AS TEXT), sql = CAST(CAST('CREATE TABLE \"' AS BLOB) || x'FF41' || "
                  "CAST('\" (start, y)' AS BLOB) AS TEXT) WHERE name = 'x'")  # fmt: skip
    with Capture(path) as opened:
        assert KERNEL in opened.tables and not any("\ufffd" in name for name in opened.tables)
    assert nsys2perfetto.convert(path).events_read == 2 * KERNELS


def test_values_that_are_no_text_where_text_is_not_asked_for(edited):
    for column in ("start", '"end"', "globalPid", "deviceId", "graphNodeId"):
        edited(f"UPDATE {KERNEL} SET {column} = CAST(x'FFFE' AS TEXT) WHERE rowid = 5")
    path = edited()
    nsys2perfetto.inspect(path)
    [kernels] = [f for f in nsys2perfetto.convert(path).families if f.family == "kernel"]
    assert (kernels.read, kernels.written + sum(kernels.left_out.values())) == (KERNELS, KERNELS)


def test_nvtx_that_cannot_be_understood_is_named(tmp_path):
    builder = Builder()
    builder.reshape("NVTX_EVENTS", drop=["eventType"])
    builder.row("NVTX_EVENTS", start=1, end=2, globalTid=5)
    result = nsys2perfetto.convert(builder.save(tmp_path, "x"))
    assert "not shown in this version: NVTX_EVENTS (1 rows)" in result.capture.notes


# ---- pages


def root_of(content, table):
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(bytes(content))
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return db.execute(query, [table]).fetchone()[0]


def children(content, page):
    """Where the links to the children of an interior page are, and where they lead."""
    at = (page - 1) * PAGE
    assert content[at] == 5, "an interior page"
    count = struct.unpack_from(">H", content, at + 3)[0]
    cells = struct.unpack_from(f">{count}H", content, at + 12)
    places = [*(at + cell for cell in cells), at + 8]
    return places, [struct.unpack_from(">I", content, place)[0] for place in places]


def test_a_page_that_a_table_has_twice(tmp_path):
    """SQLite reads its rows twice, without a word."""
    content = bytearray(capture_bytes())
    places, links = children(content, root_of(content, KERNEL))
    struct.pack_into(">I", content, places[1], links[0])
    path = tmp_path / "x.sqlite"
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"SELECT count(*), max(start) FROM {KERNEL}").fetchone()
    assert "is damaged (a page occurs twice): export it again" in complaint(path)


def test_a_few_pages_that_stand_for_more_rows_than_can_be_read(tmp_path):
    """Pages on ten levels that each lead to the next a hundred times: 10^20 leaves."""
    content = bytearray(capture_bytes())
    root = root_of(content, KERNEL)
    leaf = children(content, root)[1][0]
    levels, links = 10, 100
    first = len(content) // PAGE + 1
    pages = [root, *range(first, first + levels)]
    content += bytes(levels * PAGE)
    struct.pack_into(">I", content, 28, len(content) // PAGE)
    for page, below in zip(pages, [*pages[1:], leaf], strict=True):
        at = (page - 1) * PAGE
        cells = [PAGE - 6 * (n + 1) for n in range(links)]
        head = struct.pack(">BHHHBI", 5, 0, links, min(cells), 0, below)
        content[at : at + len(head)] = head
        struct.pack_into(f">{links}H", content, at + 12, *cells)
        for n, cell in enumerate(cells):
            struct.pack_into(">IBB", content, at + cell, below, 0x81, n)
    path = tmp_path / "x.sqlite"
    path.write_bytes(content)
    assert "is damaged (a page occurs twice)" in complaint(path)


def test_a_leaf_in_the_place_of_another(tmp_path):
    """SQLite reads some rows twice and others not at all, without a word."""
    content = bytearray(capture_bytes())
    _, links = children(content, root_of(content, KERNEL))
    one, other = ((page - 1) * PAGE for page in links[:2])
    content[other : other + PAGE] = content[one : one + PAGE]
    path = tmp_path / "x.sqlite"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=r"is damaged \(rows are not in order\)"):
        nsys2perfetto.convert(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.sqlite"]


# ---- size


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_name_of_a_hundred_million_characters(tmp_path, capture, edited):
    """It is cut, and memory beyond what SQLite needs to read it is not asked for."""
    edited("UPDATE StringIds SET value = printf('%.*c', 100000000, 'x') WHERE rowid = 2")
    limit = (1 << 30) + (1 << 29)
    for arguments in (["info", capture], [capture]):
        status, out, err = run(
            *arguments,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
            env=environment(POLARS_MAX_THREADS="2", OPENBLAS_NUM_THREADS="1"),
        )
        assert (status, err) == (0, "")
        assert len(out) < 5_000
    assert (tmp_path / "trace.pftrace").stat().st_size < 1 << 20


# ---- other programs that write


class Meddler:
    """Does something to the capture as soon as reading has begun."""

    def __init__(self, action):
        self.action = action

    def __call__(self, *_):
        action, self.action = self.action, lambda: None
        action()


def grow(path):
    with path.open("ab") as file:
        file.write(bytes(PAGE))


def shrink(path):
    os.truncate(path, path.stat().st_size - 20 * PAGE)


def replace(path):
    other = path.with_name("other")
    shutil.copy(path, other)
    other.replace(path)


def insert(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO StringIds VALUES (1000000, 'new')")
        db.commit()


@pytest.mark.parametrize("action", [grow, shrink, replace, insert])
@pytest.mark.parametrize("force", [False, True])
def test_a_capture_that_changes_while_it_is_read(tmp_path, capture, action, force):
    trace = tmp_path / "trace.pftrace"
    if force:
        trace.write_bytes(b"precious")
    with pytest.raises(CaptureError) as raised:
        nsys2perfetto.convert(capture, force=force, progress=Meddler(lambda: action(capture)))
    text = str(raised.value)
    assert text.isprintable()
    assert "was changed while it was read" in text or "is damaged" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == [*["trace.pftrace"] * force, capture.name]
    if force:
        assert trace.read_bytes() == b"precious"


def test_a_capture_that_is_removed_while_it_is_read(tmp_path, capture):
    """What is open can be read to its end."""
    result = nsys2perfetto.convert(capture, progress=Meddler(capture.unlink))
    assert result.events_written == 2 * KERNELS
    assert [p.name for p in tmp_path.iterdir()] == ["trace.pftrace"]


def test_reading_the_capture_at_the_same_time_is_no_change(capture):
    def read():
        with closing(sqlite3.connect(capture)) as db:
            db.execute(f"SELECT * FROM {KERNEL}").fetchall()
        Path(capture).read_bytes()

    assert nsys2perfetto.convert(capture, progress=Meddler(read)).events_read == 2 * KERNELS
