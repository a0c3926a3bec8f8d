"""The tables in a folder that `nsys export --type=parquetdir` or `--type=arrowdir` wrote.

Such a folder has one file a table, named after it: `CUPTI_ACTIVITY_KIND_KERNEL.parquet` or
`.arrow`. Every way in which it cannot be read is one clear line. Only the ends of the files are
looked at.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys.known_tables import are_of_nsys
from nsys2perfetto.nsys.printable import printable

Format = Literal["Parquet", "Arrow file", "Arrow stream"]

EXTENSIONS = (".parquet", ".arrow", ".arrows")
"""Of the files that hold tables; `.arrows` is what others call Arrow streams."""
ENDINGS = ("_pqtdir", "_arwdir", ".parquetdir", ".arrowdir")
"""What nsys and others append to a report's name to make that of the folder."""

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STREAM, _END_OF_STREAM = b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"
"""How an Arrow IPC stream begins and ends (arrow.apache.org/docs/format/Columnar.html).

A writer may leave the end out, but Arrow's own does not, and without it what a copy lacks would be
missing silently.
"""
_FORMATS: tuple[tuple[Format, bytes, bytes], ...] = (
    ("Parquet", b"PAR1", b"PAR1"),
    ("Arrow file", b"ARROW1", b"ARROW1"),
    ("Arrow stream", _STREAM, _END_OF_STREAM),
)
"""Each format, and the first and last bytes of its files."""


@dataclass(frozen=True)
class TableFile:
    """One table.

    Attributes:
        path: Its file.
        format: What the file's first bytes say.
        size: Bytes.
    """

    path: Path
    format: Format
    size: int


def tables(folder: Path) -> dict[str, TableFile]:
    """The tables of an exported folder, by name.

    Raises:
        CaptureError: It is no such folder, or a file in it is damaged.
    """
    name = printable(str(folder))
    found: dict[str, TableFile] = {}
    try:
        paths = sorted(p for p in folder.iterdir() if _is_table(p))
        if not paths:
            raise CaptureError(_not_exported(folder, name))
        for path in paths:
            if not _TABLE.fullmatch(path.stem):  # to pass over it could lose a part of a table
                raise CaptureError(f"{printable(str(path))} does not have the name of a table")
            if path.stem in found:
                raise CaptureError(
                    f"{name} has {path.stem} twice ({found[path.stem].path.suffix} and "
                    f"{path.suffix}): export each format to a folder of its own"
                )
            found[path.stem] = _table_file(path)
    except PermissionError as error:
        denied = printable(os.fsdecode(error.filename or folder))
        raise CaptureError(f"{denied}: no permission to read it") from None
    except OSError as error:
        raise CaptureError(f"{name}: cannot read it: {error.strerror or error}") from None
    if not are_of_nsys(found):
        raise CaptureError(f"{name} is not an nsys export: it has none of nsys' tables")
    return found


def part(path: Path) -> str:
    """What to do with a file that a folder would have, named by itself."""
    name = printable(str(path))
    if path.suffix.lower() == ".arrows":
        return (
            f"{name} is an Arrow export in one file: export the report with --type=sqlite, "
            f"parquetdir or arrowdir"
        )
    return f"{name} is one table of an export: name the folder that it is in"


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def _table_file(path: Path) -> TableFile:
    name = printable(str(path))
    with _opened(path, name) as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_END_OF_STREAM)))
        tail = file.read()
    if not size:
        raise CaptureError(f"{name} is empty: the export did not finish; run nsys export again")
    for form, begin, end in _FORMATS:
        if head.startswith(begin):
            if size < len(begin) + len(end) or not tail.endswith(end):
                raise CaptureError(
                    f"{name} is truncated to {size:,} bytes: copy or export it again"
                )
            return TableFile(path, form, size)
    raise CaptureError(f"{name} is neither Parquet nor Arrow: export it again")


def _opened(path: Path, name: str) -> IO[bytes]:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
        raise CaptureError(f"{name} is not a regular file: export it again")
    return path.open("rb")


def _not_exported(folder: Path, name: str) -> str:
    """A folder without tables; perhaps what was meant is inside."""
    inside = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    if not inside:
        return f"{name} is a directory, and empty: the export did not finish; run nsys export again"
    likely = [p for p in inside if p.suffix == ".sqlite" or p.name.endswith(ENDINGS)]
    hint = f"; did you mean {printable(str(likely[0]))}?" if likely else ""
    return (
        f"{name} is a directory without tables of nsys: name the .sqlite file, or the folder of "
        f".parquet or .arrow files, that nsys exported{hint}"
    )
