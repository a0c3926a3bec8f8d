"""What decode steps are told from: the user's wish, and tables, divided among processes and GPUs.

Each (process, GPU), here called a *unit*, has a number. Times are int64 ns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nsys2perfetto.analysis.intervals import ascending
from nsys2perfetto.analysis.markers import KernelNames

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.integer]

AUTO, KERNEL, NVTX, GRAPH, COPY, NONE = "auto", "kernel", "nvtx", "graph", "copy", "none"

_FEW = 8


@dataclass(frozen=True)
class Request:
    """What the user wants steps to be told from.

    Attributes:
        rule: AUTO, KERNEL, NVTX, GRAPH or NONE.
        patterns: For KERNEL and NVTX, see `markers.compile_pattern`.
        warmup: Decode steps at the beginning of each run that are warm-up; None to find out.
    """

    rule: str = AUTO
    patterns: tuple[str, ...] = ()
    warmup: int | None = None


@dataclass(frozen=True)
class Kernels:
    """All kernels; arrays of shape (n,), in any order."""

    unit: Int64s
    """Number of the (process, GPU)."""
    start: Int64s
    end: Int64s
    config: Integers
    """Row of `names`."""
    names: KernelNames


@dataclass(frozen=True)
class Ranges:
    """NVTX ranges, one row for each unit of their process; arrays of shape (m,)."""

    unit: Int64s
    thread: Int64s
    name: Integers
    """Row of `names`."""
    start: Int64s
    end: Int64s
    gpu_start: Int64s
    """First start of the unit's operations that the range launched (see `nvtx_projection`)."""
    gpu_end: Int64s
    operations: Int64s
    """How many these are; 0 where the range launched nothing on this unit."""
    names: pl.Series


@dataclass(frozen=True)
class Replays:
    """Launches of CUDA graphs as the GPU ran them; arrays of shape (launches,)."""

    unit: Int64s
    graph: Int64s
    """Number of the graph, 0 and up."""
    start: Int64s
    end: Int64s
    whole: Bools
    """Whether the capture holds the launch as one row, without the kernels in it."""


@dataclass(frozen=True)
class Copies:
    """Copies from the device to the host; arrays of shape (n,)."""

    unit: Int64s
    start: Int64s
    end: Int64s
    size: Int64s
    """Bytes."""


@dataclass(frozen=True)
class Unit:
    """What is known of one (process, GPU); kernels and copies in order of start."""

    kernels: Kernels
    first: int
    """When its first operation began, ns."""
    ranges: Ranges | None
    replays: Replays | None
    copies: Copies | None


T = TypeVar("T", Kernels, Ranges, Replays, Copies)
P = TypeVar("P")


def take(table: T, rows: Int64s | Bools | slice) -> T:
    """The rows of a table: of all its arrays, whatever else it has stays."""
    columns = {f.name: getattr(table, f.name) for f in fields(table)}
    arrays: dict[str, Any] = {
        name: c[rows] for name, c in columns.items() if isinstance(c, np.ndarray)
    }
    return replace(table, **arrays)


def replays_of(unit: Int64s, launch: Int64s, graph: Int64s, start: Int64s, end: Int64s) -> Replays:
    """The launches of graphs whose nodes were traced one by one.

    Args:
        unit: Of each kernel, copy or memory set that belongs to a graph, shape (n,).
        launch: What tells the launches of the unit's process apart: the correlation id.
        graph: Number of its graph.
        start: ns.
        end: ns.
    """
    if not len(unit):
        return Replays(*(np.empty(0, np.int64),) * 4, np.empty(0, np.bool_))
    order = np.lexsort((launch, unit))
    unit, launch = unit[order], launch[order]
    new = np.append(True, (unit[1:] != unit[:-1]) | (launch[1:] != launch[:-1]))
    heads = np.flatnonzero(new)
    return Replays(
        unit[heads],
        graph[order][heads],
        np.minimum.reduceat(start[order], heads),
        np.maximum.reduceat(end[order], heads),
        np.zeros(len(heads), np.bool_),
    )


def rows_of(key: Int64s, wanted: Int64s) -> list[Int64s | None]:
    """The rows that have each of the wanted keys, ascending; None for all rows, in order."""
    if len(wanted) == 1 and bool((key == wanted[0]).all()):
        return [None]
    if len(wanted) <= _FEW:
        return [np.flatnonzero(key == one) for one in wanted]
    order = ascending(key)
    first, last = (np.searchsorted(key[order], wanted, side) for side in ("left", "right"))
    return [order[a:b] for a, b in zip(first, last, strict=True)]


def all_rows_of(key: Int64s, wanted: Int64s) -> list[Int64s]:
    """The same with all rows spelled out."""
    found = rows_of(key, wanted)
    return [np.arange(len(key)) if rows is None else rows for rows in found]


@dataclass(frozen=True)
class Part(Generic[P]):
    """One unit's share of a table, in order of start, and its rows there; None: all, in order."""

    table: P
    rows: Int64s | None


@overload
def parts(table: T, units: Int64s) -> list[Part[T]]: ...
@overload
def parts(table: T | None, units: Int64s) -> list[Part[T | None]]: ...
def parts(table: T | None, units: Int64s) -> list[Part[T]] | list[Part[T | None]]:
    """Divides a table among the units; what belongs to none of them is left out."""
    if table is None:
        return [Part[T | None](None, None)] * len(units)
    answer: list[Part[T]] = []
    for rows in rows_of(table.unit, units):
        start = table.start if rows is None else table.start[rows]
        if (start[1:] < start[:-1]).any():
            order = ascending(start)
            rows = order if rows is None else rows[order]  # noqa: PLW2901
        answer.append(Part(table if rows is None else take(table, rows), rows))
    return answer
