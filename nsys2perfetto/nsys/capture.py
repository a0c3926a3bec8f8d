"""An open capture: its tables and columns, and their rows as Polars frames.

What kind of file it is, is known here only: a store (`nsys.store`) reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from nsys2perfetto.nsys import source
from nsys2perfetto.nsys.folder_store import FolderStore
from nsys2perfetto.nsys.sqlite_store import SqliteStore
from nsys2perfetto.nsys.store import DTYPES, Columns, Kind, Store

__all__ = ["Capture", "Columns", "Kind"]


class Capture:
    """An export of nsys, open for reading: an SQLite file, or a folder of Parquet or Arrow files.

    Args:
        path: The file or folder.
        fast: False has SQLite read everything. The values are the same: this is for tests.

    Attributes:
        path: The file or folder.
        name: The same, as it can be printed.
        size: Bytes on disk.
        tables: Column names of each table, both as the file spells them.

    Use it as a context manager. Every failure is raised as a CaptureError.

    Conditions (`where`) are SQL about columns of integers and texts, in the part of it that SQLite
    and Polars (`polars.sql_expr`) read alike: comparisons, AND, OR, NOT, IN with at least one
    value, `&`, coalesce, CASE, and LIKE where capital letters do not matter; no shifts, and FALSE
    instead of 0.
    """

    def __init__(self, path: str | Path, *, fast: bool = True) -> None:
        self.path = Path(path)
        self.name = source.printable(str(self.path))
        source.check(self.path)
        self._store: Store = (
            FolderStore(self.path) if self.path.is_dir() else SqliteStore(self.path, fast=fast)
        )
        self.tables = self._store.tables
        self.size = self._store.size

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._store.close()

    def check_unchanged(self) -> None:
        """Raises a CaptureError if the file is not any more what it was when it was opened.

        Of a file that is being written some tables would be new and others old.
        """
        self._store.check_unchanged()

    def has(self, table: str, *columns: str) -> bool:
        """Whether the table exists and has all these columns."""
        return table in self.tables and set(columns) <= set(self.tables[table])

    def views(self) -> list[str]:
        """Views and virtual tables, which are not read: each may be a query without an end."""
        return self._store.views()

    def count(self, table: str, where: str = "") -> int:
        """How many rows a table has; 0 where it does not exist."""
        return self._store.count(table, [where] if where else []) if table in self.tables else 0

    def batches(
        self, table: str, columns: Columns, where: Sequence[str] = ()
    ) -> Iterator[pl.DataFrame]:
        """Reads columns of a table in the file's order, at most `store.ROWS_PER_BATCH` rows a time.

        Args:
            table: One that is not there has no rows.
            columns: Name to kind; a column that the table lacks is all null. `int` is Int64 (an
                unsigned 64-bit value above 2^63 comes negative, as SQLite stores it), `real` is
                Float64, `text` is String with invalid UTF-8 replaced.
            where: Conditions, all of which must hold.

        Raises:
            CaptureError: The file is damaged.
        """
        if table in self.tables:
            yield from self._store.batches(table, columns, where)

    def read(self, table: str, columns: Columns, where: Sequence[str] = ()) -> pl.DataFrame:
        """Reads columns of a table whole; see `batches`. An absent table gives an empty frame."""
        frames = list(self.batches(table, columns, where))
        if frames:
            return pl.concat(frames)
        return pl.DataFrame(schema={name: DTYPES[kind] for name, kind in columns.items()})
