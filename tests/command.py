"""What the tests of the command share: small captures, and running it as a user does."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from samples.builder import Capture
from tests.engine.locate import REPOSITORY

KERNELS = 300


@functools.cache
def capture_bytes():
    """An export of some fifty pages: one process on one GPU, each kernel with its launch."""
    capture = Capture("3.16.1")
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4243, "worker")
    for n in range(KERNELS):
        at = 1_000_000_000 + 20_000 * n
        capture.launch(thread, "gemm_kernel", at=at, call=3_000, start=at + 5_000, duration=9_000)
    with tempfile.TemporaryDirectory() as folder:
        return capture.save(Path(folder), "capture").read_bytes()


def write_capture(path):
    """Writes the small capture and returns its path."""
    path = Path(path)
    path.write_bytes(capture_bytes())
    return path


def listing(folder):
    """Everything about the files of a folder that reading must not change."""
    return {
        path.name: (path.lstat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(Path(folder).iterdir())
        if path.is_file()
    }


def environment(**changes):
    """A small environment in which the package is found; None removes a variable."""
    result = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
    result |= {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    return {k: v for k, v in (result | changes).items() if v is not None}


def start(*arguments, before="", env=None, **options):
    """Starts the command in a process of its own; `before` is Python that runs first."""
    program = f"{before}\nfrom nsys2perfetto.cli.main import main\nmain()"
    command = [sys.executable, *(["-c", program] if before else ["-m", "nsys2perfetto"])]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(
        [*command, *(str(a) for a in arguments)],
        stdin=subprocess.DEVNULL,
        env=env or environment(),
        **options,
    )


def run(*arguments, timeout=120, **options):
    """Runs the command in a process of its own: exit status, standard output, standard error."""
    with start(*arguments, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, out, err


HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    database.execute(statement).fetchone()
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_program(path, *statements):
    """A program that runs statements on a database and then stays, with the locks it has.

    It must be another process: locks of the same one vanish when it closes the file anywhere.
    """
    program = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert program.stdout.readline() == b"ready\n"
        yield program
    finally:
        program.communicate()


@contextlib.contextmanager
def without_rights():
    """For root: as nobody, whom permissions concern; does nothing for others."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
