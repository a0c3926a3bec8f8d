"""Decode steps as slices, and below them where their kernel time goes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis.step_measure import Measures
from nsys2perfetto.analysis.steps import PHASES, Steps
from nsys2perfetto.protos import extensions_pb2 as ext
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire.stamp import RowSlot
from nsys2perfetto.wire.template import DOUBLE, Placeholders

I64 = npt.NDArray[np.int64]

CATEGORY = "nsys.step"

_MEASURED = {
    "kernel_count": "kernel_count", "kernel_ns": "kernel_ns", "busy_ns": "busy_ns",
    "idle_ns": "idle_ns", "wall_ns": "wall_ns", "copy_count": "copy_count",
    "copy_bytes": "copy_bytes", "launch_count": "launch_count", "sync_count": "sync_count",
    "sync_ns": "sync_ns", "allocation_count": "alloc_count", "largest_gap_ns": "largest_gap_ns",
}  # fmt: skip
"""Field of DecodeStep to the column of `Measures`."""
_REAL = ("kernel_util_pct", "busy_util_pct", "steps_per_second")


def family(
    steps: Steps,
    measures: Measures,
    gpu_of_unit: I64,
    pid_of_unit: I64,
    track_of_unit: dict[int, int],
    pools: Pools,
    several_runs: bool,
) -> SliceFamily:
    """A slice a step, named `step 12` (`prefill`, `warm-up 1`, `step 12 (outlier)`).

    Args:
        steps: All steps.
        measures: Of the same steps.
        gpu_of_unit: GPU of each (process, GPU), shape (units,).
        pid_of_unit: Process id, likewise.
        track_of_unit: Unit to the uuid of its track.
        pools: For names.
        several_runs: Whether the capture has several, so that names tell the run.
    """
    wall = np.maximum(steps.wall_ns, 1)
    values: dict[str, npt.NDArray[np.generic]] = {
        "name_iid": pools.names.iids(names(steps, several_runs)).to_numpy(),
        "run": steps.run,
        "index": steps.step,
        "number": steps.number,
        "phase": steps.phase + 1,
        "gpu": gpu_of_unit[steps.unit],
        "process_id": pid_of_unit[steps.unit],
        "kernel_util_pct": measures.kernel_util_pct,
        "busy_util_pct": measures.busy_util_pct,
        "steps_per_second": 1e9 / wall,
        **{field: getattr(measures, column) for field, column in _MEASURED.items()},
    }
    fields = [name for name in values if name != "name_iid"]
    signed = {f.name for f in ext.DecodeStep.DESCRIPTOR.fields if f.cpp_type == f.CPPTYPE_INT64}

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
        step = ext.DecodeStep()
        for name in fields:
            if name in _REAL:
                setattr(step, name, p.double(name))
            else:
                setattr(step, name, p.signed(name) if name in signed else p[name])
        event.MergeFromString(ext.TrackEventExtensions(decode_step=step).SerializeToString())

    units = sorted(track_of_unit)
    config = pl.DataFrame(
        {
            "track": [track_of_unit[u] for u in units],
            "category_iid": [pools.categories.iid(CATEGORY)] * len(units),
        },
        schema={"track": pl.Int64, "category_iid": pl.Int64},
    )
    return SliceFamily(
        "decode_step",
        config,
        steps.t0,
        steps.t1,
        np.searchsorted(np.array(units, np.int64), steps.unit).astype(np.uint32),
        fill,
        rows={
            name: RowSlot(DOUBLE) if name in _REAL else RowSlot.fitting(column)  # type: ignore[arg-type]
            for name, column in values.items()
        },
        values=dict(values),
        in_order=True,
    )


def names(steps: Steps, several_runs: bool) -> pl.Series:
    """The name of each step; with the run where there are several."""
    frame = pl.DataFrame(
        {"run": steps.run, "step": steps.step, "phase": steps.phase.astype(np.int64)}
    )
    run = pl.concat_str(pl.lit("run "), pl.col("run").cast(pl.String), pl.lit(" "))
    number = pl.concat_str(pl.lit("step "), pl.col("step").cast(pl.String))
    phase = pl.col("phase")
    text = (
        pl.when(phase == PHASES.index("prefill"))
        .then(pl.lit("prefill"))
        .when(phase == PHASES.index("warmup"))
        .then(pl.concat_str(number, pl.lit(" (warm-up)")))
        .when(phase == PHASES.index("outlier"))
        .then(pl.concat_str(number, pl.lit(" (outlier)")))
        .otherwise(number)
    )
    return frame.select(pl.concat_str(run, text) if several_runs else text).to_series()
