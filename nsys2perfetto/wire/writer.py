"""The trace file: written beside its final name, in chunks, and renamed when it is whole."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

BUFFER = 1 << 20
"""Bytes gathered before they go to the file."""

GZIP_LEVEL = 6
"""zlib's own default."""


class TraceWriter:
    """Writes a trace file, or nothing.

    The bytes go to a temporary file in the same folder; leaving the `with` block without an
    exception renames it to its final name in one step, any exception removes it. So a half-written
    trace never stands under the name that the user asked for, and a trace that stood there before
    stays until the new one is whole. A name that ends in `.gz` is compressed.

    Raises:
        OSError: No permission, no space, no such folder (the caller words it for the user).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_written = 0
        """Bytes of the trace before compression."""
        self._temporary: Path | None = None
        self._raw: IO[bytes] | None = None
        self._out: IO[bytes] | None = None

    def __enter__(self) -> TraceWriter:
        target = self.path.resolve() if self.path.is_symlink() else self.path
        self._target = target
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent
        )
        self._temporary = Path(name)
        self._raw = os.fdopen(handle, "wb", buffering=BUFFER)
        self._out = self._raw
        if target.suffix == ".gz":
            self._out = io.BufferedWriter(
                gzip.GzipFile(
                    filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=self._raw, mtime=0
                ),
                BUFFER,
            )
        return self

    def write(self, data: bytes | npt.NDArray[np.uint8]) -> None:
        """Appends whole packets."""
        assert self._out is not None, "the writer is not open"
        view = np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data
        self._out.write(view)
        self.bytes_written += memoryview(view).nbytes

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._raw is not None and self._out is not None and self._temporary is not None
        try:
            if kind is None:
                if self._out is not self._raw:
                    self._out.close()
                self._raw.flush()
                self._raw.close()
                self._temporary.chmod(0o666 & ~_umask())
                self._temporary.replace(self._target)
        finally:
            for file in (self._out, self._raw):
                with contextlib.suppress(OSError, ValueError):
                    file.close()
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()


def _umask() -> int:
    """The process's umask, which the permissions of a temporary file ignore."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def is_no_space(error: OSError) -> bool:
    """Whether the file system is full or the user's quota is spent."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
