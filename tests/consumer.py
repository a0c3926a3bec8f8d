"""A program of somebody who uses the package: `make dist-test` lets mypy --strict read it.

What is printed has to come from the types that the installed package brings (`py.typed`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import nsys2perfetto


def convert(capture: Path, trace: Path) -> int:
    """Converts, and counts what was written."""
    result = nsys2perfetto.convert(capture, trace, force=True, steps=(2, 5))
    for line in result.decode_steps + result.capture.notes:
        print(line)
    written: int = sum(family.written for family in result.families)
    return written


def steps(trace: Path, engine: str) -> list[int]:
    """Wall time of each step, ns."""
    with nsys2perfetto.open_trace(trace, engine) as session:
        rows = session.query("SELECT wall_ns FROM nsys_step ORDER BY step")
        return [int(row.wall_ns) for row in rows]


def main(capture: str, engine: str) -> None:
    """Says what both found, and what a mistake looks like."""
    trace = Path("consumer.pftrace")
    print(nsys2perfetto.inspect(capture).capture.nsys_version, convert(Path(capture), trace))
    print(steps(trace, engine))
    try:
        nsys2perfetto.convert("missing.sqlite")
    except nsys2perfetto.Nsys2PerfettoError as error:
        print(error)


if __name__ == "__main__":
    main(*sys.argv[1:3])
