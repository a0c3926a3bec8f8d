"""GPU metric samples (`nsys profile --gpu-metrics-devices`), NSYS_SCHEMA section 6.

Exports of nsys 2023.4 and later have them as rows of GPU_METRICS, one a metric and sample; they
repeat the same samples as JSON in GENERIC_EVENTS, which is all that earlier exports have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.nsys import events, gpu_metric_names
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import EARLIEST, I64, LATEST, Events, Selection

TABLE = "GPU_METRICS"
GENERIC = "GENERIC_EVENTS"
_NAMES = "TARGET_INFO_GPU_METRICS"

_UNREADABLE = "not readable as JSON"

_GPU_OF_TYPE = 0xFF
"""typeId = hw:8 | vm:8 | source:16 | tag:24 | gpu:8."""
_UINT32 = 0xFFFFFFFF

_JSON_ROWS = 50_000
"""Events decoded at a time: each has about 1 KB of text."""

Values = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Series = tuple[int, str, I64, Values]
"""typeId, nsys' name of the metric, times (n,), values (n,)."""


@dataclass
class SampleSet:
    """Metrics of one GPU that were sampled at the same times.

    Attributes:
        gpu: nsys' number of the GPU (TARGET_INFO_GPU.id).
        names: nsys' names, one a metric.
        time: ns as the capture counts, sorted, shape (n,): the end of what a sample measured.
        values: A column of shape (n,) a metric; percent, Hz or a count.
    """

    gpu: int
    names: list[str]
    time: I64
    values: list[Values]


@dataclass
class Metrics:
    """All samples of a capture.

    Attributes:
        table: The nsys table they come from.
        sets: The samples.
        rows_read, rows_shown: Rows of the table that the selection took, and those of them that
            are in `sets`. A row of GPU_METRICS is one sample, a row of GENERIC_EVENTS has all
            metrics of its time.
        filtered: Rows that the selection left out.
        dropped: Reason to number, for rows that were read and cannot be shown.
        helpers: Rows that are no metrics, in none of the other numbers.
    """

    table: str = TABLE
    sets: list[SampleSet] = field(default_factory=list)
    rows_read: int = 0
    rows_shown: int = 0
    filtered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    helpers: int = 0

    @property
    def span(self) -> tuple[int, int] | None:
        """The first and the last time, ns; None where there are no samples."""
        times = [(int(s.time[0]), int(s.time[-1])) for s in self.sets]
        return (min(a for a, _ in times), max(b for _, b in times)) if times else None

    @property
    def notes(self) -> list[str]:
        """What the user should know, one sentence each."""
        if not self.helpers:
            return []
        return [f"{self.helpers:,} rows of {self.table} are times of nsys' sampler, no metrics"]


def table_of(capture: Capture) -> str:
    """The table that the samples are read from: never both, they hold the same ones."""
    return TABLE if capture.count(TABLE) or not _types(capture) else GENERIC


def foreign_events(capture: Capture) -> int:
    """Generic events that are no GPU metrics: nothing shows them."""
    return capture.count(GENERIC, f"NOT coalesce(typeId IN ({_listed(_types(capture))}), FALSE)")


def count(capture: Capture) -> int:
    """How many rows of the table are samples."""
    if table_of(capture) == GENERIC:
        return capture.count(GENERIC, f"typeId IN ({_listed(_types(capture))})")
    return capture.count(TABLE) - _helper_rows(capture, _names(capture))


def read(capture: Capture, selection: Selection) -> Metrics:
    """Reads the samples of all GPUs.

    They belong to no process, so the selection's process filter does not touch them.
    """
    if table_of(capture) == TABLE:
        return _from_rows(capture, selection)
    return _from_json(capture, selection)


# Rows of GPU_METRICS


