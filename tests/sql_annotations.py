"""What the SQL package says of steps, gaps and counters, beside the trace's own slices.

The slices' arguments are taken from the table `args` here, without the package: what they must be
is for other tests.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsys2perfetto import convert
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.sql import PACKAGE
from tests import runs
from tests.annotated import EVERYTHING
from tests.conftest import OpenTrace
from tests.engine import query
from tests.oracle import Oracle, Row, pid
from tests.sql_views import RUNS

__all__ = ["RUNS", "Asked", "ask", "ask_now", "by_unit"]

VIEWS = {
    "steps": ("nsys_step", "nsys_step_kernel", "nsys_step_call", "nsys_steady_step"),
    "gaps": (
        *("nsys_gap", "nsys_process_gap", "nsys_gap_cause"),
        *("nsys_consecutive_gap", "nsys_consecutive_gap_all_gpus"),
        *("nsys_gap_bucket", "nsys_gap_bucket_all_gpus"),
        *("nsys_gap_total", "nsys_gap_total_all_gpus"),
    ),
    "memory": ("nsys_memory", "nsys_memory_peak"),
    "utilization": ("nsys_gpu_counter", "nsys_utilization", "nsys_gpu_balance"),
    "capture": ("nsys_capture", "nsys_process"),
}

_SLICES = """
    select s.id, s.ts, s.dur, s.name, s.category, a.key,
      a.int_value, a.real_value, a.string_value
    from slice s join args a using (arg_set_id)
    where s.category in ('nsys.step', 'nsys.gap', 'nsys.process_gap') and a.value_type != 'null'
    order by s.id"""
_QUERIES = {
    "work": """
        select s.id, s.ts, s.dur, s.name, p.pid, extract_arg(t.dimension_arg_set_id, 'ugpu') as gpu
        from gpu_slice s join gpu_track t on t.id = s.track_id left join process p using (upid)
        order by s.id""",
    "counters": """
        select c.id, c.track_id, c.ts, c.value, t.name, t.type, g.gpu_id, t.unit, t.description
        from counter c join counter_track t on t.id = c.track_id
        left join gpu_counter_track g on g.id = t.id order by c.track_id, c.ts, c.id""",
    "metadata": "select name, int_value, str_value from metadata",
    "processes": "select upid, pid from process",
    "trace_end": "select trace_end() as ts",
}


@dataclass
class Asked:
    """A capture, what the package says of its trace, and what is in the trace.

    Attributes:
        rows: Of each view; times are the capture's.
        slices: Steps and gaps by category, with their arguments.
        trace: Other things of the trace.
    """

    path: Path
    shift: int
    oracle: Oracle
    rows: dict[str, list[Row]]
    slices: dict[str, list[Row]]
    trace: dict[str, list[Row]]

    def __getitem__(self, view: str) -> list[Row]:
        return self.rows[view]

    def cells(self, view: str, *columns: str) -> list[tuple[Any, ...]]:
        """Some columns of a view."""
        return [tuple(row[c] for c in columns) for row in self[view]]

    @property
    def left_out(self) -> bool:
        """Whether GPU work of the capture is not in the trace, since it cannot be shown."""
        return len(self.oracle.gpu_work) != len(self.trace["work"])


@functools.lru_cache(maxsize=len(RUNS) + 2)
def ask(name: str | Path, open_trace: OpenTrace) -> Asked:
    """A capture of the project by name, or a real one by path; each once. All gaps have slices."""
    return ask_now(name if isinstance(name, Path) else runs.scenario(name).path, open_trace)


def ask_now(path: Path, open_trace: OpenTrace, options: AnnotationOptions = EVERYTHING) -> Asked:
    """The same without keeping it."""
    with tempfile.NamedTemporaryFile(dir=runs.folder(), suffix=".pftrace") as output:
        result = convert(path, output.name, force=True, annotate=options)
        with open_trace(output.name, sql_packages=[PACKAGE]) as tp:
            trace = {name: query.frame(tp, sql).to_dicts() for name, sql in _QUERIES.items()}
            slices = _slices(query.frame(tp, _SLICES).to_dicts())
            rows = {}
            for module, views in VIEWS.items():
                query.rows(tp, f"INCLUDE PERFETTO MODULE nsys.{module}")
                for view in views:
                    rows[view] = query.frame(tp, f"SELECT * FROM {view}").to_dicts()
    for found in (*rows.values(), *slices.values(), trace["work"], trace["counters"]):
        for row in found:
            if row.get("ts") is not None:
                row["ts"] -= result.time_shift_ns
    trace["trace_end"][0]["ts"] -= result.time_shift_ns
    return Asked(path, result.time_shift_ns, Oracle(path), rows, slices, trace)


def _slices(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[int, Row] = {}
    for row in rows:
        key = re.sub(r"^(decode_step|gpu_gap|debug)\.", "", row["key"])
        place = {k: row[k] for k in ("id", "ts", "dur", "name", "category")}
        values = (row[c] for c in ("int_value", "real_value", "string_value"))
        found.setdefault(row["id"], place)[key] = next(v for v in values if v is not None)
    slices = defaultdict(list)
    for row in found.values():
        slices[row["category"]].append(row)
    return slices


def by_unit(asked: Asked) -> dict[tuple[int, int], list[Row]]:
    """All GPU work of the capture by process id (as the trace numbers it) and GPU."""
    units = defaultdict(list)
    for row in asked.oracle.gpu_work:
        units[pid(row["globalPid"]), row["gpu"]].append(row)
    return dict(units)
