"""The ENUM_ tables of the export that belong to the tables of this builder.

nsys 2020 to 2022.1 (schema 2.9.1) exported none; up to 2025.1 (3.17) all of them were always
there; since 2025.3 (3.20) only those that a present table refers to.
"""

from __future__ import annotations

from dataclasses import dataclass

from samples.builder.versions import parse

_MEM = "CUDA_MEMOPR_MEMORY_KIND_"
_SYNC = "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_"
_MIGRATION = "CUDA_UNIFIED_MEMORY_MIGRATION_CAUSE_"
_LAUNCH = "CUDA_KERNEL_LAUNCH_TYPE_"
_STREAM = "CUPTI_ACTIVITY_STREAM_CREATE_FLAG_"

_LAUNCH_TYPES = (
    (0, _LAUNCH + "UNKNOWN", "Unknown"),
    (1, _LAUNCH + "REGULAR", "Regular"),
    (2, _LAUNCH + "COOPERATIVE_SINGLE_DEVICE", "Coop Single Device"),
    (3, _LAUNCH + "COOPERATIVE_MULTI_DEVICE", "Coop Multi Device"),
)


@dataclass(frozen=True)
class Enum:
    """One ENUM_ table: its rows (id, name, label) and the prefixes of the tables that use it."""

    name: str
    used_by: str
    rows: tuple[tuple[int, str, str], ...]
    since: str = "3.0.0"
    until: str = ""

    def exists_in(self, schema: str, tables: set[str]) -> bool:
        """Whether an export of that schema version with those tables holds this enumeration."""
        version = parse(schema)
        if version < parse(self.since) or (self.until and version >= parse(self.until)):
            return False
        if version < parse("3.20.0"):
            return True
        return any(name.startswith(self.used_by) for name in tables)