def _from_rows(capture: Capture, selection: Selection) -> Metrics:
    rows = events.read(
        capture, TABLE, {"typeId": "int", "metricId": "int"}, {"value": "int"},
        start="timestamp", end=None, selection=selection,
    )  # fmt: skip
    names = _names(capture)
    number = pl.format("metric {}", pl.col("metricId").fill_null(-1))
    kinds = rows.config.join(
        names, on=["typeId", "metricId"], how="left", maintain_order="left"
    ).select(pl.col("typeId").fill_null(0), pl.col("name").fill_null(number))
    helper = np.array([gpu_metric_names.is_helper(n) for n in kinds["name"].to_list()], bool)
    result = Metrics(TABLE, _sets(_by_metric(rows, kinds, helper)), dropped=rows.dropped)
    result.helpers = int(helper[rows.code].sum()) if len(rows) else 0
    result.rows_read = rows.rows_read - result.helpers
    result.rows_shown = len(rows) - result.helpers
    if rows.filtered:
        result.filtered = rows.filtered - _helper_rows(capture, names) + result.helpers
    return result


def _names(capture: Capture) -> pl.DataFrame:
    """The columns typeId, metricId (unique only together) and name."""
    return (
        capture.read(_NAMES, {"typeId": "int", "metricId": "int", "metricName": "text"})
        .unique(["typeId", "metricId"], keep="first", maintain_order=True)
        .rename({"metricName": "name"})
    )


def _helper_rows(capture: Capture, names: pl.DataFrame) -> int:
    """How many rows are no metrics."""
    kinds = [
        f"(typeId = {type_id} AND metricId = {metric})"
        for type_id, metric, name in names.drop_nulls().iter_rows()
        if gpu_metric_names.is_helper(name)
    ]
    return capture.count(TABLE, " OR ".join(kinds)) if kinds else 0


def _by_metric(
    rows: Events, kinds: pl.DataFrame, helper: npt.NDArray[np.bool_]
) -> Iterator[Series]:
    # NumPy sorts 16-bit numbers by radix, far faster than wider ones.
    narrow = rows.code.astype(np.uint16) if len(kinds) <= 1 << 16 else rows.code
    order = np.argsort(narrow, kind="stable")
    ends = np.cumsum(np.bincount(narrow, minlength=len(kinds)))
    for i, (type_id, name) in enumerate(kinds.iter_rows()):
        mine = order[(ends[i - 1] if i else 0) : ends[i]]
        if helper[i] or not len(mine):
            continue
        value = rows.values["value"][mine].astype(np.int64, copy=False)
        yield type_id, name, rows.start[mine], _unwrapped(name, value)


def _unwrapped(name: str, value: I64) -> I64:
    """Clocks above 2^31 Hz that came through a signed 32-bit number, as they do at first."""
    if gpu_metric_names.is_clock(name) and (value < 0).any():
        return np.where(value < 0, value & _UINT32, value)
    return value


def _sets(series: Iterable[Series]) -> list[SampleSet]:
    """Puts together the metrics of a GPU that share their times: all of them, as a rule."""
    found: dict[int, list[SampleSet]] = {}
    for type_id, name, time, value in series:
        if (np.diff(time) < 0).any():
            order = np.argsort(time, kind="stable")
            time, value = time[order], value[order]  # noqa: PLW2901
        sets = found.setdefault(type_id, [])
        mine = next((s for s in sets if np.array_equal(s.time, time)), None)
        if mine is None:
            mine = SampleSet(type_id & _GPU_OF_TYPE, [], time, [])
            sets.append(mine)
        mine.names.append(name)
        mine.values.append(value)
    return [s for sets in found.values() for s in sets]


# JSON of GENERIC_EVENTS


def _types(capture: Capture) -> dict[int, list[str]]:
    """Names of the metrics by typeId, for the generic events that are GPU metrics.

    The source's name says so: "GpuMetrics" in exports of 2022.4 to 2024.2.
    """
    sources = capture.read("GENERIC_EVENT_SOURCES", {"sourceId": "int", "data": "text"})
    wanted = {
        source
        for source, data in sources.iter_rows()
        if "gpumetrics" in re.sub("[^a-z]", "", str(_parsed(data).get("Name", "")).lower())
    }
    rows = capture.read("GENERIC_EVENT_TYPES", {"typeId": "int", "sourceId": "int", "data": "text"})
    return {
        type_id: _field_names(_parsed(data))
        for type_id, source, data in rows.iter_rows()
        if source in wanted and type_id is not None
    }


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):  # no JSON, or a thousand brackets
        return {}
    return value if isinstance(value, dict) else {}


def _field_names(description: dict[str, Any]) -> list[str]:
    fields = description.get("Fields")
    if not isinstance(fields, list):
        return []
    names = (f.get("Name") for f in fields if isinstance(f, dict))
    return list(dict.fromkeys(n for n in names if isinstance(n, str)))


