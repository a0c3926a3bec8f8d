"""Numbers from an SQLite file's pages: always what SQLite gives, or nothing."""

from __future__ import annotations

import random
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsys2perfetto.nsys import pages
from nsys2perfetto.nsys.btree import UnreadableError
from nsys2perfetto.nsys.capture import Capture
from tests.sqlite_tables import EDGES, by_pages, by_sqlite, database, refused, same

# ---- values


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 32768, 65536])
def test_every_width_of_integer_and_null(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "c.sqlite"
    db = database(path, "CREATE TABLE t(a INTEGER, b REAL, c INTEGER, d)", page_size=page_size)
    rng = random.Random(page_size)
    choice: list[int | None] = [*EDGES, None, 0, 1]
    floats = [None, 0.0, -0.0, 1.0, -3.0, 1e300, float("inf"), 0.1, 2.0**53, float("nan")]
    rows = [
        (rng.choice(choice), rng.choice(floats), rng.choice(choice), rng.choice(choice))
        for _ in range(5000)
    ]
    db.executemany("INSERT INTO t VALUES(?, ?, ?, ?)", rows)
    db.commit()
    db.close()
    columns = {"a": "int", "b": "real", "c": "int", "d": "int"}
    assert same(by_pages(path, "t", columns), by_sqlite(path, "t", columns))
    # Integers are fine as real numbers; the order and number of columns are the caller's.
    columns = {"c": "real", "b": "real"}
    assert same(by_pages(path, "t", columns, rows=700), by_sqlite(path, "t", columns))


@pytest.mark.parametrize(
    "declared",
    ["id INTEGER PRIMARY KEY", "id integer primary key asc", "id INTEGER, PRIMARY KEY(id)"],
)
def test_a_primary_key_that_is_the_rowid(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "c.sqlite"
    parts = declared.split(", ")
    db = database(path, f"CREATE TABLE t({', '.join([parts[0], 'v INTEGER', *parts[1:]])})")
    ids = sorted({*EDGES, *range(100, 20000, 3)})
    db.executemany("INSERT INTO t VALUES(?, ?)", [(i, -i >> 3) for i in ids])
    db.commit()
    db.close()
    for kind in ("int", "real"):
        columns = {"v": "int", "id": kind}
        assert same(by_pages(path, "t", columns), by_sqlite(path, "t", columns))
    assert by_pages(path, "t", {"id": "int"})["id"].to_list() == ids


def test_a_primary_key_that_is_not_the_rowid(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    db = database(
        path,
        "CREATE TABLE t(id INTEGER PRIMARY KEY DESC, v INTEGER)",
        "CREATE TABLE u(id INT PRIMARY KEY, v INTEGER)",
        "CREATE TABLE v(id INTEGER, v INTEGER, PRIMARY KEY(id, v))",
    )
    for table in "tuv":
        db.executemany(f"INSERT INTO {table} VALUES(?, ?)", [(9, 1), (None, 2), (-1, 3)])
    db.commit()
    db.close()
    for table in "tuv":
        assert by_pages(path, table, {"id": "int"})["id"].to_list() == [9, None, -1]


def test_text_and_blobs_between_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    db = database(path, "CREATE TABLE t(a INTEGER, s TEXT, b INTEGER, x BLOB, c REAL)")
    rng = random.Random(3)
    db.executemany(
        "INSERT INTO t VALUES(?, ?, ?, ?, ?)",
        [
            (
                rng.choice(EDGES),
                None if i % 7 == 0 else "é" * rng.choice([0, 1, 28, 29, 57, 58, 200, 900]),
                i,
                rng.choice([None, b"", b"x" * 57, b"y" * 58, 5, 0.5]),
                rng.choice([None, 0.5, 7.0]),
            )
            for i in range(3000)
        ],
    )
    db.commit()
    db.close()
    columns = {"a": "int", "b": "int", "c": "real"}
    assert same(by_pages(path, "t", columns), by_sqlite(path, "t", columns))


def test_rows_that_are_older_than_a_column(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    db = database(path, "CREATE TABLE t(a INTEGER, b INTEGER)")
    db.executemany("INSERT INTO t VALUES(?, ?)", [(i, i) for i in range(900)])
    db.execute("ALTER TABLE t ADD COLUMN c INTEGER")
    db.commit()
    columns = {"c": "int", "a": "int"}
    assert same(by_pages(path, "t", columns), by_sqlite(path, "t", columns))
    db.executemany("INSERT INTO t VALUES(?, ?, ?)", [(i, i, i) for i in range(900)])
    db.execute("ALTER TABLE t ADD COLUMN d INTEGER DEFAULT 5")
    db.commit()
    db.close()
    assert same(by_pages(path, "t", columns), by_sqlite(path, "t", columns))
    assert refused(path, {"d": "int"})
    with Capture(path) as capture:
        assert capture.read("t", {"d": "int"})["d"].to_list() == [5] * 1800


def test_reserved_bytes_at_the_end_of_pages(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    database(path, "DROP TABLE StringIds", "VACUUM", page_size=1024).close()
    page = bytearray(path.read_bytes()[:1024])
    page[20] = 32
    page[28:32] = struct.pack(">I", 1)
    page[103:107] = struct.pack(">HH", 0, 1024 - 32)
    path.write_bytes(page)
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE StringIds(id INTEGER, v INTEGER)")
    db.executemany("INSERT INTO StringIds VALUES(?, ?)", [(i, i << 30) for i in range(3000)])
    db.commit()
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    columns = {"id": "int", "v": "int"}
    assert same(by_pages(path, "StringIds", columns), by_sqlite(path, "StringIds", columns))


def test_empty_table_and_absent_column(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    database(path, "CREATE TABLE t(a INTEGER)").close()
    assert len(by_pages(path, "t", {"a": "int"})) == 0
    db = sqlite3.connect(path)
    db.execute("INSERT INTO t VALUES(4)")
    db.commit()
    db.close()
    frame = by_pages(path, "t", {"b": "real", "a": "int", "c": "int"})
    assert frame.rows() == [(None, 4, None)]


values = st.one_of(
    st.none(),
    st.sampled_from([0, 1]),
    st.sampled_from(EDGES),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
reals = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0, 5.0, -1.0]))
texts = st.one_of(st.none(), st.text(max_size=8), st.integers(50, 400).map(lambda n: "x" * n))
KINDS = {"INTEGER": values, "REAL": reals, "TEXT": texts}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[object, ...]]]:
    declared = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=12))
    pool = draw(
        st.lists(st.tuples(*(KINDS[d] for d in declared)), min_size=1, max_size=12)
    )  # rows that a larger table is made of
    count = draw(st.sampled_from([1, 20, 300, 2500]))
    rng = random.Random(draw(st.integers(0, 1000)))
    return declared, [rng.choice(pool) for _ in range(count)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    table=tables(),
    page_size=st.sampled_from([512, 1024, 4096, 65536]),
    vacuum=st.sampled_from([0, 1, 2]),
    changes=st.lists(st.sampled_from(["delete", "update", "add", "insert", "vacuum"]), max_size=3),
    seed=st.integers(0, 1000),
)
def test_equals_select(
    tmp_path: Path,
    table: tuple[list[str], list[tuple[object, ...]]],
    page_size: int,
    vacuum: int,
    changes: Sequence[str],
    seed: int,
) -> None:
    declared, rows = table
    path = tmp_path / "c.sqlite"
    names = [f"c{i}" for i in range(len(declared))]
    defined = ", ".join(f"{n} {d}" for n, d in zip(names, declared, strict=True))
    db = database(path, f"CREATE TABLE t({defined})", page_size=page_size, vacuum=vacuum)
    insert = f"INSERT INTO t({', '.join(names)}) VALUES({', '.join('?' * len(names))})"
    db.executemany(insert, rows)
    for step, change in enumerate(changes):
        if change == "delete":
            db.execute(f"DELETE FROM t WHERE (rowid * 7919 + {seed}) % 10 < 4")
        elif change == "update":
            db.execute(f"UPDATE t SET c0 = NULL WHERE (rowid + {seed}) % 3 = 0")
        elif change == "add":
            names.append(f"more{step}")
            declared = [*declared, "INTEGER"]
            db.execute(f"ALTER TABLE t ADD COLUMN {names[-1]} INTEGER")
        elif change == "vacuum":
            db.commit()
            db.execute("VACUUM")
        else:
            old = len(table[0])
            db.executemany(
                f"INSERT INTO t({', '.join(names[:old])}) VALUES({', '.join('?' * old)})", rows
            )
    db.commit()
    db.close()
    kinds = {"INTEGER": "int", "REAL": "real"}
    numbers = {n: kinds[d] for n, d in zip(names, declared, strict=True) if d in kinds}
    if numbers:
        expected = by_sqlite(path, "t", numbers)
        try:
            assert same(by_pages(path, "t", numbers), expected)
        except UnreadableError:
            # Only where a row of this page size is too long for its page.
            assert "TEXT" in declared or page_size == 512
    every = {n: kinds.get(d, "text") for n, d in zip(names, declared, strict=True)}
    with Capture(path) as fast, Capture(path, fast=False) as slow:
        assert fast.read("t", every).equals(slow.read("t", every))


