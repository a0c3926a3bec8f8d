"""What the export says of itself: versions, when the session began, and nsys' own messages."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.enums import SEVERITY, labels


@dataclass(frozen=True)
class Message:
    """A row of DIAGNOSTIC_EVENT: what nsys had to say about the capture."""

    time: int
    """ns, as the capture counts; can be negative (before the session began)."""
    severity: str
    text: str
    global_pid: int | None


@dataclass(frozen=True)
class Metadata:
    """Facts about the capture as a whole. None of them names the machine or its user."""

    product_version: str | None
    """nsys that exported the file; the capture can be older. None before nsys 2022."""
    schema_version: str | None
    session_start_utc: int | None
    """ns since 1970 at which the session's clock was 0."""
    time_shift: int
    """ns that the exporter added to every timestamp (`--ts-normalize`, `--ts-shift`)."""
    graph_trace_mode: str | None
    """`Graph` or `Node`: what --cuda-graph-trace was, where the capture says."""
    messages: list[Message] = field(default_factory=list)

    @property
    def utc_of_zero(self) -> int | None:
        """Ns since 1970 of the capture's timestamp 0; None where the session start is unknown."""
        if self.session_start_utc is None:
            return None
        return self.session_start_utc - self.time_shift


def read(capture: Capture) -> Metadata:
    """Reads the metadata; what is absent is None or empty."""
    values: dict[str, str] = {}
    # META_DATA_EXPORT was called EXPORT_META_DATA in schemas 2.9.1 to 3.1.7.
    for table in ("EXPORT_META_DATA", "META_DATA_EXPORT"):
        if capture.has(table, "name", "value"):
            rows = capture.read(table, {"name": "text", "value": "text"}).drop_nulls()
            values.update(rows.iter_rows())
    start = capture.read("TARGET_INFO_SESSION_START_TIME", {"utcEpochNs": "int"})["utcEpochNs"]
    return Metadata(
        product_version=values.get("EXPORT_PRODUCT_VERSION"),
        schema_version=values.get("EXPORT_SCHEMA_VERSION"),
        session_start_utc=start[0] if len(start) else None,
        time_shift=_integer(values.get("EXPORT_CONFIG_TIME_SHIFT")),
        graph_trace_mode=_graph_mode(capture),
        messages=_messages(capture),
    )


def _integer(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


def _graph_mode(capture: Capture) -> str | None:
    # Only this one row: META_DATA_CAPTURE also holds the environment of the profiled process.
    rows = capture.read(
        "META_DATA_CAPTURE",
        {"name": "text", "value": "text"},
        ["name LIKE '%CUDA_GRAPH_TRACE_OPTIONS:MODE'"]
        if capture.has("META_DATA_CAPTURE", "name")
        else [],
    )
    return rows["value"][0] if len(rows) else None


def _messages(capture: Capture) -> list[Message]:
    rows = capture.read(
        "DIAGNOSTIC_EVENT",
        {"timestamp": "int", "severity": "int", "text": "text", "globalPid": "int"},
    ).with_columns(pl.col("text").fill_null(""), pl.col("severity").fill_null(0))
    names = labels(capture, "ENUM_DIAGNOSTIC_SEVERITY_LEVEL", SEVERITY)
    return [
        Message(time or 0, names.get(severity, str(severity)), text, process)
        for time, severity, text, process in rows.iter_rows()
    ]
