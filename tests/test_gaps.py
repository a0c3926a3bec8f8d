"""Gaps against the nsys manual's own SQL, run by sqlite3, and against brute force."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsys2perfetto.analysis import gaps
from samples.builder import Capture, decode_run
from samples.builder.truth import bucket, busy_ns, idle_intervals

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = sorted((ROOT / "samples").glob("*.sqlite"))
KERNELS = "CUPTI_ACTIVITY_KIND_KERNEL"

# The manual's queries (MANUAL.zh.md, step 4) with ns in place of rounded ms.
ORDERED = """
WITH ordered AS (
  SELECT start, end, demangledName, ROW_NUMBER() OVER (ORDER BY start) as rn
  FROM CUPTI_ACTIVITY_KIND_KERNEL
),
gaps AS (
  SELECT (b.start - a.end) as gap_ns, a.demangledName as prev, b.demangledName as next
  FROM ordered a
  JOIN ordered b ON b.rn = a.rn + 1
)
"""
TOTAL = """
SELECT
  SUM(gap_ns),
  (SELECT SUM(end-start) FROM CUPTI_ACTIVITY_KIND_KERNEL),
  (SELECT MAX(end)-MIN(start) FROM CUPTI_ACTIVITY_KIND_KERNEL)
FROM gaps
"""
BUCKETS = """,
buckets AS (
  SELECT
    CASE
      WHEN gap_ns < 1000 THEN '  <1us'
      WHEN gap_ns < 5000 THEN ' 1-5us'
      WHEN gap_ns < 10000 THEN ' 5-10us'
      WHEN gap_ns < 50000 THEN '10-50us'
      WHEN gap_ns < 100000 THEN '50-100us'
      WHEN gap_ns < 1000000 THEN '0.1-1ms'
      ELSE '>1ms'
    END as bucket,
    gap_ns
  FROM gaps
)
SELECT TRIM(bucket), COUNT(*), SUM(gap_ns), 100.0*COUNT(*)/(SELECT COUNT(*) FROM gaps)
FROM buckets GROUP BY bucket
"""
LARGE = """
SELECT gap_ns, prev, next FROM gaps WHERE gap_ns > 1000000 ORDER BY gap_ns DESC
"""


def int64s(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


def read(connection, sql) -> list[np.ndarray]:
    found = connection.execute(sql).fetchall()
    width = len(found[0]) if found else 3
    return [int64s(r[i] for r in found) for i in range(width)]


def check_against_the_manual(path: Path) -> int:
    """Compares everything that the manual computes from kernels; returns how many there are."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if KERNELS not in tables:
            return 0
        start, end, name = read(
            connection, f"SELECT start, end, demangledName FROM {KERNELS} ORDER BY rowid"
        )
        total = connection.execute(ORDERED + TOTAL).fetchone()
        by_bucket = {b: rest for b, *rest in connection.execute(ORDERED + BUCKETS)}
        large = connection.execute(ORDERED + LARGE).fetchall()

    found = gaps.totals(start, end)
    assert (found.gap_ns, found.kernel_ns, found.wall_ns) == tuple(v or 0 for v in total)

    consecutive = gaps.consecutive(start, end)
    table = gaps.bucket_table(consecutive.gap)
    rows = zip(gaps.BUCKETS, table.count, table.total_ns, table.pct, strict=True)
    assert {b: [int(n), int(ns), float(pct)] for b, n, ns, pct in rows if n} == {
        b: [n, ns, pytest.approx(pct)] for b, (n, ns, pct) in by_bucket.items()
    }
    rows = gaps.longer_than(consecutive.gap, 1_000_000)
    mine = zip(
        consecutive.gap[rows].tolist(),
        name[consecutive.previous[rows]].tolist(),
        name[consecutive.next[rows]].tolist(),
        strict=True,
    )
    mine = list(mine)
    assert [g for g, _, _ in mine] == [g for g, _, _ in large]
    assert sorted(mine) == sorted(large)
    return len(start)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_samples_give_the_manuals_numbers(path):
    assert check_against_the_manual(path) == 1_528


