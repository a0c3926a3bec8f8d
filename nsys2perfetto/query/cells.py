"""The engine's answer, cells row by row in batches, as columns. No Python loop over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

NULL, INT, FLOAT, TEXT, BLOB = 1, 2, 3, 4, 5
"""Kinds of cells: `QueryResult.CellsBatch.CellType` in Perfetto's trace_processor.proto."""


@dataclass(frozen=True, eq=False)
class Column:
    """One column of an answer.

    Attributes:
        name: Unique in the answer.
        kinds: The kind of each cell, shape (rows,).
        ranks: Which of all values of its kind a cell has, for each kind; shape (rows,).
        values: All values of the answer by kind.
    """

    name: str
    kinds: npt.NDArray[np.uint8]
    ranks: Mapping[int, npt.NDArray[np.int64]]
    values: Mapping[int, pl.Series]

    @property
    def found(self) -> frozenset[int]:
        """The kinds that occur, null aside."""
        return frozenset(kind for kind in self.values if (self.kinds == kind).any())

    def series(self) -> pl.Series:
        """The column as Int64, Float64, String or Binary; Null where every cell is null.

        Columns of SQL have no types: integers and reals together become Float64, everything else
        that is mixed becomes text (bytes where a blob is among it).
        """
        dtype = _dtype(self.found)
        pieces, order = self._pieces()
        if not pieces:
            return pl.Series(self.name, [None] * len(self.kinds), dtype=pl.Null)
        values = pl.concat([_cast(piece, dtype) for piece in pieces])
        index = pl.Series(order)
        if (order < 0).any():
            index = pl.select(pl.when(index >= 0).then(index)).to_series()
        return values.gather(index).rename(self.name)

    def objects(self) -> list[Any]:
        """The column as Python's int, float, str, bytes and None: what the engine has."""
        if len(self.found) < 2:
            return self.series().to_list()
        pieces, order = self._pieces()
        cells = np.array([None, *(cell for piece in pieces for cell in piece)], object)
        return cells[order + 1].tolist()

    def _pieces(self) -> tuple[list[pl.Series], npt.NDArray[np.int64]]:
        """The values of each kind in turn, and for each row which of all those it has, or -1."""
        order = np.full(len(self.kinds), -1, np.int64)
        pieces, taken = [], 0
        for kind in sorted(self.found):
            rows = np.flatnonzero(self.kinds == kind)
            order[rows] = np.arange(taken, taken + len(rows))
            pieces.append(self.values[kind].gather(pl.Series(self.ranks[kind][rows])))
            taken += len(rows)
        return pieces, order


def columns(answer: Any) -> list[Column]:
    """Takes a `QueryResult` apart.

    Args:
        answer: The message, its `error` empty.
    """
    names = _unique(answer.column_names)
    width = len(names)
    batches = answer.batch
    kinds = _joined([np.array(b.cells, np.uint8) for b in batches], np.uint8)
    rows = len(kinds) // width if width else 0
    kinds = kinds[: rows * width]
    values = {
        INT: pl.Series(_joined([np.array(b.varint_cells, np.int64) for b in batches], np.int64)),
        FLOAT: pl.Series(_joined([np.array(b.float64_cells, float) for b in batches], np.float64)),
        TEXT: pl.Series([t for b in batches for t in _texts(b.string_cells)], dtype=pl.String),
        BLOB: pl.Series([c for b in batches for c in b.blob_cells], dtype=pl.Binary),
    }
    ranks = {
        kind: (np.cumsum(kinds == kind) - 1).reshape(rows, width)
        for kind in values
        if len(values[kind])
    }
    table = kinds.reshape(rows, width)
    return [
        Column(name, table[:, i], {kind: rank[:, i] for kind, rank in ranks.items()}, values)
        for i, name in enumerate(names)
    ]


def _unique(names: Sequence[str]) -> list[str]:
    """Column names with `:1`, `:2`, ... behind what occurs again, as in subqueries of SQLite."""
    seen: set[str] = set()
    result = []
    for name in names:
        unique, number = name, 0
        while unique in seen:
            number += 1
            unique = f"{name}:{number}"
        seen.add(unique)
        result.append(unique)
    return result


def _joined(parts: list[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _texts(cells: str | bytes) -> list[str]:
    """The texts of a batch, each ended by a zero; protobuf gives bytes if some is not UTF-8."""
    text = cells if isinstance(cells, str) else cells.decode("utf-8", "replace")
    return text.split("\0")[:-1]


def _dtype(found: frozenset[int]) -> type[pl.DataType]:
    if BLOB in found:
        return pl.Binary
    if TEXT in found:
        return pl.String
    return pl.Float64 if FLOAT in found else pl.Int64


def _cast(values: pl.Series, dtype: type[pl.DataType]) -> pl.Series:
    if dtype == pl.Binary and values.dtype != pl.Binary:
        values = values.cast(pl.String)
    return values.cast(dtype)
