"""CUDA runtime and driver calls, the waits among them, and the recordings of CUDA events."""

from __future__ import annotations

import polars as pl

from nsys2perfetto.nsys import events
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Events, Selection
from nsys2perfetto.nsys.text import StringTable

CALLS = "CUPTI_ACTIVITY_KIND_RUNTIME"
"""Runtime and driver calls alike; there is no table of driver calls (NSYS_SCHEMA section 4)."""
WAITS = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"
EVENT_RECORDS = "CUPTI_ACTIVITY_KIND_CUDA_EVENT"

INVALID_STREAM = 0xFFFFFFFF
"""streamId of waits for events and contexts."""

_DRIVER_EVENT_CLASS = 1


def calls(capture: Capture, selection: Selection) -> Events:
    """CUDA calls; config: globalTid, nameId, returnValue, eventClass; values: correlationId."""
    found = events.read(
        capture,
        CALLS,
        {"globalTid": "int", "nameId": "int", "returnValue": "int", "eventClass": "int"},
        {"correlationId": "int"},
        owner="globalTid",
        selection=selection,
    )
    found.config = found.config.with_columns(pl.col("globalTid").fill_null(0))
    return found


def waits(capture: Capture, selection: Selection) -> Events:
    """Waits on the host; config: globalPid, contextId, streamId; values: correlationId, eventId."""
    return events.read(
        capture,
        WAITS,
        {"globalPid": "int", "contextId": "int", "streamId": "int", "syncType": "int"},
        {"correlationId": "int", "eventId": "int"},
        owner="globalPid",
        selection=selection,
    )


def event_records(capture: Capture) -> pl.DataFrame:
    """Recordings of CUDA events: globalPid, contextId, streamId, correlationId, eventId.

    They carry no time before schema 3.24.0, so the recording call's time is used for all.
    """
    return capture.read(
        EVENT_RECORDS,
        {
            "globalPid": "int",
            "contextId": "int",
            "streamId": "int",
            "correlationId": "int",
            "eventId": "int",
        },
    ).drop_nulls(["globalPid", "correlationId", "eventId"])


def names(config: pl.DataFrame, strings: StringTable) -> pl.Series:
    """The name of each configuration's call, without the suffix of its ABI version.

    `cudaLaunchKernel_v7000` becomes `cudaLaunchKernel`, by the rule of `nsys stats`: only where the
    sixth character from the end begins `_v`; `cuMemcpyDtoHAsync_v2` keeps its name.
    """
    return (
        strings.look_up(config["nameId"])
        .str.replace(r"_v[0-9a-zA-Z]{4}$", "")
        .fill_null("[unnamed call]")
    )


def is_driver(config: pl.DataFrame, name: pl.Series) -> pl.Series:
    """Whether each configuration's call is the driver's: by eventClass, else by its name."""
    by_name = name.str.contains(r"^cu[A-Z]")
    by_class = config["eventClass"] == _DRIVER_EVENT_CLASS
    return by_class.zip_with(config["eventClass"].is_in([0, 1]), by_name)


def wait_kinds(call_names: pl.Series, stream: pl.Series) -> pl.Series:
    """What each wait waited for: `stream`, `event` or `context`; null where the call did not wait.

    The name of the call decides, not syncType: what its numbers mean changed between versions (3 is
    a stream in 2023.4, 2 is one in 2024.6, 0 is a context there), and the exported ENUM table does
    not always fit the rows. Queries and cudaStreamWaitEvent return at once.

    Args:
        call_names: The call of each wait; null where it is not in the capture.
        stream: streamId of each wait.
    """
    frame = pl.DataFrame({"name": call_names, "stream": stream})
    name = pl.col("name")
    has_stream = pl.col("stream").is_between(0, INVALID_STREAM - 1)
    return frame.select(
        pl.when(name.str.contains("WaitEvent|Query"))
        .then(None)
        .when(name.str.contains("EventSynchronize"))
        .then(pl.lit("event"))
        .when(name.str.contains("StreamSynchronize"))
        .then(pl.lit("stream"))
        .when(name.str.contains("(Ctx|Device|Thread)Synchronize"))
        .then(pl.lit("context"))
        .when(name.is_not_null() & has_stream)
        .then(pl.lit("stream"))
        .when(name.is_not_null())
        .then(pl.lit("context"))
        .alias("kind")
    )["kind"]
