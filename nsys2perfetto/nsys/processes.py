"""Names of processes and threads: of those that have events, never of the whole machine."""

from __future__ import annotations

import re
from collections.abc import Iterable

import polars as pl

from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.nsys.text import StringTable

NVTX_THREAD_NAME = 39
"""NVTX_EVENTS.eventType of nvtxNameOsThread (NSYS_SCHEMA section 4)."""


def process_names(
    capture: Capture, strings: StringTable, processes: Iterable[int]
) -> dict[int, str]:
    """GlobalPid to program name; a process whose name is unknown is left out.

    Sources by priority: PROCESSES (2.9.1 on), then the name of the main thread. A path is cut to
    its last part: it often holds the user's name. TARGET_INFO_PROCESS is not read: its names are
    command lines in some versions.
    """
    wanted = sorted(set(processes))
    names: dict[int, str] = {}
    if capture.has("PROCESSES", "globalPid", "name"):
        rows = capture.read("PROCESSES", {"globalPid": "int", "name": "text"})
        rows = rows.filter(pl.col("globalPid").is_in(wanted)).drop_nulls()
        for process, name in rows.iter_rows():
            if short := program_name(name):
                names.setdefault(process, short)
    main_threads = {p | (p >> 24 & 0xFFFFFF): p for p in wanted if p not in names}
    for thread, name in thread_names(capture, strings, main_threads).items():
        if short := program_name(name):
            names[main_threads[thread]] = short
    return names


def program_name(name: str) -> str:
    """The last part of a path, without anything after it: arguments could hold secrets."""
    first = name.strip().split(" -", 1)[0]
    return re.split(r"[/\\]", first)[-1].split(" ", 1)[0] if first else ""


def thread_names(capture: Capture, strings: StringTable, threads: Iterable[int]) -> dict[int, str]:
    """GlobalTid to thread name; a thread whose name is unknown is left out.

    ThreadNames.priority ranks the sources: 0 NVTX, 10 nsys' own threads, 20 the operating system;
    the lowest wins (NSYS_SCHEMA section 4). NVTX thread names that only NVTX_EVENTS has count as 0.
    """
    wanted = sorted(set(threads))
    found = [
        capture.read("ThreadNames", {"globalTid": "int", "nameId": "int", "priority": "int"})
        .with_columns(pl.col("priority").fill_null(20))
        .filter(pl.col("globalTid").is_in(wanted))
    ]
    found[0] = found[0].with_columns(strings.look_up(found[0]["nameId"]).alias("name"))
    if capture.has("NVTX_EVENTS", "eventType", "text", "globalTid"):
        rows = capture.read(
            "NVTX_EVENTS",
            {"globalTid": "int", "text": "text"},
            [f"eventType = {NVTX_THREAD_NAME}"],
        ).filter(pl.col("globalTid").is_in(wanted))
        found.append(rows.select("globalTid", pl.lit(0).alias("priority"), name="text"))
    table = (
        pl.concat([f.select("globalTid", pl.col("priority").cast(pl.Int64), "name") for f in found])
        .filter(pl.col("name").is_not_null() & (pl.col("name") != ""))
        .sort("priority", maintain_order=True)
        .unique("globalTid", keep="first", maintain_order=True)
    )
    return dict(table.select("globalTid", "name").iter_rows())


def process_of_thread(thread: int) -> int:
    """The globalPid of a globalTid."""
    return thread & PROCESS_MASK
