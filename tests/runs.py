"""Captures converted once each: the file, its oracle, and what the engine says of the trace."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nsys2perfetto import convert
from nsys2perfetto.result import Conversion
from samples.builder import PRODUCTS
from samples.builder.scenarios import SCENARIOS, Scenario, same_run
from tests.conftest import OpenTrace
from tests.engine import query
from tests.oracle import Oracle, Row

SAMPLES = ("decode_eager", "decode_graph")
RUNS = (
    *SCENARIOS,
    *(f"same_run {schema}{graph}" for schema in PRODUCTS for graph in ("", " graph")),
    *SAMPLES,
)
"""Ids of all captures that the project makes itself."""

_SAMPLES_FOLDER = Path(__file__).parent.parent / "samples"

_QUERIES = {
    "gpu": """
        select s.id, s.ts, s.dur, s.name, s.arg_set_id, s.render_stage_category as stage,
          s.hw_queue_id as queue, s.context_id as context, s.track_id, s.depth, p.pid,
          t.name as track, extract_arg(t.dimension_arg_set_id, 'ugpu') as gpu,
          extract_arg(s.arg_set_id, 'description') as kind
        from gpu_slice s join gpu_track t on s.track_id = t.id left join process p using (upid)
        order by s.id""",
    "cpu": """
        select s.id, s.ts, s.dur, s.name, s.arg_set_id, s.depth, s.parent_id, s.category,
          s.track_id, t.name as track, t.type as track_type, thread.tid,
          coalesce(p.pid, q.pid) as pid
        from slice s join track t on s.track_id = t.id
        left join thread_track tt on tt.id = t.id left join thread using (utid)
        left join process p on p.upid = thread.upid
        left join process_track pt on pt.id = t.id left join process q on q.upid = pt.upid
        where s.id not in (select id from gpu_slice) order by s.id""",
    "flows": "select slice_out, slice_in from flow order by id",
    "processes": "select pid, name from process where upid > 0",
    "threads": """
        select p.pid, t.tid, t.name from thread t left join process p using (upid)
        where utid > 0""",
    "samples": """
        select s.ts, s.cpu, s.cpu_mode, s.callsite_id, t.tid, p.pid from perf_sample s
        join thread t using (utid) join process p using (upid) order by s.id""",
    "chains": """
        select c.id, c.parent_id, f.name, m.name as module from stack_profile_callsite c
        join stack_profile_frame f on f.id = c.frame_id
        join stack_profile_mapping m on m.id = f.mapping""",
    "gpus": "select * from gpu order by ugpu",
    "metadata": "select name, int_value, str_value from metadata",
    "clocks": "select ts, clock_name, clock_value from clock_snapshot",
    "args": """
        select arg_set_id, key, value_type, int_value, string_value, real_value from args
        where value_type != 'null' order by arg_set_id, id""",
}


class Trace:
    """Everything that the engine knows of a trace, as rows."""

    def __init__(self, path: Path | bytes, open_trace: OpenTrace) -> None:
        with open_trace(path) as tp:
            self.losses = query.losses(tp)
            frames = {name: query.frame(tp, sql) for name, sql in _QUERIES.items()}
            middle = "select ts, to_realtime(ts) as utc from slice order by ts limit 50"
            self.utc = query.rows(tp, middle)
        self.gpu, self.cpu, self.flows, self.processes, self.threads, self.samples, *rest = (
            frame.to_dicts() for frame in frames.values()
        )
        chains, self.gpus, metadata, self.clocks, args = rest
        self._callsites = {row["id"]: row for row in chains}
        for row in (*self.gpu, *self.cpu, *self.processes, *self.threads, *self.samples):
            # Above bit 24 the tool tells processes and threads of equal number apart.
            row |= {k: row[k] & 0xFFFFFF for k in ("pid", "tid") if row.get(k) is not None}
        self.metadata: dict[str, Any] = {
            r["name"]: r["str_value"] if r["int_value"] is None else r["int_value"]
            for r in metadata
        }
        self._args: dict[int, dict[str, Any]] = defaultdict(dict)
        for a in args:
            value = next(
                (a[c] for c in ("int_value", "string_value", "real_value") if a[c] is not None),
                None,
            )
            if a["value_type"] == "uint" and value is not None and value < 0:
                value += 1 << 64  # the engine's column is signed
            self._args[a["arg_set_id"]][a["key"]] = value

    def args(self, row: Row) -> dict[str, Any]:
        """The arguments of a slice, by name."""
        return self._args.get(row["arg_set_id"], {})

    def chain(self, callsite: int | None) -> list[tuple[str, str]]:
        """Function and module of each frame of a sample's call chain, the outermost first."""
        found = []
        while callsite is not None:
            row = self._callsites[callsite]
            found.append((row["name"], row["module"].removeprefix("/")))
            callsite = row["parent_id"]
        return found[::-1]

    def argument_names(self) -> set[str]:
        """Every name that an argument with a value has, and the last part of each."""
        found = {k for args in self._args.values() for k, v in args.items() if v is not None}
        return found | {k.rsplit(".", 1)[-1] for k in found}

    @cached_property
    def by_id(self) -> dict[int, Row]:
        """All slices."""
        return {row["id"]: row for row in (*self.gpu, *self.cpu)}

    def calls(self, *categories: str) -> list[Row]:
        """CPU slices of some categories."""
        return [row for row in self.cpu if row["category"] in categories]


