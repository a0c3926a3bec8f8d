"""What a conversion tells about itself: plain data, for the summary and for Python users."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class FamilyCount:
    """How many events of one kind went in and out.

    Always `read + filtered` = rows of the table that are events, and
    `read` = `written + joined + sum(left_out.values())`.
    """

    family: str
    """`kernel`, `memcpy`, `cuda_api`, `nvtx`, ...: also the names for `only` and `skip`."""
    table: str
    """The nsys table they come from."""
    read: int
    """Rows taken from the table."""
    written: int
    """Slices, instants or samples in the trace."""
    filtered: int = 0
    """Rows that the user's time range or process filter left out."""
    joined: int = 0
    """Rows that became arguments of another family's events (waits: of their CUDA call)."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason to number, for rows that are damaged and cannot be shown."""
    total_ns: int = 0
    """Sum of the durations of what was written, ns."""

    def plus(self, other: FamilyCount) -> FamilyCount:
        """Both counts together, for a family that has several tables."""
        left_out = dict(self.left_out)
        for reason, count in other.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
        return FamilyCount(
            self.family,
            f"{self.table}, {other.table}",
            self.read + other.read,
            self.written + other.written,
            self.filtered + other.filtered,
            self.joined + other.joined,
            left_out,
            self.total_ns + other.total_ns,
        )

    def moved_to_written(self, count: int) -> FamilyCount:
        """The same with `count` events written as slices of their own instead of joined."""
        return replace(self, written=self.written + count, joined=self.joined - count)


@dataclass(frozen=True)
class GpuInfo:
    """A GPU of the capture."""

    id: int
    name: str
    kernels: int = 0


@dataclass(frozen=True)
class CaptureInfo:
    """What a capture is; nothing here names the machine or its user."""

    path: Path
    """The SQLite export; the report (`.nsys-rep`) if nsys exported it for us."""
    size: int
    """Bytes of the SQLite export."""
    nsys_version: str | None
    """Of the nsys that exported the file; None before 2022."""
    schema_version: str | None
    session_start_utc_ns: int | None
    """ns since 1970."""
    gpus: list[GpuInfo]
    processes: list[tuple[int, str]]
    """Process id and program name of each process that has events."""
    first_event_ns: int
    """When the first event began, as the capture counts: what `start` and `end` refer to."""
    duration_ns: int
    """From the first event to the end of the last."""
    notes: list[str]
    """Suspicious or worth knowing, one sentence each, most important first."""


@dataclass(frozen=True)
class StepPart:
    """Decode steps that a trace was limited to."""

    first: int
    last: int
    """Numbers, `decode_step.number`."""
    start: int
    end: int
    """Start of the first and end of the last, of all processes and GPUs; ns as the capture counts.
    """


@dataclass(frozen=True)
class Conversion:
    """The result of `convert`."""

    capture: CaptureInfo
    output: Path
    output_size: int
    """Bytes of the file."""
    families: list[FamilyCount]
    derived: dict[str, int]
    """Slices that the tool added: `wake_up`, `nvtx_projection`, ..."""
    time_shift_ns: int
    """Added to every timestamp, so that none is negative; 0 as a rule."""
    arrows: int
    """Arrows from CUDA calls to the GPU work that they submitted."""

    decode_steps: list[str] = field(default_factory=list)
    """Where the decode steps come from, how many there are, and doubts about them: those of the
    whole capture, also where the trace is limited to some (`part`)."""
    part: StepPart | None = None
    """The steps that the trace is limited to; None where it is not."""

    def of(self, capture: Path, size: int) -> Conversion:
        """The same with what the user calls the capture, and with the size of the closed trace."""
        return replace(self, capture=replace(self.capture, path=capture), output_size=size)

    @property
    def events_read(self) -> int:
        """Events taken from the capture."""
        return sum(f.read for f in self.families)

    @property
    def events_written(self) -> int:
        """Events in the trace, those that became arguments of others included."""
        return sum(f.written + f.joined for f in self.families)

    @property
    def left_out(self) -> dict[str, int]:
        """Reason to number of events that could not be shown, over all families."""
        total: dict[str, int] = {}
        for f in self.families:
            for reason, count in f.left_out.items():
                key = f"{f.family}: {reason}"
                total[key] = total.get(key, 0) + count
        return total
