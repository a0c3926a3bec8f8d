"""What is compared: each candidate is one process that reads a capture."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

OURS, BARE, LEAN, ALONE = "ours", "bare", "lean", "alone"
SCAN, JSON, PROTOBUF = "scan", "json", "protobuf"
"""Kinds of candidate; the key of a variant is its kind, a dash and a word: `json-dump`."""

_OPTIONS = {
    OURS: (),
    BARE: ("--no-steps", "--no-gaps", "--no-counters"),
    LEAN: ("--lean",),
    ALONE: (),
}
"""Options of our converter; `BARE` is without what it finds by itself."""
ANY = 10**12
IN_MEMORY = 2_000_000  # kernels: at 10^7 these would hold 10 to 26 GB of objects


@dataclass(frozen=True)
class Candidate:
    """One way to convert (or only to read) a capture."""

    key: str
    title: str
    module: str
    before: tuple[str, ...] = ()
    """Arguments of the module before the capture."""
    suffix: str | None = None
    """How the output's name ends; None for a candidate that writes nothing."""
    largest: int = ANY
    """Kernels of the largest capture it is run on."""

    @property
    def kind(self) -> str:
        """The key without its variant: the fastest of a kind is what others are compared with."""
        return self.key.partition("-")[0]

    def output(self, folder: Path) -> Path | None:
        """Where it writes, None if nowhere."""
        return folder / f"{self.key}{self.suffix}" if self.suffix else None

    def command(self, capture: Path, folder: Path, extra: list[str]) -> list[str]:
        """The command line for `capture`; `extra` are more arguments for our converter."""
        line = [sys.executable, "-m", self.module, *self.before]
        output = self.output(folder)
        if self.key in _OPTIONS:
            more = _OPTIONS[self.key] or extra
            return [*line, str(capture), "-o", str(output), "--force", "-q", *more]
        if self.key == "help":
            return line
        return [*line, str(capture), *([str(output)] if output else [])]


CANDIDATES = (
    Candidate(OURS, "**nsys2perfetto**", "nsys2perfetto", suffix=".pftrace"),
    Candidate(BARE, "nsys2perfetto, no annotations", "nsys2perfetto", suffix=".pftrace"),
    Candidate(LEAN, "nsys2perfetto --lean", "nsys2perfetto", suffix=".pftrace"),
    Candidate(
        ALONE, "nsys2perfetto on one CPU", "bench.one_cpu", ("nsys2perfetto",), suffix=".pftrace"
    ),
    Candidate("help", "nsys2perfetto --help", "nsys2perfetto", ("--help",), largest=10_000),
    Candidate(SCAN, "bare SQLite scan", "bench.scan"),
    Candidate(
        "json-dump", "JSON, json.dump", "bench.json_converter", ("dump",), ".json", IN_MEMORY
    ),
    Candidate(
        "json-dumps", "JSON, json.dumps", "bench.json_converter", ("dumps",), ".json", IN_MEMORY
    ),
    Candidate("json-stream", "JSON, event by event", "bench.json_converter", ("stream",), ".json"),
    Candidate(
        "protobuf-build",
        "protobuf, TraceProtoBuilder",
        "bench.protobuf_objects",
        ("build",),
        ".pftrace",
        IN_MEMORY,
    ),
    Candidate(
        "protobuf-stream",
        "protobuf, StreamingTraceProtoBuilder",
        "bench.protobuf_objects",
        ("stream",),
        ".pftrace",
    ),
)


def chosen(keys: list[str]) -> list[Candidate]:
    """The candidates whose key or kind is among `keys`; all where `keys` is empty.

    Raises:
        ValueError: a key that no candidate has.
    """
    known = {name for candidate in CANDIDATES for name in (candidate.key, candidate.kind)}
    unknown = sorted(set(keys) - known)
    if unknown:
        raise ValueError(f"no candidate {', '.join(unknown)}: there are {', '.join(sorted(known))}")
    return [c for c in CANDIDATES if not keys or c.key in keys or c.kind in keys]
