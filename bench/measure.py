"""Run a process and tell what it used.

This module, and whatever runs it, stays small: a child starts with the peak memory of its parent.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

KIB = 1 if os.uname().sysname == "Darwin" else 1024  # unit of ru_maxrss


@dataclass(frozen=True)
class Run:
    """One process: user + system CPU time and wall time (s), peak memory (bytes), how it ended."""

    cpu: float
    wall: float
    peak: int
    status: int
    message: str
    stdout: str

    @property
    def ok(self) -> bool:
        """Whether the process ended with status 0."""
        return self.status == 0

    @property
    def ending(self) -> str:
        """How a failed process ended, in words."""
        return f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"


def run(command: list[str], limit_s: float) -> Run:
    """Run `command` with its output captured, and kill it after `limit_s` seconds."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=error)
        timer = threading.Timer(limit_s, process.kill)
        timer.start()
        _, wait_status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        timer.cancel()
        status = process.returncode = os.waitstatus_to_exitcode(wait_status)
        texts = []
        for file in (out, error):
            file.seek(0)
            texts.append(file.read().decode(errors="replace").strip())
    return Run(
        cpu=usage.ru_utime + usage.ru_stime,
        wall=wall,
        peak=usage.ru_maxrss * KIB,
        status=status,
        message=texts[1].splitlines()[-1] if texts[1] else "",
        stdout=texts[0],
    )


def gzipped_size(path: Path) -> int:
    """Bytes of the file as gzip level 6 would write it."""
    packer = zlib.compressobj(6, wbits=31)
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            size += len(packer.compress(block))
    return size + len(packer.flush())


def read_once(path: Path) -> None:
    """Bring a file into the page cache, so that the first candidate does not pay for it."""
    with path.open("rb") as file:
        while file.read(1 << 22):
            pass
