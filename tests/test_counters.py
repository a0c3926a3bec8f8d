"""Counters: GPU metrics and memory, as the engine reads them, against the capture in plain SQL."""

import shutil
import sqlite3
import statistics
from collections import defaultdict
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import running_sum
from nsys2perfetto.nsys import gpu_memory, gpu_metrics, gpus
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.nsys.gpu_metric_names import describe, is_helper
from nsys2perfetto.tracks import counter_tracks, gpu_counters, memory_counters, sequences
from nsys2perfetto.tracks.counter_tracks import CounterValues, counter_track
from nsys2perfetto.tracks.gpu_counters import CounterBlock, CounterSpec
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.wire import packets as wire
from samples.builder import Capture as Builder
from samples.builder.scenarios import SCENARIOS
from tests.conftest import CAPTURES
from tests.engine import query
from tests.engine.locate import REPOSITORY
from tests.oracle import Oracle, pid

REAL = CAPTURES / "gpu_metrics_2023.4.4.sqlite"
real = pytest.mark.skipif(not REAL.exists(), reason=f"no {REAL.name}")

SHIFT = 1 << 40

NATIVE = """
    select t.gpu_id as gpu, t.name, t.unit, t.description, c.ts, c.value
    from counter c join gpu_counter_track t on c.track_id = t.id order by c.track_id, c.ts, c.id"""
OF_PROCESSES = """
    select p.pid, t.name, t.unit, c.ts, c.value,
      extract_arg(t.source_arg_set_id, 'description') as description
    from counter c join process_counter_track t on c.track_id = t.id join process p using (upid)
    order by c.track_id, c.ts, c.id"""


def joined(chunks):
    return b"".join(
        c if isinstance(c, bytes) else np.ascontiguousarray(c).tobytes() for c in chunks
    )


def with_tracks(tracks, chunks):
    head = wire.frame([sequences.start(sequences.DESCRIPTORS), *tracks.packets()])
    return head + joined(chunks)


def native(blocks, open_trace, shift=0, sql=NATIVE):
    with open_trace(joined(gpu_counters.packets(blocks, shift))) as tp:
        query.assert_clean(tp)
        return query.rows(tp, sql)


def by_counter(rows, *key):
    found = defaultdict(list)
    for r in rows:
        found[tuple(r[k] for k in key)].append((r["ts"], r["value"]))
    return dict(found)


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


# --- names of metrics ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown", "unit", "group"),
    [
        ("SMs Active [Throughput %]", "SMs Active", "%", "SM"),
        ("SM Issue", "SM Issue", "%", "SM"),
        ("GPC Clock Frequency [MHz]", "GPC Clock Frequency", "Hz", "Clocks"),
        ("SYS Clock Frequency", "SYS Clock Frequency", "Hz", "Clocks"),
        ("Tensor Active / FP16 Active", "Tensor Active / FP16 Active", "%", "Tensor"),
        ("DRAM Read Bandwidth [Throughput %]", "DRAM Read Bandwidth", "%", "Memory"),
        ("PCIe RX Throughput", "PCIe RX Throughput", "%", "PCIe"),
        ("PCIe Read Requests to BAR1", "PCIe Read Requests to BAR1", "", "PCIe"),
        ("PCIe Requests to BAR1 [Requests]", "PCIe Requests to BAR1 [Requests]", "", "PCIe"),
        ("NVLink RX Requests Data [Throughput %]", "NVLink RX Requests Data", "%", "NVLink"),
        ("Compute Warps in Flight [Avg]", "Compute Warps in Flight [Avg]", "", "Warps"),
        ("Unallocated Warps in Active SMs", "Unallocated Warps in Active SMs", "%", "Warps"),
        ("GR Active [Workloads]", "GR Active [Workloads]", "", "Engines"),
        ("Async Copy Engine Active 0", "Async Copy Engine Active 0", "%", "Copy engines"),
        ("Something new [Things]", "Something new [Things]", "", "Other"),
        ("", "", "", "Other"),
    ],
)  # fmt: skip
def test_metric_names(name, shown, unit, group):
    found = describe(name)
    assert (found.name, found.unit, found.group) == (shown, unit, group)


def test_helper_metrics():
    assert is_helper("EndTimestamp")
    assert not is_helper("GR Active")


# --- GPU metrics ---------------------------------------------------------------------------------


