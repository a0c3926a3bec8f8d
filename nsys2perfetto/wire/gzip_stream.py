"""Compression on all cores: a gzip file of members that are compressed independently.

A gzip file may consist of several members one after the other (RFC 1952, section 2.2); gunzip and
Perfetto read them as one. zlib lets go of the interpreter's lock while it compresses, so threads
are enough. The bytes are the same on any number of cores.
"""

from __future__ import annotations

import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

from nsys2perfetto.wire.cores import available

LEVEL = 6
"""zlib's own default."""

_MEMBER = 4 << 20
"""Bytes in a member before compression: each costs 18 bytes and a fresh dictionary of 32 KB."""
_MOST_CORES = 8
_GZIP = 31
"""zlib's `wbits` for the largest window and a gzip header, which has no time and no name then."""


class GzipStream:
    """A writable stream that compresses into another.

    Args:
        out: Gets whole members, in order; is not closed.
    """

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._gathered = bytearray()
        self._ahead: deque[Future[bytes]] = deque()
        cores = available(_MOST_CORES)
        self._workers = cores
        self._pool = ThreadPoolExecutor(cores, "nsys2perfetto-gzip") if cores > 1 else None
        self._any = False

    def write(self, data: bytes | memoryview) -> None:
        """Takes bytes; an error of an earlier write may come up here."""
        self._gathered += data
        while len(self._gathered) >= _MEMBER:
            self._compress(_MEMBER)

    def finish(self) -> None:
        """Writes what is left; even nothing makes a whole gzip file."""
        if self._gathered or not self._any:
            self._compress(len(self._gathered))
        while self._ahead:
            self._out.write(self._ahead.popleft().result())

    def close(self) -> None:
        """Ends the threads, whether all is written or not."""
        self._ahead.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _compress(self, size: int) -> None:
        part = bytes(memoryview(self._gathered)[:size])
        del self._gathered[:size]
        self._any = True
        if self._pool is None:
            self._out.write(_member(part))
            return
        self._ahead.append(self._pool.submit(_member, part))
        if len(self._ahead) > self._workers:
            self._out.write(self._ahead.popleft().result())


def _member(data: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()
