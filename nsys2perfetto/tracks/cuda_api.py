"""CUDA calls on their threads: errors, arrows to what they submitted, and where waits woke up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import columns, correlate
from nsys2perfetto.analysis.correlate import Submissions
from nsys2perfetto.nsys import cuda_calls
from nsys2perfetto.nsys.enums import cuda_result
from nsys2perfetto.nsys.events import Events
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.protos.extensions_pb2 import GPU_API_CUDA, TrackEventExtensions
from nsys2perfetto.tracks.arrows import CORRELATIONS, Arrows
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.gpu_family import GpuFamily
from nsys2perfetto.tracks.thread_pools import AnnotationKind, Pools, annotate
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire.template import Placeholders

I64 = npt.NDArray[np.int64]

RUNTIME_CATEGORY = "cuda_runtime"
DRIVER_CATEGORY = "cuda_driver"
PRIORITY = 20

_GPU_API = TrackEventExtensions(gpu_api=GPU_API_CUDA).SerializeToString()


class Numbers:
    """Small numbers for processes, contexts and streams, alike in all tables.

    They are given to configurations, of which there are few, and spread over the events by code.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int | None, ...], int] = {}

    @property
    def known(self) -> list[tuple[Any, ...]]:
        """What each number stands for."""
        return list(self._known)

    def of(self, config: pl.DataFrame, *columns: str) -> I64:
        """The number of each configuration's values in these columns (null counts as a value)."""
        key = config.select(columns)
        distinct = key.unique(maintain_order=True)
        numbers = [self._known.setdefault(row, len(self._known)) for row in distinct.rows()]
        numbered = distinct.with_columns(pl.Series("number", numbers, dtype=pl.Int64))
        return (
            key.join(numbered, on=list(columns), how="left", nulls_equal=True,
                     maintain_order="left")["number"].to_numpy()
        )  # fmt: skip


@dataclass(frozen=True)
class Operations:
    """All GPU work of the trace in one numbering; arrays of shape (n,), times in ns."""

    key: I64
    """(process, correlation id), see `correlate.keys`."""
    start: I64
    end: I64
    stream: I64
    """Number of its (process, context, stream) in `numbers`; -1 for unified-memory migrations,
    which belong to no stream."""
    context: I64
    """Number of its (process, context), likewise."""
    numbers: Numbers

    @classmethod
    def of(cls, families: list[GpuFamily]) -> Operations:
        """Joins the families' operations; their times become views of the joined ones."""
        numbers = Numbers()
        keys, streams, contexts = [], [], []
        for family in families:
            events, code = family.events, family.events.code
            config = events.config.with_columns(pl.col("globalPid").fill_null(0))
            own = ~config["migration"].to_numpy()
            stream = numbers.of(config, "globalPid", "contextId", "streamId")
            context = numbers.of(config, "globalPid", "contextId")
            process = numbers.of(config, "globalPid")
            correlation: I64 = events.values.pop("correlationId")  # type: ignore[assignment]
            keys.append(correlate.keys(columns.spread(process, code), correlation))
            streams.append(columns.spread(np.where(own, stream, -1), code))
            contexts.append(columns.spread(np.where(own, context, -1), code))
        start = columns.joined([f.events.start for f in families])
        end = columns.joined([f.events.end for f in families])
        for family in families:
            rows = slice(family.first_event_id - 1, family.first_event_id - 1 + len(family.events))
            family.events.start, family.events.end = start[rows], end[rows]
        return cls(
            columns.joined(keys), start, end, columns.joined(streams), columns.joined(contexts),
            numbers,
        )  # fmt: skip

    def event_id(self, rows: I64) -> I64:
        """The event ids of some operations: they count from 1 through all families."""
        return rows + 1


@dataclass(frozen=True)
class Calls:
    """CUDA calls joined to the GPU work they submitted."""

    events: Events
    name: pl.Series
    """Of each configuration."""
    key: I64
    """(process, correlation id) of each call, see `correlate.keys`."""
    submissions: Submissions
    submitting_call: I64
    """Row of the call that submitted each operation; -1 where it is not in the capture."""

    def find(self, key: I64) -> I64:
        """The call of each key, -1 where it is not in the capture; of several the last."""
        found = correlate.match(key, self.key)
        answer = np.full(len(key), -1, np.int64)
        has = found.count > 0
        answer[has] = found.order[(found.first + found.count - 1)[has]]
        return answer


def join(events: Events, operations: Operations, strings: StringTable) -> Calls:
    """Joins calls and operations by process and correlation id."""
    config = events.config.select(globalPid=pl.col("globalTid") & PROCESS_MASK)
    process = operations.numbers.of(config, "globalPid")
    correlation: I64 = events.values.pop("correlationId")  # type: ignore[assignment]
    key = correlate.keys(columns.spread(process, events.code), correlation)
    submissions, submitting_call = correlate.joined(key, operations.key)
    return Calls(
        events, cuda_calls.names(events.config, strings), key, submissions, submitting_call
    )


def family(
    calls: Calls,
    operations: Operations,
    pools: Pools,
    detail: Detail = FULL,
    arrows: Arrows = CORRELATIONS,
) -> SliceFamily:
    """The calls as slices; `waits` adds what they waited for."""
    config = calls.events.config
    driver = cuda_calls.is_driver(config, calls.name)
    category = pl.Series(
        [DRIVER_CATEGORY if d else RUNTIME_CATEGORY for d in driver], dtype=pl.String
    )
    failed = [cuda_result(v) if v else None for v in config["returnValue"]]
    slots = pl.DataFrame(
        {
            "thread": config["globalTid"],
            "name_iid": pools.names.iids(calls.name),
            "category_iid": pools.categories.iids(category),
            "result": pools.texts.iids(pl.Series(failed, dtype=pl.String)),
        }
    )
    kinds: dict[str, AnnotationKind] = {
        "result": "text", "waited_for": "text", "stream": "uint", "event": "uint"
    }  # fmt: skip
    iids = pools.annotations.lookup(kinds)

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
        if detail.gpu_api and arrows is CORRELATIONS:
            event.MergeFromString(_GPU_API)
        annotate(p, event, kinds, iids)

    return SliceFamily(
        "cuda_api",
        slots,
        calls.events.start,
        calls.events.end,
        calls.events.code,
        fill,
        PRIORITY,
        submissions=(calls.submissions, operations.event_id) if detail.arrows else None,
        arrows=arrows,
    )
