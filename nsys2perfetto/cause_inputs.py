"""What was read, as the causes of gaps want it: waits of streams, overhead of the profiler."""

from __future__ import annotations

import numpy as np

from nsys2perfetto.analysis import causes
from nsys2perfetto.analysis.causes import Overheads, StreamWaits
from nsys2perfetto.nsys.events import Events
from nsys2perfetto.reading import Reading
from nsys2perfetto.tracks import wake_ups
from nsys2perfetto.tracks.cuda_api import Calls, Operations

_PROFILER_TABLE = "PROFILER_OVERHEAD"
_CUPTI_TABLE = "CUPTI_ACTIVITY_KIND_OVERHEAD"


def stream_waits(waits: Events, calls: Calls, operations: Operations) -> StreamWaits | None:
    """Calls that make one stream wait for an event, from the table of waits."""
    if not len(waits):
        return None
    call, stream = wake_ups.stream_waits(waits, calls, operations)
    return causes.StreamWaits(stream, calls.events.start[call])


def overheads(reading: Reading) -> Overheads | None:
    """When the profiler held threads up."""
    thread, start, end = [], [], []
    for table, events in reading.tables:
        if table.table not in (_PROFILER_TABLE, _CUPTI_TABLE) or not len(events):
            continue
        rows = np.arange(len(events))
        if table.table == _CUPTI_TABLE:
            kind = events.config["overheadType"].is_in(causes.PROFILER_OVERHEAD_TYPES)
            rows = np.flatnonzero(kind.fill_null(False).to_numpy()[events.code])
        owner = events.config["globalTid"].fill_null(0).to_numpy()[events.code[rows]]
        thread.append(np.asarray(owner, np.int64))
        start.append(events.start[rows])
        end.append(events.end[rows])
    if not thread:
        return None
    return causes.Overheads(*(np.concatenate(c) for c in (thread, start, end)))
