"""Text from a capture: any bytes become valid UTF-8, and ids become the strings they stand for."""

from __future__ import annotations

import polars as pl


def to_text(values: pl.Series) -> pl.Series:
    """A Binary series as String; invalid UTF-8 becomes U+FFFD, null stays null.

    Where some value is not valid, the distinct values are mended one by one.
    """
    if values.dtype != pl.Binary:
        return values.cast(pl.String)
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:  # some value is not valid UTF-8
        distinct = values.drop_nulls().unique()
        mended = [value.decode("utf-8", "replace") for value in distinct.to_list()]
        return values.replace_strict(
            distinct, pl.Series(mended, dtype=pl.String), default=None, return_dtype=pl.String
        )


class StringTable:
    """The table StringIds: names are stored once, rows refer to them by id.

    Args:
        ids: Int64, may repeat in a damaged file (the first wins).
        values: String.
    """

    def __init__(self, ids: pl.Series, values: pl.Series) -> None:
        frame = pl.DataFrame({"id": ids, "value": values}).drop_nulls("id")
        self._table = frame.unique("id", keep="first", maintain_order=True)

    def look_up(self, ids: pl.Series) -> pl.Series:
        """The string of each id; null where the id is null or not in the table."""
        found = pl.DataFrame({"id": ids.cast(pl.Int64)}).join(
            self._table, on="id", how="left", maintain_order="left"
        )
        return found["value"].alias(ids.name)

    def ids_of(self, part: str) -> list[int]:
        """The ids of all strings that contain `part`."""
        return self._table.filter(pl.col("value").str.contains(part, literal=True))["id"].to_list()