def test_real_captures_give_the_manuals_numbers(capture):
    check_against_the_manual(capture)


runs = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 18),
        "warmup_steps": st.integers(0, 4),
        "layers": st.integers(1, 2),
        "prompt": st.integers(1, 96),
        "graph": st.booleans(),
        "seed": st.integers(0, 1 << 30),
    }
)


@given(runs)
@settings(max_examples=12, deadline=None)
def test_random_decode_runs_give_the_manuals_numbers_and_the_true_gaps(run):
    capture = Capture(schema="3.16.1", graph_nodes=run["graph"])
    truth = decode_run(capture, **run)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.sqlite"
        capture.write(path)
        assert check_against_the_manual(path) == len(truth.kernels)

    operations = truth.operations
    start, end = int64s(o.start for o in operations), int64s(o.end for o in operations)
    track = np.zeros(len(start), np.int64)
    found = gaps.idle(track, start, end)
    assert [
        (s, e, operations[p].name, operations[n].name, gaps.BUCKETS[b])
        for s, e, p, n, b in zip(
            found.start.tolist(),
            found.end.tolist(),
            found.previous,
            found.next,
            gaps.bucket(found.gap),
            strict=True,
        )
    ] == [(g.start, g.end, g.previous, g.next, g.bucket) for g in truth.gaps]
    balance = gaps.balance(track, start, end)
    assert balance.busy_ns[0] == busy_ns(operations, start.min(), end.max())
    assert balance.idle_ns[0] == found.gap.sum() == sum(g.end - g.start for g in truth.gaps)


# --- consecutive


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
@settings(max_examples=100)
def test_kernels_that_start_together_stay_in_the_order_of_the_table(rows):
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {KERNELS} (start INT, end INT, demangledName INT)")
        table = [(s, s + d, i) for i, (s, d) in enumerate(rows)]
        connection.executemany(f"INSERT INTO {KERNELS} VALUES (?, ?, ?)", table)
        expected = connection.execute(ORDERED + "SELECT gap_ns, prev, next FROM gaps").fetchall()
    start, end = int64s(r[0] for r in table), int64s(r[1] for r in table)
    found = gaps.consecutive(start, end)
    mine = zip(found.gap.tolist(), found.previous.tolist(), found.next.tolist(), strict=True)
    assert list(mine) == expected


def test_consecutive_gaps_of_each_gpu_of_its_own():
    start, end = int64s([0, 5, 20, 40]), int64s([10, 30, 22, 41])
    found = gaps.consecutive(start, end, int64s([1, 0, 1, 0]))
    assert found.gap.tolist() == [10, 10]
    assert found.previous.tolist() == [1, 0]
    assert found.next.tolist() == [3, 2]
    assert gaps.totals(start, end) == gaps.Totals(-5 - 10 + 18, 38, 41)


# --- idle

operation = st.tuples(st.sampled_from((0, 1, -(1 << 40))), st.integers(0, 60), st.integers(0, 9))


@given(st.lists(operation, max_size=25), st.sampled_from((0, 1_800_000_000_000_000_000)))
@settings(max_examples=300)
def test_idle_gaps_equal_brute_force(rows, shift):
    rows = [(k, s + shift, s + d + shift) for k, s, d in rows]
    track, start, end = (int64s(r[i] for r in rows) for i in range(3))
    found = gaps.idle(track, start, end)
    expected = []
    for key in sorted({k for k, _, _ in rows}):
        own = sorted((i for i, r in enumerate(rows) if r[0] == key), key=lambda i: (rows[i][1], i))
        reach = None
        for i in own:
            if reach is not None and rows[i][1] > reach:
                before = [j for j in own if rows[j][2] == reach and rows[j][1] <= reach]
                previous = max(before, key=lambda j: (rows[j][1], j))
                expected.append((key, reach, rows[i][1], previous, i))
            reach = rows[i][2] if reach is None else max(reach, rows[i][2])
    assert (
        list(
            zip(
                *(
                    column.tolist()
                    for column in (found.track, found.start, found.end, found.previous, found.next)
                ),
                strict=True,
            )
        )
        == expected
    )
    balance = gaps.balance(track, start, end)
    for i, key in enumerate(balance.track.tolist()):
        own = [r for r in rows if r[0] == key]
        assert balance.first[i] == min(r[1] for r in own)
        assert balance.last[i] == max(r[2] for r in own)
        assert found.gap[found.track == key].sum() == balance.idle_ns[i]
        assert balance.busy_ns[i] + balance.idle_ns[i] == balance.last[i] - balance.first[i]


