"""Small SQLite files, and their numbers read in two ways: by the pages and by SQLite."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl

from nsys2perfetto.nsys.btree import UnreadableError
from nsys2perfetto.nsys.pages import PageReader
from nsys2perfetto.nsys.sqlite_store import SqliteStore

DTYPES = {"int": pl.Int64(), "real": pl.Float64(), "text": pl.String()}
EDGES = [
    sign * ((1 << bits) + delta)
    for bits in (0, 1, 7, 8, 15, 16, 23, 24, 31, 32, 39, 40, 47, 48, 55, 56, 62)
    for delta in (-1, 0, 1)
    for sign in (1, -1)
] + [(1 << 63) - 1, -(1 << 63)]


def database(
    path: Path, *script: str, page_size: int = 4096, vacuum: int = 0
) -> sqlite3.Connection:
    """A new file that a Capture opens, with what the script makes."""
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA page_size = {page_size}")
    db.execute(f"PRAGMA auto_vacuum = {vacuum}")
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("CREATE TABLE StringIds(id INTEGER PRIMARY KEY, value TEXT)")
    for statement in script:
        db.execute(statement)
    return db


def by_sqlite(path: Path, table: str, columns: dict[str, str]) -> pl.DataFrame:
    """What a plain SELECT gives."""
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    db.text_factory = bytes
    try:
        names = ", ".join(f'"{c}"' for c in columns)
        rows = db.execute(f'SELECT {names} FROM "{table}"').fetchall()
    finally:
        db.close()
    convert = {"int": int, "real": float}
    series = []
    for i, (c, k) in enumerate(columns.items()):
        values = [None if row[i] is None else convert[k](row[i]) for row in rows]
        series.append(pl.Series(c, values, DTYPES[k], strict=True))
    return pl.DataFrame(series)


def by_pages(path: Path, table: str, columns: dict[str, str], rows: int = 1 << 40) -> pl.DataFrame:
    """What the reader gives; raises UnreadableError."""
    with contextlib.closing(SqliteStore(path, fast=False)) as store:
        reader = PageReader(path, store.sql)
        try:
            frames = [batch.frame for batch in reader.batches(table, columns, rows)]
        finally:
            reader.close()
    assert all(0 < len(frame) <= rows for frame in frames)
    empty = pl.DataFrame(schema={c: DTYPES[k] for c, k in columns.items()})
    return pl.concat([empty, *frames])


def same(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    """Equal bit for bit: types, order, nulls, the sign of zero."""
    if left.schema != right.schema or len(left) != len(right):
        return False
    for a, b in zip(left, right, strict=True):
        if not a.is_null().equals(b.is_null()):
            return False
        x, y = (s.fill_null(0).to_numpy().view(np.int64) for s in (a, b))
        if not np.array_equal(x, y):
            return False
    return True


def refused(path: Path, columns: dict[str, str], table: str = "t") -> bool:
    try:
        by_pages(path, table, columns)
    except UnreadableError:
        return True
    return False
