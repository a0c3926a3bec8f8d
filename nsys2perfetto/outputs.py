"""Which trace belongs to which capture, and every way that cannot work, before anything is read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from nsys2perfetto.errors import OutputError, UsageError
from nsys2perfetto.nsys import folder as folders
from nsys2perfetto.nsys.source import printable

EXTENSION = ".pftrace"
_CAPTURE_EXTENSIONS = (".sqlite", ".sqlite3", ".db", ".nsys-rep", ".qdrep")
"""What the trace's extension replaces; after any other it is appended (`run.1`, `run.2`)."""


def default_name(capture: Path) -> str:
    """The file name of a capture's trace."""
    for ending in folders.ENDINGS:
        if capture.name.endswith(ending) and capture.name != ending:
            return capture.name.removesuffix(ending) + EXTENSION
    known = capture.suffix.lower() in _CAPTURE_EXTENSIONS
    return (capture.stem if known else capture.name) + EXTENSION


def plan(captures: Sequence[Path], output: str | None) -> list[tuple[Path, Path]]:
    """Pairs each capture with the path of its trace.

    Args:
        captures: As given by the user.
        output: The option `--output`: None for beside each capture, a file for a single capture, or
            a directory that exists.

    Raises:
        UsageError: Two traces would have the same path, or a trace would replace a capture.
    """
    if output == "-":
        raise UsageError("a trace cannot be written to standard output: name a file with -o")
    if output == "":
        raise UsageError("-o needs the name of a file or a directory")
    jobs = [(capture, _output_of(capture, output, len(captures))) for capture in captures]
    taken: dict[str, Path] = {}
    for capture, target in jobs:
        other = taken.setdefault(os.path.realpath(target), capture)
        if other is not capture:
            raise UsageError(
                f"{_shown(capture)} is named twice"
                if same(other, capture)
                else f"{_shown(other)} and {_shown(capture)} would both become {_shown(target)}: "
                f"convert them one by one, with -o"
            )
        for source in captures:
            if same(source, target):
                raise UsageError(f"{_shown(target)} is the capture itself: name another output")
            if target.suffix in folders.EXTENSIONS and same(source, target.parent):
                raise UsageError(f"{_shown(target)} is part of the capture: name another output")
    return jobs


def check(target: Path, force: bool) -> None:
    """Raises a UsageError or OutputError where a trace cannot or must not be put.

    A device or a pipe is refused even with `force`: the trace is renamed to its final name, which
    would replace it (/dev/null, of all files).
    """
    name = _shown(target)
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return  # nothing there, or a link to nothing; a folder that is missing the writer reports
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{name} is a link to itself: name another output with -o") from None
        raise OutputError(f"{name}: cannot write there: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{name} is a directory: name a file with -o")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{name} is not a regular file: name another output with -o")
    if not force:
        raise UsageError(f"{name} exists: use --force to overwrite it, or name another with -o")


def _output_of(capture: Path, output: str | None, count: int) -> Path:
    if capture.name in ("", ".."):  # a folder by no name of its own: `.`, `/`
        capture = Path(os.path.abspath(capture))  # noqa: PTH100 - links stay as they are
    if output is None:
        return capture.with_name(default_name(capture)) if capture.name else capture
    folder = Path(output)
    if os.path.isdir(output):  # noqa: PTH112 - the method raises on names that are too long
        return folder / default_name(capture)
    if output.endswith(("/", os.sep)) or count > 1:
        why = "several captures need a directory" if count > 1 else "no such directory"
        raise UsageError(f"-o {printable(output)}: {why}; create it first")
    return folder


def write(target: Path, data: bytes) -> None:
    """Writes a whole file beside its final name and renames it; compressed if it ends in `.gz`.

    Raises:
        OutputError: It cannot be written; nothing is left then.
    """
    from nsys2perfetto.wire.writer import TraceWriter  # noqa: PLC0415 - imports NumPy

    try:
        with TraceWriter(target) as out:
            out.write(data)
    except OSError as error:
        raise failure(target, error) from None


def failure(target: Path, error: OSError) -> OutputError:
    """Why a file could not be written, for the user."""
    from nsys2perfetto.wire.writer import is_no_space  # noqa: PLC0415 - imports NumPy

    name = _shown(target)
    if is_no_space(error):
        return OutputError(f"{name}: no space left on the device; nothing was written")
    if isinstance(error, PermissionError):
        return OutputError(f"{name}: no permission to write there; name another output with -o")
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{name}: its folder does not exist")
    return OutputError(f"{name}: cannot write it: {error.strerror or error}")


def same(a: Path, b: Path) -> bool:
    """Whether both name the same file, which exists."""
    try:
        return a.samefile(b)
    except (OSError, ValueError):
        return False


def _shown(path: Path) -> str:
    return printable(str(path))
