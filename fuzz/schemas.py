"""Schemas that lie: other types, other names, views, tables of other kinds."""

from __future__ import annotations

import random
import sqlite3

from fuzz.tables import columns, loosen, pick, quoted, rewrite, tables
from fuzz.values import Mutation

_TYPES = (
    "INTEGER", "INT", "BIGINT", "TEXT", "REAL", "BLOB", "NUMERIC", "", "DOUBLE", "BOOLEAN",
    "VARCHAR(7)", "FLOATING POINT", "nonsense", "DATE",
)  # fmt: skip


def _definition(db: sqlite3.Connection, table: str) -> dict[str, str]:
    return {row[1]: row[2] for row in db.execute(f"PRAGMA table_info({quoted(table)})")}


def _joined(definition: dict[str, str]) -> str:
    return ", ".join(f"{quoted(name)} {kind}" for name, kind in definition.items())


def other_types(db: sqlite3.Connection, rng: random.Random) -> str:
    """Columns that declare another type; SQLite then stores other values."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    definition = _definition(db, table)
    one = rng.choice(_TYPES)
    for name in definition:
        if rng.random() < 0.3:
            definition[name] = rng.choice([one, rng.choice(_TYPES)])
    rewrite(db, table, _joined(definition))
    return f"{table}: {_joined(definition):.100}"


def other_columns(db: sqlite3.Connection, rng: random.Random) -> str:
    """Columns that are missing, renamed, added, or in another order."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    definition = _definition(db, table)
    names = list(definition)
    keep = {n: n for n in names}
    kind = rng.randrange(5)
    if kind == 0 and len(names) > 1:
        for name in rng.sample(names, rng.randrange(1, len(names))):
            keep.pop(name)
    elif kind == 1:
        name = rng.choice(names)
        odd = rng.choice([name.upper(), name + " ", 'a"b', "rowid", "_rowid_", "\x1b[2J", "é", ""])
        keep = {(odd if n == name and odd not in keep else n): n for n in names}
    elif kind == 2:
        rng.shuffle(names)
        keep = {n: n for n in names}
    new = [f"{quoted(new)} {definition[old]}" for new, old in keep.items()]
    select = [quoted(old) for old in keep.values()]
    if kind == 3:
        for number in range(rng.choice([1, 3, 200])):
            new.insert(rng.randrange(len(new) + 1), f"extra{number} INTEGER DEFAULT {number}")
        rewrite_defaults(db, table, new, select)
    else:
        if kind == 4:
            new.append("computed INTEGER GENERATED ALWAYS AS (1) VIRTUAL")
            new.insert(0, "stored INTEGER GENERATED ALWAYS AS (2) STORED")
        rewrite(db, table, ", ".join(new), select=", ".join(select))
    return f"{table} now has {', '.join(new):.100}"


def rewrite_defaults(db: sqlite3.Connection, table: str, new: list[str], select: list[str]) -> None:
    """Makes a table again with more columns than are filled."""
    name = quoted(table)
    db.execute(f"CREATE TABLE fuzz_new ({', '.join(new)})")
    listed = ", ".join(select)
    db.execute(f"INSERT INTO fuzz_new ({listed}) SELECT {listed} FROM {name}")
    db.execute(f"DROP TABLE {name}")
    db.execute(f"ALTER TABLE fuzz_new RENAME TO {name}")


def older_metrics(db: sqlite3.Connection, rng: random.Random) -> str:
    """Samples of GPU metrics as JSON only, as the exports of 2022 have them."""
    found = [t for t in ("GPU_METRICS", "TARGET_INFO_GPU_METRICS") if t in tables(db)]
    if not found or "GENERIC_EVENTS" not in tables(db):
        return "nothing"
    for table in found:
        db.execute(f"DROP TABLE {table}")
    loosen(db, "GENERIC_EVENTS")
    for _ in range(rng.choice([0, 3, 6])):
        db.execute("INSERT INTO GENERIC_EVENTS SELECT * FROM GENERIC_EVENTS")
    db.execute("UPDATE GENERIC_EVENTS SET rawTimestamp = rowid * 100000")
    return f"no {', '.join(found)}"


