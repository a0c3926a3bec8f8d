"""How a command ends when it cannot do what it was asked: one line on stderr and an exit status.

| status | why |
|---|---|
| 1 | the capture cannot be read, the trace cannot be written, a bug |
| 2 | wrong usage |
| 130, 143, 129 | stopped by Ctrl-C, SIGTERM, SIGHUP |
"""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

import click

from nsys2perfetto import __version__
from nsys2perfetto.cli import terminal
from nsys2perfetto.errors import EXIT_FAILURE, Nsys2PerfettoError
from nsys2perfetto.nsys.source import printable

PREFIX = "nsys2perfetto: "


class Stopped(BaseException):
    """Somebody asked the process to end; raised so that `with` blocks remove what is half done."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
        """What a shell reports for a process that the signal ended."""


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Turns Ctrl-C, SIGTERM and SIGHUP into `Stopped` while the block runs.

    After the first one all are ignored, so that a second cannot interrupt the cleaning up. One that
    the caller ignores (nohup) stays ignored; outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [
        number
        for name in ("SIGINT", "SIGTERM", "SIGHUP")
        if (number := getattr(signal, name, None)) is not None
        and signal.getsignal(number) is not signal.SIG_IGN
    ]

    def stop(number: int, _: FrameType | None) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complain(message: str) -> None:
    """Prints one line on stderr, whatever the message holds."""
    with contextlib.suppress(OSError):
        click.echo(terminal.colour(PREFIX, sys.stderr, fg="red") + printable(message), err=True)


def report(error: BaseException) -> int:
    """Says what went wrong and returns the exit status for it.

    A failure that the user can mend is one line. Only a bug, which is ours, shows its traceback.
    """
    if isinstance(error, Stopped | click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 128 + signal.SIGINT
    if isinstance(error, SystemExit):  # click's, when nobody reads its help any more
        terminal.discard_output()
        return error.code if isinstance(error.code, int) else EXIT_FAILURE
    if isinstance(error, Nsys2PerfettoError):
        complain(str(error))
        return error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, MemoryError):
        complain("not enough memory: take a part of the capture with --range, --pid or --only")
    elif not (isinstance(error, OSError) and _of_standard_output(error)):
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
        complain(
            f"this is a bug in version {__version__}, not a fault of yours: "
            f"please report it with the lines above"
        )
    return EXIT_FAILURE


def _usage(error: click.ClickException) -> int:
    """Wrong usage, in the same form as everything else: one line that says where help is."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else PREFIX.rstrip(": ")
    complain(f"{message[:1].lower()}{message[1:]} (see {command} --help)")
    return error.exit_code


def _of_standard_output(error: OSError) -> bool:
    """Whether printing failed: failures to write a file are worded where the file is written."""
    if isinstance(error, BrokenPipeError) or error.errno == errno.EPIPE:
        terminal.discard_output()
        return True
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
        complain(f"cannot write to standard output: {error.strerror}")
        terminal.discard_output()
        return True
    return False
