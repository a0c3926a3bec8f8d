"""What a capture holds does not depend on the order in which its rows are stored."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from collections import Counter

import pytest

from nsys2perfetto import convert
from nsys2perfetto.report import page, render, reports
from nsys2perfetto.report.opening import open_source
from tests import runs
from tests.loaded import Loaded, place, without_ids

NAMES = (
    *("same_run 3.24.0", "same_run 3.24.0 graph", "sync_zoo", "nvtx_zoo", "overlapping_calls"),
    *("overlapping_kernels", "unified_memory", "device_memory", "gpu_metrics", "eight_by_eight"),
)
"""Captures that have something of everything: equal starts, crossing ranges, waits, counters."""


def shuffled(path, target, seed):
    """A copy with the rows of every table in another order."""
    rng = random.Random(seed)
    shutil.copy(path, target)
    with contextlib.closing(sqlite3.connect(target)) as db:
        db.text_factory = bytes
        found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in [(name.decode(),) for (name,) in found]:
            info = db.execute(f"PRAGMA table_info({table})").fetchall()
            rows = db.execute(f"SELECT * FROM {table}").fetchall()
            rng.shuffle(rows)
            db.execute(f"DELETE FROM {table}")
            marks = ", ".join("CAST(? AS TEXT)" if c[2] == b"TEXT" else "?" for c in info)
            db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        db.commit()
    return target


@pytest.fixture(params=NAMES)
def pair(request, tmp_path):
    """A capture, and the same in another order."""
    path = runs.scenario(request.param).path
    return path, shuffled(path, tmp_path / path.name, request.param)


def everything(path, target, open_trace):
    """A trace as things that can be counted: slices, arrows, counters, what is said of it."""
    found = Loaded(convert(path, target).output, open_trace)
    slices = ((tuple(s.values()), tuple(sorted(without_ids(a).items()))) for s, a in found.slices)
    # Two calls of equal name and times lie in each other, either in the other.
    arrows = (tuple(place(end) for end in arrow) for arrow in found.arrows)
    return {
        "slices": Counter(slices),
        "arrows": Counter(arrows),
        "counters": Counter(found.counters),
        "metadata": Counter(k for k in found.metadata.items() if k[0] != "trace_uuid"),
    }


def test_traces(pair, tmp_path, open_trace):
    one, other = (
        everything(path, tmp_path / f"{n}.pftrace", open_trace) for n, path in enumerate(pair)
    )
    for what, expected in one.items():
        assert not expected - other[what], (what, list((expected - other[what]).items())[:3])
        assert not other[what] - expected, (what, list((other[what] - expected).items())[:3])


def test_reports(pair):
    texts = []
    for path in pair:
        with open_source(path) as tables:
            texts.append(json.loads(render.as_json(page.build(tables, reports.Options()))))
    for text in texts:
        # Of the manual's gaps: kernels that start together come in the order of their rows.
        del text["big_gaps"], text["verdict"]
        for name in ("gap_total", "gap_buckets"):
            text[name] = [row for row in text[name] if row["definition"] != "consecutive"]
    assert texts[0] == texts[1]
