"""Work beside other work: nothing but the time changes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nsys2perfetto import annotation_tracks, conversion, convert
from nsys2perfetto.wire import cores

SAMPLE = Path(__file__).parents[1] / "samples" / "decode_eager.sqlite"


def test_work_is_done_beside_the_block_and_finished_with_it():
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        assert go_on.wait(30)
        done.append(threading.current_thread())

    with cores.beside(work):
        assert begun.wait(30)  # while the block runs
        assert not done
        go_on.set()
    assert done != [threading.current_thread()]
    assert not done[0].is_alive()


def test_an_error_of_the_work_is_raised_at_the_end_of_the_block():
    reached = []
    with pytest.raises(ZeroDivisionError), cores.beside(lambda: 1 // 0):
        reached.append(True)
    assert reached


def test_an_error_of_the_block_counts_more():
    with pytest.raises(KeyError), cores.beside(lambda: 1 // 0):
        raise KeyError


def test_a_trace_is_the_same_however_many_cores_there_are(tmp_path, monkeypatch):
    beside = convert(SAMPLE, tmp_path / "beside.pftrace", force=True).output.read_bytes()
    threads = []
    prepare = annotation_tracks.prepare

    def watched(found):
        threads.append(threading.current_thread())
        prepare(found)

    monkeypatch.setattr(annotation_tracks, "prepare", watched)
    monkeypatch.setattr(cores, "available", lambda most: 1)
    assert convert(SAMPLE, tmp_path / "1.pftrace").output.read_bytes() == beside
    assert not threads
    monkeypatch.setattr(cores, "available", lambda most: most)
    assert convert(SAMPLE, tmp_path / "2.pftrace").output.read_bytes() == beside
    assert threads and threading.main_thread() not in threads
    monkeypatch.setattr(conversion, "_MOST_BESIDE", 100)  # of a large capture
    assert convert(SAMPLE, tmp_path / "3.pftrace").output.read_bytes() == beside
    assert len(threads) == 1
