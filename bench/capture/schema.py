"""The tables of an nsys 2024.6.2 export (schema 3.16.1) that the benchmark captures fill."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import numpy as np

# Columns in the order of the real export; `!` marks NOT NULL, `:TYPE` anything but INTEGER.
TABLES = {
    "StringIds": "id! value:TEXT!",
    "ThreadNames": "nameId! priority globalTid",
    "PROCESSES": "globalPid pid name:TEXT",
    "META_DATA_EXPORT": "name:TEXT! value:TEXT",
    "TARGET_INFO_SESSION_START_TIME": "utcEpochNs utcTime:TEXT localTime:TEXT",
    "TARGET_INFO_GPU": (
        "vmId! id! name:TEXT busLocation:TEXT isDiscrete l2CacheSize totalMemory memoryBandwidth "
        "clockRate smCount pwGpuId uuid:TEXT luid chipName:TEXT cuDevice ctxswDevPath:TEXT "
        "ctrlDevPath:TEXT revision nodeMask constantMemory maxIPC maxRegistersPerBlock "
        "maxShmemPerBlock maxShmemPerBlockOptin maxShmemPerSm maxRegistersPerSm threadsPerWarp "
        "asyncEngines maxWarpsPerSm maxBlocksPerSm maxThreadsPerBlock maxBlockDimX maxBlockDimY "
        "maxBlockDimZ maxGridDimX maxGridDimY maxGridDimZ computeMajor computeMinor smMajor smMinor"
    ),
    "CUPTI_ACTIVITY_KIND_KERNEL": (
        "start! end! deviceId! contextId! greenContextId streamId! correlationId globalPid "
        "demangledName! shortName! mangledName launchType cacheConfig registersPerThread! gridX! "
        "gridY! gridZ! blockX! blockY! blockZ! staticSharedMemory! dynamicSharedMemory! "
        "localMemoryPerThread! localMemoryTotal! gridId! sharedMemoryExecuted graphNodeId "
        "sharedMemoryLimitConfig"
    ),
    "CUPTI_ACTIVITY_KIND_RUNTIME": (
        "start! end! eventClass! globalTid correlationId nameId! returnValue! callchainId"
    ),
    "CUPTI_ACTIVITY_KIND_MEMCPY": (
        "start! end! deviceId! contextId! greenContextId streamId! correlationId globalPid bytes! "
        "copyKind! deprecatedSrcId srcKind dstKind srcDeviceId srcContextId dstDeviceId "
        "dstContextId migrationCause graphNodeId virtualAddress"
    ),
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": (
        "start! end! deviceId! contextId! greenContextId streamId! correlationId globalPid "
        "syncType! eventId!"
    ),
    "NVTX_EVENTS": (
        "start! end eventType! rangeId category color text:TEXT globalTid endGlobalTid textId "
        "domainId uint64Value int64Value doubleValue:REAL uint32Value int32Value floatValue:REAL "
        "jsonTextId jsonText:TEXT binaryData:TEXT"
    ),
    "CUDA_GPU_MEMORY_USAGE_EVENTS": (
        "start! globalPid! deviceId! contextId! address! pc! bytes! memKind! memoryOperationType! "
        "name:TEXT correlationId localMemoryPoolAddress localMemoryPoolReleaseThreshold "
        "localMemoryPoolSize localMemoryPoolUtilizedSize importedMemoryPoolAddress "
        "importedMemoryPoolProcessId"
    ),
    "CUDA_GRAPH_NODE_EVENTS": (
        "start! end! eventClass! globalTid nameId! graphNodeId! originalGraphNodeId"
    ),
}

Column = np.ndarray | list[Any] | int | str | None
"""One column to insert: an array or list, or one value for every row."""


def create(db: sqlite3.Connection, table: str) -> None:
    """Create `table` as the export has it; nothing happens where it exists."""
    columns = []
    for spec in TABLES[table].split():
        name, _, kind = spec.rstrip("!").partition(":")
        columns.append(f"{name} {kind or 'INTEGER'}{' NOT NULL' if spec.endswith('!') else ''}")
    if table == "StringIds":
        columns[0] += " PRIMARY KEY"
    db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)})")


def insert(db: sqlite3.Connection, table: str, columns: Mapping[str, Column]) -> int:
    """Insert rows given as columns into `table`, created at its first row as nsys does.

    Args:
        db: The capture that is being written.
        table: A name in `TABLES`.
        columns: Column name to values; single values repeat for every row, columns left out are
            NULL. Single values go into the SQL text, which makes a wide table much faster.

    Returns:
        The number of rows inserted.
    """
    varying = {
        name: values.tolist() if isinstance(values, np.ndarray) else values
        for name, values in columns.items()
        if isinstance(values, (np.ndarray, list))
    }
    rows = len(next(iter(varying.values())))
    if not rows:
        return 0
    create(db, table)
    places = ["?" if name in varying else _literal(value) for name, value in columns.items()]
    db.executemany(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(places)})",
        zip(*varying.values(), strict=True),
    )
    return rows


def _literal(value: Column) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
