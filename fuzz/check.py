"""What must hold for every file: one clear line, or a trace in which nothing is missing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import sqlite3
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from fuzz import engine
from fuzz.case import Case
from nsys2perfetto import convert
from nsys2perfetto.cli import main as command
from nsys2perfetto.errors import Nsys2PerfettoError
from nsys2perfetto.nsys.events import EARLIEST, LATEST
from nsys2perfetto.result import Conversion, FamilyCount
from nsys2perfetto.tables import TABLES

CATEGORIES = {
    "cuda_api": ("cuda_runtime", "cuda_driver"),
    "nvtx": ("nvtx",),
    "cublas": ("cublas",),
    "cudnn": ("cudnn",),
    "mpi": ("mpi",),
    "ucx": ("ucx",),
    "openacc": ("openacc",),
    "osrt": ("osrt",),
    "cuda_graph": ("cuda_graph",),
    "overhead": ("cuda_overhead", "profiler_overhead"),
    "cuda_wait": ("cuda_wait",),
    "message": ("nsys.message",),
}
"""Family to the categories of its slices."""
GPU_FAMILIES = ("kernel", "memcpy", "memset", "graph")
SPANS = (
    *GPU_FAMILIES, "cuda_api", "nvtx", "cublas", "cudnn", "mpi", "ucx", "openacc", "osrt",
    "cuda_graph", "overhead",
)  # fmt: skip
"""Families whose events have a start and an end, each a slice."""
_EVENTS = {"nvtx": "eventType IN (34, 59, 60, 70, 71)", "osrt": "eventClass NOT IN (31, 32)"}
"""Which rows of a table are events of the family."""
_SLICES = _EVENTS | {"nvtx": "eventType IN (59, 60, 70, 71)"}
"""Which of them have an end."""
_NEEDED = {"nvtx": ("start", "eventType")}
"""Columns without which nothing can be said of a table."""
_COLOURS = re.compile(r"\x1b\[\d+(;\d+)*m")


class _Terminal(io.StringIO):
    """Standard output that a person looks at: everything must be printable, CSV too."""

    def isatty(self) -> bool:
        return True


class Timeout(BaseException):
    """A case takes too long."""


def run(case: Case, found: list[str]) -> str:
    """Converts a case and looks at it in every way.

    Args:
        case: What to convert.
        found: Everything that is wrong with how it is treated is added here.

    Returns:
        `converted`, or `refused` with a message.
    """
    folder = case.path.parent
    before = _listing(folder)
    trace = folder / "case.pftrace"
    result = _guarded(found, "convert", lambda: _converted(case, trace, found))
    if result is not None:
        _guarded(found, "engine", lambda: _check_trace(case, result, trace, found))
        trace.unlink(missing_ok=True)
    elif trace.exists():
        found.append("a trace is left of a conversion that failed")
        trace.unlink()
    for words in case.commands:
        _guarded(found, f"nsys2perfetto {' '.join(words)}", partial(_said, case, words, found))
    trace.unlink(missing_ok=True)
    if (after := _listing(folder)) != before:
        found.append(f"files changed: {sorted(set(after.items()) ^ set(before.items()))}")
    return "refused" if result is None else "converted"


def _listing(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def _guarded(
    found: list[str], what: str, action: Callable[[], Conversion | None]
) -> Conversion | None:
    """Runs a step; what it raises is a problem, be it an exception or a panic of Polars."""
    try:
        return action()
    except Timeout:
        found.append(f"{what}: takes too long\n{traceback.format_exc()}")
        raise
    except KeyboardInterrupt:
        raise
    except BaseException:
        found.append(f"{what}: {traceback.format_exc()}")
    return None


def _converted(case: Case, trace: Path, found: list[str]) -> Conversion | None:
    try:
        return convert(case.path, trace, **case.options)
    except Nsys2PerfettoError as error:
        if not str(error).isprintable() or not str(error):
            found.append(f"the message is no printable line: {str(error)!r}")
        return None


def _check_trace(case: Case, result: Conversion, trace: Path, found: list[str]) -> None:
    """Compares what was read, what the result says, and what the engine has."""
    seen = engine.look(trace)
    found += [f"the engine lost something: {loss}" for loss in seen.losses]
    families = {f.family: f for f in result.families}
    for f in families.values():
        if f.read != f.written + f.joined + sum(f.left_out.values()):
            found.append(f"the counts do not add up: {f}")
    written = sum(f.written for f in families.values() if f.family in GPU_FAMILIES)
    if written != seen.gpu.total():
        found.append(f"{written} GPU events are {seen.gpu.total()} in the engine")
    for family, categories in CATEGORIES.items():
        count = families[family].written if family in families else 0
        there = sum(seen.slices[c].total() for c in categories if c in seen.slices)
        if count != there:
            found.append(f"{family}: {count} written, {there} in the engine")
    if result.arrows + result.derived.get("wake_up", 0) != seen.flows and not seen.too_deep:
        found.append(f"{result.arrows} arrows are {seen.flows} in the engine")
    if case.sound:
        _check_rows(case, result, families, seen, found)


def _check_rows(
    case: Case,
    result: Conversion,
    families: dict[str, FamilyCount],
    seen: engine.Seen,
    found: list[str],
) -> None:
    """What SQLite itself says of the rows, where it can be asked."""
    uri = f"file:{quote(str(case.path))}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        for family, f_tables in TABLES.items():
            f = families.get(family)
            count = f.read + f.filtered if f else 0
            where, slices = _EVENTS.get(family, "1"), _SLICES.get(family, "1")
            rows, expected = 0, Counter[tuple[int, int]]()
            for table in f_tables:
                with contextlib.suppress(sqlite3.Error):
                    if _has(db, table, *_NEEDED.get(family, ())):
                        sql = f'SELECT count(*) FROM "{table}" WHERE {where}'
                        rows += db.execute(sql).fetchone()[0]
                    if _has(db, table, "start", "end"):
                        expected.update(_spans(db, table, slices, result.time_shift_ns))
            if rows and family in SPANS and rows != count:
                found.append(f"{family}: {rows} rows, but {f}")
            if not case.options and family in SPANS:
                there = seen.gpu if family in GPU_FAMILIES else _of(seen, CATEGORIES[family])
                if missing := expected - there:
                    found.append(f"{family}: missing {list(missing.items())[:5]}")


def _of(seen: engine.Seen, categories: Sequence[str]) -> engine.Spans:
    """The slices of some categories."""
    total: engine.Spans = Counter()
    for category in categories:
        total.update(seen.slices.get(category, Counter()))
    return total


def _spans(db: sqlite3.Connection, table: str, where: str, shift: int) -> Iterator[tuple[int, int]]:
    """(start, duration) of a table's sound rows, as the trace has them."""
    rows = db.execute(
        f'SELECT s, e FROM (SELECT CAST(start AS INTEGER) AS s, CAST("end" AS INTEGER) AS e '
        f'FROM "{table}" WHERE {where}) '
        f"WHERE s > {EARLIEST} AND s < {LATEST} AND e < {LATEST} AND e >= s"
    ).fetchall()
    yield from ((s + shift, e - s) for s, e in rows)


