"""Durations by name, from an export: kernels, CUDA calls, copies, waits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.analysis import statistics
from nsys2perfetto.model import Model
from nsys2perfetto.nsys import cuda_calls
from nsys2perfetto.report import source as tables
from nsys2perfetto.report.frames import make
from nsys2perfetto.tracks import kernels, wake_ups

I64 = npt.NDArray[np.int64]

_SYNCHRONIZES = "^cu.*Synchronize"
"""Names of the calls in `synchronization`, as of `nsys_sync` in sql/nsys/api.sql."""
_PERCENTILES = (95, 99)


def kernel_names(model: Model) -> pl.DataFrame:
    """Columns `name` and `demangled_name` of each configuration of kernels.

    Without a demangled name the mangled one takes its place, and without that the short one, as in
    `nsys stats` (NSYS_SCHEMA section 7). An empty text is no name, as in a trace.
    """
    events = model.reading.work["kernel"]
    named = kernels.with_names(events.config, model.reading.strings)
    full = (pl.col(column).replace("", None) for column in ("demangled", "mangled"))
    return named.select("name", demangled_name=pl.coalesce(*full, "name"))


def kernels_by_name(model: Model, column: str) -> pl.DataFrame:
    """`SUMMARY` of kernels by a column of `kernel_names`."""
    events = model.reading.work["kernel"]
    names, number = _distinct(kernel_names(model)[column])
    found = _by_name(names, number[events.code], events.end - events.start)
    return make(tables.SUMMARY, found, "-total_ns", "name")


def kernels_by_both_names(model: Model) -> pl.DataFrame:
    """`KERNEL_NAME`."""
    events = model.reading.work["kernel"]
    found = (
        pl.DataFrame({"code": events.code, "dur": events.end - events.start})
        .group_by("code")
        .agg(count=pl.len(), total_ns=pl.col("dur").sum())
        .join(kernel_names(model).with_row_index("code"), on="code")
        .group_by("name", "demangled_name")
        .agg(pl.col("count", "total_ns").sum())
    )
    return make(tables.KERNEL_NAME, found, "-total_ns", "name", "demangled_name")


def calls(model: Model) -> pl.DataFrame:
    """`SUMMARY` of CUDA calls."""
    events = model.calls.events
    names, number = _distinct(model.calls.name)
    found = _by_name(names, number[events.code], events.end - events.start)
    return make(tables.SUMMARY, found, "-total_ns", "name")


def copies(model: Model) -> pl.DataFrame:
    """`COPY_SUMMARY`: copies, migrations and memory sets."""
    table, o = model.annotations.table, model.operations
    rows = np.concatenate(
        [np.arange(r.start, r.stop) for r in map(table.rows, ("memcpy", "memset"))]
    )
    text, number = np.unique(table.name[rows], return_inverse=True)
    names = model.pools.texts.texts(pl.Series(text, dtype=pl.Int64))
    number = number.astype(np.int64)
    found = _by_name(names, number, o.end[rows] - o.start[rows])
    size = np.zeros(len(text), np.int64)
    np.add.at(size, number, table.size[rows])
    total = pl.col("total_ns")
    found = found.with_columns(total_bytes=size).with_columns(
        gb_per_s=pl.when(total > 0).then(pl.col("total_bytes") / total)
    )
    return make(tables.COPY_SUMMARY, found, "-total_ns", "name")


def _distinct(names: pl.Series) -> tuple[pl.Series, I64]:
    """The distinct names in order of their first appearance, and each name's place in them."""
    found = names.unique(maintain_order=True)
    place = pl.DataFrame({"name": names}).join(
        pl.DataFrame({"name": found}).with_row_index("place"),
        on="name",
        how="left",
        maintain_order="left",
    )["place"]
    return found, place.to_numpy().astype(np.int64)


def _by_name(names: pl.Series, number: I64, duration: I64) -> pl.DataFrame:
    """The columns of `SUMMARY`.

    Args:
        names: The distinct names; each has an event.
        number: Row of `names` for each event.
        duration: ns.
    """
    found = statistics.by_group(number, duration, _PERCENTILES)
    p95, p99 = found.percentiles
    return pl.DataFrame(
        {
            "name": names.gather(found.group),
            "time_pct": 100.0 * found.total / max(int(found.total.sum()), 1),
            "total_ns": found.total,
            "instances": found.count,
            "avg_ns": found.mean,
            "med_ns": found.median,
            "min_ns": found.least,
            "max_ns": found.most,
            "stddev_ns": found.deviation,
            "p95_ns": p95,
            "p99_ns": p99,
        }
    )


def synchronization(model: Model) -> pl.DataFrame:
    """`SYNC_SUMMARY`."""
    events = model.calls.events
    waits = model.calls.name.str.contains(_SYNCHRONIZES).to_numpy()
    rows = np.flatnonzero(waits[events.code])
    frame = pl.DataFrame(
        {
            "call": rows,
            "name": model.calls.name.gather(events.code[rows]),
            "dur": events.end[rows] - events.start[rows],
        }
    )
    found = (
        frame.join(_waits(model), on="call", how="left")
        .group_by("name", "waited_for")
        .agg(
            instances=pl.len(),
            total_ns=pl.col("dur").sum(),
            max_ns=pl.col("dur").max(),
            wake_up_count=pl.col("wake_up_ns").count(),
            wake_up_ns=pl.col("wake_up_ns").sum(),
        )
    )
    return make(tables.SYNC_SUMMARY, found, "-total_ns", "name", "waited_for")


def _waits(model: Model) -> pl.DataFrame:
    """Columns `call` (its row), `waited_for` and `wake_up_ns` (null: none) of calls that waited."""
    reading, calls, operations = model.reading, model.calls, model.operations
    records = cuda_calls.event_records(reading.capture)
    found = wake_ups.find(reading.waits, records, calls, operations)
    rows, since = wake_ups.woken(found, calls, operations)
    waits = pl.DataFrame({"call": found.call, "waited_for": found.kind.fill_null("nothing")})
    woken = pl.DataFrame(
        {"call": found.call[rows], "wake_up_ns": calls.events.end[found.call[rows]] - since}
    )
    return waits.join(woken, on="call", how="left")
