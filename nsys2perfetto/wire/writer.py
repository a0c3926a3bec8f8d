"""The trace file: written beside its final name, in chunks, and renamed when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from nsys2perfetto.wire.gzip_stream import GzipStream

BUFFER = 1 << 20
"""Bytes gathered before they go to the file."""


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
        self._gzip: GzipStream | None = None

    def __enter__(self) -> TraceWriter:
        target = self.path.resolve() if self.path.is_symlink() else self.path
        self._target = target
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent
        )
        self._temporary = Path(name)
        self._raw = os.fdopen(handle, "wb", buffering=BUFFER)
        if target.suffix == ".gz":
            self._gzip = GzipStream(self._raw)
        return self

    def write(self, data: bytes | npt.NDArray[np.uint8]) -> None:
        """Appends whole packets."""
        assert self._raw is not None, "the writer is not open"
        view = np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data
        if self._gzip is not None:
            self._gzip.write(view)
        else:
            self._raw.write(view)
        self.bytes_written += memoryview(view).nbytes

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._raw is not None and self._temporary is not None
        try:
            if kind is None:
                if self._gzip is not None:
                    self._gzip.finish()
                self._raw.flush()
                self._raw.close()
                self._temporary.chmod(0o666 & ~_umask())
                self._temporary.replace(self._target)
        finally:
            if self._gzip is not None:
                self._gzip.close()
            with contextlib.suppress(OSError, ValueError):
                self._raw.close()
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
