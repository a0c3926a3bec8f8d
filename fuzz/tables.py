"""What the mutations share: tables and columns of a capture, and rewriting a table."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

GPU_WORK = (
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_MEMCPY",
    "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
)
CALLS = "CUPTI_ACTIVITY_KIND_RUNTIME"
NVTX = "NVTX_EVENTS"


def quoted(name: str) -> str:
    """A name as SQL wants it."""
    return '"' + name.replace('"', '""') + '"'


def tables(db: sqlite3.Connection) -> list[str]:
    """Names of the ordinary tables, in the order of the file."""
    rows = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
        "ORDER BY rowid"
    )
    return [name for (name,) in rows]


def columns(db: sqlite3.Connection, table: str) -> list[str]:
    """Names of a table's columns."""
    return [row[1] for row in db.execute(f"PRAGMA table_info({quoted(table)})")]


def with_columns(db: sqlite3.Connection, *wanted: str) -> list[str]:
    """The tables that have rows and all these columns."""
    return [
        table
        for table in tables(db)
        if set(wanted) <= set(columns(db, table)) and row_count(db, table)
    ]


def row_count(db: sqlite3.Connection, table: str) -> int:
    """How many rows a table has."""
    [(count,)] = db.execute(f"SELECT count(*) FROM {quoted(table)}")
    return int(count)


def pick(db: sqlite3.Connection, rng: random.Random) -> str | None:
    """A table; those that hold events come more often than those that describe the machine."""
    found = tables(db)
    events = [t for t in found if "start" in columns(db, t) or "timestamp" in columns(db, t)]
    plain = [t for t in found if not t.startswith(("ENUM_", "META_", "TARGET_"))]
    choice = rng.choice([events, events, plain, found])
    return rng.choice(choice or found) if found else None


def some_rows(rng: random.Random) -> str:
    """A condition for one row, a few, every third, or all."""
    return rng.choice(
        [
            f"rowid = {rng.randrange(1, 20)}",
            f"rowid = {rng.randrange(1, 200)}",
            f"rowid % {rng.randrange(2, 9)} = 0",
            f"rowid < {rng.randrange(2, 60)}",
            "1",
        ]
    )


def loosen(db: sqlite3.Connection, table: str, order: str = "rowid") -> None:
    """Rewrites a table without its constraints, in an order of the rows."""
    name = quoted(table)
    kinds = {row[1]: row[2] for row in db.execute(f"PRAGMA table_info({name})")}
    rewrite(db, table, ", ".join(f"{quoted(c)} {kind}" for c, kind in kinds.items()), order)


def rewrite(
    db: sqlite3.Connection,
    table: str,
    definition: str,
    order: str = "rowid",
    select: str = "*",
    suffix: str = "",
) -> None:
    """Makes a table again.

    Args:
        db: The capture.
        table: Its name.
        definition: The new columns and constraints.
        order: The order of the rows.
        select: The old table's columns, in the order of the new one's.
        suffix: What follows the definition.

    Raises:
        sqlite3.Error: The rows do not fit the new definition.
    """
    name = quoted(table)
    ordered = f" ORDER BY {order}" if order else ""
    db.execute(f"CREATE TABLE fuzz_new ({definition}) {suffix}")
    stored = [
        row[1] for row in db.execute("PRAGMA table_xinfo(fuzz_new)") if not row[6]
    ]  # without generated columns
    listed = ", ".join(quoted(c) for c in stored)
    db.execute(f"INSERT INTO fuzz_new ({listed}) SELECT {select} FROM {name}{ordered}")
    db.execute(f"DROP TABLE {name}")
    db.execute(f"ALTER TABLE fuzz_new RENAME TO {name}")


def as_text(value: str | bytes) -> Any:
    """Bytes that a TEXT column is to hold as text, be they UTF-8 or not."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
