"""Projection of NVTX ranges onto the GPU, against brute force and NVIDIA's own reports."""

from __future__ import annotations

import csv
import sqlite3
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsys2perfetto.analysis.nvtx_projection import Launches, project

CAPTURES = Path(__file__).parent.parent.parent / "shared" / "captures"
REPORT = ".nvtx_gpu_proj_sum.csv"


def int64s(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


def launches(rows) -> Launches:
    """Launches from tuples (thread, start, end, first_op_start, last_op_end, op_count)."""
    return Launches(*(int64s(row[i] for row in rows) for i in range(6)))


def ranges(rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return int64s(r[0] for r in rows), int64s(r[1] for r in rows), int64s(r[2] for r in rows)


def brute_force(range_rows, call_rows) -> list[tuple[int, int, int, int]]:
    answer = []
    for thread, start, end in range_rows:
        inside = [c for c in call_rows if c[0] == thread and c[1] >= start and c[2] <= end]
        first = min((c[3] for c in inside), default=-1)
        last = max((c[4] for c in inside), default=-1)
        answer.append((first, last, sum(c[5] for c in inside), len(inside)))
    return answer


def table(projection) -> list[tuple[int, int, int, int]]:
    columns = (projection.start, projection.end, projection.op_count, projection.call_count)
    return list(zip(*(c.tolist() for c in columns), strict=True))


span = st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(0, 8)).map(
    lambda row: (row[0], row[1], row[1] + row[2])
)
call = st.tuples(span, st.integers(0, 50), st.integers(0, 9), st.integers(1, 4)).map(
    lambda row: (*row[0], row[1], row[1] + row[2], row[3])
)


@given(st.lists(span, max_size=20), st.lists(call, max_size=20))
@settings(max_examples=500)
def test_equals_brute_force_for_any_overlap(range_rows, call_rows):
    found = table(project(*ranges(range_rows), launches(call_rows)))
    assert found == brute_force(range_rows, call_rows)


def test_a_call_on_another_thread_or_across_the_border_does_not_count():
    rows = [(1, 0, 100), (1, 200, 300)]
    calls = [
        (1, 10, 20, 1000, 1100, 1),
        (1, 90, 101, 1200, 1300, 1),  # ends after the range
        (1, 199, 210, 1400, 1500, 1),  # begins before the range
        (2, 30, 40, 1600, 1700, 1),
        (1, 220, 300, 1800, 2500, 12),  # one graph launch, twelve nodes
    ]
    assert table(project(*ranges(rows), launches(calls))) == [
        (1000, 1100, 1, 1),
        (1800, 2500, 12, 1),
    ]


def test_launching_calls_inside_of_launching_calls():
    rows = [(1, 0, 55), (1, 15, 55), (1, 0, 100)]
    calls = [(1, 0, 90, 500, 600, 3), (1, 20, 50, 400, 450, 1), (1, 52, 58, 1, 2, 1)]
    assert table(project(*ranges(rows), launches(calls))) == [
        (400, 450, 1, 1),
        (400, 450, 1, 1),
        (1, 600, 5, 3),
    ]


def test_nothing_to_project():
    none = ranges([])
    assert table(project(*none, launches([(1, 0, 1, 2, 3, 1)]))) == []
    assert table(project(*ranges([(1, 0, 10)]), launches([]))) == [(-1, -1, 0, 0)]


def test_utc_times_and_negative_thread_ids():
    base = 1_800_000_000_000_000_000
    rows = [(-5, base, base + 10), (2**62, base, base + 10), (7, -base, base)]
    calls = [(-5, base + 1, base + 2, base + 3, base + 4, 1), (2**62, base, base + 10, 5, 6, 2)]
    assert table(project(*ranges(rows), launches(calls))) == brute_force(rows, calls)


@pytest.mark.parametrize("shape", ["nested", "crossing", "flat"])
def test_many_calls_stay_fast(shape):
    n = 100_000
    i = np.arange(n, dtype=np.int64)
    start, end = {
        "nested": (i, 2 * n - i),
        "crossing": (i, i + n),
        "flat": (10 * i, 10 * i + 5),
    }[shape]
    thread = np.zeros(n, dtype=np.int64)
    calls = Launches(thread, start, end, end + 7, end + 9, np.ones(n, dtype=np.int64))
    rng = np.random.default_rng(5)
    lo = rng.integers(0, 10 * n, n)
    hi = lo + rng.integers(0, 10 * n, n)
    began = time.process_time()
    found = project(thread, lo, hi, calls)
    assert time.process_time() - began < 20
    for row in rng.integers(0, n, 50):
        inside = (start >= lo[row]) & (end <= hi[row])
        assert found.call_count[row] == inside.sum()
        if inside.any():
            assert found.start[row] == end[inside].min() + 7
            assert found.end[row] == end[inside].max() + 9


# --- against NVIDIA's report


def oracle_captures() -> list[str]:
    return sorted(p.name.removesuffix(REPORT) for p in (CAPTURES / "oracle").glob("*" + REPORT))


@pytest.mark.parametrize("name", oracle_captures() or ["(none)"])
def test_equals_nvidias_own_projection(name):
    if name == "(none)":
        pytest.skip("no captures beside the repository")
    with (CAPTURES / "oracle" / (name + REPORT)).open(newline="") as file:
        expected = {(row["Range"], row["Style"]): row for row in csv.DictReader(file)}
    uri = f"file:{CAPTURES / name}.sqlite?mode=ro&immutable=1"
    with sqlite3.connect(uri, uri=True) as db:
        db.text_factory = lambda data: data.decode(errors="replace")
        names, styles, spans, calls = read_capture(db)
    found = project(*spans, calls)
    groups: dict[tuple[str, str], list[int]] = {}
    for row in np.flatnonzero(found.op_count > 0):
        groups.setdefault((names[row], styles[row]), []).append(int(row))
    assert groups.keys() == expected.keys()
    for key, rows in groups.items():
        durations = (found.end - found.start)[rows].tolist()
        report = expected[key]
        assert len(rows) == int(report["Range Instances"]), key
        assert sum(durations) == int(report["Total Proj Time (ns)"]), key
        assert sum((spans[2] - spans[1])[rows]) == int(report["Total Range Time (ns)"]), key
        assert sum(found.op_count[rows]) == int(report["Total GPU Ops"]), key
        assert min(durations) == int(report["Proj Min (ns)"]), key
        assert max(durations) == int(report["Proj Max (ns)"]), key
        assert statistics.median(durations) == pytest.approx(
            float(report["Proj Med (ns)"]), abs=0.06
        )


def read_capture(db: sqlite3.Connection):
    """Names, styles and spans of the ranges that NVIDIA projects, and the launching calls."""
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    domains = {
        (pid, domain): text
        for pid, domain, text in db.execute(
            "SELECT globalTid >> 24, domainId, coalesce(s.value, text) FROM NVTX_EVENTS"
            " LEFT JOIN StringIds s ON s.id = textId WHERE eventType = 75"
        )
    }
    last = 0
    for part in sorted(tables & {"NVTX_EVENTS", "CUPTI_ACTIVITY_KIND_RUNTIME"}):
        last = max(
            last, *db.execute(f"SELECT max(start), max(coalesce(end, 0)) FROM {part}").fetchone()
        )
    names, styles, spans = [], [], []
    for thread, start, end, kind, domain, text in db.execute(
        "SELECT globalTid, start, end, eventType, domainId, coalesce(s.value, text, '')"
        " FROM NVTX_EVENTS LEFT JOIN StringIds s ON s.id = textId"
        " WHERE eventType IN (59, 60, 70, 71) AND endGlobalTid IS NULL"
    ):
        prefix = domains.get((thread >> 24, domain), "")
        names.append(f"{prefix}:{text}" if prefix else text)
        styles.append("PushPop" if kind in (59, 70) else "StartEnd")
        spans.append((thread, start, last if end is None else end))
    ops = " UNION ALL ".join(
        f"SELECT start, end, correlationId AS c, globalPid AS p FROM CUPTI_ACTIVITY_KIND_{kind}"
        for kind in ("KERNEL", "MEMCPY", "MEMSET")
        if f"CUPTI_ACTIVITY_KIND_{kind}" in tables
    )
    calls = db.execute(
        f"WITH ops AS MATERIALIZED ({ops}) "
        "SELECT r.globalTid, r.start, r.end, min(ops.start), max(ops.end), count(*)"
        " FROM ops JOIN CUPTI_ACTIVITY_KIND_RUNTIME r ON r.correlationId = c"
        " AND (r.globalTid & -16777216) = p GROUP BY r.rowid"
    ).fetchall()
    return names, styles, ranges(spans), launches(calls)
