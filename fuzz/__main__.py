"""Convert damaged captures for as long as asked: `python -m fuzz`, or `make fuzz`.

Every case follows from its seed alone. What fails is printed with its seed and kept in
`build/fuzz/`; `python -m fuzz --seed N` runs that case again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import selectors
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from fuzz import worker

_PATIENCE = 3 * worker.SECONDS_A_CASE
"""Seconds after which a process that does not react to its own alarm is ended."""
_REPORT_EVERY = 10.0


def main() -> int:
    """Runs cases; 1 when one failed."""
    arguments = _parse()
    if arguments.seed is not None:
        result = worker.run(arguments.seed)
        print("\n".join(result["done"]), f"-> {result['outcome']}")
        _tell(result)
        return int(bool(result["problems"]))
    first = random.SystemRandom().randrange(1 << 40) if arguments.first is None else arguments.first
    print(f"seeds from {first} on, {arguments.jobs} processes, {arguments.seconds:g} s", flush=True)
    run = _Run(first, arguments.jobs)
    try:
        run.until(time.monotonic() + arguments.seconds, arguments.cases)
    except KeyboardInterrupt:
        print("stopped")
    finally:
        run.close()
    print(run.summary())
    return int(bool(run.failed))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--cases", type=int, help="stop after so many cases")
    parser.add_argument("--seed", type=int, help="only this case, in this process")
    parser.add_argument("--first", type=int, help="the first seed (default: any)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    return parser.parse_args()


def _tell(result: dict[str, Any]) -> None:
    for problem in result["problems"]:
        print(f"\nFAILED: python -m fuzz --seed {result['seed']}")
        print("  " + "\n  ".join(result["done"]))
        print("  " + problem.strip().replace("\n", "\n  "), flush=True)


class _Process:
    """A worker, and the case it has."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self.out = self._process.stdin, self._process.stdout
        self.seed: int | None = None
        self.began = 0.0

    def give(self, seed: int) -> None:
        self.seed, self.began = seed, time.monotonic()
        self._in.write(f"{seed}\n".encode())
        self._in.flush()

    def answer(self) -> dict[str, Any]:
        """What it found; that it died, where it did."""
        line = self.out.readline()
        seed, self.seed = self.seed, None
        if line:
            return dict(json.loads(line))
        status = self._process.wait()
        problem = f"the process died (status {status}): run it again with --seed"
        return {"seed": seed, "done": [], "outcome": "died", "problems": [problem]}

    def hangs(self) -> bool:
        """Whether it has been at its case for too long; then it is ended, and has an answer."""
        if self.seed is None or time.monotonic() - self.began < _PATIENCE:
            return False
        self._process.kill()
        return True

    @property
    def is_dead(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._in.close()
        self.out.close()


class _Run:
    """Seeds, the processes that work on them, and what came of it."""

    def __init__(self, first: int, jobs: int) -> None:
        self.failed: list[int] = []
        self._next = first
        self._outcomes: Counter[str] = Counter()
        self._processes = [_Process() for _ in range(jobs)]

    def until(self, end: float, most: int | None) -> None:
        """Runs cases until a time of the monotonic clock, or until there were so many."""
        told, begun = time.monotonic(), 0
        for process in self._processes:
            self._give(process)
            begun += 1
        while any(p.seed is not None for p in self._processes):
            for process in self._ready():
                self._take(process)
                if process.is_dead:
                    process = self._replaced(process)  # noqa: PLW2901 - goes on in its place
                if time.monotonic() < end and (most is None or begun < most):
                    self._give(process)
                    begun += 1
            if time.monotonic() - told > _REPORT_EVERY:
                told = time.monotonic()
                print(self.summary(), flush=True)

    def summary(self) -> str:
        """How many cases there were, and what came of them."""
        counts = ", ".join(f"{n:,} {what}" for what, n in self._outcomes.most_common())
        failed = f"; failed: {', '.join(map(str, self.failed))}" if self.failed else ""
        return f"{self._outcomes.total():,} cases: {counts or 'none'}{failed}"

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.stop()

    def _give(self, process: _Process) -> None:
        process.give(self._next)
        self._next += 1

    def _ready(self) -> list[_Process]:
        """The processes that have an answer, or will never have one."""
        with selectors.DefaultSelector() as selector:
            for process in self._processes:
                if process.seed is not None:
                    selector.register(process.out, selectors.EVENT_READ, process)
            ready = [key.data for key, _ in selector.select(timeout=1.0)]
        for process in self._processes:
            if process.hangs():
                ready.append(process)
        return list(dict.fromkeys(ready))

    def _take(self, process: _Process) -> None:
        result = process.answer()
        self._outcomes[result["outcome"]] += 1
        if result["problems"]:
            self.failed.append(result["seed"])
            _tell(result)

    def _replaced(self, dead: _Process) -> _Process:
        self._processes.remove(dead)
        fresh = _Process()
        self._processes.append(fresh)
        return fresh


if __name__ == "__main__":
    sys.exit(main())
