"""Which nsys tables each family of events comes from, and which tables no family shows."""

from __future__ import annotations

import polars as pl

from nsys2perfetto.nsys import cpu_samples, cuda_calls, gpu_memory, gpu_metrics, gpu_work, nvtx
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import EARLIEST, LATEST
from nsys2perfetto.tracks import call_tables, scheduling

TABLES: dict[str, list[str]] = {
    "kernel": [gpu_work.KERNEL],
    "memcpy": [gpu_work.MEMCPY],
    "memset": [gpu_work.MEMSET],
    "graph": [gpu_work.GRAPH_TRACE],
    "cuda_api": [cuda_calls.CALLS],
    "cuda_wait": [cuda_calls.WAITS],
    "nvtx": [nvtx.TABLE],
    "sched": [scheduling.TABLE],
    "cpu_sample": [cpu_samples.TABLE],
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
    if capture.has(table, "start"):
        columns = ("start", "end") if capture.has(table, "end") else ("start",)
    elif capture.has(table, "timestamp"):
        columns = ("timestamp", "rawTimestamp")
    else:
        return None
    begin, end = pl.col(columns[0]), pl.col(columns[-1])
    if columns[0] == "timestamp":
        begin = end = pl.coalesce(begin, end)
    wanted = pl.DataFrame(schema={"begin": pl.Int64, "end": pl.Int64})
    for batch in capture.batches(table, dict.fromkeys(columns, "int")):
        times = batch.select(begin=begin, end=pl.coalesce(end, begin)).filter(
            pl.col("begin").is_between(EARLIEST, LATEST, closed="none"),
            pl.col("end").is_between(pl.col("begin"), LATEST - 1),
        )
        wanted = pl.concat([wanted, times.select(pl.min("begin"), pl.max("end"))])
    first, last = wanted.select(pl.min("begin"), pl.max("end")).row(0)
    return None if first is None else (first, last)


def not_shown(capture: Capture) -> dict[str, int]:
    """Tables of events that no family shows, and how many rows each has."""
    shown = {table for tables in TABLES.values() for table in tables} | _NO_EVENTS
    if not nvtx.can_be_read(capture):
        shown.discard(nvtx.TABLE)
    return {
        table: count
        for table, columns in sorted(capture.tables.items())
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
