"""Which trace processor to run: one that is named, one that is installed, or perfetto's own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from nsys2perfetto.errors import EngineError
from nsys2perfetto.nsys.source import printable

VARIABLE = "NSYS2PERFETTO_ENGINE"
"""Environment variable that names the engine."""

PROGRAM = "trace_processor_shell"
MINIMUM_VERSION = 55
"""First major version with Perfetto's GPU compute model: names of kernels, launch arguments."""

_OFFLINE = (
    f"on a machine without network, put {PROGRAM} v{MINIMUM_VERSION} or later (from "
    f"https://github.com/google/perfetto/releases) on the PATH, or name it in {VARIABLE}"
)
_PATIENCE = 120
"""Seconds for an engine to tell its version; Perfetto's wrapper script downloads it before."""


def find(engine: str | os.PathLike[str] | None = None) -> Path:
    """The trace processor to use.

    The first of: `engine`, the environment variable `NSYS2PERFETTO_ENGINE`, `trace_processor_shell`
    on the PATH, and the one that the package `perfetto` pins and downloads (once, to
    `~/.local/share/perfetto`).

    Raises:
        EngineError: It is missing, cannot be run, is older than v55, or cannot be downloaded.
    """
    if engine is not None and os.fspath(engine):
        return _checked(_named(os.fspath(engine), "the engine"))
    if chosen := os.environ.get(VARIABLE):
        return _checked(_named(chosen, f"the engine that {VARIABLE} names"))
    if installed := shutil.which(PROGRAM):
        return _checked(Path(installed).absolute())
    return _downloaded()


def _named(engine: str, what: str) -> Path:
    """The file that somebody named: a path, or a program on the PATH."""
    path = Path(engine).expanduser()
    shown = printable(engine)
    try:
        if path.is_dir():
            raise EngineError(f"{what}, {shown}, is a directory: name the {PROGRAM} in it")
        if not path.is_file():
            found = shutil.which(engine)
            if not found:
                raise EngineError(f"{what}, {shown}, is not there: name a {PROGRAM}")
            path = Path(found)
    except (OSError, ValueError):
        raise EngineError(f"{what}, {shown}, cannot be looked at: name a {PROGRAM}") from None
    if not os.access(path, os.X_OK):
        raise EngineError(f"{what}, {shown}, is not executable: run `chmod +x` on it")
    return path.absolute()


def _checked(path: Path) -> Path:
    """The path, if it is a trace processor that is new enough."""
    status = path.stat()
    output = _version_output(path, status.st_mtime_ns, status.st_size)
    shown = printable(str(path))
    number = major_version(output)
    if number is None and "Trace Processor" not in output:
        raise EngineError(f"{shown} is not a {PROGRAM}: it does not tell its version")
    check_version(number, shown)
    return path


def major_version(text: str) -> int | None:
    """The number in "Perfetto v55.3-...", None where there is none."""
    match = re.search(r"\bv(\d+)", text)
    return int(match[1]) if match else None


def check_version(number: int | None, shown: str) -> None:
    """Raises an EngineError for an engine that is too old; 0 is a build that does not know."""
    if number and number < MINIMUM_VERSION:
        raise EngineError(
            f"{shown} is v{number}, which knows nothing of kernels: these traces need "
            f"{PROGRAM} v{MINIMUM_VERSION} or later (name another in {VARIABLE})"
        )


@lru_cache(maxsize=16)
def _version_output(path: Path, changed: int, size: int) -> str:
    """What `--version` prints; once for each state of the file."""
    shown = printable(str(path))
    try:
        run = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{shown} does not answer: it is not a {PROGRAM}") from None
    except OSError as error:
        raise EngineError(f"{shown} cannot be run: {error.strerror or error}") from None
    return run.stdout.decode(errors="replace")


def _downloaded() -> Path:
    """The engine that the installed `perfetto` pins; v56 or later."""
    from perfetto.trace_processor import api  # noqa: PLC0415 - imports Polars and pandas

    try:
        # It prints what it downloads; standard output is for results.
        with contextlib.redirect_stdout(sys.stderr):
            path = api.PLATFORM_DELEGATE().get_shell_path(bin_path=None)
    except Exception as error:  # whatever its downloader raises, a bare Exception among it
        reason = _reason(error)
        raise EngineError(
            f"no trace processor: perfetto's own cannot be downloaded ({reason}); {_OFFLINE}"
        ) from None
    return Path(path)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{Path(error.cmd[0]).name} ended with status {error.returncode}"
    if isinstance(error, FileNotFoundError) and error.filename == "curl":
        return "curl is not installed"
    return printable(str(error).partition("\n")[0]) or type(error).__name__