def added_later(db: sqlite3.Connection, rng: random.Random) -> str:
    """Columns added by ALTER TABLE: the rows that were there end before them."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    name = rng.choice(["graphNodeId", "greenContextId", "extra", "correlationId", "textId"])
    if name in columns(db, table):
        db.execute(f"ALTER TABLE {quoted(table)} DROP COLUMN {quoted(name)}")
    default = rng.choice(["", "DEFAULT 5", "DEFAULT 'x'", "DEFAULT 1.5"])
    kind = rng.choice(["INTEGER", "TEXT", "REAL"])
    db.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {kind} {default}")
    return f"{table} got {name} {kind} {default}"


def other_key(db: sqlite3.Connection, rng: random.Random) -> str:
    """Tables with a key of their own, or without rowid."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    definition = _definition(db, table)
    name = rng.choice(list(definition))
    loosen(db, table)
    db.execute(
        f"DELETE FROM {quoted(table)} WHERE {quoted(name)} IS NULL OR rowid NOT IN "
        f"(SELECT min(rowid) FROM {quoted(table)} GROUP BY {quoted(name)})"
    )
    definition[name] = rng.choice(["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY DESC", "TEXT"])
    suffix = ""
    joined = _joined(definition)
    if rng.random() < 0.6:
        if "KEY" not in definition[name]:
            joined += f", PRIMARY KEY ({quoted(name)})"
        suffix = rng.choice(["WITHOUT ROWID", ""])
    rewrite(db, table, joined, suffix=suffix)
    return f"{table}: {name} {definition[name]} {suffix}"


def view(db: sqlite3.Connection, rng: random.Random) -> str:
    """A view in place of a table: of another table, broken, or endless."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    name, moved = quoted(table), quoted(table + "_moved")
    kind = rng.randrange(5)
    db.execute(f"ALTER TABLE {name} RENAME TO {moved}")
    listed = ", ".join(quoted(c) for c in columns(db, table + "_moved"))
    if kind <= 1:
        db.execute(f"CREATE VIEW {name} AS SELECT * FROM {moved}")
    elif kind == 2:
        db.execute(f"CREATE VIEW {name} AS SELECT {listed} FROM not_there")
    elif kind == 3:
        db.execute(f"CREATE VIEW {name} AS SELECT {listed} FROM {name}")
    else:
        db.execute(
            f"CREATE VIEW {name} AS WITH RECURSIVE more AS (SELECT * FROM {moved} "
            f"UNION ALL SELECT * FROM more) SELECT * FROM more"
        )
    return f"{table} is a view, kind {kind}"


def other_tables(db: sqlite3.Connection, rng: random.Random) -> str:
    """Tables that are gone, empty, exchanged, or called otherwise."""
    found = tables(db)
    if len(found) < 2:
        return "nothing"
    one, other = rng.sample(found, 2)
    kind = rng.randrange(5)
    if kind == 0:
        db.execute(f"DROP TABLE {quoted(one)}")
    elif kind == 1:
        db.execute(f"DELETE FROM {quoted(one)}")
    elif kind == 2:
        db.execute(f"ALTER TABLE {quoted(one)} RENAME TO fuzz_other")
        db.execute(f"ALTER TABLE {quoted(other)} RENAME TO {quoted(one)}")
        db.execute(f"ALTER TABLE fuzz_other RENAME TO {quoted(other)}")
    elif kind == 3:
        odd = rng.choice(["\x1b[2Jx", 'a"b', "日本", one.swapcase() + "2", "ENUM_X", "x" * 3000])
        db.execute(f"CREATE TABLE {quoted(odd)} (start INTEGER, {quoted(odd)} TEXT)")
        db.execute(f"INSERT INTO {quoted(odd)} VALUES (1, 'x')")
    else:
        db.execute(f"CREATE INDEX fuzz_index ON {quoted(one)} ({quoted(columns(db, one)[0])})")
    return f"{one}, {other}: kind {kind}"


MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (other_types, 5),
    (other_columns, 5),
    (added_later, 2),
    (older_metrics, 1),
    (other_key, 3),
    (view, 2),
    (other_tables, 2),
)
"""Each with its weight."""
