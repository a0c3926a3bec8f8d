"""Counters as the engine reads them: native ones of GPUs, and those of processes."""

import numpy as np
import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.tracks import counter_tracks, gpu_counters
from nsys2perfetto.tracks.counter_tracks import CounterValues, counter_track
from nsys2perfetto.tracks.gpu_counters import CounterBlock, CounterSpec
from nsys2perfetto.tracks.processes import Tracks
from tests.counters import NATIVE, by_counter, joined, native, with_tracks
from tests.engine import query

# --- how the engine reads native counters --------------------------------------------------------


@pytest.fixture
def block():
    times, values = np.array([200, 300, 500]), np.array([7, 8, 9])
    return CounterBlock(0, [CounterSpec("C")], times, [values], start=100)


def test_a_native_value_covers_the_interval_that_ends_at_its_time(block, open_trace):
    found = by_counter(native([block], open_trace), "name")
    assert found["C",] == [(100, 7), (200, 8), (300, 9), (500, 0)]


def test_the_engine_under_test_does_not_know_the_direction_of_values(open_trace):
    """Newer ones do: the field would make values mean another thing in each version."""
    trace = pb.Trace()
    head = trace.packet.add(trusted_packet_sequence_id=17, sequence_flags=1)
    entry = head.interned_data.gpu_counter_descriptors.add(iid=1, gpu_id=0)
    forwards = pb.GpuCounterDescriptor.GpuCounterSpec.VALUE_DIRECTION_FORWARDS_LOOKING
    entry.counter_descriptor.specs.add(counter_id=1, name="C", value_direction=forwards)
    for ts, value in ((100, 7), (200, 8)):
        packet = trace.packet.add(trusted_packet_sequence_id=17, sequence_flags=2, timestamp=ts)
        packet.gpu_counter_event.counter_descriptor_iid = 1
        packet.gpu_counter_event.counters.add(counter_id=1, int_value=value)
    with open_trace(trace.SerializeToString()) as tp:
        found = [r["value"] for r in query.rows(tp, "select value from counter order by ts")]
    assert found in ([8, 0], [7, 8])  # backwards as in v55.3; forwards in the newest


def test_values_that_hold_from_their_time_on(open_trace):
    times, values = np.array([100, 200, 300]), np.array([1.5, 2.5, 0.25])
    block = CounterBlock.holding(3, [CounterSpec("C")], times, [values], end=450)
    found = by_counter(native([block], open_trace, shift=50), "gpu", "name")
    assert found == {(3, "C"): [(150, 1.5), (250, 2.5), (350, 0.25), (500, 0)]}


def test_units_groups_and_descriptions(open_trace):
    specs = [
        CounterSpec("Busy", "%", "SM", "How busy"), CounterSpec("Clock", "Hz", "Clocks"),
        CounterSpec("Rate", "GB/s", "SM"), CounterSpec("Count"),
    ]  # fmt: skip
    times = np.array([200, 300])
    values = [np.array([1, 2]), np.array([3, 4]), np.array([0.5, 1.5]), np.array([-5, 6])]
    blocks = [
        CounterBlock(0, specs, times, values, 100),
        CounterBlock(1, specs[:1], times, values[:1], 100),
        CounterBlock(1, [CounterSpec("Other", group="A")], times, values[:1], 100),
    ]
    trace = joined(gpu_counters.packets(blocks, 0))
    with open_trace(trace) as tp:
        query.assert_clean(tp)
        tracks = query.rows(tp, "select gpu_id, name, unit, description from gpu_counter_track")
        groups = query.rows(
            tp,
            "select g.group_id, g.name as grp, t.gpu_id, t.name from gpu_counter_group g join "
            "gpu_counter_track t on g.track_id = t.id where g.name is not null order by 1, 3, 4",
        )
        found = by_counter(query.rows(tp, NATIVE), "gpu", "name")
    assert {(t["gpu_id"], t["name"]): t["unit"] for t in tracks} == {
        (0, "Busy"): "%", (0, "Clock"): "Hz", (0, "Rate"): "GB/s", (0, "Count"): None,
        (1, "Busy"): "%", (1, "Other"): None,
    }  # fmt: skip
    assert next(t["description"] for t in tracks if t["name"] == "Busy") == "How busy"
    assert [tuple(g.values())[1:] for g in groups] == [
        ("A", 1, "Other"), ("Clocks", 0, "Clock"), ("SM", 0, "Busy"), ("SM", 0, "Rate"),
        ("SM", 1, "Busy"),
    ]  # fmt: skip
    numbers = {g["grp"]: g["group_id"] for g in groups}
    assert len(set(numbers.values())) == len(numbers) and min(numbers.values()) > 7
    assert found[0, "Rate"] == [(100, 0.5), (200, 1.5), (300, 0)]
    assert found[0, "Count"] == [(100, -5), (200, 6), (300, 0)]


