"""Which nsys tables each family of events comes from, and which tables no family shows."""

from __future__ import annotations

from nsys2perfetto.nsys import cuda_calls, gpu_memory, gpu_metrics, gpu_work, nvtx
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import EARLIEST, LATEST
from nsys2perfetto.tracks import call_tables

TABLES: dict[str, list[str]] = {
    "kernel": [gpu_work.KERNEL],
    "memcpy": [gpu_work.MEMCPY],
    "memset": [gpu_work.MEMSET],
    "graph": [gpu_work.GRAPH_TRACE],
    "cuda_api": [cuda_calls.CALLS],
    "cuda_wait": [cuda_calls.WAITS],
    "nvtx": [nvtx.TABLE],
    "memory": [gpu_memory.USAGE],
    "memory_pool": [gpu_memory.POOLS],
    "gpu_metrics": [gpu_metrics.TABLE],
    "message": ["DIAGNOSTIC_EVENT"],
}
for _table in call_tables.TABLES:
    TABLES.setdefault(_table.family, []).append(_table.table)

_NO_EVENTS = {cuda_calls.EVENT_RECORDS, "MPI_COMMUNICATORS"}
"""Tables with times that are no events of their own: they serve a join, or describe objects."""

_TIMES = {"start", "timestamp", "rawTimestamp", "startedAt", "openedAt"}
"""Columns by which a table of events is known."""


def tables_of(family: str, capture: Capture) -> list[str]:
    """The tables of a family in a capture: GPU metrics come from one of two."""
    return [gpu_metrics.table_of(capture)] if family == "gpu_metrics" else TABLES[family]


def span(capture: Capture, table: str) -> tuple[int, int] | None:
    """First start and last end of a table's events, ns; None where it has none."""
    if not capture.has(table):
        return None
    if capture.has(table, "start"):
        first, last = "start", '"end"' if capture.has(table, "end") else "start"
    elif capture.has(table, "timestamp"):
        raw = ", rawTimestamp" if capture.has(table, "rawTimestamp") else ", NULL"
        first = last = f"coalesce(timestamp{raw})"
    else:
        return None
    row = capture.sql(
        f"SELECT min(s) AS a, max(s) AS b, max(e) AS c FROM (SELECT CAST({first} AS INTEGER) AS s, "
        f'CAST({last} AS INTEGER) AS e FROM "{table}") '
        f"WHERE s > {EARLIEST} AND s < {LATEST} AND coalesce(e, s) BETWEEN s AND {LATEST - 1}"
    ).row(0)
    times = [t for t in row if t is not None]
    return (times[0], max(times)) if times else None


def not_shown(capture: Capture) -> dict[str, int]:
    """Tables of events that no family shows, and how many rows each has."""
    shown = {table for tables in TABLES.values() for table in tables} | _NO_EVENTS
    if not nvtx.can_be_read(capture):
        shown.discard(nvtx.TABLE)
    return {
        table: count
        for table, columns in capture.tables.items()
        if table not in shown
        and not table.startswith(("ENUM_", "TARGET_INFO_", "META_DATA_"))
        and _TIMES & set(columns)
        and (count := _unshown_rows(capture, table))
    }


def _unshown_rows(capture: Capture, table: str) -> int:
    """Generic events are GPU metrics, as a rule: then they are shown, or repeat what is."""
    if table == gpu_metrics.GENERIC:
        return gpu_metrics.foreign_events(capture)
    return capture.count(table)
