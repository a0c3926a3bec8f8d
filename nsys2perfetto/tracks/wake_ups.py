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
from nsys2perfetto.tracks.arrows import ARROW_IN, FLOW_SLOT, end_flow, flow_column
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


def find(events: Events, records: pl.DataFrame, calls: Calls, operations: Operations) -> Waits:
    """Finds what each call waited for, see `analysis.waits` for the rule.

    Args:
        events: From `cuda_calls.waits`.
        records: From `cuda_calls.event_records`.
        calls: All CUDA calls.
        operations: All GPU work.
    """
    config = events.config.with_columns(pl.col("globalPid").fill_null(0))
    numbers = operations.numbers
    stream_number = numbers.of(config, "globalPid", "contextId", "streamId")[events.code]
    context_number = numbers.of(config, "globalPid", "contextId")[events.code]
    process = numbers.of(config, "globalPid")[events.code]
    stream = np.asarray(config["streamId"].fill_null(-1).to_numpy()[events.code], np.int64)
    event: I64 = events.values["eventId"]  # type: ignore[assignment]
    call = calls_of(events, calls, operations)
    # Of several waits of a call the last decides.
    orphans = np.nonzero(call < 0)[0]
    keep = np.nonzero(call >= 0)[0]
    keep = keep[np.lexsort((events.end[keep], call[keep]))]
    keep = keep[np.append(call[keep][1:] != call[keep][:-1], True)] if len(keep) else keep
    call, stream, event = call[keep], stream[keep], event[keep]
    stream = np.where((stream < 0) | (stream >= cuda_calls.INVALID_STREAM), -1, stream)
    names = calls.name[calls.events.code[call].astype(np.int64)]
    kind = cuda_calls.wait_kinds(names, pl.Series(stream))
    before = calls.events.start[call]

    work = _Work(calls, operations)
    awaited = np.full(len(call), waits.NONE, np.int64)
    for what in _KINDS:
        rows = np.nonzero((kind == what).fill_null(False).to_numpy())[0]
        if not len(rows):
            continue
        if what == "stream":
            awaited[rows] = work.last_on(operations.stream, stream_number[keep[rows]], before[rows])
        elif what == "context":
            awaited[rows] = work.last_on(
                operations.context, context_number[keep[rows]], before[rows]
            )
        else:
            awaited[rows] = _behind_events(
                records, calls, operations, work, process[keep[rows]], event[rows], before[rows]
            )
    return Waits(call, orphans, kind, stream, event, awaited)


def calls_of(events: Events, calls: Calls, operations: Operations) -> I64:
    """The call that each wait belongs to, -1 where it is not in the capture."""
    config = events.config.with_columns(pl.col("globalPid").fill_null(0))
    process = operations.numbers.of(config, "globalPid")[events.code]
    correlation: I64 = events.values["correlationId"]  # type: ignore[assignment]
    return calls.find(correlate.keys(process, correlation))


def stream_waits(events: Events, calls: Calls, operations: Operations) -> tuple[I64, I64]:
    """Calls that made a stream wait for an event: row of the call, and the stream's number."""
    config = events.config.with_columns(pl.col("globalPid").fill_null(0))
    call = calls_of(events, calls, operations)
    stream = operations.numbers.of(config, "globalPid", "contextId", "streamId")[events.code]
    waits_for_event = calls.name.str.contains("WaitEvent").fill_null(False).to_numpy()
    rows = np.flatnonzero(call >= 0)
    rows = rows[waits_for_event[calls.events.code[call[rows]]]]
    return call[rows], stream[rows]


class _Work:
    """GPU work with the time of its submission; migrations, which nobody waits for, left out."""

    def __init__(self, calls: Calls, operations: Operations) -> None:
        self._rows = np.nonzero(operations.stream >= 0)[0]
        call = calls.submitting_call[self._rows]
        self._submitted = operations.start[self._rows]
        known = call >= 0
        self._submitted[known] = calls.events.start[call[known]]
        self._end = operations.end[self._rows]

    def last_on(self, queue: I64, wanted: I64, before: I64) -> I64:
        """The operation that ended last of those submitted to a queue before a time, or NONE."""
        submitted = waits.Submitted(queue[self._rows], self._submitted, self._end)
        found = waits.awaited(submitted, wanted, before)
        return np.where(found >= 0, self._rows[found] if len(self._rows) else found, waits.NONE)


