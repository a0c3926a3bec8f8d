"""Folders like those of `nsys export --type=parquetdir` and `--type=arrowdir`, from SQLite exports.

Types are as narrow as the values allow, so that a test sees many of them; nsys' own are not known
(docs/cli.md#folders). Null is null in all of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import polars as pl

Writer = Callable[[pl.DataFrame, Path], None]


def _parquet(frame: pl.DataFrame, path: Path) -> None:
    # Several row groups, as large tables have.
    frame.write_parquet(path.with_suffix(".parquet"), row_group_size=1000)


def _arrow(frame: pl.DataFrame, path: Path) -> None:
    arrow = path.with_suffix(".arrow")
    frame.write_ipc(arrow, compression="zstd", compat_level=pl.CompatLevel.oldest())


def _stream(frame: pl.DataFrame, path: Path) -> None:
    arrow = path.with_suffix(".arrow")
    frame.write_ipc_stream(arrow, compression="lz4", compat_level=pl.CompatLevel.oldest())


WRITERS: dict[str, Writer] = {"parquet": _parquet, "arrow": _arrow, "stream": _stream}

_UNSIGNED = ("globalTid", "globalPid", "globalVid", "endGlobalTid", "uint64Value", "address")
"""Columns in which SQLite's negative numbers are unsigned ones above 2^63."""


def export(capture: Path, folder: Path, form: str) -> Path:
    """Writes each table of an SQLite export to a file of its own.

    Args:
        capture: The SQLite export.
        folder: Where to; it must not exist.
        form: Key of `WRITERS`.
    """
    folder.mkdir()
    with closing(sqlite3.connect(f"file:{capture}?mode=ro", uri=True)) as database:
        database.text_factory = lambda data: data.decode(errors="replace")
        names = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
        ).fetchall()
        for (table,) in names:
            WRITERS[form](_table(database, table), folder / table)
    return folder


def _table(database: sqlite3.Connection, table: str) -> pl.DataFrame:
    declared = database.execute(f'SELECT name, type FROM pragma_table_info("{table}")').fetchall()
    columns = [_column(database, table, name, kind.upper()) for name, kind in declared]
    return pl.DataFrame(columns)


def _column(database: sqlite3.Connection, table: str, name: str, declared: str) -> pl.Series:
    def values(kind: str) -> list[object]:
        query = f'SELECT CAST("{name}" AS {kind}) FROM "{table}" ORDER BY rowid'
        return [value for (value,) in database.execute(query)]

    if "INT" in declared or "BOOL" in declared:
        return _narrow(pl.Series(name, values("INTEGER"), dtype=pl.Int64), name)
    if "REAL" in declared or "FLOAT" in declared or "DOUBLE" in declared:
        return pl.Series(name, values("REAL"), dtype=pl.Float64)
    if "BLOB" in declared:
        return pl.Series(name, values("BLOB"), dtype=pl.Binary)
    return pl.Series(name, values("TEXT"), dtype=pl.String)


def _narrow(values: pl.Series, name: str) -> pl.Series:
    low, high = values.min(), values.max()
    if low is None:
        return values.cast(pl.UInt8)
    if low < 0:
        return values.reinterpret(signed=False) if name in _UNSIGNED else values
    if values.n_unique() <= 2 and high == 1:
        return values.cast(pl.Boolean)
    for dtype, bits in ((pl.UInt8, 8), (pl.UInt16, 16), (pl.UInt32, 32)):
        if high < 1 << bits:
            return values.cast(dtype)
    return values.cast(pl.UInt64)
