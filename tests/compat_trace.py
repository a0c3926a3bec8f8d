"""A trace written with `--compat` as an engine knows it, and the native one in the same form."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.conftest import OpenTrace
from tests.engine import query
from tests.runs import Trace

_SLICES = """
    select s.id, s.ts, s.dur, s.name, s.category, s.depth, s.parent_id, s.arg_set_id, s.track_id,
      t.name as track, t.parent_id as below, thread.tid, coalesce(p.pid, q.pid) as pid
    from slice s join track t on t.id = s.track_id
    left join thread_track tt on tt.id = t.id left join thread using (utid)
    left join process p on p.upid = thread.upid
    left join process_track pt on pt.id = t.id left join process q on q.upid = pt.upid
    order by s.id"""
_ARGS = """
    select arg_set_id, key, coalesce(int_value, real_value, string_value) as value from args
    where value_type != 'null'"""
_COUNTERS = """
    select c.ts, c.value, t.id, t.name, t.unit from counter c
    join counter_track t on t.id = c.track_id order by c.id"""
_TRACKS = """
    select id, name, parent_id, type,
      extract_arg(source_arg_set_id, 'description') as description from track"""
_ORDER = """
    include perfetto module viz.summary.track_event;
    select name, parent_id, order_id, is_counter, track_ids, unit
    from _track_event_tracks_ordered_groups order by parent_id, order_id"""
_ENGINES_OWN = re.compile(
    r"render_|command_buffer|(submission_id|upid|context_id|hw_queue_id|gpu_api)$|gpu_correlation"
)
"""Arguments that the GPU model brings with it."""
_SAID_TWICE = {"sm__maximum_warps_per_active_cycle_pct"}
_ADDED = {"gpu", "process_id"}
KINDS = {
    "CUDA kernel": "gpu.kernel",
    "CUDA memory copy": "gpu.memcpy",
    "Unified-memory migration": "gpu.migration",
    "CUDA memory set": "gpu.memset",
    "CUDA graph launch, all its nodes": "gpu.graph",
}
Key = tuple[Any, ...]


class CompatTrace:
    """All that an engine says of a trace of TrackEvents.

    Attributes:
        gpu, cpu: Slices with a category `gpu.*`, and the others; `args` among their columns.
        flows: (slice, slice).
        counters: (root of the track, name, unit, ts, value).
        order: Tracks as the UI sorts them.
    """

    def __init__(self, path: Path, open_trace: OpenTrace) -> None:
        with open_trace(path) as tp:
            self.losses = query.losses(tp)
            slices = query.rows(tp, _SLICES)
            flows = query.rows(tp, "select slice_out, slice_in from flow")
            tracks = {r["id"]: r for r in query.rows(tp, _TRACKS)}
            counters = query.rows(tp, _COUNTERS)
            self.order = query.rows(tp, _ORDER)
            args: dict[int, dict[str, Any]] = defaultdict(dict)
            for r in query.rows(tp, _ARGS):
                args[r["arg_set_id"]][r["key"]] = r["value"]
        for row in slices:
            row["args"] = args.get(row["arg_set_id"], {})
            row["root"] = self._root(tracks, row["track_id"])
        self.gpu = [s for s in slices if (s["category"] or "").startswith("gpu.")]
        self.cpu = [s for s in slices if not (s["category"] or "").startswith("gpu.")]
        by_id = {s["id"]: s for s in slices}
        self.flows = [(by_id[f["slice_out"]], by_id[f["slice_in"]]) for f in flows]
        self.counters = [
            (self._root(tracks, c["id"]), c["name"], c["unit"] or None, c["ts"], c["value"])
            for c in counters
        ]
        self.tracks = tracks

    @staticmethod
    def _root(tracks: dict[int, dict[str, Any]], track: int) -> str | None:
        while tracks[track]["parent_id"] is not None:
            track = tracks[track]["parent_id"]
        return tracks[track]["name"]


def gpu_number(name: str | None) -> int | None:
    """The number of the GPU whose track is called so."""
    match = re.match(r"GPU +(\d+)", name or "")
    return int(match[1]) if match else None


def operations(trace: CompatTrace) -> list[Key]:
    """What each operation is, and its arguments by their native names."""
    found = []
    for s in trace.gpu:
        args = {k.removeprefix("debug."): v for k, v in s["args"].items()}
        assert gpu_number(s["root"]) == args["gpu"]
        own = {k: v for k, v in args.items() if k not in _ADDED}
        if "process_name" in own:  # of kernels, whose native form has both
            own["process_id"] = args["process_id"]
        key = (s["category"], s["name"], s["ts"], s["dur"], args["process_id"] & 0xFFFFFF)
        found.append((*key, args["gpu"], s["track"], tuple(sorted(own.items()))))
    return found


def native_operations(trace: Trace) -> list[Key]:
    """The same of a native trace."""
    gpus = {g["id"]: g["gpu"] for g in trace.gpus} if trace.gpus else {}
    found = []
    for s in trace.gpu:
        args = trace.args(s)
        own = {k: v for k, v in args.items() if not _ENGINES_OWN.match(k) and k not in _SAID_TWICE}
        key = (KINDS[s["kind"]], s["name"], s["ts"], s["dur"], s["pid"])
        gpu = gpus.get(s["gpu"], s["gpu"])
        found.append((*key, gpu, s["track"], tuple(sorted(own.items()))))
    return found


def on_cpu(rows: list[dict[str, Any]], args: Any) -> list[Key]:
    """Slices that are no GPU work, without what only a native trace says of them."""
    found = []
    for s in rows:
        own = {k: v for k, v in args(s).items() if not _ENGINES_OWN.match(k)}
        pid, tid = (None if s[k] is None else s[k] & 0xFFFFFF for k in ("pid", "tid"))
        key = (s["category"], s["name"], s["ts"], s["dur"], s["depth"], s["track"], pid, tid)
        found.append((*key, tuple(sorted(own.items()))))
    return found


def arrow(begin: dict[str, Any], end: dict[str, Any]) -> Key:
    """An arrow by what it connects."""
    return tuple((s["name"], s["ts"], s["dur"]) for s in (begin, end))
