"""Settings of the memory allocator for a process that converts and ends."""

from __future__ import annotations

import contextlib
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_FROM_HEAP = 32 << 20
"""Bytes; the largest value that glibc takes for its mmap threshold (mallopt(3))."""


def keep_freed_memory() -> None:
    """Keeps freed arrays in the process, to be used again, instead of handing them back.

    By default glibc maps each large array anew, and the system hands out its pages one by one, all
    zeros. For the few hundred arrays of some MB that a conversion makes and drops, that took a
    third of its CPU time (bench/). Only for the command: a library leaves its host's memory alone.
    Must come before NumPy is imported, which would otherwise ask for huge pages.
    """
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - not needed for --help

    with contextlib.suppress(OSError, AttributeError):  # a libc without mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, 0x7FFFFFFF)
