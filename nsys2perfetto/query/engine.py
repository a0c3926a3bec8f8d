"""The trace processor as a process of ours: started with a trace, and never left behind.

On POSIX the engine is the child of a guardian, a few lines of `sh` that hold the reading end of a
pipe whose writing end is only ours. However we end, SIGKILL included, the pipe closes and the
guardian kills the engine. (PR_SET_PDEATHSIG would not do: it fires when the *thread* that started
the engine ends.) Guardian and engine are a session of their own, so Ctrl-C in a terminal reaches us
only, and one signal to the group ends all. On Windows the engine is a plain child.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from google.protobuf.message import DecodeError

from nsys2perfetto.errors import EngineError, Nsys2PerfettoError, TraceError
from nsys2perfetto.nsys.source import printable
from nsys2perfetto.sql import PACKAGE

HOST = "127.0.0.1"
_MARK = Path(__file__).with_name("mark")
"""An SQL package of one function, registered under a name that only this engine has."""

_GUARDIAN = """
exec 3<&0 </dev/null
folder=$1; shift
"$@" 3<&- &
engine=$!
exec 2>/dev/null
{
    read -r word <&3 || { [ -z "$folder" ] || rm -rf -- "$folder"; }
    kill -s KILL "$engine"
} &
exec 3<&-
wait "$engine"
status=$?
[ $status -ne 137 ] || kill -s KILL 0
kill -s KILL $!
exit $status
"""
"""$1 is a folder to remove if we die ('' for none), the rest is the engine's command line.