def metrics_trace(path, open_trace, shift=0, selection=None):
    """(Metrics, {(gpu, counter): [(ts, value)]}, {(gpu, counter): (unit, description)})."""
    with Capture(path) as capture:
        metrics = gpu_metrics.read(capture, selection or Selection())
        assert metrics.rows_read + metrics.filtered == gpu_metrics.count(capture)
    assert metrics.rows_read == metrics.rows_shown + sum(metrics.dropped.values())
    rows = native(gpu_counters.of_metrics(metrics), open_trace, shift)
    about = {(r["gpu"], r["name"]): (r["unit"], r["description"]) for r in rows}
    return metrics, by_counter(rows, "gpu", "name"), about


def metric_rows(path):
    """The oracle: {(gpu, nsys' name): [(timestamp, value)]}, clocks unwrapped, sorted by time."""
    oracle = Oracle(path)
    names = {
        (r["typeId"], r["metricId"]): r["metricName"]
        for r in oracle.select("TARGET_INFO_GPU_METRICS", "typeId", "metricId", "metricName")
    }
    found = defaultdict(list)
    for r in oracle.select("GPU_METRICS", "timestamp", "typeId", "metricId", "value"):
        name = names[r["typeId"], r["metricId"]]
        value = r["value"] & 0xFFFFFFFF if "Clock" in name else r["value"]
        if name != "EndTimestamp":
            found[r["typeId"] & 0xFF, name].append((r["timestamp"], value))
    return {key: sorted(values, key=lambda v: v[0]) for key, values in found.items()}


def as_intervals(samples, shift=0):
    """Rows of the engine for samples without pauses: from the end of the one before to its own."""
    times = [t for t, _ in samples]
    period = int(statistics.median(b - a for a, b in pairwise(times))) if len(times) > 1 else 0
    start = max(times[0] - period, min(0, times[0]))
    begins = [start, *times[:-1]]
    rows = [(begin + shift, value) for begin, (_, value) in zip(begins, samples, strict=True)]
    return [*rows, (times[-1] + shift, 0)]


@real
def test_every_sample_of_a_real_capture(open_trace):
    shift = 42_125
    metrics, found, about = metrics_trace(REAL, open_trace, shift)
    expected = metric_rows(REAL)
    assert metrics.table == "GPU_METRICS"
    assert sum(len(v) for v in expected.values()) == metrics.rows_shown == 91_746
    assert len(metrics.sets) == 1 and metrics.first == -shift
    assert found == {key: as_intervals(samples, shift) for key, samples in expected.items()}
    assert about[0, "GPC Clock Frequency"][0] == "Hz"
    assert about[0, "SM Active"][0] == "%"
    assert "100 us" in about[0, "SM Active"][1]
    assert about[0, "PCIe Read Requests to BAR1"][0] is None


@real
def test_the_json_events_give_the_same(open_trace, tmp_path):
    early = tmp_path / "early.sqlite"
    shutil.copy(REAL, early)
    with closing(sqlite3.connect(early)) as sql:
        sql.execute("drop table GPU_METRICS")
        sql.execute("drop table TARGET_INFO_GPU_METRICS")
        sql.commit()
    metrics, found, _ = metrics_trace(early, open_trace, 42_125)
    _, rows, _ = metrics_trace(REAL, open_trace, 42_125)
    assert metrics.table == "GENERIC_EVENTS"
    assert metrics.rows_shown == metrics.rows_read == 5_097
    assert found == rows


SCHEMAS = ("3.7.2", "3.11.1", "3.16.1", "3.20.3", "3.24.18", "3.25.0")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_samples_of_two_gpus_in_every_schema(schema, open_trace, tmp_path):
    builder = Builder(schema)
    names = [
        "GPC Clock Frequency [MHz]", "Compute Warps in Flight [Throughput %]",
        "Compute Warps in Flight [Avg]", "SMs Active [Throughput %]",
    ]  # fmt: skip
    for gpu in (0, 3):
        samples = [
            (50_000 * n + gpu, [2_330_513_255 - (1 << 32) if n < 3 else 10**9, n, 2 * n, gpu * n])
            for n in range(1, 30)
        ]
        builder.gpu_metrics(gpu, names, samples)
        builder.gpu_metrics(gpu, ["EndTimestamp"], [(t + 7, [t]) for t, _ in samples], tag=2)
    path = builder.save(tmp_path, "two")
    metrics, found, about = metrics_trace(path, open_trace, 5)
    shown = ["GPC Clock Frequency", "Compute Warps in Flight", "Compute Warps in Flight [Avg]",
             "SMs Active"]  # fmt: skip
    assert found == {
        (gpu, shown[names.index(name)]): as_intervals(samples, 5)
        for (gpu, name), samples in metric_rows(path).items()
    }
    assert found[0, "GPC Clock Frequency"][0][1] == 2_330_513_255
    assert [about[0, n][0] for n in shown] == ["Hz", "%", None, "%"]
    assert metrics.dropped == {gpu_metrics.HELPER_ROWS: 58}
    assert metrics.rows_shown == 2 * 29 * 4


