"""Sources of tables for tests: an open export, or its trace in the engine of the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from perfetto.trace_processor import TraceProcessor

from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.report.capture_source import CaptureSource
from nsys2perfetto.report.trace_source import TraceSource
from tests.conftest import OpenTrace
from tests.engine import query
from tests.engine.locate import REPOSITORY

PACKAGE = REPOSITORY / "nsys2perfetto" / "sql" / "nsys"
"""The SQL package that reports on traces are made with."""


@contextlib.contextmanager
def of_capture(path: Path, **options: Any) -> Iterator[CaptureSource]:
    """The tables of an export."""
    with Capture(path) as capture:
        yield CaptureSource(capture, **options)


@contextlib.contextmanager
def of_trace(path: Path, open_trace: OpenTrace) -> Iterator[TraceSource]:
    """The tables of a trace."""
    with open_trace(path, [PACKAGE]) as tp:
        yield TraceSource(Session(tp))


class Session:
    """A trace in the engine of the tests, as `TraceSource` wants it."""

    def __init__(self, tp: TraceProcessor) -> None:
        self._tp = tp

    def query(self, sql: str) -> Answer:
        """Runs SQL."""
        return Answer(query.frame(self._tp, sql))


class Answer:
    """The rows of a query."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def to_polars(self) -> pl.DataFrame:
        """As columns."""
        return self._frame
