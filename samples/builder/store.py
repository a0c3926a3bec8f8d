"""Rows of an nsys export in memory, and writing them to SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from samples.builder.enums import ENUMS
from samples.builder.tables import Column, create_statement, known_columns, tables_in
from samples.builder.versions import canonical

_WRITER_VERSION_OFFSET = 96
"""Where an SQLite file's header names the library that wrote it (4 bytes, big-endian)."""


class UnknownTableError(ValueError):
    """The table does not exist in the chosen schema version."""


class UnknownColumnError(ValueError):
    """The table has no such column in any schema version."""


class Store:
    """The tables of one export, filled row by row, then written.

    Lazy like nsys: only tables that got rows (or were named to `touch`) are created.

    The rule for columns: one that the table has in *another* schema version is silently dropped,
    so the same calls can build the same run in every version; one that the table never had
    raises. Columns not named become NULL, or zero or '' where nsys declares them NOT NULL.

    Args:
        schema: Schema version, see `versions.PRODUCTS`.
        lazy: False creates every table of that version, empty ones too (`--lazy=false`).
    """

    def __init__(self, schema: str = "3.16.1", *, lazy: bool = True) -> None:
        self.schema = canonical(schema)
        self.lazy = lazy
        self.time_shift = 0
        """Nanoseconds added to every timestamp on writing."""
        self._tables = tables_in(self.schema)
        self._rows: dict[str, list[Sequence[Any]]] = {}
        self._strings: dict[str | bytes, int] = {}

    def has_table(self, table: str) -> bool:
        """Whether this schema version knows the table."""
        return table in self._tables

    def has_column(self, table: str, column: str) -> bool:
        """Whether this schema version knows the column."""
        return any(c.name == column for c in self._tables.get(table, ()))

    def string(self, value: str | bytes) -> int:
        """The id of a string in StringIds, a new one at its first use; ids start at 1.

        Bytes are stored as TEXT too, valid UTF-8 or not.
        """
        return self._strings.setdefault(value, len(self._strings) + 1)

    def touch(self, *tables: str) -> None:
        """Creates the tables even if they stay empty."""
        for table in tables:
            self._columns(table)
            self._rows.setdefault(table, [])

    def count(self, table: str) -> int:
        """How many rows a table has so far."""
        return len(self._rows.get(table, ()))

    def row(self, table: str, **values: Any) -> None:
        """Adds one row.

        Raises:
            UnknownTableError: This schema version has no such table.
            UnknownColumnError: No version of the table has such a column.
        """
        columns = self._columns(table)
        self._check(table, values, columns)
        self._rows.setdefault(table, []).append([values.get(c.name, c.default) for c in columns])

    def bulk(self, table: str, count: int, **values: Any) -> None:
        """Adds `count` rows given by columns: each value a list (or array) of them, or one for all.

        Raises:
            UnknownTableError: This schema version has no such table.
            UnknownColumnError: No version of the table has such a column.
        """
        columns = self._columns(table)
        self._check(table, values, columns)
        lists: list[Iterable[Any]] = []
        for column in columns:
            value: Any = values.get(column.name, column.default)
            value = value.tolist() if hasattr(value, "tolist") else value
            lists.append(value if isinstance(value, list) else [value] * count)
        self._rows.setdefault(table, []).extend(zip(*lists, strict=True))

    def reshape(self, table: str, drop: Iterable[str] = (), add: Iterable[str] = ()) -> None:
        """Gives a table other columns than its schema version has: exports that tools edited.

        Call it before the first row. `add` uses the words of `tables.TABLES`, e.g. "kernel_name:T".
        """
        from samples.builder.tables import Table  # noqa: PLC0415  (used by this method only)

        dropped = set(drop)
        kept = [c for c in self._columns(table) if c.name not in dropped]
        self._tables[table] = (*kept, *Table(table, " ".join(add)).all_columns())

    def row_counts(self) -> dict[str, int]:
        """The number of rows of each table that has any; without StringIds and enumerations."""
        return {table: len(rows) for table, rows in self._rows.items() if rows}

    def write(self, path: Path, *, vacuum: bool = False) -> Path:
        """Writes the SQLite file, replacing one that is there.

        The bytes depend on the rows only (and on SQLite's page layout): the header field that
        names the SQLite version is set to zero.
        """
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=OFF")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("BEGIN")
            self._write_tables(connection)
            connection.execute("COMMIT")
            if vacuum:
                connection.execute("VACUUM")
        finally:
            connection.close()
        with path.open("r+b") as file:
            file.seek(_WRITER_VERSION_OFFSET)
            file.write(bytes(4))
        return path

    def _columns(self, table: str) -> tuple[Column, ...]:
        try:
            return self._tables[table]
        except KeyError:
            raise UnknownTableError(f"schema {self.schema} has no table {table}") from None

    def _check(self, table: str, values: dict[str, Any], columns: tuple[Column, ...]) -> None:
        unknown = values.keys() - {c.name for c in columns} - known_columns(table)
        if unknown:
            raise UnknownColumnError(f"{table} never had {', '.join(sorted(unknown))}")

    def _write_tables(self, connection: sqlite3.Connection) -> None:
        rows = dict(self._rows)
        if self._strings:
            rows["StringIds"] = [(i, text) for text, i in self._strings.items()]
        for name, columns in self._tables.items():
            if self.lazy and name not in rows:
                continue
            connection.execute(create_statement(name, columns))
            marks = ",".join("CAST(? AS TEXT)" if c.type == "TEXT" else "?" for c in columns)
            connection.executemany(
                f"INSERT INTO {name} VALUES ({marks})", self._shifted(columns, rows.get(name, []))
            )
        for enum in ENUMS:
            if enum.exists_in(self.schema, set(rows)):
                connection.execute(
                    f"CREATE TABLE {enum.name} (id INTEGER NOT NULL PRIMARY KEY, name TEXT, "
                    "label TEXT)"
                )
                connection.executemany(f"INSERT INTO {enum.name} VALUES (?,?,?)", enum.rows)

    def _shifted(
        self, columns: tuple[Column, ...], rows: list[Sequence[Any]]
    ) -> Iterable[Sequence[Any]]:
        if not self.time_shift:
            return rows
        times = {number for number, column in enumerate(columns) if column.time}
        shift = self.time_shift
        return (
            [v + shift if n in times and v is not None else v for n, v in enumerate(row)]
            for row in rows
        )
