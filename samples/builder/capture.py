"""`Capture`: one made-up nsys export, built call by call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samples.builder.cpu_rows import CpuRows
from samples.builder.gpu_rows import GpuRows
from samples.builder.model import INVALID_ID, Kernel, Thread
from samples.builder.targets import SECRET, Targets

SESSION_START_NS = 1_740_043_800_123_456_789
"""2025-02-20 09:30:00 UTC, the made-up start of every session."""


class Capture(Targets, GpuRows, CpuRows):
    """A small nsys export in the schema of any nsys since 2020.

        capture = Capture(schema="3.16.1")
        capture.gpu()
        process = capture.process(4242, "bench_decode")
        thread = capture.thread(process, 4242, "bench_decode")
        capture.launch(thread, "argmax_kernel", at=1_000, call=2_500, start=6_000, duration=9_000)
        capture.write(Path("one_kernel.sqlite"))

    The same calls build the same run in every schema version, as far as that version can hold
    it: see `Store` for what happens to columns, and `row` for tables without a method.

    Args:
        schema: Schema version, see `versions.PRODUCTS`; "none" is an export of 2021.
        lazy: False creates all tables, empty ones too.
        ts_normalize: Write UTC timestamps, as `nsys export --ts-normalize=true` does.
        metadata: False leaves out all tables about the capture and the export.
        utc_start_ns: When the session started.
        graph_nodes: What META_DATA_CAPTURE says of `--cuda-graph-trace`.
    """

    def __init__(
        self,
        schema: str = "3.16.1",
        *,
        lazy: bool = True,
        ts_normalize: bool = False,
        metadata: bool = True,
        utc_start_ns: int = SESSION_START_NS,
        graph_nodes: bool = True,
    ) -> None:
        super().__init__(schema, lazy=lazy)
        self.utc_start_ns = utc_start_ns
        if ts_normalize:
            self.time_shift = utc_start_ns
        if metadata:
            self.describe_export(utc_start_ns, ts_normalize=ts_normalize)
            self.describe_capture(
                ["./bench_decode", "--nocapture", f"--token={SECRET}"],
                trace=("Cuda", "CuBLAS"),
                node=graph_nodes,
            )

    def launch(
        self,
        thread: Thread,
        kernel: Kernel | str,
        *,
        at: int,
        call: int,
        start: int,
        duration: int,
        name: str = "cudaLaunchKernel_v7000",
        **options: Any,
    ) -> int:
        """A launching call and the kernel it launches.

        Args:
            thread: The calling thread.
            kernel: What to launch.
            at: Start of the call.
            call: Duration of the call.
            start: Start of the kernel.
            duration: Duration of the kernel.
            name: The function called.
            options: As in `kernel`.

        Returns:
            The correlation id.
        """
        correlation = self.api(thread, name, at, at + call)
        self.kernel(
            thread.process, kernel, start, start + duration, correlation=correlation, **options
        )
        return correlation

    def sync(
        self,
        thread: Thread,
        kind: str,
        start: int,
        end: int,
        *,
        name: str = "",
        stream: int = INVALID_ID,
        event: int = INVALID_ID,
        device: int = 0,
    ) -> int:
        """A waiting call and its synchronisation record, a little shorter than the call.

        Args:
            thread: The calling thread.
            kind: "stream", "context", "event" or "stream_wait".
            start: Start of the call.
            end: Return of the call.
            name: The function; the runtime's own for the kind by default.
            stream: The stream waited for, where the kind is "stream" or "stream_wait".
            event: The event waited for, where the kind is "event" or "stream_wait".
            device: CUDA ordinal.

        Returns:
            The correlation id.
        """
        names = {
            "stream": "cudaStreamSynchronize_v3020",
            "context": "cudaDeviceSynchronize_v3020",
            "event": "cudaEventSynchronize_v3020",
            "stream_wait": "cudaStreamWaitEvent_v3020",
        }
        correlation = self.api(thread, name or names[kind], start, end)
        margin = min(400, (end - start) // 4)
        self.synchronization(
            thread.process,
            kind,
            start + margin,
            end - margin,
            correlation=correlation,
            device=device,
            stream=stream,
            event=event,
        )
        return correlation

    def graph_launch(
        self,
        thread: Thread,
        at: int,
        call: int,
        nodes: list[tuple[Kernel | str, int, int, int]],
        *,
        graph: int | None = None,
        name: str = "cudaGraphLaunch_v10000",
        **options: Any,
    ) -> int:
        """A launch of a CUDA graph, traced node by node.

        Args:
            thread: The calling thread.
            at: Start of the call.
            call: Duration of the call.
            nodes: (kernel, start, end, node id) of each node.
            graph: Id of the graph, which kernels carry since schema 3.24.0.
            name: The function called.
            options: As in `kernel`.

        Returns:
            The correlation id that the call and all its nodes share.
        """
        correlation = self.api(thread, name, at, at + call)
        for kernel, start, end, node in nodes:
            self.kernel(
                thread.process,
                kernel,
                start,
                end,
                correlation=correlation,
                graph_node=node,
                graph=graph,
                **options,
            )
        return correlation

    def save(self, directory: Path, name: str) -> Path:
        """Writes `directory/name.sqlite` and returns its path."""
        return self.write(directory / f"{name}.sqlite")
