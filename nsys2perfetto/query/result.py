"""What a query answers: rows, and frames of Polars, pandas and Arrow."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from nsys2perfetto.errors import Nsys2PerfettoError

if TYPE_CHECKING:
    from nsys2perfetto.query.cells import Column

Schema = Mapping[str, type[pl.DataType]]


class Row:
    """One row: `row.name`, `row["name"]` or `row[0]`; iterating gives the values.

    It has no methods of its own, so that a column may have any name (`count`, `index`, ...).
    """

    __slots__ = ("_positions", "_values")

    def __init__(self, positions: Mapping[str, int], values: tuple[Any, ...]) -> None:
        self._positions = positions
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name not in Row.__slots__ and name in self._positions:
            return self._values[self._positions[name]]
        known = "" if name.startswith("_") else f"; there are: {', '.join(self._positions)}"
        raise AttributeError(f"no column {name!r}{known}")

    def __getitem__(self, column: str | int) -> Any:
        return self._values[self._positions[column] if isinstance(column, str) else column]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __dir__(self) -> list[str]:
        return list(self._positions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return NotImplemented
        return list(self._positions) == list(other._positions) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        cells = zip(self._positions, self._values, strict=True)
        return f"Row({', '.join(f'{name}={value!r}' for name, value in cells)})"


class Result(Sequence[Row]):
    """The answer to a query. It is complete: the session may be closed meanwhile.

    A sequence of `Row`s (`for row in result`, `len(result)`, `result[0]`). Values are Python's int
    (64 bits, exact), float, str, bytes and None. What occurs twice among the names of the columns
    gets `:1`, `:2`, ... behind it.
    """

    def __init__(self, columns: Sequence[Column], hints: Schema | None = None) -> None:
        self._columns = columns
        self._hints = hints or {}
        self._positions = {column.name: i for i, column in enumerate(columns)}

    @property
    def columns(self) -> list[str]:
        """The names of the columns; none where the last statement answers nothing."""
        return [column.name for column in self._columns]

    def __len__(self) -> int:
        return len(self._columns[0].kinds) if self._columns else 0

    def __iter__(self) -> Iterator[Row]:
        return (Row(self._positions, cells) for cells in zip(*self._cells, strict=True))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self):,} rows")
        return Row(self._positions, tuple(cells[index] for cells in self._cells))

    def __repr__(self) -> str:
        return f"<Result of {len(self):,} rows: {', '.join(self.columns)}>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """All rows as dicts from column name to value."""
        names = self.columns
        return [dict(zip(names, cells, strict=True)) for cells in zip(*self._cells, strict=True)]

    def to_polars(self, schema: Schema | None = None) -> pl.DataFrame:
        """The rows as columns.

        Columns in SQL have no types. Here they are Int64, Float64 (also where integers are among
        reals), String (also where numbers are among texts) or Binary. Without a single value, a
        column has the type that the package `nsys` declares for a column of this name in a view
        which the query names, or else Null.

        Args:
            schema: Types that are known better; columns that it does not name are as above.
        """
        series = [column.series() for column in self._columns]
        known = dict(schema or {})
        for column in series:
            if column.dtype == pl.Null and column.name in self._hints:
                known.setdefault(column.name, self._hints[column.name])
        return pl.DataFrame([s.cast(known.get(s.name, s.dtype)) for s in series])

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`: Int64 (exact, with nulls), Float64, string or object.

        Raises:
            Nsys2PerfettoError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise Nsys2PerfettoError(
                "to_pandas() needs pandas: `pip install pandas`, or take to_polars()"
            ) from None
        frame = self.to_polars()
        types: dict[type, Any] = {pl.Int64: "Int64", pl.Float64: "Float64", pl.String: "string"}
        columns = {
            series.name: pandas.array(series.to_list(), dtype=types.get(type(series.dtype), object))
            for series in frame
        }
        return pandas.DataFrame(columns)

    def to_arrow(self) -> Any:
        """The rows as a `pyarrow.Table`.

        Raises:
            Nsys2PerfettoError: pyarrow is not installed.
        """
        try:
            return self.to_polars().to_arrow()
        except ImportError:
            raise Nsys2PerfettoError(
                "to_arrow() needs pyarrow: `pip install pyarrow`, or take to_polars()"
            ) from None

    @cached_property
    def _cells(self) -> list[list[Any]]:
        return [column.objects() for column in self._columns]
