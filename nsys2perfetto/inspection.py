"""`inspect`: what a capture holds, without converting it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from nsys2perfetto import notes
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.nsys import exporting, gpus, metadata, processes
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.ids import pid_of, tid_of
from nsys2perfetto.nsys.metadata import Message
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.reading import Progress
from nsys2perfetto.result import CaptureInfo, FamilyCount, GpuInfo
from nsys2perfetto.tables import TABLES, not_shown, tables_of
from nsys2perfetto.tables import span as span_of


@dataclass(frozen=True)
class Process:
    """A process that has events."""

    pid: int
    name: str
    threads: list[tuple[int, str, int]]
    """Thread id, name and number of events of each thread."""
    gpus: list[int]
    """The GPUs that its CUDA devices 0, 1, ... are, where the process ran kernels on them."""


@dataclass(frozen=True)
class Inspection:
    """What `nsys2perfetto info` shows."""

    capture: CaptureInfo
    families: list[FamilyCount]
    """`read` is the number of rows, `written` is 0."""
    processes: list[Process]
    gpu_details: list[gpus.Gpu]
    graph_trace_mode: str | None
    messages: list[Message]
    other_tables: dict[str, int]
    """Tables of events that no family shows, and their rows."""


def inspect(capture: str | Path, progress: Progress | None = None) -> Inspection:
    """Tells what is inside a capture.

    Args:
        capture: The export, which is only read; or the report, see `convert`.
        progress: Called now and then while nsys exports a report.

    Raises:
        CaptureError: The capture cannot be read.
    """
    path = Path(capture)
    with exporting.exported(path, progress) as export, Capture(export) as opened:
        found = _inspect(opened)
        opened.check_unchanged()
        info = replace(found.capture, path=exporting.shown(path, export))
        return replace(found, capture=info)


def _inspect(capture: Capture) -> Inspection:
    meta = metadata.read(capture)
    known = gpus.read(capture)
    rows = capture.read("StringIds", {"id": "int", "value": "text"})
    strings = StringTable(rows["id"], rows["value"])
    families: list[FamilyCount] = []
    span: list[tuple[int, int]] = []
    threads: list[pl.DataFrame] = []
    owners: set[int] = set()
    for family in FAMILIES:
        for table in tables_of(family, capture):
            if not (count := capture.count(table)):
                continue
            families.append(FamilyCount(family, table, count, 0))
            if family == "message":
                continue  # of nsys itself: neither a time nor a process of the program
            if (times := span_of(capture, table)) is not None:
                span.append(times)
            if capture.has(table, "globalTid"):
                threads.append(_per_owner(capture, table, "globalTid"))
            elif capture.has(table, "globalPid"):
                owners.update(_per_owner(capture, table, "globalPid")["owner"].to_list())
    found = _processes(capture, strings, threads, owners, known)
    kernels = _kernels_by_gpu(capture, known)
    first = min((s for s, _ in span), default=0)
    listed = [
        GpuInfo(g.id, g.name, kernels.get(g.id, 0)) for g in known.by_id.values() if g.is_cuda
    ]
    listed += [GpuInfo(n, "GPU", count) for n, count in kernels.items() if n not in known.by_id]
    info = CaptureInfo(
        path=capture.path,
        size=capture.size,
        nsys_version=meta.product_version,
        schema_version=meta.schema_version,
        session_start_utc_ns=meta.session_start_utc,
        gpus=sorted(listed, key=lambda g: g.id),
        processes=[(p.pid, p.name) for p in found],
        first_event_ns=first,
        duration_ns=max((e for _, e in span), default=first) - first,
        notes=notes.before_reading(capture, strings, meta),
    )
    return Inspection(
        info,
        families,
        found,
        sorted(known.by_id.values(), key=lambda g: g.id),
        meta.graph_trace_mode,
        meta.messages,
        not_shown(capture),
    )


def _per_owner(capture: Capture, table: str, column: str) -> pl.DataFrame:
    """owner, count: events of each thread or process in a table."""
    return _counted(capture, table, column).rename({column: "owner"})


def _counted(capture: Capture, table: str, *columns: str) -> pl.DataFrame:
    """Distinct values of integer columns, sorted, and the `count` of rows; without nulls."""
    parts = [
        batch.group_by(columns).agg(pl.len().cast(pl.Int64).alias("count"))
        for batch in capture.batches(table, dict.fromkeys(columns, "int"))
    ]
    empty = pl.DataFrame(schema=dict.fromkeys([*columns, "count"], pl.Int64))
    whole = pl.concat([empty, *parts]).drop_nulls()
    return whole.group_by(columns).agg(pl.sum("count")).sort(columns)


def _processes(
    capture: Capture,
    strings: StringTable,
    threads: list[pl.DataFrame],
    owners: set[int],
    known: gpus.Gpus,
) -> list[Process]:
    empty = pl.DataFrame(schema={"owner": pl.Int64, "count": pl.Int64})
    events = pl.concat([empty, *threads]).group_by("owner").agg(pl.col("count").sum())
    busiest_first = events.sort("count", "owner", descending=[True, False])
    by_thread = dict(busiest_first.iter_rows())
    owners = owners | {processes.process_of_thread(t) for t in by_thread}
    names = processes.process_names(capture, strings, owners)
    thread_names = processes.thread_names(capture, strings, by_thread)
    devices = _devices(capture)
    threads_of: dict[int, list[tuple[int, str, int]]] = {owner: [] for owner in owners}
    for thread, count in by_thread.items():
        listed = (tid_of(thread), thread_names.get(thread, ""), count)
        threads_of[processes.process_of_thread(thread)].append(listed)
    return [
        Process(
            pid=pid_of(owner),
            name=names.get(owner, ""),
            threads=threads_of[owner],
            gpus=[known.gpu_id(owner, device) for device in sorted(devices.get(owner, []))],
        )
        for owner in sorted(owners)
    ]


def _devices(capture: Capture) -> dict[int, list[int]]:
    """The CUDA devices on which each process ran kernels."""
    result: dict[int, list[int]] = {}
    for owner, device, _ in _kernel_counts(capture):
        result.setdefault(owner, []).append(device)
    return result


def _kernels_by_gpu(capture: Capture, known: gpus.Gpus) -> dict[int, int]:
    result: dict[int, int] = {}
    for owner, device, count in _kernel_counts(capture):
        gpu = known.gpu_id(owner, device)
        result[gpu] = result.get(gpu, 0) + count
    return result


def _kernel_counts(capture: Capture) -> list[tuple[int, int, int]]:
    """(globalPid, device, kernels)."""
    table = TABLES["kernel"][0]
    if not capture.has(table, "globalPid", "deviceId"):
        return []
    return list(_counted(capture, table, "globalPid", "deviceId").iter_rows())
