"""nsys exports as the tables that decode steps are found in, read in the plainest way."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import polars as pl

from nsys2perfetto.analysis import markers
from nsys2perfetto.analysis import steps as st
from nsys2perfetto.analysis.intervals import union
from nsys2perfetto.analysis.nvtx_projection import Launches, project
from nsys2perfetto.analysis.step_measure import Timed, measure
from tests.step_loops import int64s

PROCESS = ~0xFFFFFF  # of a globalTid


def load(path, patterns=()) -> SimpleNamespace:
    """All that `find_steps` and `measure` want to know of an nsys export, in the plainest way."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    db.text_factory = lambda raw: raw.decode(errors="replace")
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    strings = dict(db.execute("SELECT id, value FROM StringIds")) if "StringIds" in tables else {}

    def read(table, *columns):
        if table not in tables:
            return []
        there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        wanted = ", ".join(c if c in there else f"NULL AS {c}" for c in columns)
        return db.execute(f"SELECT {wanted} FROM {table}").fetchall()

    def column(rows, i):
        return int64s(-1 if row[i] is None else row[i] for row in rows)

    units: dict[tuple[int, int], int] = {}
    work = ("start", "end", "globalPid", "deviceId", "correlationId", "graphNodeId")
    shape = ("gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ")
    prefix = "CUPTI_ACTIVITY_KIND_"
    kernels = read(prefix + "KERNEL", *work, "shortName", "demangledName", "mangledName", *shape)
    copies = read(prefix + "MEMCPY", *work, "copyKind", "bytes")
    sets = read(prefix + "MEMSET", *work)
    graphs = read(prefix + "GRAPH_TRACE", *work[:5], "graphId")
    unit = [
        int64s(units.setdefault((row[2] or 0, row[3]), len(units)) for row in rows)
        for rows in (kernels, copies, sets, graphs)
    ]
    configs: dict[tuple, int] = {}
    config = np.array([configs.setdefault(row[6:], len(configs)) for row in kernels], np.uint32)
    names = markers.KernelNames(
        *([strings.get(c[i]) for c in configs] for i in range(3)),
        shapes=pl.DataFrame([c[3:] for c in configs], schema=shape, orient="row"),
    )
    start, end, correlation, node = (
        np.concatenate([column(rows, i) for rows in (kernels, copies, sets, graphs)])
        for i in (0, 1, 4, 5)
    )
    operations = Timed(np.concatenate(unit), start, end)
    in_graph = (node > 0) & (np.arange(len(node)) < len(node) - len(graphs))
    nodes = st.replays_of(
        operations.track[in_graph], correlation[in_graph], node[in_graph] >> 32, start[in_graph],
        end[in_graph],
    )  # fmt: skip
    graph = np.unique(np.append(nodes.graph, column(graphs, 5)), return_inverse=True)[1]
    replays = st.Replays(
        np.append(nodes.unit, unit[3]), graph.astype(np.int64),
        np.append(nodes.start, column(graphs, 0)), np.append(nodes.end, column(graphs, 1)),
        np.append(nodes.whole, np.ones(len(graphs), np.bool_)),
    )  # fmt: skip
    out = np.flatnonzero(column(copies, 6) == 2)
    calls = read(prefix + "RUNTIME", "start", "end", "globalTid", "correlationId", "nameId")
    pids = sorted({pid for pid, _ in units})

    def of_process(rows):
        kept = [row for row in rows if row[2] & PROCESS in pids]
        track = int64s(pids.index(row[2] & PROCESS) for row in kept)
        return Timed(track, column(kept, 0), column(kept, 1))

    submitted = set(zip([row[2] for rows in (kernels, copies, sets, graphs) for row in rows],
                        correlation.tolist(), strict=True))  # fmt: skip
    return SimpleNamespace(
        tables={
            "kernels": st.Kernels(unit[0], column(kernels, 0), column(kernels, 1), config, names),
            "operation_unit": operations.track,
            "operation_start": start,
            "replays": replays,
            "copies": st.Copies(
                unit[1][out], *(column(copies, i)[out] for i in (0, 1, 7)),
            ),
            "ranges": _ranges(db, tables, strings, units, operations, correlation, calls, patterns),
        },
        kernels=Timed(unit[0], column(kernels, 0), column(kernels, 1)),
        operations=operations,
        calls={
            "process": int64s(pids.index(pid) for pid, _ in units),
            "launches": of_process([c for c in calls if (c[2] & PROCESS, c[3]) in submitted]),
            "synchronisations": of_process(
                [c for c in calls if "Synchronize" in strings.get(c[4], "")]
            ),
            "copies": Timed(unit[1], column(copies, 0), column(copies, 1)),
            "copy_bytes": column(copies, 7),
        },
        units=units,
    )  # fmt: skip


def _ranges(db, tables, strings, units, operations, correlation, calls, patterns):
    rows = []
    if "NVTX_EVENTS" in tables:
        rows = [
            (start, end, tid, strings.get(text_id) or text or "")
            for start, end, tid, text, text_id in db.execute(
                "SELECT start, end, globalTid, text, textId FROM NVTX_EVENTS "
                "WHERE eventType IN (59, 60) AND end IS NOT NULL"
            )
        ]
    distinct = pl.Series(sorted({row[3] for row in rows}), dtype=pl.String)
    wanted = markers.step_ranges(distinct, patterns)
    code = {name: i for i, name in enumerate(distinct)}
    parts = [int64s(())] * 8
    for (pid, _), unit in units.items():
        span = defaultdict(list)
        for i in np.flatnonzero(operations.track == unit):
            span[int(correlation[i])].append((operations.start[i], operations.end[i]))
        own = [c for c in calls if c[2] & PROCESS == pid and c[3] in span]
        launches = Launches(
            int64s(c[2] for c in own), int64s(c[0] for c in own), int64s(c[1] for c in own),
            int64s(min(s for s, _ in span[c[3]]) for c in own),
            int64s(max(e for _, e in span[c[3]]) for c in own),
            int64s(len(span[c[3]]) for c in own),
        )  # fmt: skip
        mine = [r for r in rows if r[2] & PROCESS == pid and wanted[code[r[3]]]]
        start, end, thread = (int64s(r[i] for r in mine) for i in range(3))
        on_gpu = project(thread, start, end, launches)
        new = (np.full(len(mine), unit), thread, int64s(code[r[3]] for r in mine), start, end,
               on_gpu.start, on_gpu.end, on_gpu.op_count)  # fmt: skip
        parts = [np.append(old, more) for old, more in zip(parts, new, strict=True)]
    return st.Ranges(*parts, names=distinct)


def found_in(loaded, rule=st.AUTO, patterns=(), warmup=None):
    return st.find_steps(**loaded.tables, request=st.Request(rule, tuple(patterns), warmup))


def measured(loaded, steps):
    ops = loaded.operations
    return measure(steps, loaded.kernels, union(ops.track, ops.start, ops.end), **loaded.calls)
