"""The floor: SQLite reads every column that the converter reads, and nothing is done with it.

python -m bench.scan CAPTURE
"""

from __future__ import annotations

import sqlite3
import sys

COLUMNS = {
    "StringIds": "id value",
    "CUPTI_ACTIVITY_KIND_KERNEL": (
        "start end deviceId contextId streamId correlationId globalPid demangledName shortName "
        "mangledName cacheConfig registersPerThread gridX gridY gridZ blockX blockY blockZ "
        "staticSharedMemory dynamicSharedMemory localMemoryPerThread sharedMemoryExecuted "
        "graphNodeId greenContextId launchType"
    ),
    "CUPTI_ACTIVITY_KIND_RUNTIME": (
        "start end eventClass globalTid correlationId nameId returnValue"
    ),
    "CUPTI_ACTIVITY_KIND_MEMCPY": (
        "start end deviceId contextId streamId correlationId globalPid bytes copyKind srcKind "
        "dstKind graphNodeId"
    ),
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": (
        "start end deviceId contextId streamId correlationId globalPid syncType eventId"
    ),
    "NVTX_EVENTS": (
        "start end eventType category color text globalTid endGlobalTid textId domainId "
        "uint64Value int64Value doubleValue uint32Value int32Value floatValue jsonText"
    ),
    "CUDA_GPU_MEMORY_USAGE_EVENTS": (
        "start globalPid deviceId contextId address bytes memKind memoryOperationType correlationId"
    ),
}
"""What the converter reads of each table, in the order of the export."""


def scan(capture: str) -> None:
    """Let SQLite take the maximum of every column of every table that is there."""
    db = sqlite3.connect(f"file:{capture}?mode=ro&immutable=1", uri=True)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in COLUMNS.keys() & tables:
        columns = ", ".join(f"max({column})" for column in COLUMNS[table].split())
        db.execute(f"SELECT {columns} FROM {table}").fetchall()


if __name__ == "__main__":
    scan(sys.argv[1])