def test_idle_gaps_of_real_captures_fill_the_window(capture):
    with closing(sqlite3.connect(f"file:{capture}?mode=ro", uri=True)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        work = [t for t in (KERNELS, KERNELS.replace("KERNEL", "MEMCPY")) if t in tables]
        if not work:
            pytest.skip("no GPU work")
        sql = " UNION ALL ".join(f"SELECT deviceId, start, end FROM {t}" for t in work)
        rows = connection.execute(sql).fetchall()
    track, start, end = (int64s(r[i] for r in rows) for i in range(3))
    found, balance = gaps.idle(track, start, end), gaps.balance(track, start, end)
    for i, gpu in enumerate(balance.track.tolist()):
        own = [Row(r[1], r[2]) for r in rows if r[0] == gpu]
        mine = found.track == gpu
        assert list(
            zip(found.start[mine].tolist(), found.end[mine].tolist(), strict=True)
        ) == idle_intervals(own)
        assert balance.busy_ns[i] == busy_ns(own, int(balance.first[i]), int(balance.last[i]))
        assert balance.busy_ns[i] + found.gap[mine].sum() == balance.last[i] - balance.first[i]


class Row:
    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end


def test_which_operations_a_gap_lies_between():
    #                 0        1        2         3         4
    start = int64s([0, 5, 30, 30, 60])
    end = int64s([20, 20, 40, 50, 70])
    track = np.zeros(5, np.int64)
    found = gaps.idle(track, start, end)
    assert found.previous.tolist() == [1, 3]  # of two that end together the latest started
    assert found.next.tolist() == [2, 4]  # of two that begin together the first row
    submitted = int64s([0, 0, 9, 8, 0])
    assert gaps.idle(track, start, end, submitted).next.tolist() == [3, 4]


def test_an_operation_without_duration_parts_a_gap():
    found = gaps.idle(int64s([0, 0, 0]), int64s([0, 15, 30]), int64s([10, 15, 40]))
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == [(10, 15), (15, 30)]


# --- buckets


@given(st.lists(st.integers(-5_000, 2_000_000)))
def test_buckets_are_those_of_the_reference(values):
    values = int64s([*values, 999, 1_000, 4_999, 5_000, 99_999, 100_000, 999_999, 1_000_000])
    assert [gaps.BUCKETS[b] for b in gaps.bucket(values)] == [bucket(v) for v in values.tolist()]
    table = gaps.bucket_table(values)
    assert table.count.sum() == len(values)
    assert table.total_ns.sum() == values.sum()
    assert table.pct.sum() == pytest.approx(100)


def test_no_kernel_at_all():
    none = int64s([])
    assert gaps.totals(none, none) == gaps.Totals(0, 0, 0)
    assert len(gaps.consecutive(none, none).gap) == 0
    assert len(gaps.idle(none, none, none)) == 0
    assert len(gaps.balance(none, none, none).track) == 0
    table = gaps.bucket_table(none)
    assert table.count.tolist() == [0] * 7
    assert table.pct.tolist() == [0.0] * 7


def test_a_million_gaps_cost_little():
    rng = np.random.default_rng(4)
    n = 1_000_000
    start = np.cumsum(rng.integers(5_000, 20_000, n))
    end = start + rng.integers(1_000, 5_000, n)
    order = rng.permutation(n)
    start, end, track = start[order], end[order], rng.integers(0, 8, n)
    began = time.process_time()
    found = gaps.idle(track, start, end)
    gaps.bucket_table(found.gap)
    gaps.totals(start, end)
    balance = gaps.balance(track, start, end)
    assert time.process_time() - began < 4
    assert found.gap.sum() == balance.idle_ns.sum()
