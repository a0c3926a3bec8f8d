"""Tables from a trace: SQL on the package `nsys`."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import polars as pl

from nsys2perfetto.analysis.gaps import BUCKETS
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.errors import TraceError
from nsys2perfetto.report import source as tables
from nsys2perfetto.report.frames import make
from nsys2perfetto.report.source import Facts, Schema

_ATTRIBUTE = "trace_attribute."


class Answer(Protocol):
    """The rows of a query."""

    def to_polars(self) -> pl.DataFrame:
        """As columns."""


class Trace(Protocol):
    """Something that can be asked with SQL: `query.session.Trace`, for example."""

    def query(self, sql: str) -> Answer:
        """Runs SQL."""


class TraceSource:
    """The tables of `source.Source`, from a trace that nsys2perfetto made.

    Args:
        trace: Loaded into a trace processor that knows the SQL package `nsys`.

    Raises:
        TraceError: It is another program's trace.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        if f"{_ATTRIBUTE}nsys2perfetto_version" not in self._metadata:
            raise TraceError(
                "this trace was not made by nsys2perfetto: name one that was, or a capture"
            )

    @cached_property
    def facts(self) -> Facts:
        """What the capture was."""
        gpus = self._ask("nsys.utilization", "SELECT gpu, name FROM nsys_gpu_balance ORDER BY gpu")
        processes = self._ask(
            "nsys.capture", "SELECT pid, coalesce(name, '') FROM nsys_process ORDER BY pid"
        )
        attributes = self._metadata
        version = attributes.get(f"{_ATTRIBUTE}nsys_version")
        return Facts(
            nsys_version=None if version is None else str(version),
            session_start_utc_ns=attributes.get(f"{_ATTRIBUTE}session_start_utc_ns"),
            gpus=dict(gpus.iter_rows()),
            processes=dict(processes.iter_rows()),
            decode_steps=str(attributes.get(f"{_ATTRIBUTE}decode_steps", "")),
            min_gap_ns=int(attributes.get(f"{_ATTRIBUTE}min_gap_ns", AnnotationOptions().min_gap)),
        )

    def time_shift(self) -> int:
        """What was added to every time."""
        return int(self._metadata.get(f"{_ATTRIBUTE}time_shift_ns", 0))

    # Summaries

    def kernel_summary(self, full_names: bool = False) -> pl.DataFrame:
        """`SUMMARY` of kernels."""
        view = "nsys_kernel_summary_full" if full_names else "nsys_kernel_summary"
        return self._table(tables.SUMMARY, "nsys.kernels", view, "-total_ns", "name")

    def api_summary(self) -> pl.DataFrame:
        """`SUMMARY` of CUDA calls."""
        return self._table(tables.SUMMARY, "nsys.api", "nsys_api_summary", "-total_ns", "name")

    def copy_summary(self) -> pl.DataFrame:
        """`COPY_SUMMARY`."""
        return self._table(
            tables.COPY_SUMMARY, "nsys.copies", "nsys_copy_summary", "-total_ns", "name"
        )

    def sync_summary(self) -> pl.DataFrame:
        """`SYNC_SUMMARY`."""
        return self._table(
            tables.SYNC_SUMMARY,
            "nsys.api",
            "nsys_sync_summary",
            *("-total_ns", "name", "waited_for"),
        )

    def kernel_names(self) -> pl.DataFrame:
        """`KERNEL_NAME`."""
        rows = """(
          SELECT name, demangled_name, count() AS count, sum(dur) AS total_ns
          FROM nsys_kernel
          GROUP BY name, demangled_name
        )"""
        return self._table(
            tables.KERNEL_NAME, "nsys.kernels", rows, "-total_ns", "name", "demangled_name"
        )

    # Gaps

    def gpu_balance(self) -> pl.DataFrame:
        """`GPU_BALANCE`."""
        return self._table(tables.GPU_BALANCE, "nsys.utilization", "nsys_gpu_balance", "gpu")

    def gap_total(self, all_gpus: bool = False) -> pl.DataFrame:
        """`GAP_TOTAL`."""
        view = _view("nsys_gap_total", all_gpus)
        return self._table(tables.GAP_TOTAL, "nsys.gaps", view, "definition", "gpu")

    def gap_buckets(self, all_gpus: bool = False) -> pl.DataFrame:
        """`GAP_BUCKET`."""
        view = _view("nsys_gap_bucket", all_gpus)
        frame = self._table(tables.GAP_BUCKET, "nsys.gaps", view)
        return frame.sort(
            "definition", "gpu", pl.col("bucket").cast(pl.Enum(BUCKETS)), maintain_order=True
        )

    def consecutive_gaps(self, longer_than: int, all_gpus: bool = False) -> pl.DataFrame:
        """`CONSECUTIVE_GAP`."""
        view = _view("nsys_consecutive_gap", all_gpus)
        rows = f"(SELECT * FROM {view} WHERE gap_ns > {longer_than})"
        return self._table(
            tables.CONSECUTIVE_GAP,
            "nsys.gaps",
            rows,
            *("gpu", "-gap_ns", "ts", "prev_name", "next_name"),
            *("prev_demangled_name", "next_demangled_name"),
        )

    def gaps(self) -> pl.DataFrame:
        """`GAP` of GPUs."""
        return self._table(tables.GAP, "nsys.gaps", "nsys_gap", "gpu", "ts")

    def process_gaps(self) -> pl.DataFrame:
        """`GAP` of processes that share a GPU."""
        return self._table(tables.GAP, "nsys.gaps", "nsys_process_gap", "gpu", "pid", "ts")

    # Steps

    def steps(self) -> pl.DataFrame:
        """`STEP`."""
        return self._table(tables.STEP, "nsys.steps", "nsys_step", "gpu", "pid", "step")

    def step_kernels(self) -> pl.DataFrame:
        """`STEP_KERNEL`."""
        return self._table(
            tables.STEP_KERNEL,
            "nsys.steps",
            "nsys_step_kernel",
            *("gpu", "pid", "step", "-total_ns", "name", "demangled_name"),
        )

    def step_calls(self) -> pl.DataFrame:
        """`STEP_CALL`."""
        return self._table(
            tables.STEP_CALL,
            "nsys.steps",
            "nsys_step_call",
            *("gpu", "pid", "step", "-total_ns", "name"),
        )

    # Asking

    def _table(self, schema: Schema, module: str, rows: str, *order: str) -> pl.DataFrame:
        """A table with its times as the capture counts.

        Args:
            schema: Its columns.
            module: Of the SQL package.
            rows: A view of that module, or a query in parentheses.
            order: See `frames.make`.
        """
        columns = ", ".join(f"ts - {self.time_shift()} AS ts" if c == "ts" else c for c in schema)
        return make(schema, self._ask(module, f"SELECT {columns} FROM {rows}"), *order)

    def _ask(self, module: str, sql: str) -> pl.DataFrame:
        return self._trace.query(f"INCLUDE PERFETTO MODULE {module};\n{sql}").to_polars()

    @cached_property
    def _metadata(self) -> dict[str, Any]:
        """What the trace says of itself."""
        rows = self._trace.query("SELECT name, int_value, str_value FROM metadata").to_polars()
        return {name: text if number is None else number for name, number, text in rows.iter_rows()}


def _view(name: str, all_gpus: bool) -> str:
    return f"{name}_all_gpus" if all_gpus else name
