"""Allocations and frees of CUDA memory, and memory pools (`nsys profile --cuda-memory-usage=true`).

NSYS_SCHEMA section 3. All columns are those of schemas 2.9.1 to 3.25.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.nsys import events
from nsys2perfetto.nsys.capture import Capture, Columns
from nsys2perfetto.nsys.enums import MEMORY_KIND, labels
from nsys2perfetto.nsys.events import Events, Selection

USAGE = "CUDA_GPU_MEMORY_USAGE_EVENTS"
POOLS = "CUDA_GPU_MEMORY_POOL_EVENTS"

_OPERATION = {0: "Allocation", 1: "Deallocation"}
"""ENUM_CUDA_DEV_MEM_EVENT_OPER."""
DESTROYED = 2
"""ENUM_CUDA_MEMPOOL_OPER: 1 created, 2 destroyed, 3 trimmed."""
_IMPORTED = 2
"""ENUM_CUDA_MEMPOOL_TYPE: 1 local, 2 imported."""

HOST_KINDS = (0, 1)
"""Pageable and pinned: their deviceId means nothing."""

_SIZES: Columns = {"localMemoryPoolSize": "int", "localMemoryPoolUtilizedSize": "int"}
_LARGEST = 1 << 50
"""Bytes: a pebibyte. Larger sizes are damage, and sums of them would overflow."""


@dataclass
class MemoryEvents(Events):
    """Events that change how much memory is in use.

    Attributes:
        earlier: Those before the selection begins: not shown, but they make up what is in use then.
    """

    earlier: Events | None = None


def usage(capture: Capture, selection: Selection) -> MemoryEvents:
    """Reads allocations and frees.

    Configuration: globalPid, deviceId, `sign` (1 takes memory, -1 gives it back), memKind, `kind`
    (its label) and `pool` (address of the memory pool it is of; null for none). Values: bytes, and
    the pool's size and used size after it (-1 where unknown).
    """
    shown = _usage(capture, selection)
    result = MemoryEvents(**vars(shown))
    if selection.start is not None:
        before = replace(selection, start=None, end=selection.start - 1)
        result.earlier = _usage(capture, before)
    return result


def _usage(capture: Capture, selection: Selection) -> Events:
    config: Columns = {
        "globalPid": "int", "deviceId": "int", "memKind": "int", "memoryOperationType": "int",
        "localMemoryPoolAddress": "int", "importedMemoryPoolAddress": "int",
    }  # fmt: skip
    found = events.read(
        capture, USAGE, config, {"bytes": "int", **_SIZES},
        start="start", end=None, owner="globalPid", selection=selection,
    )  # fmt: skip
    kinds = labels(capture, "ENUM_CUDA_MEM_KIND", MEMORY_KIND)
    operation = labels(capture, "ENUM_CUDA_DEV_MEM_EVENT_OPER", {}) or _OPERATION
    sign = {
        number: -1 if label.lower().startswith("dealloc") else 1
        for number, label in operation.items()
        if "alloc" in label.lower()
    }
    kind = pl.col("memKind").fill_null(7)
    found.config = found.config.with_columns(
        pl.col("globalPid").fill_null(0),
        pl.col("memoryOperationType").replace_strict(sign, default=0, return_dtype=pl.Int64)
        .alias("sign"),
        kind.alias("memKind"),
        kind.replace_strict(kinds, default="Unknown", return_dtype=pl.String).alias("kind"),
        pl.coalesce(_address("localMemoryPoolAddress"), _address("importedMemoryPoolAddress"))
        .alias("pool"),
    )  # fmt: skip
    known = found.config["sign"].to_numpy()[found.code] != 0
    return _without(
        found,
        {
            "neither an allocation nor a free": ~known,
            "size out of range": known & ~_sensible(found.values["bytes"]),
        },
    )


def pools(capture: Capture, selection: Selection) -> MemoryEvents:
    """Reads what happened to memory pools.

    Configuration: globalPid, deviceId, `pool` (its address), `imported`, operationType. Values: the
    pool's size and used size after it; 0 once it is destroyed.
    """
    shown = _pools(capture, selection)
    result = MemoryEvents(**vars(shown))
    if selection.start is not None:
        before = replace(selection, start=None, end=selection.start - 1)
        result.earlier = _pools(capture, before)
    return result


def _pools(capture: Capture, selection: Selection) -> Events:
    config: Columns = {
        "globalPid": "int", "deviceId": "int", "address": "int", "operationType": "int",
        "poolType": "int",
    }  # fmt: skip
    found = events.read(
        capture, POOLS, config, _SIZES,
        start="start", end=None, owner="globalPid", selection=selection,
    )  # fmt: skip
    found.config = found.config.with_columns(
        pl.col("globalPid").fill_null(0),
        pl.col("address").fill_null(0).alias("pool"),
        (pl.col("poolType") == _IMPORTED).fill_null(False).alias("imported"),
    )
    gone = (found.config["operationType"] == DESTROYED).fill_null(False).to_numpy()[found.code]
    for name in _SIZES:
        found.values[name] = np.where(gone, 0, found.values[name])
    unknown = ~_sensible(found.values["localMemoryPoolSize"])
    return _without(found, {"no size (the pool of another process)": unknown})


def _address(column: str) -> pl.Expr:
    """0 is no pool."""
    return pl.when(pl.col(column) != 0).then(pl.col(column))


def _sensible(size: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Neither unknown nor damaged."""
    return np.asarray((size >= 0) & (size <= _LARGEST))  # type: ignore[operator]


def _without(found: Events, reasons: dict[str, npt.NDArray[np.bool_]]) -> Events:
    """Leaves out events, counted by reason."""
    bad = np.zeros(len(found), bool)
    for reason, mask in reasons.items():
        if count := int(mask.sum()):
            found.dropped[reason] = found.dropped.get(reason, 0) + count
            bad |= mask
    if not bad.any():
        return found
    kept = found.take(~bad)
    kept.rows_read, kept.filtered, kept.dropped = found.rows_read, found.filtered, found.dropped
    return kept
