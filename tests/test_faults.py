"""What goes wrong around a conversion: signals, disks, other conversions, thousands of them."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import pytest

import nsys2perfetto
from samples.builder import Capture
from tests.command import KERNELS, environment, listing, run, start, write_capture

unix_only = pytest.mark.skipif(os.name == "nt", reason="signals of Unix")


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "trace.sqlite")


# ---- stopped, at whatever moment

AT = {
    "reading": "nsys2perfetto.reading.Reading.name_tracks",
    "joining": "nsys2perfetto.tracks.cuda_api.join",
    "closing": "pathlib.Path.chmod",
    "loading": "nsys2perfetto.nsys.metadata.read",
}
"""Moments of a conversion: what runs then. (While writing: see test_errors.)"""

SLOW = """
import importlib, sys, time
import nsys2perfetto.conversion
path = {path!r}.split(".")
for n in range(len(path) - 1, 0, -1):
    try:
        owner = importlib.import_module(".".join(path[:n]))
        break
    except ImportError:
        pass
for name in path[n:-1]:
    owner = getattr(owner, name)
original = getattr(owner, path[-1])
def slow(*arguments, **options):
    print("now", file=sys.stderr, flush=True)
    time.sleep(60)
    return original(*arguments, **options)
setattr(owner, path[-1], slow)
"""


@unix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", AT)
def test_stopped_at_any_moment(tmp_path, capture, number, moment):
    """Nothing new is left, and what was there before stays."""
    (tmp_path / "trace.pftrace").write_bytes(b"precious")
    before = listing(tmp_path)
    with start(capture, "-f", before=SLOW.format(path=AT[moment])) as process:
        assert process.stderr.readline() == "now\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert listing(tmp_path) == before


# ---- the disk

FULL = """
import errno, os
import nsys2perfetto.wire.writer as writer
class Full:
    '''A file of a disk on which nothing fits any more after so many bytes.'''
    def __init__(self, file, room):
        self._file, self._room = file, room
    def write(self, data):
        self._room -= memoryview(data).nbytes
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)
    def __getattr__(self, name):
        return getattr(self._file, name)
opened = os.fdopen
os.fdopen = lambda *a, **k: Full(opened(*a, **k), {room})
"""


@pytest.mark.parametrize("room", [0, 1, 4_000])
@pytest.mark.parametrize("name", ["x.pftrace", "x.pftrace.gz"])
def test_disk_is_full(tmp_path, capture, room, name):
    """Wherever the space ends: one line, no file."""
    before = listing(tmp_path)
    status, out, err = run(capture, "-o", tmp_path / name, before=FULL.format(room=room))
    assert (status, out) == (1, "")
    assert err == f"nsys2perfetto: {tmp_path}/{name}: no space left on the device; nothing was " \
        "written\n"  # fmt: skip
    assert listing(tmp_path) == before


@unix_only
@pytest.mark.parametrize("name", ["x.pftrace", "x.pftrace.gz"])
@pytest.mark.parametrize("limit", [0, 4_000])
def test_files_may_not_grow(tmp_path, capture, name, limit):
    """The system's own limit, wherever it strikes: also when the last bytes are flushed."""
    before = listing(tmp_path)
    status, out, err = run(
        *(capture, "-o", tmp_path / name),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (status, out) == (1, "")
    assert err == f"nsys2perfetto: {tmp_path}/{name}: cannot write it: File too large\n"
    assert listing(tmp_path) == before


# ---- several at once


def test_two_conversions_into_one_output(tmp_path):
    """One of them wins; the trace is whole, and the other's remains are gone."""
    traces, captures = set(), []
    for name, kernels in (("a", 40), ("b", 4_000)):
        builder = Capture()
        builder.gpu()
        process = builder.process(4242, name)
        for n in range(kernels):
            builder.kernel(process, f"k{n % 9}", 10 * n, 10 * n + 5, correlation=None)
        captures.append(builder.save(tmp_path, name))
        nsys2perfetto.convert(captures[-1])
        traces.add((tmp_path / f"{name}.pftrace").read_bytes())
    target = tmp_path / "both.pftrace"
    for _ in range(2):
        processes = [start(c, "-o", target, "-f", "-q") for c in captures * 2]
        for process in processes:
            with process:
                assert (*process.communicate(timeout=120), process.returncode) == ("", "", 0)
        assert target.read_bytes() in traces
    names = {"a.sqlite", "b.sqlite", "a.pftrace", "b.pftrace", "both.pftrace"}
    assert {p.name for p in tmp_path.iterdir()} == names


def test_conversions_in_threads(tmp_path, capture):
    """As a server would run them; one process, several captures at once."""
    results, failures = [], []

    def convert(number):
        try:
            result = nsys2perfetto.convert(capture, tmp_path / f"{number}.pftrace")
            results.append(result.events_written)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=convert, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert results == [2 * KERNELS] * 8
    assert len({p.read_bytes() for p in tmp_path.glob("*.pftrace")}) == 1
    assert len(list(tmp_path.iterdir())) == 9


# ---- many


def in_use():
    """Open files and threads, Python's objects, and bytes of memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    files = len(list(Path("/proc/self/fd").iterdir()))
    files += len(list(Path("/proc/self/task").iterdir()))
    return files, len(gc.get_objects()), pages * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("good", [True, False])
def test_many_conversions_in_one_process(tmp_path, good):
    """Nothing grows, whether they succeed or fail: neither files, nor objects, nor memory."""
    builder = Capture()
    builder.gpu()
    thread = builder.thread(builder.process(4242, "app"), 4242, "app")
    builder.launch(thread, "k", at=1_000, call=100, start=1_500, duration=50)
    path = builder.save(tmp_path, "x")
    if not good:
        content = bytearray(path.read_bytes())
        content[content.index(b"\x0d", 4096) : -1] = b"\xff" * 9_000
        path.write_bytes(content)

    def many(times):
        for _ in range(times):
            try:
                nsys2perfetto.convert(path, force=True)
            except nsys2perfetto.Nsys2PerfettoError:
                assert not good
            else:
                assert good

    many(30)  # caches fill, pools of memory find their size
    files, objects, _ = in_use()
    many(30)
    before = in_use()[2]
    many(60)
    after = in_use()
    assert after[0] == files
    assert after[1] <= objects + 90, "less than one for each conversion"
    assert after[2] - before < 60 * 32_768


def test_no_home_and_nowhere_to_put_temporary_files(tmp_path, capture):
    """Only the output's folder is written to."""
    env = environment(HOME="/nonexistent", TMPDIR="/nonexistent", XDG_CACHE_HOME="/nonexistent")
    status, _, err = run(capture, env=env)
    assert (status, err) == (0, "")