def test_the_scenario_counts_nothing_twice(open_trace, tmp_path):
    made = SCENARIOS["gpu_metrics"](tmp_path)
    metrics, found, _ = metrics_trace(made.path, open_trace, SHIFT)
    assert metrics.table == "GPU_METRICS" and metrics.rows_shown == 12
    for gpu, samples in made.facts["samples"].items():
        for name in samples[0][1]:
            values = [(at, row[name]) for at, row in samples]
            assert found[gpu, describe(name).name] == as_intervals(values, SHIFT)
    with Capture(made.path) as capture:
        assert gpu_metrics.foreign_events(capture) == 0


def test_rows_in_any_order_metrics_with_their_own_times_and_pauses(open_trace, tmp_path):
    builder = Builder("3.16.1")
    type_id = builder.gpu_metrics(0, ["SM Active", "GR Active"], [])
    samples = {0: [(100 * n, n) for n in range(1, 9)] + [(5_000, 50), (5_100, 51)],
               1: [(70 * n, n + 20) for n in range(1, 6)]}  # fmt: skip
    rows = [(t, m, v) for m, listed in samples.items() for t, v in listed]
    for t, metric, value in reversed(rows):
        builder.row("GPU_METRICS", timestamp=t, typeId=type_id, metricId=metric, value=value)
    builder.row("GPU_METRICS", timestamp=100, typeId=type_id, metricId=77, value=5)  # nameless
    builder.row("GPU_METRICS", timestamp=None, typeId=type_id, metricId=0, value=5)
    builder.row("GPU_METRICS", timestamp=(1 << 63) - 1, typeId=type_id, metricId=0, value=5)
    metrics, found, _ = metrics_trace(builder.save(tmp_path, "odd"), open_trace)
    assert metrics.dropped == {"no start time": 1, "start time out of range": 1}
    assert found[0, "GR Active"] == as_intervals(samples[1])
    assert found[0, "metric 77"] == [(100, 5), (100, 0)]
    assert found[0, "SM Active"] == [
        *as_intervals(samples[0][:8])[:-1], (800, 0), (4_900, 50), (5_000, 51), (5_100, 0)
    ]  # fmt: skip


def test_two_sources_of_one_gpu_keep_their_counters_apart(open_trace, tmp_path):
    builder = Builder("3.16.1")
    for tag in (1, 5):
        builder.gpu_metrics(0, ["SM Active"], [(100, [tag]), (200, [tag])], tag=tag)
    _, found, _ = metrics_trace(builder.save(tmp_path, "tags"), open_trace)
    assert found == {
        (0, "SM Active"): [(0, 1), (100, 1), (200, 0)],
        (0, "SM Active (2)"): [(0, 5), (100, 5), (200, 0)],
    }


def json_events(builder, events, source='{"Name": "GpuMetrics"}', fields=None):
    type_id = 1 << 48 | 1 << 32 | 1 << 8 | 2
    described = ", ".join(f'{{"Name": "{f}"}}' for f in fields or [])
    builder.row("GENERIC_EVENT_SOURCES", sourceId=1, data=source)
    builder.row(
        "GENERIC_EVENT_TYPES", typeId=type_id, sourceId=1, data=f'{{"Fields": [{described}]}}'
    )
    for raw, timestamp, data in events:
        builder.row(
            "GENERIC_EVENTS", rawTimestamp=raw, timestamp=timestamp, typeId=type_id, data=data
        )
    return type_id


