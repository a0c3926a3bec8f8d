"""Memory in use, as counters of the process: by GPU and kind of memory, and by memory pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.analysis import running_sum
from nsys2perfetto.nsys.gpu_memory import HOST_KINDS, MemoryEvents
from nsys2perfetto.nsys.gpus import Gpus
from nsys2perfetto.tracks import counter_tracks
from nsys2perfetto.tracks.counter_tracks import CounterValues, counter_track
from nsys2perfetto.tracks.processes import Tracks

I64 = npt.NDArray[np.int64]

_HOST = -1
"""Stands for the GPU of host memory."""
_OWNER = ["process", "gpu"]

_KIND_HELP = "the running sum of the allocations and frees of this process, memory pools included."
_POOL_HELP = {
    "allocated": "Allocations from the pool that are in use, the running sum.",
    "size": "Device memory that the pool holds, in use or not, as the driver counts.",
    "used": "Part of the pool that is in use, as the driver counts.",
}


_Pool = tuple[int, int, int]
"""globalPid, GPU, address."""


@dataclass
class _Curve:
    """Values before they are cut to the selection; `base` holds before the first time."""

    time: I64
    value: I64
    base: int = 0


@dataclass
class MemoryCounters:
    """All counters of memory, ready to be written.

    Attributes:
        start: Where the user's selection begins, ns; None for the whole capture.
        notes: What the user should know, one sentence each.
    """

    start: int | None = None
    notes: list[str] = field(default_factory=list)
    _curves: list[tuple[int, _Curve]] = field(default_factory=list)
    """Each with the uuid of its track."""

    def packets(self, shift: int, begin: int | None = None) -> Iterator[npt.NDArray[np.uint8]]:
        """Writes the counters.

        Args:
            shift: ns added to every timestamp.
            begin: When the trace begins, ns as the capture counts: what was in use before the
                first event is shown from there on. By default it is the first of these events.
        """
        if begin is None:
            begin = min((int(c.time[0]) for _, c in self._curves if len(c.time)), default=None)
        # A selection may begin before the trace does, which has no time below 0.
        opening = begin if self.start is None else max(self.start, -shift)
        yield from counter_tracks.packets([_cut(t, c, opening) for t, c in self._curves], shift)


def _cut(track: int, curve: _Curve, opening: int | None) -> CounterValues:
    """The values from `opening` on, and the one that holds there already, where it is not 0."""
    time, value, before = curve.time, curve.value, curve.base
    if opening is not None:
        low = int(np.searchsorted(time, opening))
        before = int(value[low - 1]) if low else before
        time, value = time[low:], value[low:]
        if before and not (len(time) and time[0] == opening):
            time, value = np.insert(time, 0, opening), np.insert(value, 0, before)
    return CounterValues(track, time, value)


def prepare(
    usage: MemoryEvents, pools: MemoryEvents, gpus: Gpus, tracks: Tracks, start: int | None = None
) -> MemoryCounters:
    """Makes the counters, and their tracks below those of the processes.

    Args:
        usage, pools: See `nsys.gpu_memory`.
        gpus: Maps each process's devices to GPUs.
        tracks: Gives the tracks.
        start: Where the user's selection begins, ns.
    """
    result = MemoryCounters(start)
    used = _table(usage, gpus, "memKind", "kind", "pool", "sign").with_columns(
        pl.when(pl.col("memKind").is_in(HOST_KINDS)).then(_HOST).otherwise("gpu").alias("gpu"),
        (pl.col("sign") * pl.col("bytes")).alias("change"),
    )
    for (process, gpu, kind), curve in _sums(used, [*_OWNER, "kind"]):
        what = f"{kind.lower()} host" if gpu == _HOST else f"GPU {gpu} {kind.lower()}"
        help_text = f"{kind} memory that is allocated through CUDA: {_KIND_HELP}"
        _add(result, tracks, process, f"{what} memory", help_text, curve)

    of_pools = used.filter(pl.col("pool").is_not_null())
    events = _table(pools, gpus, "pool")
    columns = [*_OWNER, "pool", "time", "size", "used"]
    # A pool is created before it is allocated from, in the same nanosecond too.
    states = pl.concat([events.select(columns), of_pools.select(columns)])
    names = _pool_names(states)
    curves = [("allocated", *found) for found in _sums(of_pools, [*_OWNER, "pool"])]
    curves += [(what, *found) for what in ("size", "used") for found in _states(states, what)]
    for what, pool, curve in curves:
        help_text = f"{_POOL_HELP[what]} The pool's address is {pool[2] & (1 << 64) - 1:#x}."
        name = names[pool]
        _add(result, tracks, pool[0], f"{name} {what}", help_text, curve, scale=name)
    return result


def _table(source: MemoryEvents, gpus: Gpus, *columns: str) -> pl.DataFrame:
    """Events by row, those before the selection first: process, gpu, `columns`, time, values."""
    found = []
    for events in (source.earlier, source):
        if events is None:
            continue
        devices = events.config.select("globalPid", "deviceId").iter_rows()
        config = events.config.select(
            pl.col("globalPid").alias("process"),
            pl.Series("gpu", [gpus.gpu_id(*row) for row in devices], dtype=pl.Int64),
            *columns,
        )
        values = {n.replace("localMemoryPool", ""): c for n, c in events.values.items()}
        found.append(
            config[events.code].with_columns(
                pl.Series("time", events.start),
                *(pl.Series(n, c, dtype=pl.Int64) for n, c in values.items()),
            )
        )
    return pl.concat(found).rename({"Size": "size", "UtilizedSize": "used"})


def _groups(table: pl.DataFrame, key: list[str]) -> tuple[pl.DataFrame, I64]:
    """The distinct keys, and the number of each row's."""
    distinct = table.select(key).unique().sort(key).with_row_index("group")
    number = table.select(key).join(distinct, on=key, how="left", maintain_order="left")["group"]
    return distinct.drop("group"), number.to_numpy().astype(np.int64)


