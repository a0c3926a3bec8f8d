"""Interned strings of one packet sequence: each text is written once, events name its id."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from nsys2perfetto.wire import ragged
from nsys2perfetto.wire.ragged import Ragged


class StringPool:
    """Strings with ids, for one repeated field of InternedData whose entries are (iid, text).

    Args:
        field: Number of the field in InternedData.

    Ids count from 1 in order of first appearance (0 means "none" to the engine).
    """

    def __init__(self, field: int) -> None:
        self._field = field
        self._known = pl.DataFrame(schema={"text": pl.String, "iid": pl.Int64})
        self._announced = 0

    def __len__(self) -> int:
        return len(self._known)

    def iids(self, texts: pl.Series) -> pl.Series:
        """The id of each text, Int64; null for null. New texts are added."""
        frame = pl.DataFrame({"text": texts.cast(pl.String)})
        fresh = (
            frame.drop_nulls()
            .unique(maintain_order=True)
            .join(self._known, on="text", how="anti", maintain_order="left")
        )
        if len(fresh):
            first = len(self._known) + 1
            iid = pl.Series("iid", np.arange(first, first + len(fresh)), dtype=pl.Int64)
            self._known = pl.concat([self._known, fresh.with_columns(iid)])
        return frame.join(self._known, on="text", how="left", maintain_order="left")["iid"]

    def texts(self, iids: pl.Series) -> pl.Series:
        """The text of each id."""
        return self._known["text"][iids.to_numpy() - 1]

    def iid(self, text: str) -> int:
        """The id of one text."""
        return int(self.iids(pl.Series([text], dtype=pl.String))[0])

    def lookup(self, texts: Iterable[str]) -> dict[str, int]:
        """The ids of a few texts."""
        wanted = list(dict.fromkeys(texts))
        return dict(zip(wanted, self.iids(pl.Series(wanted, dtype=pl.String)), strict=True))

    def entries(self) -> Ragged:
        """Serialised fields of InternedData, one a row: of each call the texts that are new."""
        fresh = self._known[self._announced :]
        self._announced = len(self._known)
        body = ragged.concat(
            ragged.encode_varint(1, fresh["iid"].to_numpy()),
            ragged.encode_string(2, fresh["text"]),
        )
        return ragged.length_delimited(self._field, body)
