"""Rows that lie: times, ids, texts and numbers that cannot be."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable

from fuzz import hostile
from fuzz.tables import (
    CALLS,
    GPU_WORK,
    NVTX,
    as_text,
    columns,
    loosen,
    pick,
    quoted,
    row_count,
    some_rows,
    tables,
    with_columns,
)

Mutation = Callable[[sqlite3.Connection, random.Random], str]
"""Changes a capture; tells what it did."""

_ID_COLUMNS = (
    *("correlationId", "globalPid", "globalTid", "deviceId", "contextId", "streamId", "nameId"),
    *("shortName", "demangledName", "mangledName", "textId", "eventId", "graphNodeId", "graphId"),
    *("domainId", "category", "eventType", "copyKind", "typeId", "metricId", "eventClass"),
    *("graphExecId", "address", "memoryOperationType", "memKind", "rangeId", "syncType"),
)
_TEXT_COLUMNS = ("value", "text", "name", "label", "jsonText", "metricName", "typeName", "data")
_MOST_ROWS = 4_000


def strange_values(db: sqlite3.Connection, rng: random.Random) -> str:
    """Any column of any table becomes anything."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    column = rng.choice(columns(db, table))
    value, where = hostile.value(rng), some_rows(rng)
    loosen(db, table)
    _set(db, table, column, value, where)
    return f"{table}.{column} = {value!r:.40} where {where}"


def strange_times(db: sqlite3.Connection, rng: random.Random) -> str:
    """Events that end before they begin, last for ever, begin all at once or overlap."""
    found = with_columns(db, "start", "end")
    if not found:
        return "nothing"
    table, where = rng.choice(found), some_rows(rng)
    loosen(db, table)
    far = rng.choice(hostile.NUMBERS)
    some = rng.randrange(1, 100_000)
    change = rng.choice(
        [
            'start = "end", "end" = start',
            '"end" = start',
            'start = "end"',
            '"end" = NULL',
            "start = NULL",
            f"start = {far}",
            f'"end" = {far}',
            f'start = {far}, "end" = {far}',
            f'start = start - {abs(far) // 2}, "end" = "end" - {abs(far) // 2}',
            f'"end" = "end" + {some}',
            f'start = start / {some} * {some}, "end" = start + {some}',
            'start = (SELECT min(start) FROM {t}), "end" = (SELECT max("end") FROM {t})',
            f'start = {some}, "end" = {some} + rowid',
            f'start = rowid * {some} % 9999, "end" = rowid * {some} % 9999 + rowid % 7',
            f'start = -start, "end" = {some} - start',
        ]
    ).replace("{t}", quoted(table))
    db.execute(f"UPDATE {quoted(table)} SET {change} WHERE {where}")
    return f"{table}: {change} where {where}"


def strange_ids(db: sqlite3.Connection, rng: random.Random) -> str:
    """Ids that many share, that dangle, that are negative or enormous."""
    column = rng.choice(_ID_COLUMNS)
    found = with_columns(db, column)
    if not found:
        return "nothing"
    table, where = rng.choice(found), some_rows(rng)
    loosen(db, table)
    number = rng.choice(hostile.NUMBERS)
    name = quoted(column)
    value = rng.choice(
        [
            str(number),
            "NULL",
            f"{name} % {rng.randrange(1, 7)}",
            f"rowid % {rng.randrange(1, 50)}",
            f"rowid * {rng.randrange(1, 1 << 40)}",
            f"-{name}",
            f"{name} + {1 << rng.randrange(63)}",
            f"(rowid * {rng.randrange(1, 1 << 30)}) << 24",
        ]
    )
    db.execute(f"UPDATE {quoted(table)} SET {name} = {value} WHERE {where}")
    return f"{table}.{column} = {value} where {where}"