ENUMS: tuple[Enum, ...] = (
    Enum(
        "ENUM_CUDA_MEMCPY_OPER",
        "CU",
        tuple(
            (number, "CUDA_MEMCPY_KIND_" + name, label)
            for number, (name, label) in enumerate(
                (
                    ("UNKNOWN", "Unknown"),
                    ("HTOD", "Host-to-Device"),
                    ("DTOH", "Device-to-Host"),
                    ("HTOA", "Host-to-Array"),
                    ("ATOH", "Array-to-Host"),
                    ("ATOA", "Array-to-Array"),
                    ("ATOD", "Array-to-Device"),
                    ("DTOA", "Device-to-Array"),
                    ("DTOD", "Device-to-Device"),
                    ("HTOH", "Host-to-Host"),
                    ("PTOP", "Peer-to-Peer"),
                    ("UVM_HTOD", "Unified Host-to-Device"),
                    ("UVM_DTOH", "Unified Device-to-Host"),
                    ("UVM_DTOD", "Unified Device-to-Device"),
                )
            )
        ),
    ),
    Enum(
        "ENUM_CUDA_MEM_KIND",
        "CU",
        (
            (0, _MEM + "PAGEABLE", "Pageable"),
            (1, _MEM + "PINNED", "Pinned"),
            (2, _MEM + "DEVICE", "Device"),
            (3, _MEM + "ARRAY", "Array"),
            (4, _MEM + "MANAGED", "Managed"),
            (5, _MEM + "DEVICE_STATIC", "Device Static"),
            (6, _MEM + "MANAGED_STATIC", "Managed Static"),
            (7, _MEM + "UNKNOWN", "Unknown"),
        ),
    ),
    Enum(
        "ENUM_CUDA_UNIF_MEM_MIGRATION",
        "CU",
        (
            (0, _MIGRATION + "UNKNOWN", "Unknown"),
            (1, _MIGRATION + "USER", "User prefetch"),
            (2, _MIGRATION + "COHERENCE", "Page fault"),
            (3, _MIGRATION + "PREFETCH", "Speculative prefecth"),  # nsys' own spelling
            (4, _MIGRATION + "EVICTION", "Eviction"),
            (5, _MIGRATION + "ACCESS_COUNTERS", "Access counters"),
        ),
    ),
    Enum(
        "ENUM_CUPTI_SYNC_TYPE",
        "CU",
        (
            (0, _SYNC + "UNKNOWN", "Unknown"),
            (1, _SYNC + "EVENT_SYNCHRONIZE", "Event sync"),
            (2, _SYNC + "STREAM_WAIT_EVENT", "Stream wait sync"),
            (3, _SYNC + "STREAM_SYNCHRONIZE", "Stream sync"),
            (4, _SYNC + "CONTEXT_SYNCHRONIZE", "Context sync"),
        ),
    ),
    # Misspelt by nsys until 2023.1.
    Enum("ENUM_CUDA_KRENEL_LAUNCH_TYPE", "CU", _LAUNCH_TYPES, until="3.1.7"),
    Enum("ENUM_CUDA_KERNEL_LAUNCH_TYPE", "CU", _LAUNCH_TYPES, since="3.1.7"),
    Enum(
        "ENUM_CUDA_FUNC_CACHE_CONFIG",
        "CU",
        (
            (0, "CU_FUNC_CACHE_PREFER_NONE", "None"),
            (1, "CU_FUNC_CACHE_PREFER_SHARED", "Shared"),
            (2, "CU_FUNC_CACHE_PREFER_L1", "L1"),
            (3, "CU_FUNC_CACHE_PREFER_EQUAL", "Equal"),
        ),
    ),
    Enum(
        "ENUM_CUDA_SHARED_MEM_LIMIT_CONFIG",
        "CU",
        (
            (0, "CUDA_SHARED_MEM_LIMIT_DEFAULT", "Default"),
            (1, "CUDA_SHARED_MEM_LIMIT_OPTIN", "Opt in"),
        ),
    ),
    Enum(
        "ENUM_CUDA_DEV_MEM_EVENT_OPER",
        "CU",
        (
            (0, "CUDA_DEV_MEM_EVENT_OPR_ALLOCATION", "Allocation"),
            (1, "CUDA_DEV_MEM_EVENT_OPR_DEALLOCATION", "Deallocation"),
        ),
    ),
    Enum(
        "ENUM_CUDA_MEMPOOL_OPER",
        "CU",
        (
            (0, "CUDA_MEMPOOL_OPERATION_TYPE_INVALID", "Invalid"),
            (1, "CUDA_MEMPOOL_OPERATION_TYPE_CREATED", "Created"),
            (2, "CUDA_MEMPOOL_OPERATION_TYPE_DESTROYED", "Destroyed"),
            (3, "CUDA_MEMPOOL_OPERATION_TYPE_TRIMMED", "Trimmed"),
        ),
    ),
    Enum(
        "ENUM_CUDA_MEMPOOL_TYPE",
        "CU",
        (
            (0, "CUDA_MEMPOOL_TYPE_INVALID", "Invalid"),
            (1, "CUDA_MEMPOOL_TYPE_LOCAL", "Local"),
            (2, "CUDA_MEMPOOL_TYPE_IMPORTED", "Imported"),
        ),
    ),
    Enum(
        "ENUM_CUPTI_STREAM_TYPE",
        "CU",
        (
            (0, _STREAM + "UNKNOWN", "Unknown stream type"),
            (1, _STREAM + "DEFAULT", "Default stream"),
            (2, _STREAM + "NON_BLOCKING", "Non-blocking stream"),
            (3, _STREAM + "NULL", "Null stream"),
        ),
        since="3.1.2",
    ),
    Enum(
        "ENUM_CUPTI_OVERHEAD_TYPE",
        "CU",
        (
            (0, "OVERHEAD_UNDEFINED", "Undefined"),
            (1, "OVERHEAD_UNKNOWN", "Unknown"),
            (2, "OVERHEAD_DRIVER_COMPILER", "Driver JIT compiler (CUDA)"),
            (3, "OVERHEAD_CUPTI_BUFFER_FLUSH", "Buffer flush (Profiler)"),
            (4, "OVERHEAD_CUPTI_INSTRUMENTATION", "Instrumentation (Profiler)"),
            (5, "OVERHEAD_CUPTI_RESOURCE", "Resource creation/destruction (Profiler)"),
            (6, "OVERHEAD_RUNTIME_TRIGGERED_MODULE_LOADING", "Runtime module loading (CUDA)"),
            (7, "OVERHEAD_LAZY_FUNCTION_LOADING", "Lazy function loading (CUDA)"),
            (8, "OVERHEAD_COMMAND_BUFFER_FULL", "Command buffer full (CUDA)"),
        ),
        since="3.24.0",
    ),
    Enum(
        "ENUM_OPENACC_EVENT_KIND",
        "CUPTI_ACTIVITY_KIND_OPENACC",
        (
            (1, "CUPTI_OPENACC_EVENT_KIND_DEVICE_INIT", "Device init"),
            (4, "CUPTI_OPENACC_EVENT_KIND_ENQUEUE_LAUNCH", "Enqueue launch"),
            (5, "CUPTI_OPENACC_EVENT_KIND_ENQUEUE_UPLOAD", "Enqueue upload"),
            (6, "CUPTI_OPENACC_EVENT_KIND_ENQUEUE_DOWNLOAD", "Enqueue download"),
            (7, "CUPTI_OPENACC_EVENT_KIND_WAIT", "Wait"),
            (9, "CUPTI_OPENACC_EVENT_KIND_COMPUTE_CONSTRUCT", "Compute construct"),
        ),
    ),
    Enum(
        "ENUM_DIAGNOSTIC_SEVERITY_LEVEL",
        "DIAGNOSTIC_EVENT",
        (
            (0, "UnknownLevel", "Unknown"),
            (1, "Info", "Info"),
            (2, "Warning", "Warning"),
            (3, "Error", "Error"),
            (4, "Verbose", "Verbose"),
        ),
        since="3.11.1",
    ),
    Enum(
        "ENUM_DIAGNOSTIC_SOURCE_TYPE",
        "DIAGNOSTIC_EVENT",
        (
            (0, "UnknownSource", "Unknown source"),
            (1, "Injection", "Injection"),
            (2, "Daemon", "Daemon"),
            (3, "Analysis", "Analysis"),
        ),
        since="3.11.1",
    ),
    # Event types and classes are long lists in nsys; only the ones that occur here are listed.
    Enum(
        "ENUM_NSYS_EVENT_TYPE",
        "",
        (
            (33, "NvtxCategory", "NvtxCategory"),
            (34, "NvtxMark", "NvtxMark"),
            (39, "NvtxThread", "NvtxThread"),
            (59, "NvtxPushPopRange", "NvtxPushPopRange"),
            (60, "NvtxStartEndRange", "NvtxStartEndRange"),
            (75, "NvtxDomainCreate", "NvtxDomainCreate"),
            (76, "NvtxDomainDestroy", "NvtxDomainDestroy"),
        ),
    ),
    Enum(
        "ENUM_NSYS_EVENT_CLASS",
        "",
        (
            (0, "TRACE_PROCESS_EVENT_CUDA_RUNTIME", "CUDA runtime"),
            (1, "TRACE_PROCESS_EVENT_CUDA_DRIVER", "CUDA driver"),
            (27, "TRACE_PROCESS_EVENT_OS_RUNTIME", "OSRT runtime"),
            (28, "TRACE_PROCESS_EVENT_CUDNN", "cuDNN"),
            (29, "TRACE_PROCESS_EVENT_CUBLAS", "cuBLAS"),
            (31, "TRACE_PROCESS_EVENT_OS_RUNTIME_START", "OSRT start"),
            (32, "TRACE_PROCESS_EVENT_OS_RUNTIME_FINISH", "OSRT finish"),
            (77, "TRACE_PROCESS_EVENT_CUDA_GRAPH_NODE_CREATION", "CUDA graph node creation"),
            (94, "TRACE_PROCESS_EVENT_CUDA_GRAPHEXEC_CREATION", "CUDA graph exec creation"),
            (95, "TRACE_PROCESS_EVENT_CUDA_GRAPH_CREATION", "CUDA graph creation"),
        ),
    ),
)
