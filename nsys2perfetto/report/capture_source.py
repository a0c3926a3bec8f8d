"""Tables computed straight from an nsys export: no trace, no trace processor."""

from __future__ import annotations

from functools import cached_property

import polars as pl

from nsys2perfetto import model
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.nsys.ids import PROCESS_MASK, pid_of
from nsys2perfetto.reading import Progress
from nsys2perfetto.report import capture_gaps, capture_steps, capture_summaries
from nsys2perfetto.report.source import Facts
from nsys2perfetto.tables import span, tables_of

_FAMILIES = {"kernel", "memcpy", "memset", "graph", "cuda_api", "cuda_wait", "overhead", "nvtx"}
"""What the tables are made of. NVTX ranges may be steps, overheads are causes of gaps."""


class CaptureSource:
    """The tables of `source.Source`, from an export.

    Args:
        capture: Stays open as long as tables are asked for.
        selection: Time range and processes.
        annotate: Where decode steps come from, and the shortest gap; None for the defaults.
        progress: Called between the steps of reading.

    Raises:
        CaptureError: The capture cannot be read.
    """

    def __init__(
        self,
        capture: Capture,
        selection: Selection | None = None,
        annotate: AnnotationOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._model = model.read(
            capture,
            selection or Selection(),
            FAMILIES if _equal_pids(capture) else _FAMILIES,
            annotate or AnnotationOptions(),
            progress or (lambda *_: None),
        )

    @cached_property
    def facts(self) -> Facts:
        """What the capture is."""
        read, annotations = self._model, self._model.annotations
        units, gpus = annotations.table.units, read.reading.gpus.by_id
        processes = {u.process for u in units}
        processes.update((read.calls.events.config["globalTid"] & PROCESS_MASK).to_list())
        names = read.tracks.process_names
        return Facts(
            nsys_version=read.reading.metadata.product_version,
            session_start_utc_ns=read.reading.metadata.session_start_utc,
            gpus={
                number: gpus[number].name if number in gpus else "GPU"
                for number in sorted({u.gpu for u in units})
            },
            processes=dict(sorted((read.tracks.pid(p), names.get(p, "")) for p in processes)),
            decode_steps="; ".join(annotations.choices()),
            min_gap_ns=annotations.options.min_gap,
        )

    def time_shift(self) -> int:
        """What a trace of the whole capture would add: of all events, also of those not read."""
        capture = self._model.reading.capture
        spans = [
            span(capture, t) for f in FAMILIES if f != "message" for t in tables_of(f, capture)
        ]
        return max(0, *(-found[0] for found in spans if found is not None), 0)

    # Summaries

    def kernel_summary(self, full_names: bool = False) -> pl.DataFrame:
        """`SUMMARY` of kernels."""
        column = "demangled_name" if full_names else "name"
        return capture_summaries.kernels_by_name(self._model, column)

    def api_summary(self) -> pl.DataFrame:
        """`SUMMARY` of CUDA calls."""
        return capture_summaries.calls(self._model)

    def copy_summary(self) -> pl.DataFrame:
        """`COPY_SUMMARY`."""
        return capture_summaries.copies(self._model)

    def sync_summary(self) -> pl.DataFrame:
        """`SYNC_SUMMARY`."""
        return capture_summaries.synchronization(self._model)

    def kernel_names(self) -> pl.DataFrame:
        """`KERNEL_NAME`."""
        return capture_summaries.kernels_by_both_names(self._model)

    # Gaps

    def gpu_balance(self) -> pl.DataFrame:
        """`GPU_BALANCE`."""
        return capture_gaps.balance(self._model, self.facts.gpus)

    def gap_total(self, all_gpus: bool = False) -> pl.DataFrame:
        """`GAP_TOTAL`."""
        return capture_gaps.totals(self._model, all_gpus)

    def gap_buckets(self, all_gpus: bool = False) -> pl.DataFrame:
        """`GAP_BUCKET`."""
        return capture_gaps.buckets(self._model, all_gpus)

    def consecutive_gaps(self, longer_than: int, all_gpus: bool = False) -> pl.DataFrame:
        """`CONSECUTIVE_GAP`."""
        return capture_gaps.consecutive(self._model, longer_than, all_gpus)

    def gaps(self) -> pl.DataFrame:
        """`GAP` of GPUs."""
        return capture_steps.gaps(self._model)

    def process_gaps(self) -> pl.DataFrame:
        """`GAP` of processes that share a GPU."""
        return capture_steps.process_gaps(self._model)

    # Steps

    def steps(self) -> pl.DataFrame:
        """`STEP`."""
        return capture_steps.steps(self._model)

    def step_kernels(self) -> pl.DataFrame:
        """`STEP_KERNEL`."""
        return capture_steps.step_kernels(self._model)

    def step_calls(self) -> pl.DataFrame:
        """`STEP_CALL`."""
        return capture_steps.step_calls(self._model)


def _equal_pids(capture: Capture) -> bool:
    """Whether two processes of the capture have the same id, as in several containers.

    The trace then numbers them in an order in which every process that has events counts, so all
    events must be read.
    """
    processes = pl.concat(
        [
            capture.read("PROCESSES", {"globalPid": "int"})["globalPid"],
            capture.read("ThreadNames", {"globalTid": "int"})["globalTid"],
        ]
    ).drop_nulls()
    known = (processes & PROCESS_MASK).unique().to_list()
    return len({pid_of(p) for p in known}) < len(known)