# ---- what is left to SQLite


@pytest.mark.parametrize(
    ("script", "columns"),
    [
        (["CREATE TABLE t(a INTEGER PRIMARY KEY) WITHOUT ROWID"], {"a": "int"}),
        (["CREATE TABLE t(a INTEGER, b AS (a + 1))"], {"a": "int"}),
        (["CREATE TABLE t(a INTEGER, b AS (a + 1) STORED)"], {"b": "int"}),
        (["CREATE TABLE t(a INTEGER)", "INSERT INTO t VALUES('no number')"], {"a": "int"}),
        (["CREATE TABLE t(a INTEGER)", "INSERT INTO t VALUES(x'00')"], {"a": "real"}),
        (["CREATE TABLE t(a INTEGER)", "INSERT INTO t VALUES(0.5)"], {"a": "int"}),
        (["CREATE TABLE t(a REAL)", "INSERT INTO t VALUES(5)"], {"a": "int"}),
        (["CREATE TABLE t(s, a)", "INSERT INTO t VALUES(zeroblob(5000), 300)"], {"a": "int"}),
        (["CREATE TABLE t(a TEXT)", "INSERT INTO t VALUES(5)"], {"a": "int"}),
        (["CREATE TABLE t(a INTEGER, RowId INTEGER)", "INSERT INTO t VALUES(5, 7)"], {"a": "int"}),
        (["CREATE TABLE t(a INTEGER, rowid TEXT)", "INSERT INTO t VALUES(5, NULL)"], {"a": "int"}),
    ],
)  # fmt: skip
def test_leaves_to_sqlite(tmp_path: Path, script: list[str], columns: dict[str, str]) -> None:
    path = tmp_path / "c.sqlite"
    db = database(path, *script)
    with suppress(sqlite3.OperationalError):
        db.execute("INSERT INTO t(a) VALUES(3)")
    db.commit()
    db.close()
    assert refused(path, columns)
    with Capture(path) as fast, Capture(path, fast=False) as slow:
        assert fast.read("t", columns).equals(slow.read("t", columns))
        assert len(fast.read("t", columns)) > 0