@pytest.mark.parametrize("schema", ["3.0.0", "3.4.0"])
@pytest.mark.parametrize("fields", [None, ["SM Active", "A\\/B Active", "GPC Clock Frequency"]])
def test_json_events(schema, fields, open_trace, tmp_path):
    builder = Builder(schema)
    data = '{"SM Active": "%d", "A\\/B Active": "%s", "GPC Clock Frequency": "%d"}'
    events = [(100 * n, None, data % (n, n / 2, 10**9 - (2 << 30))) for n in range(1, 5)]
    events += [(777, 500, '{"SM Active": "9"}'), (600, None, '{"SM Active": '), (700, None, "[1]"),
               (None, None, data % (1, 1, 1)), (800, None, '{"other": 1}')]  # fmt: skip
    json_events(builder, [e for e in events if e[0] is not None], fields=fields)
    metrics, found, about = metrics_trace(builder.save(tmp_path, "early"), open_trace)
    assert metrics.table == "GENERIC_EVENTS"
    assert metrics.rows_read == 8 and metrics.rows_shown == 5
    assert metrics.dropped == {"not readable as JSON": 3}
    assert found == {
        (2, "SM Active"): as_intervals([(100, 1), (200, 2), (300, 3), (400, 4), (500, 9)]),
        (2, "A/B Active"): as_intervals([(100, 0.5), (200, 1), (300, 1.5), (400, 2)]),
        (2, "GPC Clock Frequency"): as_intervals([(100 * n, 3_147_483_648) for n in range(1, 5)]),
    }
    assert about[2, "A/B Active"][0] == "%"


def test_generic_events_of_others_are_no_metrics(open_trace, tmp_path):
    builder = Builder("3.1.7")
    json_events(builder, [(100, None, '{"a": 1}')], source='{"Name": "FTrace"}')
    path = builder.save(tmp_path, "ftrace")
    metrics, found, _ = metrics_trace(path, open_trace)
    assert found == {} and metrics.table == "GPU_METRICS" and metrics.rows_read == 0
    with Capture(path) as capture:
        assert gpu_metrics.foreign_events(capture) == 1


@pytest.mark.parametrize("early", [False, True])
def test_a_time_range_takes_its_samples(early, open_trace, tmp_path):
    builder = Builder("3.16.1" if not early else "3.1.7")
    values = [(100 * n, n) for n in range(1, 20)]
    if early:
        json_events(builder, [(t, None, f'{{"SM Active": "{v}"}}') for t, v in values])
    else:
        builder.gpu_metrics(2, ["SM Active"], [(t, [v]) for t, v in values])
    path = builder.save(tmp_path, "range")
    metrics, found, _ = metrics_trace(path, open_trace, selection=Selection(550, 1_200))
    assert (metrics.rows_shown, metrics.filtered) == (7, 12)
    assert found[2, "SM Active"] == as_intervals(values[5:12])


# --- memory --------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(-50, 50)),
        min_size=1, max_size=60,
    )
)  # fmt: skip
def test_running_sums_are_those_of_a_loop(events):
    numbers = {g: i for i, g in enumerate(sorted({e[0] for e in events}))}
    group, time, change = (np.array(c) for c in zip(*events, strict=True))
    group = np.array([numbers[g] for g in group])
    found = running_sum.levels(group, time, change, len(numbers))
    for i in numbers.values():
        mine = [j for j in sorted(range(len(events)), key=lambda j: time[j]) if group[j] == i]
        level, levels = 0, []
        for j in mine:
            level += int(change[j])
            levels.append(level)
        base = max(0, -min(levels))
        part = slice(found.first[i], found.first[i] + len(mine))
        assert found.order[part].tolist() == mine
        assert found.level[part].tolist() == [v + base for v in levels]
        assert found.base[i] == base
        assert found.level.min() >= 0


def memory_trace(path, open_trace, shift=0, begin=None, selection=None):
    """(MemoryCounters, {(pid, counter): [(ts, value)]}, rows)."""
    selection = selection or Selection()
    tracks = Tracks()
    with Capture(path) as capture:
        usage = gpu_memory.usage(capture, selection)
        pools = gpu_memory.pools(capture, selection)
        found = memory_counters.prepare(usage, pools, gpus.read(capture), tracks, selection.start)
    for events in (usage, pools):
        assert events.rows_read == len(events) + sum(events.dropped.values())
    with open_trace(with_tracks(tracks, found.packets(shift, begin))) as tp:
        query.assert_clean(tp)
        rows = query.rows(tp, OF_PROCESSES)
    assert {r["unit"] for r in rows} <= {"bytes"}
    return found, by_counter(rows, "pid", "name"), rows