@dataclass
class Run:
    """A capture and its trace.

    Attributes:
        facts: What the scenario's builder knows about it.
    """

    path: Path
    facts: dict[str, Any]
    result: Conversion
    trace: Trace

    @cached_property
    def oracle(self) -> Oracle:
        """The capture in plain SQL."""
        return Oracle(self.path)

    @property
    def shift(self) -> int:
        """ns added to every timestamp."""
        return self.result.time_shift_ns


@functools.cache
def folder() -> Path:
    """A temporary folder for this process's captures and traces."""
    path = Path(tempfile.mkdtemp(prefix="nsys2perfetto-tests-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def scenario(name: str) -> Scenario:
    """Builds a scenario, or `same_run SCHEMA [graph]`, or copies a sample."""
    if name in SAMPLES:
        path = Path(shutil.copy(_SAMPLES_FOLDER / f"{name}.sqlite", folder()))
        return Scenario(path, "3.16.1", {})
    if name.startswith("same_run "):
        _, schema, *graph = name.split()
        return same_run(folder(), schema, graph=bool(graph))
    return SCENARIOS[name](folder())


@functools.cache
def load(name: str, open_trace: OpenTrace) -> Run:
    """A capture of the project, converted and loaded; each once a process."""
    made = scenario(name)
    result = convert(made.path)
    return Run(made.path, made.facts, result, Trace(result.output, open_trace))


@functools.lru_cache(maxsize=2)
def load_capture(path: Path, open_trace: OpenTrace) -> Run:
    """The same for a real capture."""
    result = convert(path, folder() / f"{path.stem}.pftrace", force=True)
    return Run(path, {}, result, Trace(result.output, open_trace))


def converted(capture: Path, open_trace: OpenTrace, **options: Any) -> Run:
    """Converts a capture with options, under a name of its own."""
    with tempfile.NamedTemporaryFile(dir=folder(), suffix=".pftrace") as output:
        result = convert(capture, output.name, force=True, **options)
        return Run(capture, {}, result, Trace(Path(output.name), open_trace))


def edited(path: Path, *tables: str, script: str = "") -> Path:
    """Rewrites tables of a capture without their constraints, then runs SQL on it."""
    with contextlib.closing(sqlite3.connect(path)) as sql:
        for table in tables:
            sql.executescript(
                f"create table loose as select * from {table}; drop table {table};"
                f"alter table loose rename to {table};"
            )
        sql.executescript(script)
    return path


def same(found: Iterable[Any], expected: Iterable[Any], what: str = "rows") -> None:
    """Fails unless both hold the same things equally often, naming a few that differ."""
    left, right = Counter(found), Counter(expected)
    missing, extra = right - left, left - right
    assert not missing and not extra, (
        f"{what}: {missing.total()} of {right.total()} missing, {extra.total()} too many\n"
        f"  missing: {list(missing)[:4]}\n  too many: {list(extra)[:4]}"
    )
