"""The views of the SQL package as rows, beside the oracle of the capture that they are of."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nsys2perfetto import convert
from nsys2perfetto.sql import PACKAGE
from tests import runs
from tests.conftest import OpenTrace
from tests.engine import query
from tests.oracle import Oracle, Row

_SCHEMAS = ("2020.4", "3.16.1", "3.25.0")

VIEWS = {
    "kernels": ("nsys_kernel", "nsys_kernel_summary", "nsys_kernel_summary_full"),
    "api": ("nsys_api_call", "nsys_api_summary", "nsys_sync", "nsys_sync_summary"),
    "copies": ("nsys_copy", "nsys_copy_summary"),
    "nvtx": ("nsys_nvtx_range", "nsys_nvtx_kernel", "nsys_nvtx_summary"),
}
RUNS = [
    name for name in runs.RUNS if not name.startswith("same_run") or name.split()[1] in _SCHEMAS
]
"""Captures of the project: all scenarios and samples, and the same run in a few schemas."""

_TIMES = ("ts", "launch_ts", "cpu_ts")
_IDS = 0xFFFFFF


@dataclass
class Asked:
    """A capture and the answers of its trace.

    Attributes:
        rows: View to its rows. Times are the capture's, process and thread ids the system's.
    """

    path: Path
    shift: int
    oracle: Oracle
    rows: dict[str, list[Row]] = field(default_factory=dict)

    def __getitem__(self, view: str) -> list[Row]:
        return self.rows[view]

    def slices(self, view: str, *columns: str) -> list[tuple[Any, ...]]:
        """Some columns of a view."""
        return [tuple(row[c] for c in columns) for row in self[view]]


@functools.lru_cache(maxsize=len(runs.RUNS) + 2)
def ask(name: str | Path, open_trace: OpenTrace) -> Asked:
    """A capture of the project by name, or a real one by path: converted, and all views asked."""
    path = name if isinstance(name, Path) else runs.scenario(name).path
    output = runs.folder() / f"{path.stem} views.pftrace"
    result = convert(path, output, force=True)
    asked = Asked(path, result.time_shift_ns, Oracle(path))
    with open_trace(output, sql_packages=[PACKAGE]) as tp:
        for module, views in VIEWS.items():
            query.rows(tp, f"INCLUDE PERFETTO MODULE nsys.{module}")
            for view in views:
                rows = query.frame(tp, f"SELECT * FROM {view}").to_dicts()
                asked.rows[view] = [_as_captured(row, asked.shift) for row in rows]
    output.unlink()
    return asked


def _as_captured(row: Row, shift: int) -> Row:
    for time in _TIMES:
        if row.get(time) is not None:
            row[time] -= shift
    for number in ("pid", "tid"):
        if row.get(number) is not None:
            row[number] &= _IDS
    return row


def close(found: Sequence[Row], expected: Sequence[Row]) -> None:
    """Fails unless rows are the same in the same order, numbers with a fraction nearly."""
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        for column, value in wanted.items():
            fraction = isinstance(value, float)
            number = pytest.approx(value, rel=1e-9, abs=1e-6) if fraction else value
            assert row[column] == number, (column, row, wanted)


def by(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some columns."""
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[k] for k in keys)].append(row)
    return dict(found)
