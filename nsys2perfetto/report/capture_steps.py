"""Decode steps and idle gaps of an export, as tables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.analysis.causes import ACTIVITIES, VERDICTS
from nsys2perfetto.analysis.gaps import BUCKETS, IdleGaps, bucket
from nsys2perfetto.analysis.steps import PHASES
from nsys2perfetto.model import Model
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.report import source as tables
from nsys2perfetto.report.capture_summaries import kernel_names
from nsys2perfetto.report.frames import make, words

I64 = npt.NDArray[np.int64]

_MEASURES = (
    "kernel_count", "kernel_ns", "busy_ns", "idle_ns", "wall_ns", "kernel_util_pct",
    "busy_util_pct", "largest_gap_ns", "copy_count", "copy_bytes", "launch_count", "sync_count",
    "sync_ns",
)  # fmt: skip
_MOSTLY = [name if name == "outside_cuda" else f"in_{name}" for name in ACTIVITIES]
_PACES = ["device", "host"]
_STEP_KEY = ("gpu", "pid", "step")


def steps(model: Model) -> pl.DataFrame:
    """`STEP`."""
    found, measures = model.annotations.steps.steps, model.annotations.measures
    columns = {
        **_step_keys(model),
        "run": found.run,
        "step_in_run": found.step,
        "phase": words(PHASES, found.phase),
        "ts": found.t0,
        "dur": found.wall_ns,
        **{name: getattr(measures, name) for name in _MEASURES},
        "allocation_count": measures.alloc_count,
        "steps_per_second": 1e9 / np.maximum(found.wall_ns, 1),
    }
    return make(tables.STEP, columns, *_STEP_KEY)


def step_kernels(model: Model) -> pl.DataFrame:
    """`STEP_KERNEL`."""
    kernels = model.reading.work["kernel"]
    columns = {
        "row": model.annotations.step_of_kernel,
        "code": kernels.code,
        "total_ns": kernels.end - kernels.start,
    }
    return _by_step_and_name(model, tables.STEP_KERNEL, pl.DataFrame(columns), kernel_names(model))


def step_calls(model: Model) -> pl.DataFrame:
    """`STEP_CALL`."""
    calls, found = model.calls.events, model.annotations.steps.steps
    process = (calls.config["globalTid"] & PROCESS_MASK).to_numpy()
    duration = calls.end - calls.start
    parts = [pl.DataFrame(schema={"row": pl.Int64, "code": pl.UInt32, "total_ns": pl.Int64})]
    for number in np.unique(found.unit).tolist():
        steps = np.flatnonzero(found.unit == number)
        mine = process == model.annotations.table.units[number].process
        rows = np.flatnonzero(mine[calls.code]) if not mine.all() else slice(None)
        start = calls.start[rows]
        place = np.searchsorted(found.t0[steps], start, side="right") - 1
        inside = (place >= 0) & (start < found.t1[steps[np.maximum(place, 0)]])
        columns = {
            "row": steps[place[inside]],
            "code": calls.code[rows][inside],
            "total_ns": duration[rows][inside],
        }
        parts.append(pl.DataFrame(columns))
    names = model.calls.name.to_frame("name")
    return _by_step_and_name(model, tables.STEP_CALL, pl.concat(parts), names)


def _by_step_and_name(
    model: Model, schema: tables.Schema, events: pl.DataFrame, names: pl.DataFrame
) -> pl.DataFrame:
    """Count and sum of events by step and name, in order.

    Args:
        model: The capture.
        schema: Of the answer.
        events: `row` of the step (-1: none), `code` (row of `names`), `total_ns`.
        names: Columns of names.
    """
    # Names in order, so that numbers can stand for them when rows are grouped and sorted.
    distinct = names.unique().sort(names.columns).with_row_index("number")
    number = names.join(distinct, on=names.columns, how="left", maintain_order="left")["number"]
    keys = pl.DataFrame(_step_keys(model))
    events = events.filter(pl.col("row") >= 0)
    found = (
        events.with_columns(number=number.gather(events["code"]))
        .group_by("row", "number")
        .agg(count=pl.len(), total_ns=pl.col("total_ns").sum())
    )
    found = found.with_columns(keys[found["row"]]).sort(
        *_STEP_KEY, "total_ns", "number", descending=[False, False, False, True, False]
    )
    return make(schema, found.with_columns(distinct[found["number"]]))


def _step_keys(model: Model) -> dict[str, I64]:
    """`pid`, `gpu` and `step` of each step."""
    found, units = model.annotations.steps.steps, model.annotations.table.units
    gpus = np.array([u.gpu for u in units], np.int64)
    return {"pid": _pids(model)[found.unit], "gpu": gpus[found.unit], "step": found.number}


def _pids(model: Model) -> I64:
    """The process id of each unit (process on a GPU)."""
    return np.array([model.tracks.pid(u.process) for u in model.annotations.table.units], np.int64)


def gaps(model: Model) -> pl.DataFrame:
    """`GAP` of each GPU, whatever process uses it."""
    found = model.annotations.gaps
    return make(tables.GAP, _gaps(model, found, found.track), "gpu", "ts")


def process_gaps(model: Model) -> pl.DataFrame:
    """`GAP` of each process on a GPU that several use."""
    found = model.annotations.process_gaps
    gpus = np.array([u.gpu for u in model.annotations.table.units], np.int64)
    return make(tables.GAP, _gaps(model, found, gpus[found.track]), "gpu", "pid", "ts")


def _gaps(model: Model, found: IdleGaps, gpu: I64) -> pl.DataFrame:
    """The columns of `GAP`, of the gaps that are long enough."""
    annotations, texts = model.annotations, model.pools.texts
    table, all_steps = annotations.table, annotations.steps.steps
    long = np.flatnonzero(found.gap >= annotations.options.min_gap)
    found, gpu = found.take(long), gpu[long]
    causes = annotations.causes_of(found)
    step = annotations.steps_of(found)

    def of_step(column: I64) -> pl.Series:
        values = column[np.maximum(step, 0)] if len(column) else step
        return pl.Series(np.where(step >= 0, values, -1)).replace(-1, None)

    known = pl.Series(causes.mostly >= 0)
    return pl.DataFrame(
        {
            "ts": found.start,
            "dur": found.gap,
            "gpu": gpu,
            "pid": _pids(model)[table.unit[found.next]],
            "run": of_step(all_steps.run),
            "step": of_step(all_steps.number),
            "bucket": words(BUCKETS, bucket(found.gap)),
            "prev_name": texts.texts(pl.Series(table.name[found.previous])),
            "next_name": texts.texts(pl.Series(table.name[found.next])),
            "cause": words(VERDICTS, causes.verdict),
            "mostly": words([*_MOSTLY, None], causes.mostly),
            "pace": words(_PACES, causes.host_paced),
            "launch_lateness_ns": causes.lateness,
            **{f"{a}_ns": ns for a, ns in zip(ACTIVITIES, causes.split, strict=True)},
        }
    ).with_columns(pl.when(known).then(pl.col("pace", "launch_lateness_ns")))