def _behind_events(
    records: pl.DataFrame,
    calls: Calls,
    operations: Operations,
    work: _Work,
    process: I64,
    event: I64,
    before: I64,
) -> I64:
    """The last operation of the event's stream that was submitted before the event's recording."""
    answer = np.full(len(event), waits.NONE, np.int64)
    numbers = operations.numbers
    recorded_process = numbers.of(records, "globalPid")
    call = calls.find(correlate.keys(recorded_process, records["correlationId"].to_numpy()))
    known = np.nonzero(call >= 0)[0]
    if not len(known):
        return answer
    at = calls.events.start[call[known]]
    recorded = correlate.keys(recorded_process[known], records["eventId"].to_numpy()[known])
    record = waits.last_recorded(recorded, at, correlate.keys(process, event), before)
    found = record >= 0
    queue = numbers.of(records, "globalPid", "contextId", "streamId")[known]
    answer[found] = work.last_on(operations.stream, queue[record[found]], at[record[found]])
    return answer


def annotate_calls(found: Waits, calls: SliceFamily, pools: Pools) -> None:
    """Gives each waiting call the arguments `waited_for`, `stream` and `event`."""
    n = len(calls)
    text = pools.texts.iids(found.kind.fill_null("nothing"))
    waited_for, stream, event = (
        np.zeros(n, np.int32 if int(column.max(initial=0)) < 1 << 31 else np.int64)
        for column in (text.to_numpy(), found.stream, found.event)
    )
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


def woken(found: Waits, calls: Calls, operations: Operations) -> tuple[I64, I64]:
    """Which waits were still waiting when the awaited work ended, and when that was, ns."""
    if not len(operations.end):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ends = operations.end[np.maximum(found.awaited, 0)]
    begin, finish = calls.events.start[found.call], calls.events.end[found.call]
    rows = np.flatnonzero((found.awaited >= 0) & (ends >= begin) & (ends < finish))
    return rows, ends[rows]


def family(
    found: Waits, calls: Calls, operations: Operations, pools: Pools, first_flow: int | None = None
) -> SliceFamily | None:
    """A slice `wake-up` inside each call that was still waiting when the awaited work ended.

    Args:
        found: What calls waited for.
        calls: All CUDA calls.
        operations: All GPU work.
        pools: For names.
        first_flow: None: slices name the operation by its event id. Else: flows end at the slices,
            numbered from here on in the order of `woken`.
    """
    if not len(operations.end):
        return None
    rows, since = woken(found, calls, operations)
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
    awaited_id = operations.event_id(found.awaited[rows])

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
        wake_up = ext.WakeUp()
        wake_up.wait_kind = p["kind"]  # patched: the placeholder need not be a kind
        if "stream" in p:
            wake_up.stream = p["stream"]
        extensions = ext.TrackEventExtensions(wake_up=wake_up)
        if "awaited" in p:
            extensions.gpu_correlation.render_stage_wait_event_ids.append(p["awaited"])
        end_flow(p, ARROW_IN, event)
        event.MergeFromString(extensions.SerializeToString())

    result = SliceFamily(
        "wake_up",
        slots,
        since,
        calls.events.end[found.call[rows]],
        code,
        fill,
        PRIORITY,
    )
    if first_flow is not None:
        ids = np.arange(first_flow, first_flow + len(rows))
        result.rows, result.values = {ARROW_IN: FLOW_SLOT}, {ARROW_IN: flow_column(ids)}
        result.present = {ARROW_IN: np.ones(len(rows), np.bool_)}
    else:
        result.rows = {"awaited": RowSlot.fitting(awaited_id)}
        result.values = {"awaited": awaited_id}
    return result
