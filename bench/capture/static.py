"""The small tables of a capture: strings, process and thread, GPU, versions, graph nodes."""

from __future__ import annotations

import sqlite3

import numpy as np

from .kernels import strings
from .schema import Column, insert
from .shape import STEP_KERNELS, Shape
from .timeline import ALLOCATE, COPY_IN, COPY_OUT, FREE, GRAPH_LAUNCH, LAUNCH, SYNC

PID = TID = 4242
GLOBAL_PID = 1 << 48 | PID << 24
GLOBAL_TID = GLOBAL_PID | TID

# String ids: calls by kind + 1, then these; a kernel has three from FIRST_KERNEL on.
CALLS = {
    ALLOCATE: "cuMemAllocAsync",
    COPY_IN: "cuMemcpyHtoDAsync_v2",
    LAUNCH: "cuLaunchKernel",
    FREE: "cuMemFreeAsync",
    COPY_OUT: "cuMemcpyDtoHAsync_v2",
    SYNC: "cuStreamSynchronize",
    GRAPH_LAUNCH: "cuGraphLaunch",
}
RUNTIME_LAUNCH, PROCESS_NAME, CREATE_NODE, FIRST_LAYER, FIRST_KERNEL = 20, 21, 22, 100, 1000

GRAPH_NODES = 3 << 32
"""Node ids carry the number of their graph in the upper half: first the STEP_KERNELS nodes that
were captured, then as many that were instantiated from them."""


def write_static(db: sqlite3.Connection, shape: Shape) -> None:
    """Write every table that does not grow with the number of kernels."""
    names = {kind + 1: call for kind, call in CALLS.items()}
    names |= {RUNTIME_LAUNCH: "cudaLaunchKernel_v7000", PROCESS_NAME: "bench_decode"}
    names |= {CREATE_NODE: "cuStreamEndCapture"}
    names |= {FIRST_LAYER + i: f"layer {i}" for i in range(STEP_KERNELS)}
    for number, texts in enumerate(strings(shape)):
        names |= {FIRST_KERNEL + 3 * number + i: text for i, text in enumerate(texts)}
    insert(db, "StringIds", {"id": list(names), "value": list(names.values())})
    insert(
        db,
        "ThreadNames",
        {"nameId": [PROCESS_NAME], "priority": 20, "globalTid": GLOBAL_TID},
    )
    insert(db, "PROCESSES", {"globalPid": [GLOBAL_PID], "pid": PID, "name": "bench_decode"})
    insert(
        db,
        "TARGET_INFO_SESSION_START_TIME",
        {
            "utcEpochNs": [1_755_753_377_038_569_519],
            "utcTime": "2025-08-21T05:16:17",
            "localTime": "2025-08-21T13:16:17",
        },
    )
    version = {"PRODUCT_VERSION": "2024.6.2.225", "SCHEMA_VERSION": "3.16.1"}
    version |= {"SCHEMA_VERSION_MAJOR": "3", "SCHEMA_VERSION_MINOR": "16"}
    version |= {"SCHEMA_VERSION_MICRO": "1", "PARAM_TIME_NORMALIZE": "false"}
    exported = {"name": [f"EXPORT_{key}" for key in version], "value": list(version.values())}
    insert(db, "META_DATA_EXPORT", exported)
    insert(db, "TARGET_INFO_GPU", GPU)
    if shape.graphs:
        _write_graph_nodes(db)


def _write_graph_nodes(db: sqlite3.Connection) -> None:
    node = GRAPH_NODES + np.arange(2 * STEP_KERNELS)
    start = 900_000_000 + np.arange(len(node)) * 1000
    insert(
        db,
        "CUDA_GRAPH_NODE_EVENTS",
        {
            "start": start,
            "end": start + 800,
            "eventClass": 77,
            "globalTid": GLOBAL_TID,
            "nameId": CREATE_NODE,
            "graphNodeId": node,
            "originalGraphNodeId": [None] * STEP_KERNELS + node[:STEP_KERNELS].tolist(),
        },
    )


# An RTX 5070 Ti, the card of the decode runs that the captures imitate.
GPU: dict[str, Column] = {
    "vmId": [1 << 48],
    "id": 0,
    "name": "NVIDIA GeForce RTX 5070 Ti",
    "busLocation": "0000:01:00.0",
    "isDiscrete": 1,
    "l2CacheSize": 50_331_648,
    "totalMemory": 17_094_934_528,
    "memoryBandwidth": 896_064_000_000,
    "clockRate": 2_452_000_000,
    "smCount": 70,
    "uuid": "8f0f7a4e-5c1d-4c6a-9b3e-2d1f0a7b6c55",
    "chipName": "GB203",
    "cuDevice": 0,
    "maxRegistersPerBlock": 65_536,
    "maxShmemPerBlock": 49_152,
    "maxShmemPerBlockOptin": 101_376,
    "maxShmemPerSm": 102_400,
    "maxRegistersPerSm": 65_536,
    "threadsPerWarp": 32,
    "maxWarpsPerSm": 48,
    "maxBlocksPerSm": 24,
    "maxThreadsPerBlock": 1024,
    "computeMajor": 12,
    "computeMinor": 0,
    "smMajor": 12,
    "smMinor": 0,
}
