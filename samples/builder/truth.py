"""What is known about a made-up run, and plain reference arithmetic on it.

Everything here works on Python lists in the most obvious way, so that it can be believed at a
glance; the tool's own, fast arithmetic is compared with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice, takewhile

CPU_KINDS = ("sync", "launch", "memory", "copy", "other", "outside")
"""What a thread can be doing during a GPU gap; "outside" is outside any CUDA call."""

BUCKETS = (
    (1_000, "<1us"),
    (5_000, "1-5us"),
    (10_000, "5-10us"),
    (50_000, "10-50us"),
    (100_000, "50-100us"),
    (1_000_000, "0.1-1ms"),
)
"""Upper bound in ns (exclusive) and name of each gap size, as the nsys manual's query has them."""


@dataclass(frozen=True)
class Operation:
    """One piece of GPU work: kind is "kernel", "memcpy" or "memset"."""

    start: int
    end: int
    name: str
    kind: str = "kernel"
    correlation: int = 0


@dataclass(frozen=True)
class Call:
    """One CUDA call of a thread."""

    start: int
    end: int
    name: str

    @property
    def kind(self) -> str:
        """Which of CPU_KINDS the call is."""
        for kind, parts in (
            ("sync", ("Synchronize",)),
            ("launch", ("Launch",)),
            ("copy", ("Memcpy", "Memset")),
            ("memory", ("MemAlloc", "MemFree", "Malloc", "Free")),
        ):
            if any(part in self.name for part in parts):
                return kind
        return "other"


@dataclass(frozen=True)
class Gap:
    """A time in which the GPU had nothing to do.

    Attributes:
        start: End of the operation before, ns.
        end: Start of the operation after, ns.
        previous: Short name of the operation before.
        next: Short name of the operation after.
        cause: Why, as the simulated engine knows it: "queued" (the next operation was waiting
            already; the GPU took its time), "graph" (the same, inside a graph launch), or one of
            the reasons for which the host came late: "launch", "sync", "allocation",
            "host_pause", "host_stall", "between_runs", "module_load", "model_load".
        cpu_ns: How much of the gap the launching thread spent in each of CPU_KINDS.
    """

    start: int
    end: int
    previous: str
    next: str
    cause: str
    cpu_ns: dict[str, int] = field(hash=False)

    @property
    def late(self) -> bool:
        """Whether the host came late (else the work was queued already)."""
        return self.cause not in {"queued", "graph"}

    @property
    def bucket(self) -> str:
        """The gap's size class."""
        return bucket(self.end - self.start)


@dataclass(frozen=True)
class Step:
    """One span between the ends of two marker kernels.

    Attributes:
        index: 1 for the span that ends with the first marker, as the manual's query counts.
        run: "warmup" or "measured".
        kind: "prefill" or "decode".
        start: End of the marker before; start of the first kernel for the first span.
        end: End of the marker.
        kernel_count: Kernels that lie within [start, end].
        kernel_ns: Their total duration.
        busy_ns: How long any GPU operation ran within the span.
    """

    index: int
    run: str
    kind: str
    start: int
    end: int
    kernel_count: int
    kernel_ns: int
    busy_ns: int


@dataclass
class DecodeTruth:
    """Everything that is known about one simulated decode run."""

    operations: list[Operation]
    calls: list[Call]
    gaps: list[Gap]
    steps: list[Step]
    launches_without_kernel: int
    """Launching calls that only recorded a graph node."""
    graph_launches: int
    cublas_calls: int
    memory_events: int
    memory_in_use: int
    """Bytes still allocated at the end."""
    synchronizations: int

    @property
    def kernels(self) -> list[Operation]:
        """The kernels in order of start."""
        return [op for op in self.operations if op.kind == "kernel"]

    def count_by_name(self) -> Counter[str]:
        """How often each kernel ran."""
        return Counter(op.name for op in self.kernels)

    def gaps_by_cause(self) -> Counter[str]:
        """How many ns of gaps each cause made."""
        total: Counter[str] = Counter()
        for gap in self.gaps:
            total[gap.cause] += gap.end - gap.start
        return total


def bucket(nanoseconds: int) -> str:
    """The manual's name for a gap of that size; negative gaps count as "<1us"."""
    for bound, name in BUCKETS:
        if nanoseconds < bound:
            return name
    return ">1ms"


def cpu_time(start: int, end: int, calls: list[Call]) -> dict[str, int]:
    """How the thread spent [start, end): ns in each of CPU_KINDS.

    The calls must be in order and must not overlap.
    """
    spent = dict.fromkeys(CPU_KINDS, 0)
    first = bisect_right(calls, start, key=lambda call: call.end)
    for call in takewhile(lambda call: call.start < end, islice(calls, first, None)):
        spent[call.kind] += max(0, min(end, call.end) - max(start, call.start))
    spent["outside"] = end - start - sum(spent.values())
    return spent


def idle_intervals(operations: list[Operation]) -> list[tuple[int, int]]:
    """The complement of the union of the operations, between the first start and the last end."""
    intervals = []
    busy_until: int | None = None
    for op in sorted(operations, key=lambda op: op.start):
        if busy_until is not None and op.start > busy_until:
            intervals.append((busy_until, op.start))
        busy_until = op.end if busy_until is None else max(busy_until, op.end)
    return intervals


def busy_ns(operations: list[Operation], start: int, end: int) -> int:
    """How long any of the operations ran within [start, end]."""
    total, busy_until = 0, start
    for op in sorted(operations, key=lambda op: op.start):
        left, right = max(op.start, busy_until), min(op.end, end)
        total += max(0, right - left)
        busy_until = max(busy_until, right)
    return total