def hostile_texts(db: sqlite3.Connection, rng: random.Random) -> str:
    """Names that a terminal would obey, or that are no text."""
    found = [(t, c) for t in tables(db) for c in columns(db, t) if c in _TEXT_COLUMNS]
    strings = [pair for pair in found if pair[0] == "StringIds"]
    if not found:
        return "nothing"
    table, column = rng.choice(strings if strings and rng.random() < 0.5 else found)
    value, where = hostile.text(rng), some_rows(rng)
    loosen(db, table)
    statement = f"UPDATE {quoted(table)} SET {quoted(column)} = CAST(? AS TEXT) WHERE {where}"
    db.execute(statement, [as_text(value)])
    return f"{table}.{column} = {value[:40]!r} where {where}"


def hostile_json(db: sqlite3.Connection, rng: random.Random) -> str:
    """JSON that is none, or not what it should be."""
    found = [(t, "data") for t in with_columns(db, "data")]
    found += [(t, "jsonText") for t in with_columns(db, "jsonText")]
    if not found:
        return "nothing"
    table, column = rng.choice(found)
    value, where = rng.choice(hostile.JSON), some_rows(rng)
    loosen(db, table)
    statement = f"UPDATE {quoted(table)} SET {quoted(column)} = CAST(? AS TEXT) WHERE {where}"
    db.execute(statement, [as_text(value)])
    return f"{table}.{column} = {value[:40]!r} where {where}"


def nothing_known(db: sqlite3.Connection, rng: random.Random) -> str:
    """Every column of a table but a few is NULL."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    names = columns(db, table)
    kept = rng.choice([[], ["start", "end"], [rng.choice(names)]])
    where = some_rows(rng)
    gone = [f"{quoted(name)} = NULL" for name in names if name not in kept]
    if not gone:
        return "nothing"
    loosen(db, table)
    db.execute(f"UPDATE {quoted(table)} SET {', '.join(gone)} WHERE {where}")
    return f"{table}: NULL but for {kept} where {where}"


def circles(db: sqlite3.Connection, rng: random.Random) -> str:
    """Things that refer to themselves, or to each other in a circle."""
    pairs = [
        ("graphNodeId", "originalGraphNodeId"), ("graphId", "originalGraphId"),
        ("contextId", "parentContextId"), ("rangeId", "domainId"), ("domainId", "category"),
    ]  # fmt: skip
    found = [(t, a, b) for a, b in pairs for t in with_columns(db, a, b)]
    if not found:
        return "nothing"
    table, one, other = rng.choice(found)
    change = rng.choice([f"{other} = {one}", f"{one} = {other}", f"{one} = rowid % 2, {other} = 1"])
    loosen(db, table)
    db.execute(f"UPDATE {quoted(table)} SET {change}")
    return f"{table}: {change}"


def repeated_rows(db: sqlite3.Connection, rng: random.Random) -> str:
    """Rows that occur several times, with the same ids."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    where = some_rows(rng)
    loosen(db, table)
    times = 0
    for _ in range(rng.choice([1, 1, 2, 6])):
        if row_count(db, table) > _MOST_ROWS:
            break
        db.execute(f"INSERT INTO {quoted(table)} SELECT * FROM {quoted(table)} WHERE {where}")
        times += 1
    return f"{table}: rows where {where} doubled {times} times"


def duplicate_strings(db: sqlite3.Connection, rng: random.Random) -> str:
    """Several strings with one id."""
    if "StringIds" not in with_columns(db, "id", "value"):
        return "nothing"
    loosen(db, "StringIds")
    step = rng.randrange(1, 5)
    db.execute(f"INSERT INTO StringIds SELECT id, 'again ' || value FROM StringIds WHERE id%{step}")
    return f"StringIds: other strings with the same ids, step {step}"


