"""Work on several cores at once: NumPy lets go of the interpreter's lock in all that takes long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


def available(most: int) -> int:
    """How many cores this process may use, at most `most`."""
    if hasattr(os, "sched_getaffinity"):
        return min(most, len(os.sched_getaffinity(0)))
    return min(most, os.cpu_count() or 1)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Does `work` in a thread while the block runs, and waits for it at the block's end.

    The two must not change anything that the other looks at. What `work` raises is raised at the
    end of the block; where the block fails, that is what counts.
    """
    with ThreadPoolExecutor(1, "nsys2perfetto-beside") as thread:
        done = thread.submit(work)
        yield
        done.result()
