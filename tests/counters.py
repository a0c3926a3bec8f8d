"""Traces of counters alone, and what the engine says of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nsys2perfetto.tracks import gpu_counters, sequences
from nsys2perfetto.tracks.gpu_counters import CounterBlock
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.wire import packets as wire
from tests.conftest import OpenTrace
from tests.engine import query

NATIVE = """
    select t.gpu_id as gpu, t.name, t.unit, t.description, c.ts, c.value
    from counter c join gpu_counter_track t on c.track_id = t.id order by c.track_id, c.ts, c.id"""
OF_PROCESSES = """
    select p.pid, t.name, t.unit, c.ts, c.value,
      extract_arg(t.source_arg_set_id, 'description') as description
    from counter c join process_counter_track t on c.track_id = t.id join process p using (upid)
    order by c.track_id, c.ts, c.id"""


def joined(chunks: Iterable[Any]) -> bytes:
    """Chunks of a trace, bytes or arrays, as one."""
    return b"".join(
        c if isinstance(c, bytes) else np.ascontiguousarray(c).tobytes() for c in chunks
    )


def with_tracks(tracks: Tracks, chunks: Iterable[Any]) -> bytes:
    """A trace of the descriptors of the tracks, and these packets."""
    head = wire.frame([sequences.start(sequences.DESCRIPTORS), *tracks.packets()])
    return head + joined(chunks)


def native(
    blocks: Sequence[CounterBlock], open_trace: OpenTrace, shift: int = 0, sql: str = NATIVE
) -> list[dict[str, Any]]:
    """What the engine says of native counters; nothing may be lost."""
    with open_trace(joined(gpu_counters.packets(blocks, shift))) as tp:
        query.assert_clean(tp)
        return query.rows(tp, sql)


def by_counter(rows: Iterable[dict[str, Any]], *key: str) -> dict[tuple[Any, ...], list[Any]]:
    """The (ts, value) of each counter."""
    found = defaultdict(list)
    for r in rows:
        found[tuple(r[k] for k in key)].append((r["ts"], r["value"]))
    return dict(found)
