"""Waits: what each waiting call waited for, and a slice for the time in which it only woke up.

The arrow of `render_stage_wait_event_ids` ends at the *start* of the slice that carries it. On the
waiting call itself it would point backwards in time; so it lies on a small slice inside the call,
which begins where the awaited work ends and ends where the call returns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import correlate, nesting, waits
from nsys2perfetto.nsys import cuda_calls
from nsys2perfetto.nsys.events import Events
from nsys2perfetto.protos import extensions_pb2 as ext
from nsys2perfetto.tracks.cuda_api import Calls, Operations
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.thread_slices import (
    SliceFamily,
    lane_tracks,
    tracks_of_processes,
    with_own_track,
)
from nsys2perfetto.wire.stamp import RowSlot
from nsys2perfetto.wire.template import Placeholders

I64 = npt.NDArray[np.int64]

CATEGORY = "cuda_wake_up"
PRIORITY = 90
_KINDS = {"stream": ext.STREAM, "event": ext.EVENT, "context": ext.CONTEXT}


@dataclass(frozen=True)
class Waits:
    """Rows of the synchronisation table that belong to a call in the capture, one a call."""

    call: I64
    """Row number of the call."""
    orphans: I64
    """Row numbers of the waits whose call is not in the capture."""
    kind: pl.Series
    """`stream`, `event`, `context`; null where the call did not wait (a query)."""
    stream: I64
    """-1 where it was none."""
    event: I64
    """-1 where it was none."""
    awaited: I64
    """Row number of the last operation that the call had to wait for; -1 where none is known."""


def find(
    events: Events, records: pl.DataFrame, calls: Calls, operations: Operations
) -> Waits:
    """Finds what each call waited for, see `analysis.waits` for the rule.

    Args:
        events: From `cuda_calls.waits`.
        records: From `cuda_calls.event_records`.
        calls: All CUDA calls.
        operations: All GPU work.
    """
    config = events.config.with_columns(pl.all().fill_null(-1))
    process, context, stream = (
        np.asarray(config[name].to_numpy()[events.code], np.int64)
        for name in ("globalPid", "contextId", "streamId")
    )
    event: I64 = events.values["eventId"]  # type: ignore[assignment]
    call = _calls_of(process, events.values["correlationId"], calls)  # type: ignore[arg-type]
    # Of several waits of a call the last decides.
    orphans = np.nonzero(call < 0)[0]
    keep = np.nonzero(call >= 0)[0]
    keep = keep[np.lexsort((events.end[keep], call[keep]))]
    keep = keep[np.append(call[keep][1:] != call[keep][:-1], True)] if len(keep) else keep
    call, process, context, stream, event = (
        a[keep] for a in (call, process, context, stream, event)
    )
    stream = np.where((stream < 0) | (stream >= cuda_calls.INVALID_STREAM), -1, stream)
    names = calls.name[calls.events.code[call].astype(np.int64)]
    kind = cuda_calls.wait_kinds(names, pl.Series(stream))
    before = calls.events.start[call]

    awaited = np.full(len(call), waits.NONE, np.int64)
    submitted = np.where(
        calls.submitting_call >= 0,
        calls.events.start[calls.submitting_call] if len(calls.events) else 0,
        operations.start,
    )
    own = np.nonzero(operations.stream >= 0)[0]
    by_stream, by_context, wanted_stream, wanted_context = _numbered(
        [(operations.process[own], operations.context[own], operations.stream[own]),
         (operations.process[own], operations.context[own])],
        [(process, context, stream), (process, context)],
    )  # fmt: skip
    for what, queue, wanted in (
        ("stream", by_stream, wanted_stream),
        ("context", by_context, wanted_context),
    ):
        rows = np.nonzero((kind == what).fill_null(False).to_numpy())[0]
        work = waits.Submitted(queue, submitted[own], operations.end[own])
        found = waits.awaited(work, wanted[rows], before[rows])
        awaited[rows] = np.where(found >= 0, own[found] if len(own) else found, waits.NONE)
    rows = np.nonzero((kind == "event").fill_null(False).to_numpy())[0]
    if len(rows) and len(records):
        awaited[rows] = _behind_events(
            records, calls, operations, own, submitted, process[rows], event[rows], before[rows]
        )
    return Waits(call, orphans, kind, stream, event, awaited)


def _calls_of(process: I64, correlation: I64, calls: Calls) -> I64:
    """The call of each (process, correlation id); -1 where it is not in the capture."""
    call_correlation: I64 = calls.events.values["correlationId"]  # type: ignore[assignment]
    wanted, present = correlate.keys([process, calls.process], [correlation, call_correlation])
    found = correlate.match(wanted, present)
    answer = np.full(len(wanted), -1, np.int64)
    has = found.count > 0
    answer[has] = found.order[(found.first + found.count - 1)[has]]
    return answer


def _behind_events(
    records: pl.DataFrame,
    calls: Calls,
    operations: Operations,
    own: I64,
    submitted: I64,
    process: I64,
    event: I64,
    before: I64,
) -> I64:
    """The last operation of the event's stream that was submitted before the event's recording."""
    recorded_process, correlation, recorded_event = (
        records[name].to_numpy() for name in ("globalPid", "correlationId", "eventId")
    )
    call = _calls_of(recorded_process, correlation, calls)
    known = call >= 0
    records, call = records.filter(pl.Series(known)), call[known]
    if not len(records):
        return np.full(len(event), waits.NONE, np.int64)
    at = calls.events.start[call]
    numbers = _numbered(
        [(recorded_process[known], recorded_event[known])], [(process, event)]
    )
    record = waits.last_recorded(numbers[0], at, numbers[1], before)
    found = record >= 0
    rows = record[found]
    queue, wanted = _numbered(
        [(operations.process[own], operations.context[own], operations.stream[own])],
        [tuple(records[c].fill_null(-1).to_numpy()[rows]
               for c in ("globalPid", "contextId", "streamId"))],
    )  # fmt: skip
    work = waits.Submitted(queue, submitted[own], operations.end[own])
    operation = waits.awaited(work, wanted, at[rows])
    answer = np.full(len(event), waits.NONE, np.int64)
    answer[found] = np.where(operation >= 0, own[operation] if len(own) else operation, waits.NONE)
    return answer


def _numbered(left: list[tuple[I64, ...]], right: list[tuple[I64, ...]]) -> list[I64]:
    """Numbers tuples alike on both sides: for each pair of (left, right) the same numbers."""
    numbers: list[I64] = []
    others: list[I64] = []
    for a, b in zip(left, right, strict=True):
        names = [str(i) for i in range(len(a))]
        frame = pl.concat([
            pl.DataFrame(dict(zip(names, side, strict=True))) for side in (a, b)
        ])  # fmt: skip
        number = frame.select(pl.struct(names).rank("dense").cast(pl.Int64)).to_series().to_numpy()
        numbers.append(number[: len(a[0])])
        others.append(number[len(a[0]) :])
    return numbers + others


def annotate_calls(found: Waits, calls: SliceFamily, pools: Pools) -> None:
    """Gives each waiting call the arguments `waited_for`, `stream` and `event`."""
    n = len(calls)
    text = pools.texts.iids(found.kind.fill_null("nothing"))
    waited_for, stream, event = (np.zeros(n, np.int64) for _ in range(3))
    waited_for[found.call] = text.to_numpy()
    stream[found.call] = np.maximum(found.stream, 0)
    event[found.call] = np.maximum(found.event, 0)
    for name, values, has in (
        ("waited_for", waited_for, np.ones(len(found.call), bool)),
        ("stream", stream, found.stream >= 0),
        ("event", event, (found.kind == "event").fill_null(False).to_numpy() & (found.event >= 0)),
    ):
        mask = np.zeros(n, bool)
        mask[found.call] = has
        calls.rows[name] = RowSlot.fitting(values, optional=True)
        calls.values[name] = values
        calls.present[name] = mask


def orphans(found: Waits, events: Events, pools: Pools, tracks: Tracks) -> SliceFamily:
    """Waits whose call is not in the capture (a trimmed export): slices of their process."""
    lonely = events.take(found.orphans)
    process = events.config["globalPid"].fill_null(0).to_numpy()[lonely.code]
    parent = tracks_of_processes(tracks, process)
    lane = nesting.lanes(parent, lonely.start, lonely.end)
    config = pl.DataFrame({
        "name_iid": [pools.names.iid("wait (call not in the capture)")] * len(events.config),
        "category_iid": [pools.categories.iid("cuda_wait")] * len(events.config),
        "track": pl.zeros(len(events.config), dtype=pl.Int64, eager=True),
    })  # fmt: skip
    track = lane_tracks(tracks, parent, lane, "CUDA waits")
    config, code = with_own_track(config, lonely.code, np.arange(len(lonely)), track)
    return SliceFamily("cuda_wait", config, lonely.start, lonely.end, code)


def family(found: Waits, calls: Calls, operations: Operations, pools: Pools) -> SliceFamily | None:
    """A slice `wake-up` inside each call that was still waiting when the awaited work ended."""
    if not len(operations.end):
        return None
    ends = operations.end[np.maximum(found.awaited, 0)]
    begin, finish = calls.events.start[found.call], calls.events.end[found.call]
    waited = (found.awaited >= 0) & (ends >= begin) & (ends < finish)
    rows = np.nonzero(waited)[0]
    config = pl.DataFrame({
        "thread": calls.events.config["globalTid"].to_numpy()[calls.events.code[found.call[rows]]],
        "kind": found.kind[rows].replace_strict(_KINDS, default=0, return_dtype=pl.Int64),
        "stream": found.stream[rows],
    }).with_columns(pl.when(pl.col("stream") >= 0).then("stream"))  # fmt: skip
    distinct = config.unique(maintain_order=True).with_row_index("code")
    code = config.join(
        distinct, on=config.columns, how="left", nulls_equal=True, maintain_order="left"
    )["code"].to_numpy()
    name, category = pools.names.iid("wake-up"), pools.categories.iid(CATEGORY)
    slots = distinct.drop("code").with_columns(
        pl.lit(name).alias("name_iid"), pl.lit(category).alias("category_iid")
    )
    awaited_id = operations.event_id[found.awaited[rows]]

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
        wake_up = ext.WakeUp()
        wake_up.wait_kind = p["kind"]  # patched: the placeholder need not be a kind
        if "stream" in p:
            wake_up.stream = p["stream"]
        correlation = ext.GpuCorrelation(render_stage_wait_event_ids=[p["awaited"]])
        extensions = ext.TrackEventExtensions(wake_up=wake_up, gpu_correlation=correlation)
        event.MergeFromString(extensions.SerializeToString())

    return SliceFamily(
        "wake_up",
        slots,
        ends[rows],
        finish[rows],
        code,
        fill,
        PRIORITY,
        rows={"awaited": RowSlot.fitting(awaited_id)},
        values={"awaited": awaited_id},
    )
