"""What both sources of tables share: how a table is put together, and its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.report.source import Schema


def make(schema: Schema, columns: Mapping[str, Any] | pl.DataFrame, *order: str) -> pl.DataFrame:
    """A table with exactly the columns of its schema.

    Args:
        schema: One of `source`.
        columns: Its columns by name, more do no harm.
        order: Names of the columns to sort by, a falling one after a minus. Texts are in order of
            their bytes, nulls come first, as in SQL.
    """
    frame = pl.DataFrame({name: columns[name] for name in schema})
    frame = frame.with_columns(pl.col(name).cast(dtype) for name, dtype in schema.items())
    if not order:
        return frame
    return frame.sort(
        [name.removeprefix("-") for name in order],
        descending=[name.startswith("-") for name in order],
        nulls_last=False,
        maintain_order=True,
    )


def words(known: Sequence[str | None], number: npt.NDArray[np.generic]) -> pl.Series:
    """The word of each number, counted from 0; -1 is the last."""
    texts = pl.Series(known, dtype=pl.String)
    return texts.gather(number.astype(np.int64) % max(len(known), 1))
