"""Numbers straight from an SQLite file's pages, five to ten times as fast as through SQLite.

SQLite hands out one value at a time, which costs about 45 ns each however they are fetched; a
capture of a million kernels has 25 million. Here about a thousand pages at a time become columns by
NumPy (`nsys.btree` finds the rows, `nsys.records` takes them apart). Only what is plain is read so:
integers and real numbers of ordinary tables. Everything else raises UnreadableError, and the caller
asks SQLite, which also knows how to say what is wrong with a damaged file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from nsys2perfetto.nsys.btree import PADDING, DamagedError, PageFile, UnreadableError
from nsys2perfetto.nsys.records import Column, Dtype, Records, decode, records

Kind = Literal["int", "real"]

# What is read at a time: few enough rows that the arrays made of them stay in the cache (with eight
# times as many, each takes 1.8 times as long), many enough that the calls of NumPy do not count.
_CHUNK_ROWS = 50_000
_CHUNK_BYTES = 1 << 22

_DTYPES: dict[Kind, Dtype] = {"int": np.int64, "real": np.float64}


@dataclass(frozen=True)
class Batch:
    """Some rows.

    Attributes:
        frame: Int64 and Float64 columns.
        first, last: rowid of the first and of the last row.
    """

    frame: pl.DataFrame
    first: int
    last: int


@dataclass(frozen=True)
class _Layout:
    """How the rows of one table are stored.

    Attributes:
        root: Number of the page where its tree begins.
        place: Where each column is in the record.
        defaults: Of each column, whether rows may lack it because it was added with a default.
        real: Of each column, whether SQLite makes real numbers of integers in it.
        rowid: Which column is the rowid by another name (INTEGER PRIMARY KEY), if one is.
    """

    root: int
    place: dict[str, int]
    defaults: list[bool]
    real: list[bool]
    rowid: str | None


class _ColumnInfo(NamedTuple):
    """One column, as SQLite describes it."""

    root: int
    name: str
    type: str
    hidden: int
    pk: int
    has_default: int
    has_index: int


class PageReader:
    """Reads tables of an open capture.

    Args:
        path: The file.
        sql: Runs a query on it; only the schema is asked for.

    Raises:
        UnreadableError, OSError: The file cannot be read this way.
    """

    def __init__(self, path: Path, sql: Callable[[str], pl.DataFrame]) -> None:
        self._sql = sql
        self._schema: dict[str, list[_ColumnInfo]] | None = None
        self._file = PageFile(path)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def check(self, root: int) -> None:
        """Looks for a page that a table has twice.

        Args:
            root: Number of the table's first page.

        Raises:
            DamagedError: There is one.
            UnreadableError, OSError: The table cannot be read this way.
        """
        try:
            self._file.leaves(root)
        except IndexError:
            raise UnreadableError("a cell outside of the pages") from None

    def batches(self, table: str, columns: Mapping[str, Kind], rows: int) -> Iterator[Batch]:
        """Reads columns of a table, in order of rowid.

        Args:
            table: Its name.
            columns: Name to kind; a column that the table lacks is all null.
            rows: The most rows that a batch may have.

        Raises:
            UnreadableError, OSError: The table, or the rest of it, cannot be read this way. What
                was handed out before is right.
            DamagedError: Nobody should read it.
        """
        layout = self._layout(table)
        wanted: dict[int, Dtype] = {}
        for name, kind in columns.items():
            place = layout.place.get(name)
            if place is None or name == layout.rowid:
                continue
            if kind == "int" and layout.real[place]:
                raise UnreadableError("an integer from a column of real numbers")
            wanted[place] = _DTYPES[kind]
        last = None
        for found in self._records(layout.root):
            if last is not None and found.rowid[0] <= last:
                raise DamagedError("rows are not in order")
            last = int(found.rowid[-1])
            try:
                values = decode(found, wanted, layout.defaults)
            except IndexError:
                raise UnreadableError("a value outside of the pages") from None
            by_name = {n: values[p] for n, p in layout.place.items() if p in values}
            if layout.rowid:
                by_name[layout.rowid] = Column(found.rowid)
            make = _SeriesMaker(len(found))
            frame = pl.DataFrame([make(n, k, by_name.get(n)) for n, k in columns.items()])
            for offset in range(0, len(frame), rows):
                ids = found.rowid[offset : offset + rows]
                yield Batch(frame[offset : offset + rows], int(ids[0]), int(ids[-1]))

    def _records(self, root: int) -> Iterator[Records]:
        """The rows of the table with this root page; the memory of each part serves the next."""
        file = self._file
        self.check(root)
        pages = file.leaves(root)
        most = max(1, _CHUNK_BYTES // file.page_size)
        buffer = np.zeros(min(most, len(pages)) * file.page_size + PADDING, np.uint8)
        start, count = 0, max(1, most // 4)
        while start < len(pages):
            try:
                cells = file.cells(
                    pages[start : start + count], buffer, may_be_empty=len(pages) == 1
                )
                if not len(cells.at):
                    return
                found = records(file, cells)
            except IndexError:
                raise UnreadableError("a cell outside of the pages") from None
            yield found
            start += count
            count = min(max(1, count * _CHUNK_ROWS // len(found)), most)

    def _layout(self, table: str) -> _Layout:
        """What the schema says about a table."""
        if self._schema is None:
            # One query for all tables: each costs more than reading a small table does.
            schema = self._sql(
                "SELECT m.name AS tab, m.rootpage AS root, x.name AS col, x.type AS type, "
                "x.hidden AS hidden, x.pk AS pk, x.dflt_value IS NOT NULL AS has_default, "
                "CASE WHEN x.pk THEN EXISTS(SELECT 1 FROM pragma_index_list(m.name) "
                "WHERE origin = 'pk') ELSE 0 END AS has_index "
                "FROM sqlite_master m, pragma_table_xinfo(m.name) x "
                "WHERE m.type = 'table' ORDER BY m.rowid, x.cid"
            )
            self._schema = {}
            for name, *column in schema.iter_rows():
                self._schema.setdefault(name, []).append(_ColumnInfo(*column))
        columns = self._schema.get(table, [])
        if not columns or not isinstance(columns[0].root, int):
            raise UnreadableError("not a table with pages of its own")
        if any(c.name.lower() == "rowid" for c in columns):
            raise UnreadableError("the name of the rowid is taken")
        if any(c.hidden for c in columns):
            raise UnreadableError("columns that are not stored")
        keys = [c for c in columns if c.pk]
        # An INTEGER PRIMARY KEY that is not the rowid (it says DESC) has an index of its own.
        is_rowid = len(keys) == 1 and keys[0].type.upper() == "INTEGER" and not keys[0].has_index
        return _Layout(
            root=columns[0].root,
            place={c.name: i for i, c in enumerate(columns)},
            defaults=[bool(c.has_default) for c in columns],
            real=[_is_real(c.type.upper()) for c in columns],
            rowid=keys[0].name if is_rowid else None,
        )


def _is_real(declared: str) -> bool:
    """Whether a column has REAL affinity (sqlite.org/datatype3.html, section 3.1)."""
    if any(word in declared for word in ("INT", "CHAR", "CLOB", "TEXT", "BLOB")):
        return False
    return any(word in declared for word in ("REAL", "FLOA", "DOUB"))


class _SeriesMaker:
    """Makes series of one length; those that have one value all over share their memory."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._constant: dict[tuple[Kind, int | None], pl.Series] = {}

    def __call__(self, name: str, kind: Kind, column: Column | None) -> pl.Series:
        """The column as a series; all null where there is none."""
        values = column.values if column else None
        if not isinstance(values, np.ndarray):
            return self._repeated(kind, values).alias(name)
        series = pl.Series(name, values.astype(_DTYPES[kind], copy=False))
        null = column.null if column else None
        return series if null is None else series.set(pl.Series(null), None)

    def _repeated(self, kind: Kind, value: int | None) -> pl.Series:
        key = kind, value
        if key not in self._constant:
            dtype = _DTYPES[kind]
            self._constant[key] = (
                pl.Series(np.empty(0, dtype)).clear(self._length)
                if value is None
                else pl.Series(np.full(self._length, value, dtype))
            )
        return self._constant[key]