def _sums(table: pl.DataFrame, key: list[str]) -> Iterator[tuple[Any, _Curve]]:
    """(key, running sum) of each group."""
    distinct, group = _groups(table, key)
    time = table["time"].to_numpy()
    found = running_sum.levels(group, time, table["change"].to_numpy(), len(distinct))
    ends = [*found.first[1:].tolist(), len(time)]
    for i, row in enumerate(distinct.iter_rows()):
        part = slice(int(found.first[i]), ends[i])
        yield row, _Curve(time[found.order[part]], found.level[part], int(found.base[i]))


def _states(table: pl.DataFrame, column: str) -> Iterator[tuple[Any, _Curve]]:
    """(key, values) of each pool, where the capture knows them."""
    known = table.filter(pl.col(column) >= 0).sort("time", maintain_order=True)
    for key, part in known.group_by([*_OWNER, "pool"], maintain_order=True):
        yield key, _Curve(part["time"].to_numpy(), part[column].to_numpy())


def _pool_names(states: pl.DataFrame) -> dict[_Pool, str]:
    """`GPU 0 memory pool 1`: the pools of a process and GPU in the order in which they appear."""
    pools = states.sort("time", maintain_order=True).select(*_OWNER, "pool")
    number: dict[tuple[int, int], int] = {}
    names = {}
    for process, gpu, pool in pools.unique(maintain_order=True).iter_rows():
        number[process, gpu] = number.get((process, gpu), 0) + 1
        names[process, gpu, pool] = f"GPU {gpu} memory pool {number[process, gpu]}"
    return names


def _add(
    result: MemoryCounters,
    tracks: Tracks,
    process: int,
    name: str,
    help_text: str,
    curve: _Curve,
    scale: str = "",
) -> None:
    if curve.base:
        help_text += (
            f" It starts at {curve.base:,} bytes: so much more was freed than allocated in the "
            "capture, and must have been allocated before."
        )
        owner = f"{tracks.name_of_process(process)} ({tracks.pid(process)})"
        result.notes.append(
            f"{owner}, {name}: {curve.base:,} bytes more were freed than allocated in the "
            "capture, so they were allocated before it; the counter starts with them"
        )
    parent = tracks.process(process)
    track = counter_track(tracks, parent, name, "B", help_text, scale)
    result._curves.append((track, curve))
