"""Dictionary encoding of whole rows: many columns that repeat become one small number.

A decode loop launches the same few hundred configurations (kernel, grid, block, registers, stream,
...) a million times. Keeping a 32-bit code a row instead of twenty columns is what lets a capture
of ten million kernels fit into memory, and what the encoder's templates are made per.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Codes = npt.NDArray[np.uint32]


class RowDictionary:
    """Gives every distinct row a code, batch after batch.

    Rows are told apart by a 64-bit hash of all their columns: with a million distinct rows the
    chance that two share a hash is below 10^-7.
    """

    def __init__(self) -> None:
        self._known = np.empty(0, np.uint64)  # sorted hashes
        self._code_of = np.empty(0, np.uint32)  # code of each known hash
        self._rows: list[pl.DataFrame] = []
        self._schema: pl.DataFrame | None = None
        self._count = 0

    def encode(self, rows: pl.DataFrame) -> Codes:
        """The code of each row, shape (n,); new rows get the next codes in order of appearance."""
        if self._schema is None:
            self._schema = rows.clear()
        if not len(rows):
            return np.empty(0, np.uint32)
        hashes = rows.hash_rows(seed=0x6E737973).to_numpy()
        if len(self._known):
            place = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
            fresh = self._known[place] != hashes
        else:
            fresh = np.ones(len(hashes), bool)
        if fresh.any():
            self._add(rows, hashes, np.nonzero(fresh)[0])
            place = np.searchsorted(self._known, hashes)
        return self._code_of[place]

    def _add(
        self, rows: pl.DataFrame, hashes: npt.NDArray[np.uint64], fresh: npt.NDArray[np.intp]
    ) -> None:
        values, first = np.unique(hashes[fresh], return_index=True)
        in_order = np.sort(fresh[first])
        codes = np.empty(len(values), np.uint32)
        codes[np.argsort(first)] = np.arange(self._count, self._count + len(values))
        self._rows.append(rows[in_order])
        self._count += len(values)
        known = np.concatenate([self._known, values])
        order = np.argsort(known)
        self._known = known[order]
        self._code_of = np.concatenate([self._code_of, codes])[order]

    def __len__(self) -> int:
        return self._count

    def table(self) -> pl.DataFrame:
        """The distinct rows: row i is what code i stands for."""
        if not self._rows:
            return self._schema if self._schema is not None else pl.DataFrame()
        return pl.concat(self._rows)