A line through the pipe means: stop. Its end means that we are no more. 137 is what `wait` tells of
a child that was killed; if the engine is a script, what it started must go too: 0 is the group.
"""

_PORT_TAKEN = ("Failed to listen", "EADDRINUSE", "Address already in use")
"""What engines log that find their port taken. The official one goes on without a port."""

_ATTEMPTS = 5
_LONGEST_PAUSE = 0.1
"""Seconds between two looks whether the engine has loaded the trace."""
_ANSWER = 10.0
"""Seconds in which an engine that listens tells its state."""
_LOG_TAIL = 1 << 14

_LAST_MOMENT = 2.0
"""Seconds that a killed engine may take to vanish."""
_SH = "/bin/sh"

_running: weakref.WeakSet[Engine] = weakref.WeakSet()


class PortTakenError(Exception):
    """Another program listens where our engine should."""


class Engine:
    """A running trace processor. `start` makes one; whoever has it must `stop` it.

    Attributes:
        address: Where it serves HTTP, `127.0.0.1:PORT`.
        version: As it says itself, such as `Perfetto v55.3-0123456`; may be empty.
    """

    def __init__(self, shell: Path, trace: Path, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._mark = f"nsys_session_{secrets.token_hex(8)}"
        port = free_port()
        self.address = f"{HOST}:{port}"
        self.version = ""
        command = [
            *(str(shell), "-D", "--http-port", str(port), "--http-ip-address", HOST),
            *("--no-ftrace-raw", "--add-sql-package", f"{PACKAGE}@{PACKAGE.name}"),
            # The trace by its whole path, which is neither an option nor a subcommand.
            *("--add-sql-package", f"{_MARK}@{self._mark}", str(trace.absolute())),
        ]
        try:
            self._process = _spawn(command, folder, self._log)
        except OSError as error:
            self._log.close()
            name = printable(str(shell))
            raise EngineError(f"{name} cannot be run: {error.strerror or error}") from None
        # Called when nobody holds this object any more, and when the interpreter ends.
        self._end = weakref.finalize(self, _end, self._process, self._log, self._lock, os.getpid())
        _running.add(self)

    def is_ready(self) -> bool:
        """Whether the trace is loaded: it answers, and it is this engine that does.

        Raises:
            PortTakenError: Another program listens there.
        """
        connection = http.client.HTTPConnection(self.address, timeout=_ANSWER)
        try:
            connection.request("GET", "/status")
            status = _messages().StatusResult.FromString(connection.getresponse().read())
            sql = f"INCLUDE PERFETTO MODULE {self._mark}.mark"
            question = _messages().QueryArgs(sql_query=sql).SerializeToString()
            connection.request("POST", "/query", body=question)
            answer = _messages().QueryResult.FromString(connection.getresponse().read())
        except (ConnectionRefusedError, TimeoutError):
            return False
        except (OSError, http.client.HTTPException, DecodeError):
            if self.obituary() is None:  # something else altogether
                raise PortTakenError from None
            return False
        finally:
            connection.close()
        if answer.error:
            raise PortTakenError
        self.version = status.human_readable_version
        return True

    def exit_status(self) -> int | None:
        """Its exit status, 128 + the signal's number if one ended it; None while it runs."""
        with self._lock:
            status = self._process.poll()
        return status if status is None or status >= 0 else 128 - status

    def obituary(self, patience: float = 1.0) -> str | None:
        """Why it is not there any more, in one line; None if it lives on.

        Args:
            patience: Seconds in which a dying process may end.
        """
        deadline = time.monotonic() + patience
        while (status := self.exit_status()) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)
        if status == 128 + 9:
            return "the trace processor was killed; maybe there was not enough memory"
        last = _last_line(self.log())
        return f"the trace processor ended with status {status}" + (f": {last}" if last else "")

    def log(self) -> str:
        """The end of what it printed."""
        try:
            return _tail(self._log)
        except (OSError, ValueError):  # closed
            return ""

    def stop(self) -> None:
        """Ends it at once and waits until it has ended; a second call does nothing.

        In a process that was forked from the one which started it, nothing happens.
        """
        self._end()

    def disown(self) -> None:
        """In a forked process: lets go of the pipe, which would keep the engine alive with it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def start(shell: Path, trace: Path, folder: Path | None = None) -> Engine:
    """Starts an engine and waits until it has loaded the trace, however long that takes.

    Args:
        shell: The engine's program, as `locate.find` gives it.
        trace: Any file that the engine reads.
        folder: To be removed if this process is killed before it can do that itself.

    Raises:
        TraceError: The engine cannot read the trace.
        EngineError: It died, or no port is to be had.
    """
    for _ in range(_ATTEMPTS):
        engine = Engine(shell, trace, folder)
        try:
            pause = 0.002
            while not engine.is_ready():
                status, log = engine.exit_status(), engine.log()
                if any(sign in log for sign in _PORT_TAKEN):
                    raise PortTakenError
                if status is not None:
                    raise _not_started(engine, shell, trace)
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
        except PortTakenError:
            engine.stop()
        except BaseException:
            engine.stop()
            raise
        else:
            return engine
    raise EngineError(
        f"the trace processor finds no port on {HOST} that another program does not take: try again"
    )


def free_port() -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _spawn(command: Sequence[str], folder: Path | None, log: IO[bytes]) -> subprocess.Popen[bytes]:
    guarded = os.name == "posix" and Path(_SH).exists()
    if guarded:
        command = [_SH, "-c", _GUARDIAN, "nsys2perfetto", str(folder or ""), *command]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE if guarded else subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=os.name == "posix",
    )


def _end(
    process: subprocess.Popen[bytes], log: IO[bytes], lock: threading.Lock, owner: int
) -> None:
    """Ends an engine and frees what belongs to it, in the process that owns it."""
    if os.getpid() != owner:
        return
    with lock:
        if process.returncode is None:
            _kill(process)
        for file in (process.stdin, log):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that nobody has waited for yet, with all that belongs to it; waits for it."""
    if process.stdin is not None:
        # The guardian waits until the engine is gone before it goes itself.
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            process.stdin.write(b"stop\n")
            process.stdin.flush()
            process.wait(_LAST_MOMENT)
            return
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _not_started(engine: Engine, shell: Path, trace: Path) -> Nsys2PerfettoError:
    """Why an engine has ended before it had the trace."""
    shown = printable(str(trace))
    found = re.search(
        rf"read trace file(?: \(path: {re.escape(str(trace.absolute()))}\))?: (.*)", engine.log()
    )
    if found:
        reason = printable(found[1].strip())
        return TraceError(f"{shown} cannot be read as a trace: {reason}")
    why = engine.obituary()
    return EngineError(f"{shown}: {why} ({printable(str(shell))}, while it read the trace)")


def _tail(log: IO[bytes]) -> str:
    """The last bytes of a file to which another process writes, as text."""
    start = max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL)
    if hasattr(os, "pread"):  # seeking would move the place where the other writes
        data = os.pread(log.fileno(), _LOG_TAIL, start)
    else:
        log.seek(start)
        data = log.read()
    return data.decode(errors="replace")


def _last_line(log: str) -> str:
    """The last line, without the time and the place in Perfetto's sources."""
    lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
    if not lines:
        return ""
    return printable(re.sub(r"^\[[\d.]+\]\s+\S+:\d+\s+", "", lines[-1]).strip())[:300]


@lru_cache(maxsize=1)
def _messages() -> Any:
    """Perfetto's messages for talking to an engine."""
    from perfetto.trace_processor.platform import PlatformDelegate  # noqa: PLC0415 - slow
    from perfetto.trace_processor.protos import ProtoFactory  # noqa: PLC0415

    return ProtoFactory(PlatformDelegate())


def _disown_all() -> None:
    for engine in list(_running):
        engine.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
