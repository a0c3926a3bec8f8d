"""The tables that reports and comparisons are made of, wherever they come from.

There are two sources: `capture_source.CaptureSource` computes them from an export, without a trace
processor, and `trace_source.TraceSource` asks a trace through the SQL package `nsys`. Both give the
same rows in the same order; the tests compare them.

Times are ns as the capture counts (of a trace whose times were shifted, the shift is taken off),
durations ns, sizes bytes, shares percent (not rounded). Null means that there is no such value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import polars as pl

Schema = dict[str, type[pl.DataType]]

_INT, _REAL, _TEXT = pl.Int64, pl.Float64, pl.String

SUMMARY: Schema = {
    "name": _TEXT,
    "time_pct": _REAL,
    "total_ns": _INT,
    "instances": _INT,
    "avg_ns": _REAL,
    "med_ns": _REAL,
    "min_ns": _INT,
    "max_ns": _INT,
    "stddev_ns": _REAL,
    "p95_ns": _REAL,
    "p99_ns": _REAL,
}
"""Durations by name, the columns of `nsys stats -r cuda_gpu_kern_sum` and `cuda_api_sum`.

`time_pct` is percent of the sum of `total_ns` of all rows; `stddev_ns` is the one of `nsys stats`;
`med_ns`, `p95_ns` and `p99_ns` interpolate linearly between neighbours, as the engine does in
`percentile`.
"""

COPY_SUMMARY: Schema = {**SUMMARY, "total_bytes": _INT, "gb_per_s": _REAL}
"""Copies, memory sets and migrations by name (`Memcpy HtoD`, `Memset`): `cuda_gpu_mem_time_sum`.

`gb_per_s` is `total_bytes / total_ns`; null where `total_ns` is 0.
"""

SYNC_SUMMARY: Schema = {
    "name": _TEXT,
    "waited_for": _TEXT,
    "instances": _INT,
    "total_ns": _INT,
    "max_ns": _INT,
    "wake_up_count": _INT,
    "wake_up_ns": _INT,
}
"""Calls that made a thread wait for a GPU, by name and what was waited for (null: not known)."""

GPU_BALANCE: Schema = {
    "gpu": _INT,
    "name": _TEXT,
    "kernel_count": _INT,
    "kernel_ns": _INT,
    "operation_count": _INT,
    "wall_ns": _INT,
    "busy_ns": _INT,
    "idle_ns": _INT,
    "busy_util_pct": _REAL,
}
"""How each GPU's time from its first operation to its last was spent; `busy + idle = wall`."""

GAP_TOTAL: Schema = {
    "definition": _TEXT,
    "gpu": _INT,
    "total_gap_ns": _INT,
    "total_kernel_ns": _INT,
    "wall_ns": _INT,
}
"""Sum of the gaps, `consecutive` and `idle`, the manual's query "total gap"."""

GAP_BUCKET: Schema = {
    "definition": _TEXT,
    "gpu": _INT,
    "bucket": _TEXT,
    "count": _INT,
    "total_ns": _INT,
    "pct": _REAL,
}
"""Gaps by size, only sizes that occur; all gaps, also those too short for a slice in a trace."""

CONSECUTIVE_GAP: Schema = {
    "ts": _INT,
    "gap_ns": _INT,
    "gpu": _INT,
    "bucket": _TEXT,
    "prev_name": _TEXT,
    "next_name": _TEXT,
    "prev_demangled_name": _TEXT,
    "next_demangled_name": _TEXT,
}
"""Gaps between kernels in order of start; `ts` is the end of the kernel before."""

GAP: Schema = {
    "ts": _INT,
    "dur": _INT,
    "gpu": _INT,
    "pid": _INT,
    "run": _INT,
    "step": _INT,
    "bucket": _TEXT,
    "prev_name": _TEXT,
    "next_name": _TEXT,
    "cause": _TEXT,
    "mostly": _TEXT,
    "pace": _TEXT,
    "launch_lateness_ns": _INT,
    "sync_ns": _INT,
    "launch_ns": _INT,
    "memory_ns": _INT,
    "copy_ns": _INT,
    "other_cuda_ns": _INT,
    "outside_cuda_ns": _INT,
}
"""Idle gaps of at least the shortest length shown, with their cause.

`cause`, `mostly` and `pace` are the words of docs/causes.md in lower case (`launch_bound`,
`in_sync`, `host`). `step` counts as in `STEP`; `pid`, `run` and `step` are of the process whose
work ended the gap.
"""

