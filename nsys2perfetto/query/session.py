"""`open_trace`: a session with a trace, on a trace processor that this process starts and ends."""

from __future__ import annotations

import difflib
import http.client
import re
import shutil
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from nsys2perfetto import outputs
from nsys2perfetto.errors import EngineError, OutputError, QueryError, TraceError, UsageError
from nsys2perfetto.nsys import exporting, folder, source
from nsys2perfetto.nsys.source import printable
from nsys2perfetto.query import cells, locate, package
from nsys2perfetto.query import engine as engine_process
from nsys2perfetto.query.result import Result
from nsys2perfetto.query.tables import Tables

if TYPE_CHECKING:
    from perfetto.trace_processor import TraceProcessor

    from nsys2perfetto.annotation import AnnotationOptions
    from nsys2perfetto.query.engine import Engine
    from nsys2perfetto.reading import Progress
    from nsys2perfetto.result import Conversion

_NEVER_TRACES = (".nsys-rep", ".qdrep", ".qdstrm", ".sqlite", ".sqlite3", *folder.EXTENSIONS)
"""What captures are called: of such a file the user wants to know why it is none."""
_PLACE = re.compile(r'  (?:File "stdin"|Module include "([^"]*)") line (\d+) col (\d+)')


def open_trace(
    path: str | Path,
    engine: str | Path | None = None,
    *,
    start: int | None = None,
    end: int | None = None,
    pids: Collection[int] = (),
    only: Collection[str] = (),
    skip: Collection[str] = (),
    annotate: AnnotationOptions | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Opens a trace, or a capture, to ask it with SQL.

        with nsys2perfetto.open_trace("trace.pftrace") as trace:
            print(trace.steps())

    Args:
        path: A trace (`.pftrace`, also compressed: `.pftrace.gz`), or a capture (an export or
            report of nsys, see `convert`), which is converted to a temporary file first.
        engine: The `trace_processor_shell` to use, v55 or later. If None: the one that the
            environment variable NSYS2PERFETTO_ENGINE names, the one on the PATH, or else the one
            that the package `perfetto` downloads once.
        start, end, pids, only, skip, annotate, progress: How to convert a capture, see `convert`.

    Returns:
        The session. Use it in a `with` statement, or `close` it.

    Raises:
        TraceError: The trace cannot be read.
        CaptureError: The capture cannot be read.
        EngineError: The trace processor cannot be had, is too old, or does not start.
        UsageError: Options of a conversion for what is a trace already.
        OutputError: The temporary file cannot be written.
    """
    path = Path(path)
    options: dict[str, Any] = {"start": start, "end": end, "pids": pids, "only": only}
    options |= {"skip": skip, "annotate": annotate}
    from_capture = is_capture(path)
    given = [name for name, value in options.items() if value or value == 0]
    if given and not from_capture:
        raise UsageError(
            f"{printable(str(path))} is a trace already: {' and '.join(given)} can only be chosen "
            f"where a capture is converted"
        )
    shell = locate.find(engine)
    if not from_capture:
        return Trace(*launch(shell, path))
    folder = Path(tempfile.mkdtemp(prefix="nsys2perfetto-"))
    try:
        result = convert_into(folder, path, {**options, "progress": progress})
        return Trace(*launch(shell, result.output, folder))
    finally:
        # The engine has read it all.
        shutil.rmtree(folder, ignore_errors=True)


def launch(
    shell: Path, trace: Path, folder: Path | None = None
) -> tuple[TraceProcessor, Engine | None]:
    """Starts an engine with a trace, and connects Perfetto's Python API to it.

    Args:
        shell: The engine's program.
        trace: The file.
        folder: To be removed if this process is killed meanwhile.
    """
    from perfetto.trace_processor.api import TraceProcessor  # noqa: PLC0415 - imports pandas

    running = engine_process.start(shell, trace, folder)
    return TraceProcessor(addr=running.address), running


class Trace(Tables):
    """A session with a trace: SQL with the package `nsys`, and tables ready made.

    Whatever a query names of the package (`nsys_step`, `nsys_gap`, ...) is there without
    `INCLUDE PERFETTO MODULE`. What a query creates stays until the session is closed.

    Several sessions at once are independent. One session may be used from several threads: its
    queries wait for each other. It cannot be used in a forked process.
    """

    def __init__(self, processor: TraceProcessor, running: Engine | None = None) -> None:
        self._processor = processor
        self._running = running
        self._lock = threading.RLock()
        self._included: set[str] = set()
        self._ended = ""

    @property
    def trace_processor(self) -> TraceProcessor:
        """Perfetto's own API to the same engine, for `trace_summary` and its like.

        It does not wait for queries in other threads.
        """
        return self._processor

    @property
    def engine_version(self) -> str:
        """What the engine calls itself, such as `Perfetto v55.3-0123456`; may be empty."""
        return self._running.version if self._running else ""

    def query(self, sql: str) -> Result:
        """Runs SQL and returns the rows of its last statement.

        Args:
            sql: One statement or several, in PerfettoSQL (SQLite's with additions).

        Raises:
            QueryError: The SQL is wrong.
            EngineError: The session is closed, or the engine has died.
        """
        with self._lock:
            for module in package.modules_of(sql):
                if module not in self._included:
                    self._run(f"INCLUDE PERFETTO MODULE {module};")
                    self._included.add(module)
            return Result(cells.columns(self._run(sql)), package.types_in(sql))

    def close(self) -> None:
        """Ends the engine; a second call does nothing. Results stay."""
        self._ended = self._ended or "the session is closed: open the trace again"
        self._processor.close()
        if self._running is not None:
            self._running.stop()

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, sql: str) -> Any:
        """Sends SQL to the engine; the whole `QueryResult`."""
        from perfetto.trace_processor import TraceProcessorException  # noqa: PLC0415

        if self._ended:
            raise EngineError(self._ended)
        # perfetto calls it `_backend` from 0.58 on, and means to remove `http`.
        backend = getattr(self._processor, "_backend", None) or self._processor.http
        try:
            answer = backend.execute_query(sql)
        except UnicodeEncodeError:
            raise QueryError("the SQL is not valid text: write it in UTF-8") from None
        except (OSError, http.client.HTTPException, DecodeError, TraceProcessorException) as error:
            _forget(backend)
            why = self._running.obituary() if self._running else str(error)
            if why is not None and not self._ended:  # else another thread has closed it
                self._ended = f"{why}; open the trace again"
            raise EngineError(
                self._ended or f"the connection to the trace processor is lost: {error}"
            ) from None
        except BaseException:  # Ctrl-C: the answer will still come, and would be taken for the next
            _forget(backend)
            raise
        if answer.error:
            raise _query_error(answer.error)
        return answer


def _forget(backend: Any) -> None:
    """Closes the connection; the next query opens another."""
    connection = getattr(backend, "conn", None)
    if connection is not None:
        connection.close()


def is_capture(path: Path) -> bool:
    """Whether it is an export or a report of nsys; else it must be one that may be a trace.

    Raises:
        CaptureError: It is a capture, or was meant to be one, and cannot be read.
        TraceError: It cannot be a trace.
    """
    shown = printable(str(path))
    try:
        if path.is_dir():
            source.check(path)
            return True
        if path.exists() and not path.is_file():
            raise TraceError(f"{shown} is not a regular file: save the trace to a file first")
        with path.open("rb") as file:
            head = file.read(len(source.SQLITE_MAGIC))
    except FileNotFoundError:
        raise TraceError(f"{shown}: no such file") from None
    except PermissionError:
        raise TraceError(f"{shown}: no permission to read it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise TraceError(f"{shown}: cannot read it: {reason}") from None
    if head == source.SQLITE_MAGIC or path.suffix.lower() in _NEVER_TRACES:
        exporting.check(path)
        return True
    if not head:
        raise TraceError(f"{shown} is empty: write the trace again")
    return False


def convert_into(folder: Path, capture: Path, options: dict[str, Any]) -> Conversion:
    """Writes the trace of a capture into a temporary folder, under the name that it has to have.

    Args:
        folder: It is there and empty.
        capture: A capture, or a report of nsys.
        options: Of `convert`.
    """
    from nsys2perfetto.conversion import convert  # noqa: PLC0415 - not needed for traces

    try:
        return convert(capture, folder / outputs.default_name(capture), **options)
    except OutputError as error:
        raise OutputError(f"{error} (the variable TMPDIR names a folder with more room)") from None


def _query_error(text: str) -> QueryError:
    """The engine's traceback as one line, and the place that it is about.

    The engine tells one place after the other, from the query to the module in which the mistake
    is: a line of where, a line of SQL, a line with a caret. The reason comes last.
    """
    lines = text.splitlines()
    places = [(i, place) for i, line in enumerate(lines) if (place := _PLACE.fullmatch(line))]
    if not places:
        return QueryError(printable(" ".join(text.split())))
    last, place = places[-1]
    module, line, column = place.groups()
    here, reason = lines[last + 1 : last + 3], lines[last + 3 :]
    where = f"line {line}, column {column}" + (f" of module {module}" if module else "")
    excerpt = "\n".join(printable(x.removeprefix("    ").replace("\t", " ")) for x in here)
    why = " ".join(" ".join(reason).split())
    return QueryError(f"{printable(why)} ({where}){_hint(why)}", excerpt)


def _hint(reason: str) -> str:
    """The view that somebody may have meant, where a name is unknown."""
    missing = re.search(r"no such table: (\w+)", reason)
    close = difflib.get_close_matches(missing[1].lower(), package.views(), n=1) if missing else []
    return f"; did you mean {close[0]}?" if close else ""
