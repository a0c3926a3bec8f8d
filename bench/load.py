"""How long the trace processor takes to load a trace, and how much memory that needs.

    python -m bench.load TRACE

prints JSON: `cpu_s`, `wall_s`, `engine_bytes` (growth of this process), `slices`. The engine is the
one of the tests, inside this process (see tests/engine).
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .measure import KIB, Run

HEADER = "| trace | MB | slices | load s | s per M slices | engine MB | MB per M slices |"


@dataclass(frozen=True)
class Load:
    """One trace, loaded; times in s, sizes in bytes."""

    title: str
    trace_bytes: int
    slices: int
    cpu: float
    engine_bytes: int

    @classmethod
    def of(cls, title: str, trace: Path, run: Run) -> Load:
        """From what a run of this module printed."""
        printed = json.loads(run.stdout)
        return cls(
            title,
            trace.stat().st_size,
            printed["slices"],
            printed["cpu_s"],
            printed["engine_bytes"],
        )

    def row(self) -> str:
        """A row under `HEADER`."""
        millions = max(self.slices, 1) / 1e6
        cells = [
            self.title,
            f"{self.trace_bytes / 1e6:.1f}",
            f"{self.slices:,}",
            f"{self.cpu:.2f}",
            f"{self.cpu / millions:.2f}",
            f"{self.engine_bytes / 1e6:.0f}",
            f"{self.engine_bytes / 1e6 / millions:.0f}",
        ]
        return f"| {' | '.join(cells)} |"


def table(loads: list[Load]) -> str:
    """All of them as Markdown."""
    return "\n".join([HEADER, "|---|" + "---:|" * 6, *(load.row() for load in loads)])


def _load(trace: str) -> dict[str, float]:
    from tests.engine.wasm import TraceProcessor  # noqa: PLC0415 (the harness has no engine)

    # At its first use on a machine the engine is compiled, which takes memory: not in this process.
    start = "from tests.engine.wasm import TraceProcessor\nwith TraceProcessor(): pass"
    subprocess.run([sys.executable, "-c", start], check=True)
    with TraceProcessor():
        pass
    before = _resident()
    cpu, wall = time.process_time(), time.perf_counter()
    with TraceProcessor(trace=trace) as engine:
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        after = _peak()
        [row] = engine.query("SELECT count(*) AS slices FROM slice")
        return {
            "cpu_s": cpu,
            "wall_s": wall,
            "engine_bytes": after - before,
            "slices": row.slices,
        }


def _peak() -> int:
    """The most memory of this process so far in bytes; not on Linux also that of its parent."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def _resident() -> int:
    """Memory of this process in bytes: now where the system tells, else its peak so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


if __name__ == "__main__":
    print(json.dumps(_load(sys.argv[1])))
