"""Reports of nsys (`.nsys-rep`, `.qdrep`): the `nsys` on the PATH makes the SQLite export to read.

Only nsys itself can read a report. Whatever takes a capture calls `exported` before it opens it.
Options and output of `nsys export` are those of its help; tried with nsys 2022.4.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys import source
from nsys2perfetto.nsys.source import REPORTS, SQLITE_MAGIC, printable

PROGRAM = "nsys"
STAGE = "exporting"
"""What `progress` is told while nsys works, with percent done."""

_NAME = "Nsight Systems"
_PATIENCE = 60
"""Seconds for nsys to tell its version."""
_BAR = re.compile(r"\[[= ]*(\d{1,3})%[ ]*\]?")
"""The progress bar, which nsys draws on standard error: `Exporting 129 events: [==9%     ]`."""
_PAUSE = 0.2
"""Seconds between two looks at how far nsys is."""
_TAIL = 8192
"""Bytes of what nsys says that are kept, for the reason of a failure."""
_LONGEST = 300
"""Characters of nsys' reason that are shown."""
_TOO_OLD = "a report can be read by the nsys that made it, and by later ones"
_MOST_ROOM = "the variable TMPDIR names a folder with more room"

Progress = Callable[[str, int, int], None]


def is_report(path: Path) -> bool:
    """Whether it is an nsys report: called so, there, and not an SQLite file after all."""
    if path.suffix.lower() not in REPORTS:
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) not in (b"", SQLITE_MAGIC)
    except (OSError, ValueError):
        return False


def check(path: Path) -> None:
    """Raises a CaptureError if `path` is neither a capture nor a report that can be exported.

    Cheap: nothing is exported yet. See `source.check`.
    """
    if not is_report(path) or (current_export(path) is None and program() is None):
        source.check(path)


def program() -> str | None:
    """Path of the `nsys` on the PATH."""
    return shutil.which(PROGRAM)


def current_export(report: Path) -> Path | None:
    """The SQLite export beside a report, where `nsys profile` and `nsys stats` put it.

    None where there is none, it is older than the report, or it cannot be read. It is the rule of
    `nsys stats` too.
    """
    export = report.with_suffix(".sqlite")
    try:
        if export.stat().st_mtime_ns < report.stat().st_mtime_ns:
            return None
        source.check(export)
    except (OSError, CaptureError):
        return None
    return export


@contextlib.contextmanager
def exported(path: Path, progress: Progress | None = None) -> Iterator[Path]:
    """The capture to read: `path` itself, or the SQLite export of the report that it is.

    Such an export is the current one beside the report, or else one in a temporary folder, which is
    removed with the block's end, whatever that is.

    Args:
        path: As given by the user. What is no report is handed back unseen.
        progress: Called with "exporting" and percent while nsys works.

    Raises:
        CaptureError: There is no nsys, or it cannot export the report. Errors about the temporary
            export, raised inside the block, name the report instead.
    """
    if not is_report(path):
        yield path
        return
    if (beside := current_export(path)) is not None:
        yield beside
        return
    nsys = program()
    if nsys is None:
        source.check(path)
        raise AssertionError("a report is no capture")
    try:
        folder = Path(tempfile.mkdtemp(prefix="nsys2perfetto-"))
    except OSError as error:
        why = error.strerror or error
        raise CaptureError(f"{printable(str(path))}: no room to export it: {why}") from None
    export = folder / f"{path.stem}.sqlite"
    try:
        _export(nsys, path, export, progress or (lambda *_: None))
        yield export
    except CaptureError as error:
        shown = f"the export of {printable(str(path))}"
        raise CaptureError(str(error).replace(printable(str(export)), shown)) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def shown(path: Path, export: Path) -> Path:
    """What to call the capture that `exported` gave: not by a temporary name."""
    return export if export in (path, path.with_suffix(".sqlite")) else path


def _export(nsys: str, report: Path, target: Path, progress: Progress) -> None:
    """Runs `nsys export`; the file is there afterwards.

    Without `--lazy`, whose default every reader copes with, and without shifts of time.
    """
    shown = printable(str(report))
    version = _version(nsys)
    command = [nsys, "export", "--type=sqlite", "--force-overwrite=true", f"--output={target}"]
    status, said = _run([*command, str(report.absolute())], progress)
    if status != 0 or not target.is_file():
        reason = _reason(said) or (
            f"it was ended by signal {-status}" if status < 0 else f"exit status {status}"
        )
        hint = _TOO_OLD
        if _has_no_room(target.parent) or "disk is full" in reason:
            hint = _MOST_ROOM
        raise CaptureError(f"{shown}: nsys {version} cannot export it: {reason} ({hint})")


def _version(nsys: str) -> str:
    """`2022.4.2.1`: what the program says it is.

    Raises:
        CaptureError: It is no nsys, or cannot be run.
    """
    shown = printable(nsys)
    try:
        run = subprocess.run(
            [nsys, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CaptureError(f"{shown} does not answer: export the report yourself") from None
    except OSError as error:
        raise CaptureError(f"{shown} cannot be run: {error.strerror or error}") from None
    text = (run.stdout + run.stderr).decode(errors="replace")
    if _NAME not in text:
        raise CaptureError(
            f"{shown} is not the nsys of NVIDIA {_NAME}: put that one on the PATH, or export the "
            f"report where it is"
        )
    match = re.search(r"\d{4}(\.\d+)+", text)
    return match[0] if match else "of unknown version"


def _run(command: list[str], progress: Progress) -> tuple[int, str]:
    """Runs nsys in a group of its own, which is killed if we are stopped meanwhile.

    Returns:
        Its exit status, and the end of what it said.
    """
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        name = printable(command[0])
        raise CaptureError(f"{name} cannot be run: {error.strerror or error}") from None
    assert child.stdout is not None
    with child.stdout as output:
        listener = _Listener(output)
        listener.start()
        try:
            while listener.is_alive():
                progress(STAGE, listener.percent, 100)
                listener.join(_PAUSE)
            return child.wait(), listener.tail.decode(errors="replace")
        except BaseException:
            _kill(child)
            listener.join(_PAUSE)
            raise


class _Listener(threading.Thread):
    """Reads what nsys says to its end.

    Attributes:
        percent: What the progress bar shows.
        tail: The end of it all.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.percent = 0
        self.tail = b""
        self._stream = stream

    def run(self) -> None:
        while data := os.read(self._stream.fileno(), _TAIL):
            self.tail = (self.tail + data)[-_TAIL:]
            if found := _BAR.findall(data.decode(errors="replace")):
                self.percent = min(100, int(found[-1]))


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def _reason(said: str) -> str:
    """What nsys says of a failure as one line, without its progress bar."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said)]
    words = "; ".join(line.rstrip(".") for line in lines if line and not _BAR.search(line))
    words = words.removeprefix("Exportation error: ")
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def _has_no_room(folder: Path) -> bool:
    """Whether less than a page of SQLite's fits on the disk."""
    try:
        return shutil.disk_usage(folder).free < 4096
    except OSError:
        return False
