"""Tables of timed events as columns: what repeats becomes a code, what differs stays a column.

Every table of nsys that holds events is read by this one function; what the tables are called and
what their columns mean is said where they are used (`nsys.gpu_work`, `tracks.call_tables`, ...).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.nsys.capture import Capture, Columns
from nsys2perfetto.nsys.dictionary import RowDictionary

I64 = npt.NDArray[np.int64]

EARLIEST, LATEST = -(1 << 61), 1 << 62
"""ns: 73 years before and 146 after. What lies beyond is damage, and durations would overflow."""
_OPEN = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Selection:
    """Which part of a capture to take.

    Attributes:
        start, end: ns as the capture counts; events that overlap [start, end] are taken whole.
        pids: Process ids of the operating system; empty for all.
        nothing: Take no event at all.
    """

    start: int | None = None
    end: int | None = None
    pids: frozenset[int] = frozenset()
    nothing: bool = False

    def __post_init__(self) -> None:
        """Brings times that no column can hold to where they choose the same events."""
        for name in ("start", "end"):
            if (time := getattr(self, name)) is not None:
                object.__setattr__(self, name, min(max(time, EARLIEST - 1), LATEST + 1))

    def __bool__(self) -> bool:
        return self != Selection()

    def takes(self, time: int) -> bool:
        """Whether a point in time is within the time range."""
        return (self.start is None or time >= self.start) and (self.end is None or time <= self.end)

    def where(self, start: str, end: str | None, owner: str | None, point: str = "") -> list[str]:
        """Conditions for a table with these columns, see `Capture`.

        Args:
            start: Column of the start time.
            end: Column of the end time; None where events are points.
            owner: Column with a globalPid or globalTid; None where events belong to no process.
            point: Condition for events that need no end.
        """
        terms = ["FALSE"] if self.nothing else []
        if self.start is not None:
            last = f'coalesce("{end}", {LATEST})' if end else f'"{start}"'
            if point:
                last = f'CASE WHEN {point} THEN "{start}" ELSE {last} END'
            terms.append(f"{last} >= {self.start}")
        if self.end is not None:
            terms.append(f'"{start}" <= {self.end}')
        if self.pids and owner:
            pids = ", ".join(str(p << 24) for p in sorted(self.pids))
            terms.append(f'("{owner}" & {0xFFFFFF << 24}) IN ({pids})')
        return terms


@dataclass
class Events:
    """Columns of one table's events; all arrays have shape (n,).

    Attributes:
        table: The nsys table.
        start, end: ns, as the capture counts.
        code: Row of `config` that each event has.
        config: The distinct combinations of the columns that repeat.
        values: Columns of their own, by name; null is -1 in integers, NaN in reals.
        valid: For the nullable ones among them: where they are not null.
        rows_read: Rows that the selection took from the table.
        filtered: Rows that the selection left out.
        dropped: Reason to number, for rows that were read but are no event that can be shown.
        joined: Rows among them that are no events of their own: they complete others.
        open: Where an event had no end: it was given that of the last event of its table.
    """

    table: str
    start: I64
    end: I64
    code: npt.NDArray[np.uint32]
    config: pl.DataFrame
    values: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    valid: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    rows_read: int = 0
    filtered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    joined: int = 0
    open: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def open_ended(self) -> int:
        """How many events had no end."""
        return int(self.open.sum())

    def take(self, rows: npt.NDArray[np.generic]) -> Events:
        """The events of a mask or of row numbers; the configurations stay."""
        return Events(
            self.table,
            self.start[rows],
            self.end[rows],
            self.code[rows],
            self.config,
            {name: column[rows] for name, column in self.values.items()},
            {name: mask[rows] for name, mask in self.valid.items()},
            open=self.open[rows] if len(self.open) else self.open,
        )

    def only(self, mask: npt.NDArray[np.bool_]) -> Events:
        """As if the selection had taken these events only; configurations without events go."""
        part = self.take(np.flatnonzero(mask))
        used = np.bincount(part.code, minlength=len(self.config)) > 0
        part.code = (np.cumsum(used) - 1).astype(np.uint32)[part.code]
        part.config = self.config.filter(pl.Series(used, dtype=pl.Boolean))
        gone = len(self) - len(part)
        part.rows_read, part.filtered = self.rows_read - gone, self.filtered + gone
        part.dropped = dict(self.dropped)
        return part

    def column(self, name: str) -> npt.NDArray[np.generic]:
        """A configuration column spread over the events, shape (n,); null must not occur in it."""
        return self.config[name].to_numpy()[self.code]


def read(
    capture: Capture,
    table: str,
    config: Columns,
    values: Columns | None = None,
    *,
    start: str = "start",
    end: str | None = "end",
    owner: str | None = None,
    selection: Selection | None = None,
    where: Sequence[str] = (),
    nullable: Collection[str] = (),
    point: str = "",
) -> Events:
    """Reads a table of events, in order of their start.

    Args:
        capture: Where from; a table that it lacks has no events.
        table: Name of the table.
        config: Columns that repeat from event to event.
        values: Columns that differ from event to event; a null integer becomes -1, a null real
            NaN.
        start, end: Columns of the times; no `end` for events that are points. An event without an
            end was still open when the capture ended: it ends with the last event of its table.
        owner: Column with the globalPid or globalTid, for the process filter.
        selection: Time range and processes to take.
        where: Further conditions: rows that they exclude are not events at all.
        nullable: Columns of `values` in which every number is possible, so that null must be told
            apart.
        point: Condition for events among others that are points and need no end.
    """
    values = values or {}
    selected = selection.where(start, end, owner, point) if selection else []
    times: Columns = {start: "int", end: "int"} if end else {start: "int"}
    dictionary = RowDictionary()
    result = Events(table, *(np.empty(0, np.int64),) * 2, np.empty(0, np.uint32), pl.DataFrame())
    parts: list[list[npt.NDArray[np.generic]]] = []
    # A column may serve as value and time at once; each is read once.
    for batch in capture.batches(table, {**times, **config, **values}, [*where, *selected]):
        result.rows_read += len(batch)
        frame = _sound(batch, start, end, result)
        if not len(frame):
            continue
        part: list[npt.NDArray[np.generic]] = [
            frame[start].to_numpy(),
            _filled(frame[end or start], _OPEN),
            dictionary.encode(frame.select(config.keys()))
            if config
            else np.zeros(len(frame), np.uint32),
        ]
        for name, kind in values.items():
            null = -1 if kind == "int" else float("nan")
            part.append(_filled(frame[name], null))
        part += [frame[name].is_not_null().to_numpy() for name in nullable]
        parts.append(part)
    result.config = dictionary.table()
    if not len(result.config):
        result.config = pl.DataFrame(schema={c: _EMPTY[k] for c, k in config.items()})
    columns = _in_order([np.concatenate(column) for column in zip(*parts, strict=True)])
    if columns:
        result.start, result.end, result.code = columns[:3]
        result.values = dict(zip(values, columns[3:], strict=False))
        result.valid = dict(zip(nullable, columns[3 + len(values) :], strict=True))
        result.open = result.end == _OPEN
        if result.open.any() and end:
            last = _last(capture, table, start, end)
            result.end[result.open] = np.maximum(result.start[result.open], last)
    else:
        result.values = {name: np.empty(0, np.int64) for name in values}
        result.valid = {name: np.empty(0, np.bool_) for name in nullable}
    if selected and table in capture.tables:
        total = capture.count(table, " AND ".join(f"({w})" for w in where))
        result.filtered = total - result.rows_read
    return result


def _in_order(columns: list[Any]) -> list[Any]:
    """Sorts the events by start; those that start together stay in the order of the file.

    nsys writes most tables in that order, but nothing guarantees it (NSYS_SCHEMA section 0). Of
    kernels that start together the manual's SQL takes the file's order, too.
    """
    if not columns or not bool((columns[0][1:] < columns[0][:-1]).any()):
        return columns
    order = np.argsort(columns[0], kind="stable")
    return [column[order] for column in columns]


def _filled(column: pl.Series, null: float) -> npt.NDArray[np.generic]:
    return (column.fill_null(null) if column.null_count() else column).to_numpy()


def _last(capture: Capture, table: str, start: str, end: str) -> int:
    """The last time in a table, whatever part of it was selected."""
    sound = pl.all().filter(pl.all().is_between(EARLIEST, LATEST, closed="none"))
    found = [
        time
        for batch in capture.batches(table, {start: "int", end: "int"})
        for time in batch.select(sound.max()).row(0)
        if time is not None
    ]
    return max(found, default=EARLIEST)


_EMPTY = {"int": pl.Int64(), "real": pl.Float64(), "text": pl.String()}


def _sound(batch: pl.DataFrame, start: str, end: str | None, result: Events) -> pl.DataFrame:
    """The rows that have sensible times; the others are counted by what is wrong with them."""
    if _all_sound(batch[start], batch[end] if end else None):
        return batch
    begin = pl.col(start)
    checks = {
        "no start time": begin.is_null(),
        "start time out of range": ~begin.is_between(EARLIEST, LATEST, closed="none"),
    }
    if end:
        checks |= {
            "end time out of range": ~pl.col(end).is_between(EARLIEST, LATEST, closed="none"),
            "ends before it starts": pl.col(end) < begin,
        }
    flags = batch.select(**{name: test.fill_null(False) for name, test in checks.items()})
    bad = flags.select(pl.any_horizontal(pl.all()).alias("bad"))["bad"]
    if not bad.any():
        return batch
    left = pl.Series([True] * len(batch))
    for name in flags.columns:
        count = int((flags[name] & left).sum())
        left &= ~flags[name]
        if count:
            result.dropped[name] = result.dropped.get(name, 0) + count
    return batch.filter(~bad)


def _all_sound(start: pl.Series, end: pl.Series | None) -> bool:
    """Whether nothing is wrong with any row, which is so in every undamaged table."""
    if start.null_count():
        return False
    begin = start.to_numpy()
    if not len(begin) or int(begin.min()) <= EARLIEST or int(begin.max()) >= LATEST:
        return not len(begin)
    if end is None:
        return True
    if end.null_count():
        return False
    finish = end.to_numpy()
    return int(finish.max()) < LATEST and bool((finish >= begin).all())
