"""Tables from a folder of Parquet or Arrow files, one a table (`nsys.folder`).

Polars reads them, and only the columns that are wanted. They hold the types that nsys has for its
values (UInt8 to UInt64, Float64, strings), where SQLite has three; here they become those three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl

from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys import folder, source, store
from nsys2perfetto.nsys.folder import TableFile
from nsys2perfetto.nsys.printable import printable
from nsys2perfetto.nsys.store import DTYPES, MAX_TEXT, Columns, Kind
from nsys2perfetto.nsys.text import to_text

_ROW = "number of the row"
"""Name of a column of row numbers: no table has it."""


class FolderStore:
    """The tables of one folder.

    Args:
        path: The folder.

    Raises:
        CaptureError: It is no export of nsys, or a file in it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = folder.tables(path)
        self._identity = self._now()
        self.tables = {table: _columns(file) for table, file in self._files.items()}
        self.size = sum(file.size for file in self._files.values())

    def close(self) -> None:
        """Nothing stays open."""

    def check_unchanged(self) -> None:
        """Raises a CaptureError if a table of the folder came, went, or was written."""
        try:
            same = folder.tables(self._path).keys() == self._files.keys()
            same = same and self._now() == self._identity
        except (CaptureError, OSError):
            same = False
        if not same:
            raise CaptureError(
                f"{printable(str(self._path))} was changed while it was read: wait until no other "
                f"program writes it"
            )

    def _now(self) -> list[tuple[int, ...]]:
        return [source.identity(file.path) for file in self._files.values()]

    def views(self) -> list[str]:
        """A folder has none."""
        return []

    def count(self, table: str, where: Sequence[str]) -> int:
        """How many rows of a table fulfil all conditions."""
        if where:
            return sum(len(part) for part in self._parts(table, [], where))
        if not self.tables[table]:
            return 0
        file = self._files[table]
        with _opened(file) as opened, _failing_clearly(file):
            return _rows(_scan(file, opened, self.tables[table][:1]))

    def batches(self, table: str, columns: Columns, where: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Columns of a table, at most ROWS_PER_BATCH rows at a time, none empty."""
        for part in self._parts(table, list(columns), where):
            yield pl.DataFrame([_of_kind(part, name, kind) for name, kind in columns.items()])

    def _parts(
        self, table: str, columns: Sequence[str], where: Sequence[str]
    ) -> Iterator[pl.DataFrame]:
        """The same as the file has them: only columns that exist, and of their own types."""
        conditions = [pl.sql_expr(text) for text in where]
        tested = list(dict.fromkeys(c for e in conditions for c in e.meta.root_names()))
        existing = self.tables[table]
        # Where no column is wanted, one is read all the same: something must tell the rows.
        names = [c for c in existing if c in columns or c in tested] or existing[:1]
        if not names:
            return
        file = self._files[table]
        with _opened(file) as opened:
            with _failing_clearly(file):
                rows = _scan(file, opened, names)
                total = _rows(rows)
            for start in range(0, total, store.ROWS_PER_BATCH):
                with _failing_clearly(file):
                    part = rows.slice(start, store.ROWS_PER_BATCH).collect()
                    if conditions:
                        part = part[_chosen(part, tested, conditions)]
                if len(part):
                    yield part


def _chosen(part: pl.DataFrame, tested: Sequence[str], conditions: Sequence[pl.Expr]) -> pl.Series:
    """Numbers of the rows that fulfil all conditions, which are about integers and texts."""
    numbers = pl.int_range(len(part), dtype=pl.UInt32, eager=True).alias(_ROW)
    kinds: dict[str, Kind] = {
        name: "text" if part.schema.get(name) == pl.String else "int" for name in tested
    }
    frame = pl.DataFrame([numbers, *(_of_kind(part, c, kind) for c, kind in kinds.items())])
    return frame.filter(*conditions)[_ROW]


def _of_kind(part: pl.DataFrame, name: str, kind: Kind) -> pl.Series:
    """A column as one of the three types; what is of no such type, as SQLite has none, is null."""
    nothing = pl.repeat(None, len(part), dtype=DTYPES[kind], eager=True).alias(name)
    if name not in part.columns:
        return nothing
    values = part[name]
    if values.dtype == pl.Boolean:
        values = values.cast(pl.UInt8)  # SQLite has numbers instead
    if values.dtype.is_nested() or (kind != "text" and values.dtype == pl.Binary):
        return nothing
    if kind == "text":
        return to_text(values).str.slice(0, MAX_TEXT)
    if kind == "int" and values.dtype == pl.UInt64:
        return values.reinterpret(signed=True)
    values = values.cast(DTYPES[kind], strict=False)
    return values.fill_nan(None) if kind == "real" else values  # SQLite has no NaN


def _columns(file: TableFile) -> list[str]:
    with _opened(file) as opened, _failing_clearly(file):
        if file.format == "Parquet":
            return list(pl.read_parquet_schema(opened))
        if file.format == "Arrow file":
            return list(pl.read_ipc_schema(opened))
        return pl.read_ipc_stream(opened, n_rows=0).columns


def _scan(file: TableFile, opened: IO[bytes], columns: Sequence[str]) -> pl.LazyFrame:
    """Columns of a file, of which parts can be read; a stream is read at once.

    Polars gets open files, since names of files may hold what it takes for patterns, or no text.
    """
    if file.format == "Parquet":
        return pl.scan_parquet(opened).select(columns)
    if file.format == "Arrow file":
        return pl.scan_ipc(opened).select(columns)
    return pl.read_ipc_stream(opened, columns=list(columns)).lazy().select(columns)


def _rows(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect().item())


def _opened(file: TableFile) -> IO[bytes]:
    try:
        return file.path.open("rb")
    except OSError as error:
        raise _failure(file, error) from None


@contextmanager
def _failing_clearly(file: TableFile) -> Iterator[None]:
    """Whatever Polars says, and its panics, which are no Exception, as a CaptureError."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _failure(file, error) from None


def _failure(file: TableFile, error: BaseException) -> CaptureError:
    name = printable(str(file.path))
    if isinstance(error, FileNotFoundError):
        return CaptureError(f"{name} was removed while the capture was read")
    if isinstance(error, PermissionError):
        return CaptureError(f"{name}: no permission to read it")
    text = printable(str(error).partition("\n")[0])[:200]
    if "utf-8" in text.lower():
        return CaptureError(
            f"{name} holds text that is not UTF-8, which Polars does not read: export the report "
            f"with --type=sqlite instead"
        )
    return CaptureError(f"{name} is damaged ({file.format}: {text}): export it again")