def test_a_long_text_behind_the_columns_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    db = database(path, "CREATE TABLE t(a INTEGER, s TEXT)")
    db.executemany("INSERT INTO t VALUES(?, ?)", [(i, "x" * i * 50) for i in range(500)])
    db.commit()
    db.close()
    assert by_pages(path, "t", {"a": "int"})["a"].to_list() == list(range(500))


def test_goes_on_with_sqlite_where_the_pages_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_CHUNK_BYTES", 4096 * 3)
    path = tmp_path / "c.sqlite"
    db = database(path, "CREATE TABLE t(a INTEGER, s TEXT)")
    db.executemany(
        "INSERT INTO t(rowid, a, s) VALUES(?, ?, ?)",
        [(i * 5 - 3000, i, str(i)) for i in range(9000)],
    )
    db.execute("UPDATE t SET a = '12 and more' WHERE a = 8000")
    db.commit()
    db.close()
    columns = {"a": "int", "s": "text"}
    with Capture(path) as fast, Capture(path, fast=False) as slow:
        frames = list(fast.batches("t", columns))
        assert len(frames) > 5
        assert pl.concat(frames).equals(slow.read("t", columns))
    db = sqlite3.connect(path)
    db.execute("INSERT INTO t(rowid, a) VALUES(1 << 60, 1)")  # a large hole in the ids
    db.commit()
    db.close()
    with Capture(path) as fast, Capture(path, fast=False) as slow:
        assert fast.read("t", columns).equals(slow.read("t", columns))


def test_conditions_are_left_to_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    db = database(path, "CREATE TABLE t(a INTEGER)")
    db.executemany("INSERT INTO t VALUES(?)", [(i,) for i in range(100)])
    db.commit()
    db.close()
    with Capture(path) as capture:
        assert capture.read("t", {"a": "int"}, ["a >= 40", "a < 50"])["a"].to_list() == [
            *range(40, 50)
        ]


# ---- real captures


def declared_numbers(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        columns = {
            row[1]: "real" if row[2] == "REAL" else "int"
            for row in db.execute(f'PRAGMA table_info("{table}")')
            if row[2] in ("INTEGER", "REAL", "INT")
        }
        if columns:
            yield table, columns
    db.close()


def test_real_captures(capture: Path) -> None:
    for table, columns in declared_numbers(capture):
        try:
            found = by_pages(capture, table, columns)
        except UnreadableError:
            # Other tables may have long texts in front of numbers; none of the known captures does.
            assert not table.startswith("CUPTI_ACTIVITY_KIND_"), table
            continue
        assert same(found, by_sqlite(capture, table, columns)), table


def test_real_captures_through_capture(capture: Path) -> None:
    with Capture(capture) as fast, Capture(capture, fast=False) as slow:
        for table, columns in declared_numbers(capture):
            every = {c: columns.get(c, "text") for c in fast.tables[table]} | {"absent": "int"}
            assert fast.read(table, every).equals(slow.read(table, every)), table