def _listed(types: Iterable[int]) -> str:
    return ", ".join(str(t) for t in types) or "NULL"


def _from_json(capture: Capture, selection: Selection) -> Metrics:
    types = _types(capture)
    result = Metrics(GENERIC)
    times: dict[int, list[I64]] = {t: [] for t in types}
    columns: dict[int, list[pl.DataFrame]] = {t: [] for t in types}
    batches = capture.batches(
        GENERIC,
        {"timestamp": "int", "rawTimestamp": "int", "typeId": "int", "data": "text"},
        [f"typeId IN ({_listed(types)})", *(["FALSE"] if selection.nothing else [])],
    )
    for batch in batches:
        for piece in _timed(batch, selection, result).iter_slices(_JSON_ROWS):
            for type_id in types:
                mine = piece.filter(pl.col("typeId") == type_id)
                if not len(mine):
                    continue
                names = types[type_id] = types[type_id] or list(_parsed(mine["data"][0]))
                times[type_id].append(mine["time"].to_numpy())
                columns[type_id].append(_decode(mine["data"], names))
    result.sets = _sets(_by_field(times, columns, result))
    result.filtered = count(capture) - result.rows_read
    return result


def _timed(batch: pl.DataFrame, selection: Selection, result: Metrics) -> pl.DataFrame:
    """Rows with a sensible time within the selection: `time`, typeId, data."""
    # rawTimestamp holds the session's ns where timestamp is null (all exports seen).
    frame = batch.with_columns(pl.coalesce("timestamp", "rawTimestamp").alias("time"))
    time = pl.col("time")
    low, high = selection.start, selection.end
    wanted = pl.lit(True)
    if low is not None:
        wanted = wanted & (time >= low)
    if high is not None:
        wanted = wanted & (time <= high)
    kept = frame.filter(wanted)
    result.rows_read += len(kept)
    for reason, bad in (
        ("no start time", time.is_null()),
        ("start time out of range", ~time.is_between(EARLIEST, LATEST)),
    ):
        sound = kept.filter(~bad)
        if len(sound) < len(kept):
            result.dropped[reason] = result.dropped.get(reason, 0) + len(kept) - len(sound)
        kept = sound
    return kept.select("time", "typeId", "data")


def _decode(text: pl.Series, names: list[str]) -> pl.DataFrame:
    """A Float64 column a metric; null where an event lacks it or is damaged."""
    if not names:
        return pl.DataFrame({"": pl.Series([None] * len(text), dtype=pl.Float64)})
    try:
        # The numbers stand in quotes.
        decoded = text.str.json_decode(pl.Struct(dict.fromkeys(names, pl.String)))
    except pl.exceptions.ComputeError:
        if len(text) == 1:
            return pl.DataFrame(schema=dict.fromkeys(names, pl.Float64)).clear(1)
        # One damaged text fails the whole column: halve until it is alone.
        half = len(text) // 2
        return pl.concat([_decode(text[:half], names), _decode(text[half:], names)])
    return decoded.struct.unnest().select(
        pl.col(n).cast(pl.Float64, strict=False).alias(n) for n in names
    )


def _by_field(
    times: dict[int, list[I64]], columns: dict[int, list[pl.DataFrame]], result: Metrics
) -> Iterator[Series]:
    for type_id, parts in columns.items():
        if not parts:
            continue
        time, frame = np.concatenate(times[type_id]), pl.concat(parts)
        known = [c.is_not_null().to_numpy() & c.is_finite().fill_null(False).to_numpy()
                 for c in frame]  # fmt: skip
        shown = int(np.any(known, axis=0).sum())
        result.rows_shown += shown
        if shown < len(frame):
            result.dropped[_UNREADABLE] = result.dropped.get(_UNREADABLE, 0) + len(frame) - shown
        for column, valid in zip(frame, known, strict=True):
            if gpu_metric_names.is_helper(column.name) or not valid.any():
                continue
            value: Values = column.to_numpy()[valid]
            if (value == np.floor(value)).all() and (np.abs(value) < 2**53).all():
                value = _unwrapped(column.name, value.astype(np.int64))
            yield type_id, column.name, time[valid], value
