"""Numbers of processes and threads in a trace."""

from __future__ import annotations

from nsys2perfetto.tracks.processes import Tracks


def test_equal_numbers_are_told_apart_whatever_their_number():
    """More processes of one number than 24 bits leave room for above it, as int32."""
    tracks = Tracks()
    same = [machine << 48 | 7 << 24 for machine in range(1, 400)]
    numbers = [tracks.pid(process) for process in same]
    assert numbers[:3] == [7, 7 + (1 << 24), 7 + (2 << 24)]
    assert len(set(numbers)) == len(same)
    assert all(0 < number < 1 << 31 for number in numbers)
    assert [tracks.pid(process) for process in same] == numbers, "they stay"
    other = [machine << 48 | 8 << 24 for machine in range(1, 400)]
    assert not {tracks.pid(process) for process in other} & set(numbers)
    assert tracks.tid(1 << 48 | 7 << 24 | 9) == 9


def test_a_number_that_is_taken_by_a_raised_one():
    tracks = Tracks()
    assert tracks.pid(1 << 48 | 7 << 24) == 7
    assert tracks.pid(2 << 48 | 7 << 24) == 7 + (1 << 24)
    assert tracks.pid(3 << 48 | 7 << 24) == 7 + (2 << 24)
