"""A simulated machine: one host thread that issues CUDA calls, one stream that executes them.

The host clock runs from call to call. The stream is a queue: an operation starts when its call
has reached the GPU (start of the call + a launch latency) and the operation before has ended
(+ about 1 us). Every row goes to the capture, every fact to lists from which the truth is made.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from samples.builder.capture import Capture
from samples.builder.model import Kernel, Thread
from samples.builder.truth import Call, Gap, Operation, cpu_time

STREAM = 13
"""The engine's own, non-blocking stream."""

_LAUNCH_LATENCY = (3_400, 4_600)
_GRAPH_LATENCY = (6_500, 8_000)
_QUEUE_GAP = (800, 1_300)
_NODE_GAP = (500, 900)


@dataclass(frozen=True)
class Work:
    """What one host-side function of the engine submits.

    Attributes:
        kernels: The kernels and how long they run (ns).
        library: The cuBLAS function that launches them; "" for the engine's own launch.
        allocate: Bytes of a buffer that is allocated before.
        free: Whether the oldest buffer is freed after.
    """

    kernels: tuple[tuple[Kernel, int], ...]
    library: str = ""
    allocate: int = 0
    free: bool = False


class Engine:
    """Runs `Work` on the simulated machine.

    Attributes:
        now: The host thread's clock, ns.
        reason: Why the host comes late, should it come late with the next operation.
    """

    def __init__(self, capture: Capture, thread: Thread, now: int, seed: int) -> None:
        self.capture = capture
        self.thread = thread
        self.now = now
        self.reason = "launch"
        self.operations: list[Operation] = []
        self.calls: list[Call] = []
        self.cublas_calls = 0
        self.launches_without_kernel = 0
        self.graph_launches = 0
        self.memory_events = 0
        self.memory_in_use = 0
        self.synchronizations = 0
        self._causes: list[str] = []
        self._gpu_free = 0
        self._random = random.Random(seed)
        self._buffers: list[tuple[int, int]] = []
        self._next_address = 0x7F3A_0000_0000

    def between(self, bounds: tuple[int, int]) -> int:
        """A whole number within the bounds."""
        return self._random.randint(*bounds)

    def host(self, nanoseconds: int, reason: str = "") -> None:
        """The host does something outside CUDA; a reason names the gap that comes of it."""
        self.now += nanoseconds
        self.reason = reason or self.reason

    def call(self, name: str, nanoseconds: int) -> int:
        """A CUDA call of that length; returns its correlation id."""
        start, self.now = self.now, self.now + nanoseconds
        self.calls.append(Call(start, self.now, name))
        return self.capture.api(self.thread, name, start, self.now)

    def run(self, work: Work) -> None:
        """Submits the work as an engine without graphs does."""
        if work.allocate:
            self.allocate(work.allocate)
        self._library_begins(work)
        for kernel, duration in work.kernels:
            start, correlation = self._launch_call(work)
            begin, end = self._enqueue("kernel", kernel.name, start, duration, correlation)
            self.capture.kernel(
                self.thread.process, kernel, begin, end, correlation=correlation, stream=STREAM
            )
            self.host(self.between((350, 700)))
        self._library_ends(work)
        if work.free:
            self.free()

    def record(self, work: Work) -> None:
        """Submits the work while the stream is being captured: calls, but nothing runs."""
        self._library_begins(work)
        for _ in work.kernels:
            self._launch_call(work)
            self.launches_without_kernel += 1
            self.host(self.between((350, 700)))
        self._library_ends(work)

    def replay(self, works: list[Work], graph: int, first_node: int) -> None:
        """Launches the graph that was recorded from the works."""
        start = self.now
        correlation = self.call("cuGraphLaunch", self.between((8_500, 10_500)))
        self.graph_launches += 1
        nodes = [pair for work in works for pair in work.kernels]
        for number, (kernel, duration) in enumerate(nodes):
            begin, end = self._enqueue(
                "kernel", kernel.name, start, duration, correlation, node=number
            )
            self.capture.kernel(
                self.thread.process,
                kernel,
                begin,
                end,
                correlation=correlation,
                stream=STREAM,
                graph_node=first_node + number,
                graph=graph,
            )

    def copy(self, kind: str, nbytes: int, duration: int, *, pageable: bool = False) -> None:
        """An asynchronous copy "HtoD" or "DtoH"; pinned host memory unless pageable."""
        start = self.now
        correlation = self.call(f"cuMemcpy{kind}Async_v2", self.between((2_200, 3_000)))
        begin, end = self._enqueue("memcpy", f"memcpy {kind}", start, duration, correlation)
        columns = {"srcKind" if kind == "HtoD" else "dstKind": 0 if pageable else 1}
        self.capture.memcpy(
            self.thread.process,
            kind,
            nbytes,
            begin,
            end,
            correlation=correlation,
            stream=STREAM,
            **columns,
        )

    def clear(self, nbytes: int, duration: int) -> None:
        """An asynchronous memset to zero."""
        start = self.now
        correlation = self.call("cuMemsetD8Async", self.between((1_800, 2_400)))
        begin, end = self._enqueue("memset", "memset", start, duration, correlation)
        self.capture.memset(
            self.thread.process, nbytes, begin, end, correlation=correlation, stream=STREAM
        )

    def wait(self) -> None:
        """Waits for the stream; the call returns a few us after the last operation."""
        start = self.now
        end = max(start + 1_500, self._gpu_free + self.between((3_000, 5_500)))
        correlation = self.call("cuStreamSynchronize", end - start)
        self.capture.synchronization(
            self.thread.process,
            "stream",
            start + 350,
            end - 250,
            correlation=correlation,
            stream=STREAM,
        )
        self.synchronizations += 1
        self.reason = "sync"

    def allocate(self, nbytes: int, *, call: int = 0, reason: str = "") -> None:
        """Allocates device memory in stream order; kept until `free`."""
        correlation = self.call("cuMemAllocAsync", call or self.between((900, 1_500)))
        self._memory_event(self._next_address, nbytes, correlation, free=False)
        self._buffers.append((self._next_address, nbytes))
        self._next_address += (nbytes + 511) // 512 * 512
        self.memory_in_use += nbytes
        self.reason = reason or self.reason

    def keep(self) -> None:
        """What is allocated now stays allocated: it is no longer freed by `free`."""
        self._buffers.clear()

    def free(self) -> None:
        """Frees the oldest buffer."""
        address, nbytes = self._buffers.pop(0)
        correlation = self.call("cuMemFreeAsync", self.between((700, 1_100)))
        self._memory_event(address, nbytes, correlation, free=True)
        self.memory_in_use -= nbytes

    def gaps(self) -> list[Gap]:
        """Every time between two operations in which the GPU was idle."""
        return [
            Gap(
                previous.end,
                following.start,
                previous.name,
                following.name,
                cause,
                cpu_time(previous.end, following.start, self.calls),
            )
            for previous, following, cause in zip(
                self.operations, self.operations[1:], self._causes[1:], strict=False
            )
        ]

    def _launch_call(self, work: Work) -> tuple[int, int]:
        start = self.now
        if work.library:
            return start, self.call("cudaLaunchKernel_v7000", self.between((2_100, 2_700)))
        return start, self.call("cuLaunchKernel", self.between((1_800, 2_400)))

    def _library_begins(self, work: Work) -> None:
        self._library_start = self.now
        if work.library:
            self.host(self.between((600, 900)))

    def _library_ends(self, work: Work) -> None:
        if work.library:
            self.capture.cublas(self.thread, work.library, self._library_start, self.now)
            self.cublas_calls += 1
        self.host(self.between((250, 450)))

    def _enqueue(
        self,
        kind: str,
        name: str,
        call_start: int,
        duration: int,
        correlation: int,
        *,
        node: int | None = None,
    ) -> tuple[int, int]:
        """Puts an operation into the stream; returns its start and end."""
        latency = self.between(_LAUNCH_LATENCY if node is None else _GRAPH_LATENCY)
        queue_gap = self.between(_NODE_GAP if node else _QUEUE_GAP)
        free = self._gpu_free + queue_gap
        start = max(call_start + latency, free) if not node else free
        if node:
            cause = "graph"
        elif start > free:
            cause, self.reason = self.reason, "launch"
        else:
            cause = "queued"
        duration = duration * self.between((985, 1_015)) // 1_000
        self.operations.append(Operation(start, start + duration, name, kind, correlation))
        self._causes.append(cause)
        self._gpu_free = start + duration
        return start, start + duration

    def _memory_event(self, address: int, nbytes: int, correlation: int, *, free: bool) -> None:
        in_use = self.memory_in_use + (-nbytes if free else nbytes)
        self.capture.memory_event(
            self.thread.process,
            self.now - 200,
            address,
            nbytes,
            free=free,
            correlation=correlation,
            localMemoryPoolAddress=0x5581_0200_0000,
            localMemoryPoolReleaseThreshold=0,
            localMemoryPoolSize=2 << 30,
            localMemoryPoolUtilizedSize=in_use,
        )
        self.memory_events += 1
