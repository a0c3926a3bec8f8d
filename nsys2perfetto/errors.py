"""The one kind of error that a user can cause, and its exit codes."""

from __future__ import annotations

EXIT_FAILURE = 1
"""Exit status of every failure that is not wrong usage."""

EXIT_USAGE = 2
"""Exit status of wrong usage (unknown option, output exists without --force, ...)."""


class Nsys2PerfettoError(Exception):
    """Something the user can mend: bad input, no permission, no space.

    The text is one line that says what is wrong and what to do about it; a command prints it after
    ``nsys2perfetto: `` and exits with `exit_code`. A stack trace is a bug.
    """

    exit_code = EXIT_FAILURE


class UsageError(Nsys2PerfettoError):
    """The command or the arguments of a function are wrong; exit status 2."""

    exit_code = EXIT_USAGE


class CaptureError(Nsys2PerfettoError):
    """The capture cannot be read: missing, not SQLite, not nsys, damaged, locked."""


class OutputError(Nsys2PerfettoError):
    """The trace cannot be written: no permission, no space, the pipe is gone."""


class TraceError(Nsys2PerfettoError):
    """The trace to be asked cannot be read: missing, empty, not a trace, damaged."""


class EngineError(Nsys2PerfettoError):
    """The trace processor cannot be had, is too old, does not start, or has died."""


class QueryError(Nsys2PerfettoError):
    """The SQL is wrong.

    The text is the engine's reason, with line and column; `excerpt` shows the place.

    Attributes:
        excerpt: Lines of SQL with a caret under the place, the innermost last; may be empty.
    """

    def __init__(self, message: str, excerpt: str = "") -> None:
        super().__init__(message)
        self.excerpt = excerpt