def memory_oracle(path):
    """{(pid, GPU (None for host memory), memKind): [(start, running sum)]}, never below zero."""
    oracle = Oracle(path)
    rows = oracle.select(
        "CUDA_GPU_MEMORY_USAGE_EVENTS",
        *("start", "globalPid", "deviceId", "bytes", "memKind", "memoryOperationType"),
    )
    found = defaultdict(list)
    for r in sorted(rows, key=lambda r: r["start"]):
        gpu = None if r["memKind"] in (0, 1) else oracle.gpu_of(r["globalPid"], r["deviceId"])
        samples = found[pid(r["globalPid"]), gpu, r["memKind"]]
        change = -r["bytes"] if r["memoryOperationType"] == 1 else r["bytes"]
        samples.append((r["start"], change + (samples[-1][1] if samples else 0)))
    result = {}
    for key, samples in found.items():
        base = max(0, -min(v for _, v in samples))
        result[key] = [(t, v + base) for t, v in samples]
    return result


def counter_name(gpu, kind):
    label = {0: "pageable", 1: "pinned", 2: "device", 3: "array", 4: "managed"}[kind]
    return f"{label} host memory" if gpu is None else f"GPU {gpu} {label} memory"


def test_the_scenario_with_memory_from_before_the_capture(open_trace, tmp_path):
    made = SCENARIOS["device_memory"](tmp_path)
    found, counters, rows = memory_trace(made.path, open_trace, SHIFT, begin=500_000)
    lift = 8 << 20
    device = [(t + SHIFT, v + lift) for t, v in made.facts["device_bytes"]]
    [(process, name)] = [k for k in counters if k[1] == "GPU 0 device memory"]
    assert counters[process, name] == [(500_000 + SHIFT, lift), *device]
    assert counters[process, "pinned host memory"] == [(1_500_000 + SHIFT, 1 << 16)]
    assert counters[process, "GPU 0 managed memory"] == [(1_600_000 + SHIFT, 1 << 16)]
    assert counters[process, "GPU 0 memory pool 1 size"] == [
        (900_000 + SHIFT, 1 << 30), (1_700_000 + SHIFT, 0)
    ]  # fmt: skip
    assert [v for _, v in counters[process, "GPU 0 memory pool 1 used"]] == [0, 0]
    [note] = found.notes
    assert "8,388,608 bytes" in note and "GPU 0 device memory" in note
    lifted = next(r["description"] for r in rows if r["name"] == name)
    assert "8,388,608 bytes" in lifted
    assert "0x9999" in next(r["description"] for r in rows if "pool" in r["name"])


@pytest.mark.parametrize("schema", ["2.9.1", "3.1.7", "3.7.2", "3.16.1", "3.24.18", "3.25.0"])
def test_memory_of_several_processes_gpus_and_kinds(schema, open_trace, tmp_path):
    builder = Builder(schema)
    builder.gpu(0)
    builder.gpu(1)
    rng = np.random.default_rng(7)
    for number in (4242, 5000):
        process = builder.process(number, "bench")
        times = np.sort(rng.integers(0, 10**6, 150))
        for i, t in enumerate(times.tolist()):
            device, kind = int(rng.integers(0, 2)), int(rng.integers(0, 5))
            builder.memory_event(
                process, t, 0x1000 * i, int(rng.integers(0, 1 << 30)), correlation=i,
                free=bool(rng.integers(0, 2)), device=device, mem_kind=kind,
            )  # fmt: skip
    path = builder.save(tmp_path, "many")
    found, counters, _ = memory_trace(path, open_trace, 11, begin=-11)
    expected = memory_oracle(path)
    assert sum(len(v) for v in expected.values()) == 300
    lifted = 0
    for (number, gpu, kind), samples in expected.items():
        shown = counters.pop((number, counter_name(gpu, kind)))
        if len(shown) > len(samples):
            lifted += 1
            opening = shown.pop(0)
            assert opening[0] == 0 and opening[1] > 0
        assert shown == [(t + 11, v) for t, v in samples]
        assert min(v for _, v in samples) >= 0
    assert not counters
    assert len(found.notes) == lifted > 0


