"""Serialised global ids: `hardware:8 | vm:8 | process:24 | thread:24` (NSYS_SCHEMA section 2)."""

from __future__ import annotations

import polars as pl

PROCESS_MASK = ~0xFFFFFF
"""globalTid & PROCESS_MASK is the globalPid of its process (also for negative ids)."""

_MACHINE_MASK = ~((1 << 48) - 1)


def machine_of(global_id: int) -> int:
    """The hardware and vm part of a global id, in its place (also of negative ids)."""
    return global_id & _MACHINE_MASK


def pid_of(global_id: int) -> int:
    """The operating system's process id in a globalPid or globalTid."""
    return global_id >> 24 & 0xFFFFFF


def tid_of(global_tid: int) -> int:
    """The operating system's thread id in a globalTid."""
    return global_tid & 0xFFFFFF


def process_of(global_tid: str | pl.Expr) -> pl.Expr:
    """The globalPid of a column of globalTids."""
    column = pl.col(global_tid) if isinstance(global_tid, str) else global_tid
    return column & pl.lit(PROCESS_MASK, dtype=pl.Int64)