STEP: Schema = {
    "pid": _INT,
    "gpu": _INT,
    "step": _INT,
    "run": _INT,
    "step_in_run": _INT,
    "phase": _TEXT,
    "ts": _INT,
    "dur": _INT,
    "kernel_count": _INT,
    "kernel_ns": _INT,
    "busy_ns": _INT,
    "idle_ns": _INT,
    "wall_ns": _INT,
    "kernel_util_pct": _REAL,
    "busy_util_pct": _REAL,
    "largest_gap_ns": _INT,
    "copy_count": _INT,
    "copy_bytes": _INT,
    "launch_count": _INT,
    "sync_count": _INT,
    "sync_ns": _INT,
    "allocation_count": _INT,
    "steps_per_second": _REAL,
}
"""Decode steps. `step` is the number of the marker that ends it, as the manual counts: 1, 2, ...
for each process on each GPU (`decode_step.number` in a trace). `phase` is in lower case.
"""

STEP_KERNEL: Schema = {
    "pid": _INT,
    "gpu": _INT,
    "step": _INT,
    "name": _TEXT,
    "demangled_name": _TEXT,
    "count": _INT,
    "total_ns": _INT,
}
"""Kernels by step and name; a kernel belongs to the step in which it starts and ends."""

STEP_CALL: Schema = {
    "pid": _INT,
    "gpu": _INT,
    "step": _INT,
    "name": _TEXT,
    "count": _INT,
    "total_ns": _INT,
}
"""CUDA calls of a step's process that began in the step (`t0 <= start < t1`), by name.

Whole durations, also of calls that return after the step.
"""

KERNEL_NAME: Schema = {
    "name": _TEXT,
    "demangled_name": _TEXT,
    "count": _INT,
    "total_ns": _INT,
}
"""Kernels of the whole capture by both names: what families are told from."""


@dataclass(frozen=True)
class Facts:
    """What a capture is.

    Attributes:
        nsys_version: Of the nsys that exported it; None before 2022.
        session_start_utc_ns: ns since 1970 at which the session began; None where not known.
        gpus: Number to full name of each GPU that has work.
        processes: Process id to program name, of those that have GPU work or CUDA calls.
        decode_steps: Where the decode steps come from, or why there are none; may be empty.
        min_gap_ns: Shortest idle gap in `Source.gaps`, ns.
    """

    nsys_version: str | None
    session_start_utc_ns: int | None
    gpus: Mapping[int, str]
    processes: Mapping[int, str]
    decode_steps: str
    min_gap_ns: int


class Source(Protocol):
    """Where tables come from. Each table has exactly the columns and types of its schema."""

    @property
    def facts(self) -> Facts:
        """What the capture is."""

    def time_shift(self) -> int:
        """What a trace of the whole capture adds to every time here, ns; 0 as a rule."""

    def kernel_summary(self, full_names: bool = False) -> pl.DataFrame:
        """`SUMMARY` of kernels by short (or demangled) name; total_ns falling, then name."""

    def api_summary(self) -> pl.DataFrame:
        """`SUMMARY` of CUDA calls, runtime and driver; total_ns falling, then name."""

    def copy_summary(self) -> pl.DataFrame:
        """`COPY_SUMMARY`; total_ns falling, then name."""

    def sync_summary(self) -> pl.DataFrame:
        """`SYNC_SUMMARY`; total_ns falling, then name, waited_for."""

    def gpu_balance(self) -> pl.DataFrame:
        """`GPU_BALANCE`; by gpu."""

    def gap_total(self, all_gpus: bool = False) -> pl.DataFrame:
        """`GAP_TOTAL`; by definition, gpu.

        Args:
            all_gpus: Take the work of all GPUs as that of one, as the manual's SQL does; `gpu` is
                null then.
        """

    def gap_buckets(self, all_gpus: bool = False) -> pl.DataFrame:
        """`GAP_BUCKET`; by definition, gpu, size; `all_gpus` as for `gap_total`."""

    def consecutive_gaps(self, longer_than: int, all_gpus: bool = False) -> pl.DataFrame:
        """`CONSECUTIVE_GAP` with `gap_ns > longer_than`; by gpu, gap_ns falling, ts.

        Args:
            longer_than: ns.
            all_gpus: As for `gap_total`.
        """

    def gaps(self) -> pl.DataFrame:
        """`GAP`: when a GPU did nothing for any process; by gpu, ts."""

    def process_gaps(self) -> pl.DataFrame:
        """`GAP`: when a GPU that several processes share did nothing for one; by gpu, pid, ts."""

    def steps(self) -> pl.DataFrame:
        """`STEP`; by gpu, pid, step."""

    def step_kernels(self) -> pl.DataFrame:
        """`STEP_KERNEL`; by gpu, pid, step, total_ns falling, name, demangled_name."""

    def step_calls(self) -> pl.DataFrame:
        """`STEP_CALL`; by gpu, pid, step, total_ns falling, name."""

    def kernel_names(self) -> pl.DataFrame:
        """`KERNEL_NAME`; total_ns falling, name, demangled_name."""
