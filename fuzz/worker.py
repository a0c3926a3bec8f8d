"""A process that runs cases: seeds come on standard input, results go to standard output."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz import case, check

SECONDS_A_CASE = 30
"""For all of it: four conversions or looks, and the engine."""
MEMORY = 3 << 30
"""Bytes of data that the process may have; a case is a few MB."""
KEPT = Path("build") / "fuzz"


def limit() -> None:
    """Has the system refuse more memory than a case may need."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(seed: int, kept: Path | None = KEPT) -> dict[str, Any]:
    """Runs the case of a seed.

    Args:
        seed: Any number.
        kept: Where captures go that fail.

    Returns:
        `seed`, `done` (what the case is), `outcome` and `problems`.
    """

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise check.Timeout

    with tempfile.TemporaryDirectory(prefix="nsys2perfetto-fuzz-") as name:
        made = case.make(seed, Path(name))
        before = signal.signal(signal.SIGALRM, too_long)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_A_CASE)
        problems: list[str] = []
        outcome = "too slow"
        try:
            with warnings.catch_warnings():
                # Warnings of NumPy and Polars would be noise on a user's terminal.
                warnings.simplefilter("error", RuntimeWarning)
                warnings.simplefilter("error", UserWarning)
                outcome = check.run(made, problems)
        except check.Timeout:
            problems = problems or [f"takes longer than {SECONDS_A_CASE} s"]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        if problems and kept is not None:
            case.keep(made, kept, f"seed-{seed}")
    done = [*made.done, f"options {made.options}"] if made.options else made.done
    return {"seed": seed, "done": done, "outcome": outcome, "problems": problems}


def main() -> None:
    """Answers each line with a line."""
    limit()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        print(json.dumps(run(int(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
