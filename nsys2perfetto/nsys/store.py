"""What a capture is read from: the interface that its kinds of files share.

`nsys.sqlite_store` reads the SQLite export, `nsys.folder_store` the folders of Parquet or Arrow
files. Both give the same rows, in the same order, with the same types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

import polars as pl

Kind = Literal["int", "real", "text"]
Columns = Mapping[str, Kind]

ROWS_PER_BATCH = 500_000
"""Rows read at a time: about 100 MB of Arrow columns for the widest table."""

MAX_TEXT = 65536
"""Characters kept of one text value: longer ones (whole files, damaged lengths) are cut."""

DTYPES: dict[Kind, pl.DataType] = {"int": pl.Int64(), "real": pl.Float64(), "text": pl.String()}


class Store(Protocol):
    """Tables, open for reading; see `nsys.capture.Capture` for arguments and errors.

    Attributes:
        tables: Column names of each table, both as the files spell them.
        size: Bytes on disk.
    """

    tables: dict[str, list[str]]
    size: int

    def close(self) -> None:
        """Closes the files."""

    def check_unchanged(self) -> None:
        """Raises a CaptureError if the files are not any more what they were when opened."""

    def views(self) -> list[str]:
        """Views and virtual tables, which are not read."""

    def count(self, table: str, where: Sequence[str]) -> int:
        """How many rows of a table that exists fulfil all conditions."""

    def batches(self, table: str, columns: Columns, where: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Columns of a table that exists, at most ROWS_PER_BATCH rows at a time, none empty."""
