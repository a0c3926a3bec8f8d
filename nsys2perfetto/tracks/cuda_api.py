"""CUDA calls on their threads: errors, arrows to what they submitted, and where waits woke up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import correlate
from nsys2perfetto.analysis.correlate import Submissions
from nsys2perfetto.nsys import cuda_calls
from nsys2perfetto.nsys.enums import cuda_result
from nsys2perfetto.nsys.events import Events
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.protos.extensions_pb2 import GPU_API_CUDA, TrackEventExtensions
from nsys2perfetto.tracks.gpu_family import GpuFamily
from nsys2perfetto.tracks.thread_pools import AnnotationKind, Pools, annotate
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire.template import Placeholders

I64 = npt.NDArray[np.int64]

RUNTIME_CATEGORY = "cuda_runtime"
DRIVER_CATEGORY = "cuda_driver"
PRIORITY = 20

_GPU_API = TrackEventExtensions(gpu_api=GPU_API_CUDA).SerializeToString()


@dataclass(frozen=True)
class Operations:
    """All GPU work of the trace in one numbering; arrays of shape (n,), times in ns."""

    process: I64
    correlation: I64
    event_id: I64
    start: I64
    end: I64
    context: I64
    stream: I64
    """-1 for unified-memory migrations, which belong to no stream."""

    @classmethod
    def of(cls, families: list[GpuFamily]) -> Operations:
        """Joins the families' operations."""

        def spread(family: GpuFamily, column: str, null: int) -> I64:
            values = family.events.config[column].fill_null(null).to_numpy()
            return np.asarray(values[family.events.code], np.int64)

        def joined(parts: list[I64]) -> I64:
            return np.concatenate([np.empty(0, np.int64), *parts])

        families = [f for f in families if len(f.events)]
        return cls(
            process=joined([spread(f, "globalPid", 0) for f in families]),
            correlation=joined([f.events.values["correlationId"] for f in families]),  # type: ignore[misc]
            event_id=joined(
                [np.arange(len(f.events)) + f.first_event_id for f in families]
            ),
            start=joined([f.events.start for f in families]),
            end=joined([f.events.end for f in families]),
            context=joined([spread(f, "contextId", -1) for f in families]),
            stream=joined([
                np.where(spread(f, "migration", 0) > 0, -1, spread(f, "streamId", -1))
                for f in families
            ]),
        )  # fmt: skip


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

    @property
    def process(self) -> I64:
        """The globalPid of each call."""
        threads = self.events.config["globalTid"].to_numpy() & PROCESS_MASK
        return np.asarray(threads[self.events.code], np.int64)


def join(events: Events, operations: Operations, strings: StringTable) -> Calls:
    """Joins calls and operations by process and correlation id."""
    threads = events.config["globalTid"].to_numpy() & PROCESS_MASK
    process = np.asarray(threads[events.code], np.int64)
    correlation: I64 = events.values["correlationId"]  # type: ignore[assignment]
    call_key, operation_key = correlate.keys(
        [process, operations.process], [correlation, operations.correlation]
    )
    submissions = correlate.match(call_key, operation_key)
    return Calls(
        events,
        cuda_calls.names(events.config, strings),
        call_key,
        submissions,
        correlate.submitting_call(submissions, len(operations.process)),
    )


def family(calls: Calls, operations: Operations, pools: Pools) -> SliceFamily:
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
            "error": pools.texts.iids(pl.Series(failed, dtype=pl.String)),
        }
    )
    kinds: dict[str, AnnotationKind] = {
        "error": "text", "waited_for": "text", "stream": "uint", "event": "uint"
    }  # fmt: skip
    iids = pools.annotations.lookup(kinds)

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
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
        submissions=(calls.submissions, operations.event_id),
    )