def _has(db: sqlite3.Connection, table: str, *columns: str) -> bool:
    """Whether it is a table, not a view, with these columns."""
    kinds = db.execute("SELECT type FROM sqlite_master WHERE name = ?", [table]).fetchall()
    there = {row[1] for row in db.execute(f'PRAGMA table_info("{table}")')}
    return kinds == [("table",)] and set(columns) <= there


def _said(case: Case, words: list[str], found: list[str]) -> None:
    """What the command prints: lines that are printable, and never a traceback."""
    out, err = _Terminal(), io.StringIO()
    paths = [str(case.path)] * (1 + (words[:2] == ["compare", "--format"]))
    streams = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = out, err
        status = command.run([*words, *paths])
    finally:
        sys.stdout, sys.stderr = streams
    name = f"nsys2perfetto {' '.join(words)}"
    # A capture without steps has none to choose from: that is the user's mistake.
    if status not in (0, 1) and not (status == 2 and any("--step" in w for w in words)):
        found.append(f"{name}: status {status}")
    if err.getvalue().count("\n") != (status != 0):
        found.append(f"{name}: status {status}, {err.getvalue()}")
    for line in (out.getvalue() + err.getvalue()).split("\n"):
        if not _COLOURS.sub("", line).isprintable():
            found.append(f"{name}: prints {line[:300]!r}")
            break
    if status == 0 and words[-1] in ("--json", "json"):
        json.loads(out.getvalue())
