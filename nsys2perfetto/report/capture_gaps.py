"""Time of GPUs and gaps by the two definitions of `analysis.gaps`, from an export, as tables.

Where `all_gpus` is asked for, the work of all GPUs is taken as that of one, as the manual's SQL
does; its number is null.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from nsys2perfetto.analysis import gaps
from nsys2perfetto.analysis.gaps import BUCKETS
from nsys2perfetto.model import Model
from nsys2perfetto.report import source as tables
from nsys2perfetto.report.capture_summaries import kernel_names
from nsys2perfetto.report.frames import make, words

CONSECUTIVE, IDLE = "consecutive", "idle"
"""Between kernels in order of start, and while a GPU did nothing."""

_LENGTH = pl.col("end") - pl.col("start")


def balance(model: Model, names: Mapping[int, str]) -> pl.DataFrame:
    """`GPU_BALANCE`.

    Args:
        model: The capture.
        names: Of the GPUs.
    """
    found = gaps.balance(*(c.to_numpy() for c in _work(model)))
    time = pl.DataFrame(
        {
            "gpu": found.track,
            "name": [names[n] for n in found.track.tolist()],
            "wall_ns": found.last - found.first,
            "busy_ns": found.busy_ns,
            "idle_ns": found.idle_ns,
        }
    )
    frame = (
        time.join(_work(model).group_by("gpu").agg(operation_count=pl.len()), on="gpu")
        .join(
            _kernels(model).group_by("gpu").agg(kernel_count=pl.len(), kernel_ns=_LENGTH.sum()),
            on="gpu",
            how="left",
        )
        .with_columns(
            pl.col("kernel_count", "kernel_ns").fill_null(0),
            busy_util_pct=100.0 * pl.col("busy_ns") / pl.col("wall_ns").clip(1),
        )
    )
    return make(tables.GPU_BALANCE, frame, "gpu")


def totals(model: Model, all_gpus: bool) -> pl.DataFrame:
    """`GAP_TOTAL`."""
    work, kernels = _work(model, all_gpus), _kernels(model, all_gpus)
    kernel_ns = kernels.group_by("gpu").agg(total_kernel_ns=_LENGTH.sum())
    parts = [
        spans.group_by("gpu")
        .agg(wall_ns=pl.col("end").max() - pl.col("start").min())
        .join(found.group_by("gpu").agg(total_gap_ns=pl.col("gap_ns").sum()), on="gpu", how="left")
        .join(kernel_ns, on="gpu", how="left")
        .with_columns(
            pl.col("total_gap_ns", "total_kernel_ns").fill_null(0), definition=pl.lit(definition)
        )
        for definition, spans, found in (
            (CONSECUTIVE, kernels, _consecutive(model, all_gpus)),
            (IDLE, work, _idle(model, all_gpus)),
        )
    ]
    return make(tables.GAP_TOTAL, _without_gpu(pl.concat(parts), all_gpus), "definition", "gpu")


def buckets(model: Model, all_gpus: bool) -> pl.DataFrame:
    """`GAP_BUCKET`."""
    parts = [
        found.select("gpu", "gap_ns", size=pl.Series(gaps.bucket(found["gap_ns"].to_numpy())))
        .group_by("gpu", "size")
        .agg(count=pl.len(), total_ns=pl.col("gap_ns").sum())
        .with_columns(
            definition=pl.lit(definition),
            pct=100.0 * pl.col("count") / pl.col("count").sum().over("gpu"),
        )
        .sort("gpu", "size")
        for definition, found in (
            (CONSECUTIVE, _consecutive(model, all_gpus)),
            (IDLE, _idle(model, all_gpus)),
        )
    ]
    found = pl.concat(parts)
    found = found.with_columns(bucket=words(BUCKETS, found["size"].to_numpy()))
    return make(tables.GAP_BUCKET, _without_gpu(found, all_gpus))


def consecutive(model: Model, longer_than: int, all_gpus: bool) -> pl.DataFrame:
    """`CONSECUTIVE_GAP` above a length, ns."""
    found = _consecutive(model, all_gpus).filter(pl.col("gap_ns") > longer_than)
    events, names = model.reading.work["kernel"], kernel_names(model)

    def name(column: str, rows: str) -> pl.Series:
        return names[column].gather(events.code[found[rows].to_numpy()])

    found = found.with_columns(
        ts=pl.Series(events.end[found["previous"].to_numpy()]),
        bucket=words(BUCKETS, gaps.bucket(found["gap_ns"].to_numpy())),
        prev_name=name("name", "previous"),
        next_name=name("name", "next"),
        prev_demangled_name=name("demangled_name", "previous"),
        next_demangled_name=name("demangled_name", "next"),
    )
    return make(
        tables.CONSECUTIVE_GAP,
        _without_gpu(found, all_gpus),
        *("gpu", "-gap_ns", "ts", "prev_name", "next_name"),
        *("prev_demangled_name", "next_demangled_name"),
    )


def _work(model: Model, all_gpus: bool = False) -> pl.DataFrame:
    """Columns `gpu`, `start`, `end` of all GPU work; one number for all if `all_gpus`."""
    o, gpu = model.operations, model.annotations.table.gpu
    return pl.DataFrame(
        {"gpu": np.zeros_like(gpu) if all_gpus else gpu, "start": o.start, "end": o.end}
    )


def _kernels(model: Model, all_gpus: bool = False) -> pl.DataFrame:
    """The same of kernels."""
    rows = model.annotations.table.rows("kernel")
    return _work(model, all_gpus)[rows]


def _consecutive(model: Model, all_gpus: bool) -> pl.DataFrame:
    """Columns `gpu`, `gap_ns`, and `previous` and `next`: rows of the kernels."""
    gpu, start, end = (c.to_numpy() for c in _kernels(model, all_gpus))
    found = gaps.consecutive(start, end, gpu)
    return pl.DataFrame(
        {
            "gpu": gpu[found.next],
            "gap_ns": found.gap,
            "previous": found.previous,
            "next": found.next,
        }
    )


def _idle(model: Model, all_gpus: bool) -> pl.DataFrame:
    """Columns `gpu` and `gap_ns`."""
    found = model.annotations.gaps
    if all_gpus:
        found = gaps.idle(*(c.to_numpy() for c in _work(model, all_gpus)))
    return pl.DataFrame({"gpu": found.track, "gap_ns": found.gap})


def _without_gpu(frame: pl.DataFrame, all_gpus: bool) -> pl.DataFrame:
    return frame.with_columns(gpu=pl.lit(None, dtype=pl.Int64)) if all_gpus else frame
