"""Opens a capture or a trace as a source of tables, whichever the file is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.nsys import exporting, source
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.query.session import open_trace
from nsys2perfetto.reading import Progress
from nsys2perfetto.report.capture_source import CaptureSource
from nsys2perfetto.report.source import Source
from nsys2perfetto.report.trace_source import TraceSource


@contextmanager
def open_source(
    path: str | Path,
    *,
    engine: str | Path | None = None,
    start: int | None = None,
    end: int | None = None,
    pids: Collection[int] = (),
    annotate: AnnotationOptions | None = None,
    progress: Progress | None = None,
) -> Iterator[Source]:
    """Opens a file as a source of tables.

        with open_source("trace.sqlite") as tables:
            print(tables.kernel_summary())

    Args:
        path: A capture (an export or report of nsys, see `convert`), which is read without a trace
            processor, or a trace. The content decides, not the name.
        engine: The trace processor for a trace, see `query.session.open_trace`.
        start, end: ns as the capture counts: only events that overlap this range. Of captures only.
        pids: Only events of these processes. Of captures only.
        annotate: Where decode steps come from, and the shortest gap. Of captures only: a trace
            holds those that it was made with.
        progress: Called now and then while a capture is read.

    Raises:
        CaptureError: The capture cannot be read, or was changed meanwhile (told at the end).
        TraceError: The trace cannot be read, or nsys2perfetto did not make it.
        EngineError: There is no trace processor for the trace.
        UsageError: Options of captures for a trace.
    """
    path = Path(path)
    if _is_capture(path):
        exporting.check(path)
        with exporting.exported(path, progress) as export, Capture(export) as capture:
            selection = Selection(start, end, frozenset(pids))
            yield CaptureSource(capture, selection, annotate, progress)
            capture.check_unchanged()
        return
    chosen = None if annotate == AnnotationOptions() else annotate
    with open_trace(path, engine, start=start, end=end, pids=pids, annotate=chosen) as trace:
        yield TraceSource(trace)


def _is_capture(path: Path) -> bool:
    """Whether it is an SQLite file, a folder or a report.

    So is what cannot be opened: `exporting.check` says why.
    """
    try:
        if not path.is_file() or exporting.is_report(path):
            return True
        with path.open("rb") as file:
            return file.read(len(source.SQLITE_MAGIC)) == source.SQLITE_MAGIC
    except (OSError, ValueError):
        return True
