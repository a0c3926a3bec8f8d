"""What goes to the terminal: text that it cannot trip over, and colour only where it is welcome."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

import click

from nsys2perfetto.nsys.source import printable

WIDTH = 80
"""Columns that everything printed fits into, file names aside."""


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at it; a stream that is closed or no file is not looked at."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def colour(text: str, stream: TextIO | None = None, **style: str | bool) -> str:
    """The text with ANSI codes where the stream (standard output) is a terminal that wants them.

    `NO_COLOR` (no-color.org) and `TERM=dumb` are respected.
    """
    stream = stream or sys.stdout
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if not (wanted and is_terminal(stream)):
        return text
    return click.style(text, **style)  # type: ignore[arg-type]


def data(text: str) -> str:
    """CSV as standard output gets it: names may hold what a terminal would obey.

    A file or a program gets them as they are.
    """
    if not is_terminal(sys.stdout):
        return text
    return "\n".join(map(printable, text.split("\n")))


def prepare_streams() -> None:
    """Makes sure that a character which the locale lacks is shown as an escape, not as a crash."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def flush() -> None:
    """Sends what was printed on its way, so that a failure of it can still be reported."""
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_output() -> None:
    """Points standard output nowhere: its reader is gone, and Python would complain at exit."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
