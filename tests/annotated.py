"""Steps, gaps and counters of a converted capture as the engine knows them, and what they must be.

Times are ns as the capture counts: the trace's shift is taken off again.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from nsys2perfetto import convert
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.result import Conversion
from tests.conftest import OpenTrace
from tests.engine import query
from tests.oracle import Oracle, Row
from tests.runs import folder

EVERYTHING = AnnotationOptions(min_gap=0)

_STEP, _GAP, _FAMILY = "nsys.step", "nsys.gap", "nsys.step.family"
_IDS = "gpu_correlation.render_stage_submission_event_ids"

_QUERIES = {
    "slices": f"""
        select s.id, s.ts, s.dur, s.name, s.category, s.track_id, s.arg_set_id, s.depth,
          s.parent_id, t.name as track, above.name as above
        from slice s join track t on s.track_id = t.id left join track above
          on t.parent_id = above.id
        where s.category in ('{_STEP}', '{_GAP}', '{_FAMILY}') order by s.ts, s.id""",
    "args": f"""
        select arg_set_id, key, value_type, int_value, string_value, real_value from args
        where value_type != 'null' and arg_set_id in (select arg_set_id from slice
          where category in ('{_STEP}', '{_GAP}', '{_FAMILY}')) order by arg_set_id, id""",
    "calls": f"""
        select s.id, s.ts, s.dur, s.name, a.key, a.int_value as event_id
        from args a join slice s using (arg_set_id) where a.key glob '{_IDS}*'""",
    "gpu": """
        select s.id, s.ts, s.dur, s.name, extract_arg(t.dimension_arg_set_id, 'ugpu') as gpu
        from gpu_slice s join gpu_track t on s.track_id = t.id""",
    "flows": "select slice_out, slice_in from flow",
    "counters": """
        select c.track_id, c.ts, c.value from counter c join counter_track t on c.track_id = t.id
        order by c.track_id, c.ts, c.id""",
    "tracks": """
        select t.id, t.name, t.unit, t.description, t.type, g.gpu_id, above.name as above,
          extract_arg(t.source_arg_set_id, 'description') as help
        from counter_track t left join gpu_counter_track g using (id)
        left join track p on p.id = t.id left join track above on above.id = p.parent_id""",
    "metadata": "select name, int_value, str_value from metadata",
}


@dataclass
class Counter:
    """A counter track and its (time, value) rows."""

    name: str
    gpu: int | None
    unit: str | None
    help: str | None
    type: str
    above: str | None
    rows: list[tuple[int, float]]

    def integral(self) -> float:
        """Each row's value holds until the next row; the last one's for no time."""
        return sum(v * (then - now) for (now, v), (then, _) in pairwise(self.rows))


class Annotated:
    """A capture and what its trace says of steps, gaps and counters."""

    def __init__(self, path: Path, result: Conversion, trace: Path, open_trace: OpenTrace) -> None:
        self.path, self.result = path, result
        self.shift = result.time_shift_ns
        with open_trace(trace) as tp:
            self.losses = query.losses(tp)
            found = {name: query.frame(tp, sql).to_dicts() for name, sql in _QUERIES.items()}
        args: dict[int, dict[str, Any]] = defaultdict(dict)
        self.types: dict[str, set[str]] = defaultdict(set)
        for a in found["args"]:
            columns = ("int_value", "string_value", "real_value")
            args[a["arg_set_id"]][a["key"]] = next(
                (a[c] for c in columns if a[c] is not None), None
            )
            self.types[a["key"]].add(a["value_type"])
        self.slices: list[Row] = []
        for row in found["slices"]:
            row["start"] = row["ts"] - self.shift
            row["end"] = row["start"] + row["dur"]
            for key, value in args.get(row["arg_set_id"], {}).items():
                row[re.sub(r"^(decode_step|gpu_gap|debug)\.", "", key)] = value
            self.slices.append(row)
        self.gpu = {row["id"]: row for row in found["gpu"]}
        for row in (*self.gpu.values(), *found["calls"]):
            row["start"] = row["ts"] - self.shift
            row["end"] = row["start"] + row["dur"]
        self.call_of_event = {row["event_id"]: row for row in found["calls"]}
        self.work_of_call: dict[int, list[Row]] = defaultdict(list)
        for flow in found["flows"]:
            if flow["slice_in"] in self.gpu:
                self.work_of_call[flow["slice_out"]].append(self.gpu[flow["slice_in"]])
        rows = defaultdict(list)
        for c in found["counters"]:
            rows[c["track_id"]].append((c["ts"] - self.shift, c["value"]))
        self.counters = [
            Counter(t["name"], t["gpu_id"], t["unit"], t["help"] or t["description"], t["type"],
                    t["above"], rows[t["id"]])
            for t in found["tracks"]
        ]  # fmt: skip
        self.metadata = {
            r["name"]: r["str_value"] if r["int_value"] is None else r["int_value"]
            for r in found["metadata"]
        }

    def of(self, category: str) -> list[Row]:
        """Slices of a category by time."""
        return [row for row in self.slices if row["category"] == category]

    @cached_property
    def steps(self) -> list[Row]:
        """Decode steps by time."""
        return self.of(_STEP)

    @cached_property
    def gaps(self) -> list[Row]:
        """Idle gaps by time."""
        return self.of(_GAP)

    @cached_property
    def families(self) -> list[Row]:
        """Shares of families by time."""
        return self.of(_FAMILY)

    def counter(self, name: str, gpu: int | None = None) -> Counter:
        """The only counter of that name (on that GPU)."""
        [found] = [c for c in self.counters if c.name == name and gpu in (None, c.gpu)]
        return found

    @cached_property
    def oracle(self) -> Oracle:
        """The capture in plain SQL."""
        return Oracle(self.path)

    @cached_property
    def work(self) -> dict[int, list[Row]]:
        """All GPU work by GPU, in order of start."""
        found = defaultdict(list)
        for row in sorted(self.oracle.gpu_work, key=lambda r: r["start"]):
            found[row["gpu"]].append(row)
        return dict(found)


@functools.cache
def annotated(
    path: Path, open_trace: OpenTrace, options: AnnotationOptions = EVERYTHING
) -> Annotated:
    """Converts and loads a capture, each once with the same options."""
    return convert_now(path, open_trace, options)


def convert_now(
    path: Path, open_trace: OpenTrace, options: AnnotationOptions = EVERYTHING
) -> Annotated:
    """The same without keeping it."""
    with tempfile.NamedTemporaryFile(dir=folder(), suffix=".pftrace") as output:
        result = convert(path, output.name, force=True, annotate=options)
        return Annotated(path, result, Path(output.name), open_trace)


# What must be, in the most obvious way


def busy_intervals(work: Iterable[Row]) -> list[tuple[int, int]]:
    """The union of operations, which must be in order of start; touching ones are one."""
    merged: list[list[int]] = []
    for row in work:
        start, end = row["start"], max(row["start"], row["end"])
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return [(start, end) for start, end in merged]


def idle_intervals(work: Iterable[Row]) -> list[tuple[int, int]]:
    """The complement of the union, from the first start to the last end."""
    busy = busy_intervals(work)
    return [(end, start) for (_, end), (start, _) in pairwise(busy)]


def overlap(intervals: Iterable[tuple[int, int]], start: int, end: int) -> int:
    """How much of [start, end) the intervals cover in sum."""
    return sum(max(0, min(end, b) - max(start, a)) for a, b in intervals)


def limited_to(path: Path, process: int, device: int) -> sqlite3.Connection:
    """A connection on which the manual's queries see the kernels of one process on one device."""
    sql = sqlite3.connect(path)
    sql.execute(
        "create temp view CUPTI_ACTIVITY_KIND_KERNEL as select * from "
        f"main.CUPTI_ACTIVITY_KIND_KERNEL where globalPid = {process} and deviceId = {device}"
    )
    return sql