def missing_rows(db: sqlite3.Connection, rng: random.Random) -> str:
    """Rows that are gone."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    where = some_rows(rng)
    db.execute(f"DELETE FROM {quoted(table)} WHERE {where}")
    return f"{table}: no rows where {where}"


def other_order(db: sqlite3.Connection, rng: random.Random) -> str:
    """Rows in an order that nsys never writes."""
    table = pick(db, rng)
    if table is None:
        return "nothing"
    order = rng.choice([f"rowid * {rng.randrange(1, 1 << 20) | 1} % 65521", "rowid DESC"])
    loosen(db, table, order)
    return f"{table} in the order of {order}"


def thousands(db: sqlite3.Connection, rng: random.Random) -> str:
    """Thousands of streams, GPUs, contexts, processes, threads or names."""
    candidates = with_columns(db, "start", "end")
    column = rng.choice(
        [
            *("streamId", "deviceId", "contextId", "globalPid", "globalTid"),
            *("shortName", "nameId", "gridX", "graphNodeId", "domainId", "category", "eventType"),
        ]
    )
    found = [t for t in candidates if column in columns(db, t)]
    if not found:
        return "nothing"
    table = rng.choice(found)
    loosen(db, table)
    while row_count(db, table) < rng.choice([1_000, 3_000]):
        db.execute(f"INSERT INTO {quoted(table)} SELECT * FROM {quoted(table)}")
    step = rng.choice(["rowid", "rowid << 24", "rowid * 7919 % 2003", "-rowid"])
    if column == "eventType":
        step = "CASE rowid % 5 WHEN 0 THEN 34 WHEN 1 THEN 59 WHEN 2 THEN 60 ELSE eventType END"
    db.execute(f"UPDATE {quoted(table)} SET {quoted(column)} = {step}")
    if rng.random() < 0.5:
        db.execute(f'UPDATE {quoted(table)} SET start = start + rowid, "end" = "end" + rowid')
    return f"{table}: {row_count(db, table)} rows, {column} = {step}"


def crossing_ranges(db: sqlite3.Connection, rng: random.Random) -> str:
    """Ranges and calls of a thread that cross, touch, and lie in each other without end."""
    found = [t for t in with_columns(db, "start", "end") if t in (NVTX, CALLS, *GPU_WORK)]
    if not found:
        return "nothing"
    table = rng.choice(found)
    loosen(db, table)
    while row_count(db, table) < rng.choice([50, 800]):
        db.execute(f"INSERT INTO {quoted(table)} SELECT * FROM {quoted(table)}")
    count = row_count(db, table)
    shape = rng.choice(
        [
            f'start = 1000 + rowid, "end" = 1000 + {2 * count} - rowid',  # in each other
            f'start = 1000 + rowid, "end" = 1000 + {count} + rowid',  # each crosses the next
            'start = 1000 + rowid * 10, "end" = 1010 + rowid * 10',  # touching
            'start = 1000 + rowid / 3, "end" = 1000 + rowid / 2',
            'start = 1000, "end" = 1000 + rowid % 5',
            'start = 1000, "end" = 1000',
        ]
    )
    db.execute(f"UPDATE {quoted(table)} SET {shape}")
    return f"{table}: {count} rows, {shape}"


def _set(db: sqlite3.Connection, table: str, column: str, value: hostile.Value, where: str) -> None:
    if isinstance(value, str):
        statement = f"UPDATE {quoted(table)} SET {quoted(column)} = CAST(? AS TEXT) WHERE {where}"
        db.execute(statement, [as_text(value)])
    else:
        db.execute(f"UPDATE {quoted(table)} SET {quoted(column)} = ? WHERE {where}", [value])


MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (strange_values, 8),
    (strange_times, 5),
    (strange_ids, 6),
    (hostile_texts, 4),
    (hostile_json, 2),
    (nothing_known, 2),
    (circles, 1),
    (repeated_rows, 2),
    (duplicate_strings, 1),
    (missing_rows, 2),
    (other_order, 2),
    (thousands, 1),
    (crossing_ranges, 2),
)
"""Each with its weight."""
