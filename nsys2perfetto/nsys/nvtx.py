"""NVTX: ranges and marks with domain, category, colour and payload (NSYS_SCHEMA section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nsys2perfetto.nsys import events
from nsys2perfetto.nsys.capture import Capture, Columns, Kind
from nsys2perfetto.nsys.events import Events, Selection
from nsys2perfetto.nsys.ids import process_of
from nsys2perfetto.nsys.text import StringTable

TABLE = "NVTX_EVENTS"
MARK = 34
PUSH_POP = (59, 70)
START_END = (60, 71)
CATEGORY_NAME = 33
DOMAIN_CREATE = 75
RANGES = (*PUSH_POP, *START_END)
"""70 and 71 are the same from NVTXT files."""

INTEGER_PAYLOADS = {
    "uint64Value": "uint", "int64Value": "int", "uint32Value": "uint", "int32Value": "int",
}  # fmt: skip
REAL_PAYLOADS = ("doubleValue", "floatValue")

_CONFIG: Columns = {
    "globalTid": "int", "endGlobalTid": "int", "eventType": "int", "category": "int",
    "color": "int", "text": "text", "textId": "int", "domainId": "int", "jsonText": "text",
    "jsonTextId": "int",
}  # fmt: skip


@dataclass(frozen=True)
class NvtxNames:
    """Names of domains and categories, which each process numbers for itself."""

    domains: pl.DataFrame
    """process, domainId, domain."""
    categories: pl.DataFrame
    """process, domainId, category, category_name."""


def can_be_read(capture: Capture) -> bool:
    """Whether the table has the columns that tell what an event is."""
    return capture.has(TABLE, "start", "eventType")


def read(capture: Capture, selection: Selection) -> Events:
    """All ranges and marks.

    Values: one column for each kind of payload that occurs; which rows have it is in `valid`.
    """
    if not can_be_read(capture):
        return events.read(capture, "", _CONFIG)
    payloads = _payloads(capture)
    types = ", ".join(str(t) for t in (MARK, *RANGES))
    found = events.read(
        capture,
        TABLE,
        _CONFIG,
        payloads,
        owner="globalTid",
        selection=selection,
        where=[f"eventType IN ({types})"],
        nullable=list(payloads),
        point=f"eventType = {MARK}",
    )
    found.config = found.config.with_columns(pl.col("globalTid").fill_null(0))
    # A mark has no end, and needs none.
    mark = (found.config["eventType"] == MARK).to_numpy()[found.code]
    found.end = np.where(mark, found.start, found.end)
    found.open &= ~mark
    return found


def _payloads(capture: Capture) -> Columns:
    """The columns of payloads that any event has."""
    possible: dict[str, Kind] = {
        column: "real" if column in REAL_PAYLOADS else "int"
        for column in (*INTEGER_PAYLOADS, *REAL_PAYLOADS)
        if capture.has(TABLE, column)
    }
    found: set[str] = set()
    for batch in capture.batches(TABLE, possible) if possible else ():
        found.update(c for c in possible if batch[c].null_count() < len(batch))
    return {column: kind for column, kind in possible.items() if column in found}


def names(capture: Capture, strings: StringTable) -> NvtxNames:
    """The names that the program gave to its domains and categories."""
    columns: Columns = {
        "globalTid": "int", "eventType": "int", "domainId": "int", "category": "int",
        "text": "text", "textId": "int",
    }  # fmt: skip
    rows = capture.read(
        TABLE,
        columns,
        [f"eventType IN ({CATEGORY_NAME}, {DOMAIN_CREATE})"]
        if capture.has(TABLE, "eventType")
        else ["FALSE"],
    )
    rows = rows.with_columns(
        pl.coalesce(strings.look_up(rows["textId"]), pl.col("text")).alias("name"),
        process_of("globalTid").alias("process"),
        pl.col("domainId").fill_null(0),
    ).drop_nulls("name")
    domains = rows.filter(pl.col("eventType") == DOMAIN_CREATE)
    categories = rows.filter(pl.col("eventType") == CATEGORY_NAME)
    return NvtxNames(
        domains.select("process", "domainId", domain="name").unique(
            ["process", "domainId"], keep="first"
        ),
        categories.select("process", "domainId", "category", category_name="name").unique(
            ["process", "domainId", "category"], keep="first"
        ),
    )


def described(config: pl.DataFrame, strings: StringTable, known: NvtxNames) -> pl.DataFrame:
    """Adds to configurations: `name`, `domain`, `category_name`, `rgb`, `json`, `style`.

    The name is the registered string, else the inline text, else empty. The default domain (0) has
    no name. Of the colour the alpha is ignored: Python's nvtx writes 0 there.
    """
    style = (
        pl.when(pl.col("eventType") == MARK)
        .then(pl.lit("mark"))
        .when(pl.col("eventType").is_in(PUSH_POP))
        .then(pl.lit("push/pop"))
        .otherwise(pl.lit("start/end"))
    )
    joined = (
        config.with_columns(
            pl.coalesce(strings.look_up(config["textId"]), pl.col("text"), pl.lit("")).alias(
                "name"
            ),
            pl.coalesce(strings.look_up(config["jsonTextId"]), pl.col("jsonText")).alias("json"),
            process_of("globalTid").alias("process"),
            pl.col("domainId").fill_null(0),
            style.alias("style"),
        )
        .join(known.domains, on=["process", "domainId"], how="left", maintain_order="left")
        .join(
            known.categories,
            on=["process", "domainId", "category"],
            how="left",
            maintain_order="left",
        )
    )
    number = pl.col("category")
    domain = pl.col("domainId")
    return joined.with_columns(
        pl.when(domain != 0).then(
            pl.coalesce("domain", pl.concat_str(pl.lit("domain "), domain.cast(pl.String)))
        ).alias("domain"),
        pl.when(number.fill_null(0) != 0).then(
            pl.coalesce("category_name", number.cast(pl.String))
        ).alias("category_name"),
        pl.when(pl.col("color").is_not_null()).then(
            pl.lit("#") + _hexadecimal(pl.col("color") & 0xFFFFFF)
        ).alias("rgb"),
    )  # fmt: skip


def _hexadecimal(number: pl.Expr) -> pl.Expr:
    """Six hexadecimal digits."""
    digits = pl.Series(list("0123456789abcdef"))
    return pl.concat_str(
        ((number // 16**i) % 16).replace_strict(
            list(range(16)), digits, default=None, return_dtype=pl.String
        )
        for i in range(5, -1, -1)
    )
