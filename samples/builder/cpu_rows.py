"""Rows of CPU work: CUDA calls, NVTX, OS runtime, libraries, MPI, OpenACC, diagnostics, samples."""

from __future__ import annotations

import json
from typing import Any

from samples.builder.model import Process, Thread
from samples.builder.store import Store

_MAX_INT64 = (1 << 63) - 1
PAYLOADS = {
    "uint64": "uint64Value",
    "int64": "int64Value",
    "double": "doubleValue",
    "uint32": "uint32Value",
    "int32": "int32Value",
    "float": "floatValue",
}
"""Kind of an NVTX payload → its column."""


class CpuRows(Store):
    """A store with one method for each kind of CPU activity. Times are ns."""

    def api(
        self,
        thread: Thread,
        name: str,
        start: int,
        end: int,
        *,
        correlation: int | None = None,
        returned: int = 0,
    ) -> int:
        """One CUDA call, runtime or driver by its name; returns its correlation id."""
        if correlation is None:
            correlation = thread.process.next_correlation()
        self.row(
            "CUPTI_ACTIVITY_KIND_RUNTIME",
            start=start,
            end=end,
            eventClass=0 if name.startswith("cuda") else 1,
            globalTid=thread.global_tid,
            correlationId=correlation,
            nameId=self.string(name),
            returnValue=returned,
        )
        return correlation

    def overhead(
        self, thread: Thread, name: str, kind: int, start: int, end: int, *, correlation: int = 0
    ) -> None:
        """Time lost to CUDA or the profiler (schema 3.24.0 and later; nothing before)."""
        if self.has_table("CUPTI_ACTIVITY_KIND_OVERHEAD"):
            self.row(
                "CUPTI_ACTIVITY_KIND_OVERHEAD",
                start=start,
                end=end,
                eventClass=103,
                globalTid=thread.global_tid,
                correlationId=correlation,
                nameId=self.string(name),
                overheadType=kind,
            )

    def on_cpu(self, thread: Thread, cpu: int, came: int, left: int, *, state: int = 0) -> None:
        """A thread comes to a CPU and leaves it, in a state of ENUM_SAMPLING_THREAD_STATE."""
        for at, comes in ((came, 1), (left, 0)):
            self.sched(thread, cpu, at, comes, state=0 if comes else state)

    def sched(self, thread: Thread, cpu: int, at: int, comes: int, *, state: int = 0) -> None:
        """One row: a thread comes to a CPU, or leaves it."""
        self.row(
            "SCHED_EVENTS", start=at, cpu=cpu, isSchedIn=comes, globalTid=thread.global_tid,
            threadState=state,
        )  # fmt: skip

    def sample(
        self, thread: Thread, at: int, chain: list[tuple[str, str]], *, cpu: int = 0
    ) -> None:
        """A CPU sample; the chain is (function, module) of each frame, the innermost first."""
        number = self.count("COMPOSITE_EVENTS") + 1
        self.row(
            "COMPOSITE_EVENTS", id=number, start=at, cpu=cpu, threadState=1,
            globalTid=thread.global_tid, cpuCycles=1,
        )  # fmt: skip
        for depth, (function, module) in enumerate(chain):
            kernel = int(module == "[kernel.kallsyms]")
            self.row(
                "SAMPLING_CALLCHAINS", id=number, symbol=self.string(function),
                module=self.string(module), kernelMode=kernel, stackDepth=depth,
            )  # fmt: skip

    def profiler_overhead(self, thread: Thread, name: str, start: int, end: int) -> None:
        """Time that nsys itself took on a thread."""
        self.row("PROFILER_OVERHEAD", **self._call(thread, name, start, end))

    def cublas(self, thread: Thread, name: str, start: int, end: int) -> None:
        """One cuBLAS call."""
        self.row("CUBLAS_EVENTS", eventClass=29, **self._call(thread, name, start, end))

    def cudnn(self, thread: Thread, name: str, start: int, end: int) -> None:
        """One cuDNN call."""
        self.row("CUDNN_EVENTS", eventClass=28, **self._call(thread, name, start, end))

    def osrt(
        self, thread: Thread, name: str, start: int, end: int, *, event_class: int = 27
    ) -> None:
        """One OS runtime call; classes 31 and 32 are markers, not calls."""
        self.row("OSRT_API", eventClass=event_class, **self._call(thread, name, start, end))

    def _call(self, thread: Thread, name: str, start: int, end: int) -> dict[str, Any]:
        return {
            "start": start,
            "end": end,
            "globalTid": thread.global_tid,
            "nameId": self.string(name),
        }

    def nvtx(
        self,
        thread: Thread,
        event_type: int,
        start: int,
        end: int | None,
        text: str | None,
        *,
        registered: bool = False,
        domain: int = 0,
        category: int | None = None,
        color: int | None = None,
        payload: tuple[str, float] | None = None,
        json_value: Any = None,
        **columns: Any,
    ) -> None:
        """One NVTX event.

        Args:
            thread: Where it happened.
            event_type: ENUM_NSYS_EVENT_TYPE; the methods below know the usual ones.
            start: ns.
            end: ns; None for what is not a range.
            text: The message; None for none at all.
            registered: Whether the message goes to StringIds, as registered strings do.
            domain: Domain id, numbered per process; 0 is the default domain.
            category: Category id within the domain.
            color: ARGB.
            payload: (kind, value), the kinds being the keys of PAYLOADS; uint64 values above
                2^63 - 1 are stored as negative numbers, as nsys does.
            json_value: Extended payload, stored as JSON text.
            columns: Any other column of NVTX_EVENTS.
        """
        values: dict[str, Any] = dict(columns)
        if payload is not None:
            kind, value = payload
            if kind == "uint64" and value > _MAX_INT64:
                value = int(value) - (1 << 64)
            values[PAYLOADS[kind]] = value
        if text is not None:
            values["textId" if registered else "text"] = self.string(text) if registered else text
        if json_value is not None:
            values["jsonText"] = json.dumps(json_value)
        self.row(
            "NVTX_EVENTS",
            start=start,
            end=end,
            eventType=event_type,
            category=category,
            color=color,
            globalTid=thread.global_tid,
            domainId=domain,
            **values,
        )

    def nvtx_push_pop(
        self, thread: Thread, text: str | None, start: int, end: int, **options: Any
    ) -> None:
        """A push/pop range; options as in `nvtx`."""
        self.nvtx(thread, 59, start, end, text, **options)

    def nvtx_range(
        self,
        thread: Thread,
        text: str | None,
        start: int,
        end: int,
        *,
        range_id: int,
        end_thread: Thread | None = None,
        **options: Any,
    ) -> None:
        """A start/end range, possibly ended by another thread; options as in `nvtx`."""
        ended = end_thread.global_tid if end_thread else None
        self.nvtx(thread, 60, start, end, text, rangeId=range_id, endGlobalTid=ended, **options)

    def nvtx_mark(self, thread: Thread, text: str | None, at: int, **options: Any) -> None:
        """A mark; options as in `nvtx`."""
        self.nvtx(thread, 34, at, None, text, **options)

    def nvtx_domain(self, thread: Thread, domain: int, name: str, at: int = 0) -> None:
        """Names a domain of the thread's process."""
        self.nvtx(thread, 75, at, None, name, domain=domain)

    def nvtx_category(
        self, thread: Thread, category: int, name: str, *, domain: int = 0, at: int = 0
    ) -> None:
        """Names a category of a domain of the thread's process."""
        self.nvtx(thread, 33, at, None, name, domain=domain, category=category)

    def nvtx_thread_name(self, thread: Thread, name: str, at: int = 0) -> None:
        """The name that the program gave a thread."""
        self.nvtx(thread, 39, at, None, name)

    def mpi(
        self, kind: str, thread: Thread, name: str, start: int, end: int, **columns: Any
    ) -> None:
        """One MPI call of the kind "P2P", "COLLECTIVES", "START_WAIT" or "OTHER"."""
        self.row(
            f"MPI_{kind}_EVENTS",
            start=start,
            end=end,
            globalTid=thread.global_tid,
            textId=self.string(name),
            **columns,
        )

    def openacc(
        self, kind: str, thread: Thread, name: str, start: int, end: int, **columns: Any
    ) -> None:
        """One OpenACC event of the kind "DATA", "LAUNCH" or "OTHER"."""
        values = {"eventKind": 1, "DeviceType": 4, "lineNo": 51, "cuContextId": 1, "cuStreamId": 7}
        self.row(
            f"CUPTI_ACTIVITY_KIND_OPENACC_{kind}",
            start=start,
            end=end,
            nameId=self.string(name),
            globalTid=thread.global_tid,
            srcFile=self.string("jacobi.f90"),
            funcName=self.string("jacobi"),
            **(values | columns),
        )

    def diagnostic(
        self, text: str, at: int, *, severity: int = 1, source: int = 1, process: Process | None
    ) -> None:
        """A message of nsys (schema 3.11.1 and later): 1 information, 2 warning, 3 error."""
        if self.has_table("DIAGNOSTIC_EVENT"):
            self.row(
                "DIAGNOSTIC_EVENT",
                timestamp=at,
                timestampType=1,
                source=source,
                severity=severity,
                text=text,
                # Seen in real captures for messages that belong to no process.
                globalPid=process.global_pid if process else -144115188075855872,
            )

    def gpu_metrics(
        self,
        gpu_id: int,
        names: list[str],
        samples: list[tuple[int, list[int]]],
        *,
        tag: int = 1,
    ) -> int:
        """GPU metric samples: the metrics' names, then (timestamp, value of each metric).

        Returns:
            The typeId, `hw:8 | vm:8 | source:16 | tag:24 | gpu:8`.
        """
        type_id = (1 << 48) | (1 << 32) | (tag << 8) | gpu_id
        for metric, name in enumerate(names):
            self.row(
                "TARGET_INFO_GPU_METRICS",
                typeId=type_id,
                sourceId=(1 << 48) | (1 << 32),
                typeName=f"GPU Metrics [{gpu_id}]",
                metricId=metric,
                metricName=name,
            )
        for timestamp, values in samples:
            for metric, value in enumerate(values):
                self.row(
                    "GPU_METRICS",
                    timestamp=timestamp,
                    typeId=type_id,
                    metricId=metric,
                    value=value,
                )
        return type_id
