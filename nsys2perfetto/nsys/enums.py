"""Enumerations of nsys, for exports that do not carry the ENUM_ tables (NSYS_SCHEMA sections 0, 3).

An export's own table wins where it exists; the values here are those of ENUM_* in the exports of
2022.4 to 2026.2, in which no number ever changed its meaning.
"""

from __future__ import annotations

from nsys2perfetto.nsys.capture import Capture

MEMCPY_KIND = {
    0: "Unknown", 1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 5: "AtoA", 6: "AtoD", 7: "DtoA",
    8: "DtoD", 9: "HtoH", 10: "PtoP", 11: "Unified HtoD", 12: "Unified DtoH", 13: "Unified DtoD",
}  # fmt: skip
"""ENUM_CUDA_MEMCPY_OPER, in the words of `nsys stats`."""

UNIFIED_KINDS = (11, 12, 13)
"""Copy kinds of unified-memory migrations: they belong to no stream and no API call."""

MEMORY_KIND = {
    0: "Pageable", 1: "Pinned", 2: "Device", 3: "Array", 4: "Managed", 5: "Device Static",
    6: "Managed Static", 7: "Unknown",
}  # fmt: skip
"""ENUM_CUDA_MEM_KIND."""

MIGRATION_CAUSE = {
    0: "Unknown", 1: "Prefetch", 2: "Page fault", 3: "Speculative prefetch", 4: "Eviction",
    5: "Access counters",
}  # fmt: skip
"""ENUM_CUDA_UNIF_MEM_MIGRATION."""

LAUNCH_TYPE = {0: "Unknown", 1: "Regular", 2: "Cooperative single device",
               3: "Cooperative multi device"}  # fmt: skip
"""ENUM_CUDA_KERNEL_LAUNCH_TYPE."""

CACHE_CONFIG = {0: "PreferNone", 1: "PreferShared", 2: "PreferL1", 3: "PreferEqual"}
"""ENUM_CUDA_FUNC_CACHE_CONFIG, in the words of cudaFuncCache."""

SEVERITY = {0: "Unknown", 1: "Info", 2: "Warning", 3: "Error", 4: "Fatal"}
"""ENUM_DIAGNOSTIC_SEVERITY_LEVEL."""

OVERHEAD_TYPE = {
    0: "Unknown", 1: "Driver compiler", 2: "JIT", 3: "CUPTI buffer flush",
    4: "CUPTI instrumentation", 5: "CUPTI resource", 6: "Runtime triggered module loading",
    7: "Lazy function loading", 8: "Command buffer full",
}  # fmt: skip
"""ENUM_CUPTI_OVERHEAD_TYPE."""


THREAD_STATE = {
    0: "Unknown", 1: "Running", 2: "Interruptible", 3: "Uninterruptible", 4: "Stopped",
    5: "Terminated", 6: "Unscheduled", 7: "Waiting", 8: "OS runtime", 9: "Initialized",
    10: "Transition",
}  # fmt: skip
"""ENUM_SAMPLING_THREAD_STATE."""


def labels(capture: Capture, table: str, fallback: dict[int, str]) -> dict[int, str]:
    """Number to label: the fallback's, and what only the export's own ENUM_ table knows."""
    if not capture.has(table, "id", "label"):
        return fallback
    rows = capture.read(table, {"id": "int", "label": "text"}).drop_nulls()
    return dict(rows.iter_rows()) | fallback


def cuda_result(value: int) -> str:
    """A return value of the CUDA runtime or driver: `719 (LAUNCH_FAILED)`; both share numbers."""
    name = _RESULTS.get(value)
    return f"{value} ({name})" if name else str(value)


_RESULTS = {
    1: "INVALID_VALUE", 2: "OUT_OF_MEMORY", 3: "NOT_INITIALIZED", 4: "DEINITIALIZED",
    9: "INVALID_CONFIGURATION", 35: "INSUFFICIENT_DRIVER", 98: "INVALID_DEVICE_FUNCTION",
    100: "NO_DEVICE", 101: "INVALID_DEVICE", 200: "INVALID_IMAGE", 201: "INVALID_CONTEXT",
    209: "NO_BINARY_FOR_GPU", 218: "INVALID_PTX", 222: "UNSUPPORTED_PTX_VERSION",
    300: "INVALID_SOURCE", 301: "FILE_NOT_FOUND", 304: "OPERATING_SYSTEM", 400: "INVALID_HANDLE",
    500: "NOT_FOUND", 600: "NOT_READY", 700: "ILLEGAL_ADDRESS", 701: "LAUNCH_OUT_OF_RESOURCES",
    702: "LAUNCH_TIMEOUT", 704: "PEER_ACCESS_ALREADY_ENABLED", 705: "PEER_ACCESS_NOT_ENABLED",
    709: "CONTEXT_IS_DESTROYED", 710: "ASSERT", 716: "MISALIGNED_ADDRESS", 719: "LAUNCH_FAILED",
    720: "COOPERATIVE_LAUNCH_TOO_LARGE", 801: "NOT_SUPPORTED", 802: "SYSTEM_NOT_READY",
    900: "STREAM_CAPTURE_UNSUPPORTED", 901: "STREAM_CAPTURE_INVALIDATED", 999: "UNKNOWN",
}  # fmt: skip
"""cudaError_t and CUresult (driver_types.h, cuda.h): the numbers are shared since CUDA 10.1."""
