"""Is this file a capture that can be read? Every way it cannot be is one clear line.

Of folders, `nsys.folder` tells it.
"""

from __future__ import annotations

import os
import shlex
import stat
import struct
import sys
from pathlib import Path
from urllib.parse import quote

from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys import folder
from nsys2perfetto.nsys.printable import printable

__all__ = ["SQLITE_MAGIC", "check", "identity", "printable", "uri"]

SQLITE_MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
"""First bytes of a rollback journal that must be played back; a finished one is empty or zeroed
(sqlite.org/fileformat2.html, section 3)."""
_HEADER = 100
"""Bytes of SQLite's file header."""
_LOCK_BYTES = (0x40000000, 512)
"""Start and length of the byte range that SQLite locks (sqlite.org/src, os.h: PENDING_BYTE ...)."""
_F_OFD_GETLK = 36
"""fcntl command of Linux: asks for a lock in the way without taking one."""

REPORTS = (".nsys-rep", ".qdrep")
"""What nsys calls its reports; the second before 2021.4. See `exporting`."""
_COMPRESSED = {
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz",
    b"BZh": "bzip2", b"7z\xbc\xaf": "7z",
}  # fmt: skip


def check(path: Path) -> None:
    """Raises a CaptureError that says what is wrong and what to do, if `path` cannot be a capture.

    Nothing is written, locked or created; only the first 100 bytes are read, or the ends of the
    files in a folder.
    """
    name = _shown(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            folder.tables(path)
            return
        if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
            raise CaptureError(f"{name} is not a regular file: save the export to a file first")
        with path.open("rb") as file:
            head = file.read(_HEADER)
            size = os.fstat(file.fileno()).st_size
            locked = _is_locked(file.fileno())
    except FileNotFoundError:
        raise CaptureError(f"{name}: no such file{_similar(path)}") from None
    except PermissionError:
        raise CaptureError(f"{name}: no permission to read it") from None
    except OSError as error:
        raise CaptureError(f"{name}: cannot read it: {error.strerror or error}") from None
    except ValueError:
        raise CaptureError(f"{name}: no file can have this name") from None

    if locked:  # whatever else is wrong with it is not final
        raise CaptureError(
            f"{name} is locked: another program is writing it; wait until it has finished, or "
            f"close the file there"
        )
    if size == 0:
        raise CaptureError(f"{name} is empty: the export did not finish; run nsys export again")
    if not head.startswith(SQLITE_MAGIC) and not SQLITE_MAGIC.startswith(head):
        is_part = path.suffix.lower() in folder.EXTENSIONS
        raise CaptureError(folder.part(path) if is_part else _not_sqlite(path, head))
    if len(head) < _HEADER:
        raise CaptureError(f"{name} is truncated to {size} bytes: copy or export it again")
    _check_size(name, head, size)
    _check_journals(path, name)


def identity(path: Path) -> tuple[int, ...]:
    """What is another as soon as somebody writes or replaces the file."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def uri(path: Path) -> str:
    """The URI by which SQLite opens the file, whatever bytes its name is made of.

    `immutable`: SQLite takes no lock, reads no journal and creates nothing beside the file.
    """
    return f"file:{quote(os.fsencode(path.absolute()))}?mode=ro&immutable=1"


def _shown(path: Path) -> str:
    return printable(str(path))


def _similar(path: Path) -> str:
    """A hint where only the extension was left out."""
    other = path.with_name(path.name + ".sqlite")
    return f"; did you mean {_shown(other)}?" if os.path.isfile(other) else ""  # noqa: PTH113


def _not_sqlite(path: Path, head: bytes) -> str:
    name = _shown(path)
    suffix = path.suffix.lower()
    if suffix in REPORTS:
        export = path.with_suffix(".sqlite")
        if os.path.isfile(export):  # noqa: PTH113 - the method raises on names that are too long
            return f"{name} is an nsys report: convert its SQLite export {_shown(export)} instead"
        command = f"nsys export --type=sqlite --output={_quoted(export)} {_quoted(path)}"
        return (
            f"{name} is an nsys report, not its SQLite export: run `{command}` first, or put nsys "
            f"on the PATH"
        )
    if suffix == ".qdstrm":
        return f"{name} is unprocessed: make a report of it with QdstrmImporter, and export that"
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            return f"{name} is compressed ({kind}): unpack it first"
    if ".pftrace" in path.suffixes or suffix == ".perfetto-trace":
        return f"{name} is a Perfetto trace already: name the .sqlite file that nsys exported"
    return (
        f"{name} is not an SQLite file: export the report with "
        f"`nsys export --type=sqlite REPORT.nsys-rep`"
    )


def _quoted(path: Path) -> str:
    """The path as a shell wants it, so that the command can be copied."""
    return printable(shlex.quote(str(path)))


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


def _check_journals(path: Path, name: str) -> None:
    """Refuses a file whose last changes are still in a side file, which reading would miss."""
    real = path.resolve()  # SQLite puts them beside what a link points to
    for suffix in ("-journal", "-wal"):
        side = real.with_name(real.name + suffix)
        try:
            with side.open("rb") as file:
                start = file.read(len(_JOURNAL_MAGIC))
        except OSError:
            continue  # there is none, as a rule
        if start == _JOURNAL_MAGIC if suffix == "-journal" else start:
            raise CaptureError(
                f"{name} has an unfinished transaction ({_shown(side)}): another program is "
                f"writing it, or died; wait, or open it once with the sqlite3 command"
            )


def _is_locked(descriptor: int) -> bool:
    """Whether another program holds one of SQLite's write locks on the file (Linux only)."""
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 - not on Windows

    start, length = _LOCK_BYTES
    # struct flock: l_type, l_whence, l_start, l_len, l_pid. Only a writer is in a reader's way.
    ask = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, start, length, 0)
    for command in (_F_OFD_GETLK, fcntl.F_GETLK):
        try:
            answer = fcntl.fcntl(descriptor, command, ask)
        except OSError:
            continue  # not known to this kernel, or a file system without locks
        return bool(struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK)
    return False