def test_wrong_use_is_an_error(block):
    with pytest.raises(ValueError, match="same name"):
        list(gpu_counters.packets([block, block], 0))
    block.specs = [CounterSpec("C", "parsec")]
    with pytest.raises(ValueError, match="parsec"):
        list(gpu_counters.packets([block], 0))
    assert list(gpu_counters.packets([], 0)) == []


def test_a_pause_in_the_sampling_shows_nothing():
    times = np.array([1_000, 1_100, 1_199, 9_000, 9_100])
    values = [np.array([1, 2, 3, 4, 5])]
    block = CounterBlock.sampled(0, [CounterSpec("C")], times, values)
    assert block.start == 900
    assert block.time.tolist() == [1_000, 1_100, 1_199, 8_900, 9_000, 9_100]
    assert block.values[0].tolist() == [1, 2, 3, 0, 4, 5]


@pytest.mark.parametrize(("first", "start"), [(30, 0), (-30, -30), (0, 0), (250, 150)])
def test_the_first_sample_moves_no_other_event(first, start):
    times = np.array([first, first + 100])
    assert CounterBlock.sampled(0, [], times, []).start == start
    assert CounterBlock.sampled(0, [], times[:1], []).start == (start if first <= 0 else first)


def test_more_samples_than_are_stamped_at_once(open_trace):
    n = 2 * gpu_counters.CHUNK + 3
    times = np.arange(1, n + 1) * 100
    values = [np.arange(n) % 101, np.arange(n) * 0.5]
    specs = [CounterSpec("A", "%"), CounterSpec("B")]
    rows = "select count(*) as n, sum(value) as total from counter group by track_id order by 1, 2"
    found = native([CounterBlock(0, specs, times, values, 0)], open_trace, sql=rows)
    totals = [(n + 1, float(v.sum())) for v in values]
    assert [tuple(r.values()) for r in found] == totals


# --- counters of anything ------------------------------------------------------------------------


def test_counter_tracks(open_trace):
    tracks = Tracks()
    parent = tracks.process(77 << 24)
    uuids = [
        counter_track(tracks, parent, "tokens per second", "tokens/s", "One a step"),
        counter_track(tracks, parent, "bytes", "B", scale="same"),
        counter_track(tracks, None, "waited", "ns"),
        counter_track(tracks, None, "nothing"),
    ]
    values = [np.array([12.5, 0.0]), np.array([1 << 40, 5]), np.array([-3]), np.empty(0, np.int64)]
    counters = [
        CounterValues(uuid, np.arange(len(v)) * 100 - 50, v)
        for uuid, v in zip(uuids, values, strict=True)
    ]
    with open_trace(with_tracks(tracks, counter_tracks.packets(counters, 50))) as tp:
        query.assert_clean(tp)
        rows = query.rows(
            tp,
            "select t.name, t.unit, c.ts, c.value from counter c "
            "join counter_track t on t.id = c.track_id order by t.name, ts",
        )
        help_text = query.rows(
            tp, "select extract_arg(source_arg_set_id, 'description') as d from track "
            "where name = 'tokens per second'",
        )  # fmt: skip
    assert [tuple(r.values()) for r in rows] == [
        ("bytes", "bytes", 0, 1 << 40), ("bytes", "bytes", 100, 5),
        ("tokens per second", "tokens/s", 0, 12.5), ("tokens per second", "tokens/s", 100, 0),
        ("waited", "ns", 0, -3),
    ]  # fmt: skip
    assert help_text == [{"d": "One a step"}]
    assert list(counter_tracks.packets([], 0)) == []
