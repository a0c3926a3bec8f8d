"""Tables from the SQLite export of nsys.

Numbers come straight from the file's pages where possible (`nsys.pages`); all else, and whatever is
unusual, comes from SQLite as Arrow batches through ADBC (`adbc-driver-sqlite`), without a Python
object a value. The file is opened `immutable`: SQLite takes no lock, reads no journal and creates
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import adbc_driver_manager as adbc
import adbc_driver_sqlite
import polars as pl

from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys import source, store
from nsys2perfetto.nsys.btree import DamagedError, UnreadableError
from nsys2perfetto.nsys.known_tables import are_of_nsys
from nsys2perfetto.nsys.pages import PageReader
from nsys2perfetto.nsys.store import DTYPES, MAX_TEXT, Columns, Kind
from nsys2perfetto.nsys.text import to_text

_ADBC_BATCH = str(65536)

_LONGEST_PATH = 512
"""Bytes of a path, with its end, that SQLite can open (sqlite.org/src, os_unix.c: MAX_PATHNAME)."""

_IS_TABLE = "m.type = 'table' AND coalesce(m.rootpage, 0) > 0"
"""In sqlite_master `m`: rows that are stored. A view could say anything, even without an end."""


class SqliteStore:
    """The tables of one file.

    Args:
        path: The file.
        fast: False has SQLite read everything. The values are the same: this is for tests.

    Raises:
        CaptureError: The file is damaged, locked, or no export of nsys.
    """

    def __init__(self, path: Path, *, fast: bool = True) -> None:
        self._path = path
        self._name = source.printable(str(path))
        self._identity = source.identity(path)
        self.size = path.stat().st_size
        try:
            self._database = adbc_driver_sqlite.connect(source.uri(path))
            self._connection = adbc.AdbcConnection(self._database)
        except adbc.Error as error:
            if len(os.fsencode(path.absolute())) >= _LONGEST_PATH:
                raise CaptureError(
                    f"{self._name}: SQLite opens no file whose path has {_LONGEST_PATH} bytes or "
                    f"more: move it to another folder"
                ) from None
            raise self._failure(error) from None
        self._pages: PageReader | None = None
        try:
            self.tables, roots = self._probe()
            if fast:
                with suppress(UnreadableError, OSError):
                    self._pages = PageReader(path, self.sql)
                    self._check_trees(self._pages, roots)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        if self._pages:
            self._pages.close()
        self._connection.close()
        self._database.close()

    def check_unchanged(self) -> None:
        """Raises a CaptureError if the file is not any more what it was when it was opened.

        Of a file that is being written some tables would be new and others old.
        """
        with suppress(FileNotFoundError):  # what is open can be read to its end
            if source.identity(self._path) != self._identity:
                raise CaptureError(
                    f"{self._name} was changed while it was read: wait until no other program "
                    f"writes it"
                )

    def _probe(self) -> tuple[dict[str, list[str]], list[int]]:
        """Columns of each table, and where the tables begin."""
        columns = self.sql(
            "SELECT m.name AS tab, c.name AS col, CAST(m.rootpage AS INTEGER) AS root "
            "FROM sqlite_master m, pragma_table_info(m.name) c "
            f"WHERE {_IS_TABLE} ORDER BY m.rowid, c.cid"
        )
        tables: dict[str, list[str]] = {}
        roots: set[int] = set()
        if len(columns):
            names = columns.select(
                pl.col("tab").cast(pl.String), pl.col("col").cast(pl.String), "root"
            )
            for table, column, root in names.filter(~_odd("tab") & ~_odd("col")).iter_rows():
                tables.setdefault(table, []).append(column)
                roots.add(root)
        if not are_of_nsys(tables):
            raise CaptureError(
                f"{self._name} is an SQLite file but not an nsys export: it has none of nsys' "
                f"tables"
            )
        return tables, sorted(roots)

    def _check_trees(self, pages: PageReader, roots: Sequence[int]) -> None:
        """Finds tables that contain themselves, whose rows SQLite might count for ever."""
        for root in roots:
            try:
                pages.check(root)
            except DamagedError as error:
                raise self._damaged(error) from None
            except UnreadableError:
                continue  # a table of another kind, or damage that SQLite sees

    def views(self) -> list[str]:
        """Views and virtual tables, which are not read: each may be a query without an end."""
        found = self.sql(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
            f"AND NOT ({_IS_TABLE.replace('m.', '')}) ORDER BY rowid"
        )
        return to_text(found["name"]).drop_nulls().to_list()

    def sql(self, query: str) -> pl.DataFrame:
        """Runs one query; the types are SQLite's, text is valid whatever the file holds.

        Raises:
            CaptureError: The file is damaged, or the query does not fit it.
        """
        try:
            with adbc.AdbcStatement(self._connection) as statement:
                statement.set_options(**{"adbc.sqlite.query.batch_rows": _ADBC_BATCH})
                statement.set_sql_query(query)
                stream, _ = statement.execute_query()
                frame = pl.DataFrame(stream)
                # The driver says of any bytes of a TEXT that they are UTF-8.
                return frame.with_columns(to_text(frame[c].cast(pl.Binary)) for c in _texts(frame))
        except (adbc.Error, pl.exceptions.PolarsError) as error:
            raise self._failure(error) from None

    def count(self, table: str, where: Sequence[str]) -> int:
        """How many rows of a table fulfil all conditions."""
        query = f"SELECT count(*) AS n FROM {_quoted(table)}{_where(where)}"
        return int(self.sql(query)["n"][0])

    def batches(self, table: str, columns: Columns, where: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Columns of a table, at most ROWS_PER_BATCH rows at a time, none empty."""
        last: int | None = None
        if not where:
            # What cannot be read from the pages is left to SQLite, from there on where it begins.
            try:
                for frame, last in self._from_pages(table, columns):  # noqa: B007
                    yield frame
                return
            except DamagedError as error:
                raise self._damaged(error) from None
            except (UnreadableError, OSError, CaptureError):
                pass
        for rows in self._row_ranges(table, last):
            frame = self._read(table, columns, [*rows, *where])
            if len(frame):
                yield frame

    def _from_pages(self, table: str, columns: Columns) -> Iterator[tuple[pl.DataFrame, int]]:
        """Batches and the last rowid of each. Text is SQLite's part, for the same rows."""
        present = set(self.tables[table])
        numbers = {c: k for c, k in columns.items() if k != "text"}
        texts = {c: k for c, k in columns.items() if k == "text"}
        if self._pages is None or present.isdisjoint(numbers):
            raise UnreadableError("nothing to gain")
        for batch in self._pages.batches(table, numbers, store.ROWS_PER_BATCH):
            frame = batch.frame
            if texts:
                rows = f"rowid BETWEEN {batch.first} AND {batch.last}"
                rest = self._read(table, texts, [rows])
                if len(rest) != len(frame):
                    raise UnreadableError("SQLite finds other rows")
                frame = frame.hstack(rest).select(columns.keys())
            yield frame, batch.last

    def _row_ranges(self, table: str, last: int | None) -> Iterator[list[str]]:
        """Conditions that hold for about ROWS_PER_BATCH rows each; none for a whole table.

        Args:
            table: Its name.
            last: rowid of the row to begin behind; None for all rows.
        """
        behind = [] if last is None else [f"rowid > {last}"]
        if any(column.lower() == "rowid" for column in self.tables[table]):
            yield behind  # the name means that column
            return
        try:
            span = self.sql(
                f"SELECT min(rowid) AS a, max(rowid) AS b FROM {_quoted(table)}" + _where(behind)
            )
            low, high = span["a"][0], span["b"][0]
        except CaptureError:
            yield behind  # a table without rowid
            return
        if low is None:
            return
        if not isinstance(low, int) or not isinstance(high, int):
            yield behind
            return
        if high - low > 100 * store.ROWS_PER_BATCH and high - low > 4 * self.count(table, []):
            yield behind  # ids with large holes: not how nsys numbers rows
            return
        for start in range(low, high + 1, store.ROWS_PER_BATCH):
            yield [f"rowid BETWEEN {start} AND {min(start + store.ROWS_PER_BATCH - 1, high)}"]

    def _read(self, table: str, columns: Columns, where: Sequence[str]) -> pl.DataFrame:
        present = set(self.tables[table])

        def query(cast: bool) -> str:
            return (
                "SELECT "
                + ", ".join(_expression(c, k, c in present, cast) for c, k in columns.items())
                + f" FROM {_quoted(table)}"
                + _where(where)
            )

        # Columns hold what they declare in every real export. A cast costs a tenth of the reading
        # time, so it is left to the files where a value is of another type.
        try:
            frame = self.sql(query(cast=False))
            lies = any(
                frame[c].dtype != _RAW_DTYPES[k] and frame[c].null_count() < len(frame)
                for c, k in columns.items()
            )
        except CaptureError:
            lies = True
        if lies:
            frame = self.sql(query(cast=True))
        return frame.select(
            to_text(frame[c]) if k == "text" else frame[c].cast(DTYPES[k])
            for c, k in columns.items()
        )

    def _damaged(self, error: DamagedError) -> CaptureError:
        return CaptureError(f"{self._name} is damaged ({error}): export it again")

    def _failure(self, error: Exception) -> CaptureError:
        text = str(error).lower()
        if (
            "malformed" in text
            or "corrupt" in text
            or "disk i/o" in text
            or "not a database" in text
        ):
            return CaptureError(
                f"{self._name} is damaged (SQLite: {_short(error)}): export it again"
            )
        if "locked" in text or "busy" in text:
            return CaptureError(
                f"{self._name} is locked: another program is writing it; wait until it has finished"
            )
        return CaptureError(f"{self._name}: SQLite cannot read it: {_short(error)}")


_RAW_DTYPES: dict[Kind, pl.DataType] = {
    "int": pl.Int64(),
    "real": pl.Float64(),
    "text": pl.Binary(),
}
_SQL_TYPES: dict[Kind, str] = {"int": "INTEGER", "real": "REAL", "text": "BLOB"}


def _expression(column: str, kind: Kind, present: bool, cast: bool) -> str:
    name = _quoted(column)
    if not present:
        return f"NULL AS {name}"
    if kind == "text":
        return f"CAST(substr({name}, 1, {MAX_TEXT}) AS BLOB) AS {name}"
    return f"CAST({name} AS {_SQL_TYPES[kind]}) AS {name}" if cast else name


def _texts(frame: pl.DataFrame) -> list[str]:
    return [name for name, kind in frame.schema.items() if kind == pl.String]


def _odd(name: str) -> pl.Expr:
    """Whether a name is none by which SQLite would find anything: it was no text."""
    return pl.col(name).str.contains("[\0\ufffd]")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _where(conditions: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(f"({c})" for c in conditions) if conditions else ""


def _short(error: Exception) -> str:
    return source.printable(str(error).splitlines()[0])[:200]
