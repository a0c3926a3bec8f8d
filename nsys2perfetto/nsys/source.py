"""Is this file a capture that can be read? Every way it cannot be is one clear line."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from nsys2perfetto.errors import CaptureError

SQLITE_MAGIC = b"SQLite format 3\0"
_WAL_MODE = 2
_LOCK_BYTES = (0x40000000, 512)
"""Start and length of the byte range that SQLite locks (sqlite.org/src, os.h: PENDING_BYTE ...)."""
_F_OFD_GETLK = 36
"""fcntl command of Linux: asks for a lock in the way without taking one."""


def check(path: Path) -> None:
    """Raises a CaptureError that says what is wrong and what to do, if `path` cannot be a capture.

    Nothing is written, locked or created; only the first 100 bytes are read.
    """
    name = _shown(path)
    try:
        if path.is_dir():
            raise CaptureError(f"{name} is a directory: name the .sqlite file that nsys exported")
        with path.open("rb") as file:
            head = file.read(100)
            locked = _is_locked(file.fileno())
        size = path.stat().st_size
    except FileNotFoundError:
        raise CaptureError(f"{name}: no such file") from None
    except PermissionError:
        raise CaptureError(f"{name}: no permission to read it") from None
    except OSError as error:
        raise CaptureError(f"{name}: cannot read it: {error.strerror or error}") from None

    if size == 0:
        raise CaptureError(f"{name} is empty: the export did not finish; run nsys export again")
    if not head.startswith(SQLITE_MAGIC):
        raise CaptureError(_not_sqlite(path, head))
    if len(head) < 100:
        raise CaptureError(f"{name} is truncated: copy or export it again")
    _check_size(name, head, size)
    if locked:
        raise CaptureError(
            f"{name} is locked: another program is writing it; wait until the export has finished"
        )
    for suffix in ("-journal", "-wal"):
        side = path.with_name(path.name + suffix)
        if side.exists() and side.stat().st_size > 0:
            raise CaptureError(
                f"{name} has an unfinished transaction ({side.name}): another program is writing "
                f"it, or died; wait, or open and close it once with the sqlite3 command"
            )


def _shown(path: Path) -> str:
    return printable(str(path))


def printable(text: str) -> str:
    """The text without anything that a terminal would obey: control characters become \\xNN."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode()
                   for c in text.encode("utf-8", "replace").decode("utf-8"))


def _not_sqlite(path: Path, head: bytes) -> str:
    name = _shown(path)
    if path.suffix in (".nsys-rep", ".qdrep"):
        out = printable(str(path.with_suffix(".sqlite")))
        return (
            f"{name} is an nsys report, not its SQLite export: run "
            f"`nsys export --type sqlite -o {out} {name}` first"
        )
    if head.startswith(b"\x1f\x8b"):
        return f"{name} is compressed: gunzip it first"
    return (
        f"{name} is not an SQLite file: export the report with "
        f"`nsys export --type sqlite REPORT.nsys-rep`"
    )


def _check_size(name: str, head: bytes, size: int) -> None:
    """Compares the file's size with its header (sqlite.org/fileformat2.html, section 1.3)."""
    (page_size,) = struct.unpack(">H", head[16:18])
    page_size = 65536 if page_size == 1 else page_size
    changes, pages = struct.unpack(">II", head[24:32])
    (valid_for,) = struct.unpack(">I", head[92:96])
    if changes == valid_for and pages and size < pages * page_size:
        raise CaptureError(
            f"{name} is truncated: {size:,} of {pages * page_size:,} bytes; copy or export it again"
        )


def _is_locked(descriptor: int) -> bool:
    """Whether another program holds one of SQLite's write locks on the file."""
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - not on Windows

    start, length = _LOCK_BYTES
    # struct flock: l_type, l_whence, l_start, l_len, l_pid. A read lock is refused by a writer only.
    ask = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, start, length, 0)
    try:
        answer = fcntl.fcntl(descriptor, _F_OFD_GETLK, ask)
    except OSError:
        return False  # a file system without locks
    return bool(struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK)
