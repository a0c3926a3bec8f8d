"""Run a module of Python on one CPU: `python -m bench.one_cpu MODULE [ARGUMENT ...]` (Linux)."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Becomes that module's process."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])


if __name__ == "__main__":
    main()