def test_memory_pools(open_trace, tmp_path):
    builder = Builder("3.16.1")
    process = builder.process(77, "bench")
    builder.memory_pool_event(process, 100, 0xA0, operation=1, size=1000)
    builder.memory_pool_event(process, 150, 0xB0, operation=1, size=5000)

    def event(at, nbytes, pool, size, used, **options):
        builder.memory_event(
            process, at, 0x10, nbytes, correlation=None, localMemoryPoolAddress=pool,
            localMemoryPoolSize=size, localMemoryPoolUtilizedSize=used, **options,
        )  # fmt: skip

    event(100, 300, 0xA0, 1000, 512)
    event(200, 900, 0xA0, 2000, 1536)
    event(300, 300, 0xA0, 2000, 1024, free=True)
    event(310, 64, 0xB0, 5000, 64)
    event(320, 999, 0, None, None)  # of no pool
    builder.memory_pool_event(process, 400, 0xA0, operation=3, size=1024, used=1024)
    builder.memory_pool_event(process, 500, 0xA0, operation=2, size=1024)
    _, counters, rows = memory_trace(builder.save(tmp_path, "pools"), open_trace)
    first, second = ("GPU 0 memory pool 1", "GPU 0 memory pool 2")
    assert counters == {
        (77, "GPU 0 device memory"): [(100, 300), (200, 1200), (300, 900), (310, 964), (320, 1963)],
        (77, f"{first} allocated"): [(100, 300), (200, 1200), (300, 900)],
        (77, f"{first} size"): [
            (100, 1000), (100, 1000), (200, 2000), (300, 2000), (400, 1024), (500, 0)
        ],
        (77, f"{first} used"): [
            (100, 0), (100, 512), (200, 1536), (300, 1024), (400, 1024), (500, 0)
        ],
        (77, f"{second} allocated"): [(310, 64)],
        (77, f"{second} size"): [(150, 5000), (310, 5000)],
        (77, f"{second} used"): [(150, 0), (310, 64)],
    }  # fmt: skip
    assert "0xa0" in next(r["description"] for r in rows if r["name"] == f"{first} size")


def test_damaged_memory_rows_are_counted(open_trace, tmp_path):
    builder = Builder("3.16.1")
    process = builder.process(77, "bench")
    builder.memory_event(process, 100, 1, 50, correlation=None)
    builder.memory_event(process, 200, 1, -50, correlation=None)
    builder.memory_event(process, 300, 1, 1 << 62, correlation=None)
    builder.memory_event(process, 400, 1, 50, correlation=None, free=9)
    builder.memory_pool_event(process, 400, 0xA0, operation=1, size=None)
    path = builder.save(tmp_path, "damaged")
    with Capture(path) as capture:
        usage = gpu_memory.usage(capture, Selection())
        pools = gpu_memory.pools(capture, Selection())
    assert usage.dropped == {"neither an allocation nor a free": 1, "size out of range": 2}
    assert sum(pools.dropped.values()) == 1
    _, counters, _ = memory_trace(path, open_trace)
    assert counters == {(77, "GPU 0 device memory"): [(100, 50)]}


def test_the_labels_of_the_capture_say_what_frees(open_trace, tmp_path):
    builder = Builder("3.16.1")
    process = builder.process(77, "bench")
    builder.memory_event(process, 100, 1, 50, correlation=None, free=1)
    builder.memory_event(process, 200, 1, 20, correlation=None, free=2)
    path = builder.save(tmp_path, "labels")
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("delete from ENUM_CUDA_DEV_MEM_EVENT_OPER")
        sql.executemany(
            "insert into ENUM_CUDA_DEV_MEM_EVENT_OPER values (?, ?, ?)",
            [(1, "ALLOC", "Allocation"), (2, "FREE", "Deallocation")],
        )
        sql.commit()
    _, counters, _ = memory_trace(path, open_trace)
    assert counters == {(77, "GPU 0 device memory"): [(100, 50), (200, 30)]}


def test_a_time_range_begins_with_what_is_in_use(open_trace, tmp_path):
    builder = Builder("3.16.1")
    process = builder.process(77, "bench")
    for at, nbytes, free in ((100, 50, False), (200, 30, False), (300, 50, True), (400, 1, False)):
        builder.memory_event(process, at, 1, nbytes, free=free, correlation=None)
    builder.memory_event(process, 100, 1, 7, correlation=None, mem_kind=1)
    path = builder.save(tmp_path, "range")
    _, counters, _ = memory_trace(path, open_trace, selection=Selection(250, 350))
    assert counters == {
        (77, "GPU 0 device memory"): [(250, 80), (300, 30)],
        (77, "pinned host memory"): [(250, 7)],
    }
    _, counters, _ = memory_trace(path, open_trace, selection=Selection(pids=frozenset({1})))
    assert counters == {}


@pytest.mark.parametrize("sample", ["decode_eager", "decode_graph"])
def test_the_memory_of_the_samples(sample, open_trace):
    path = REPOSITORY / "samples" / f"{sample}.sqlite"
    found, counters, _ = memory_trace(path, open_trace)
    expected = memory_oracle(path)
    assert expected and not found.notes
    for (number, gpu, kind), samples in expected.items():
        assert counters[number, counter_name(gpu, kind)] == samples


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
