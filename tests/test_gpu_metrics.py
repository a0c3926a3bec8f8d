"""GPU metric samples, in the engine, against the capture in plain SQL."""

import shutil
import sqlite3
import statistics
from collections import defaultdict
from contextlib import closing
from itertools import pairwise

import pytest

from nsys2perfetto import convert, inspect
from nsys2perfetto.nsys import gpu_metrics
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.nsys.gpu_metric_names import describe, is_helper
from nsys2perfetto.tracks import gpu_counters
from samples.builder import Capture as Builder
from samples.builder.scenarios import SCENARIOS
from tests.conftest import CAPTURES
from tests.counters import NATIVE, by_counter, native
from tests.engine import query
from tests.oracle import Oracle
from tests.runs import converted, load

REAL = CAPTURES / "gpu_metrics_2023.4.4.sqlite"
real = pytest.mark.skipif(not REAL.exists(), reason=f"no {REAL.name}")

SHIFT = 1 << 40


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
    assert len(metrics.sets) == 1 and metrics.span == (-shift, 509_551_579)
    assert metrics.notes == []
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
    assert metrics.dropped == {} and metrics.helpers == 58
    assert metrics.rows_shown == metrics.rows_read == 2 * 29 * 4
    [note] = metrics.notes
    assert "58 rows" in note


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


def test_no_metric_takes_the_name_of_another_counter(tmp_path):
    builder = Builder("3.16.1")
    for gpu in (0, 1):
        builder.gpu_metrics(gpu, ["SM Active"], [(100, [1]), (200, [2])])
    with Capture(builder.save(tmp_path, "names")) as capture:
        metrics = gpu_metrics.read(capture, Selection())
    others = [gpu_counters.CounterBlock(1, [gpu_counters.CounterSpec("SM Active")], [], [], 0)]
    blocks = gpu_counters.of_metrics(metrics, others)
    assert [(b.gpu, b.specs[0].name) for b in blocks] == [(0, "SM Active"), (1, "SM Active (2)")]


# --- in a whole conversion -----------------------------------------------------------------------


def test_a_conversion_has_the_samples(open_trace, tmp_path):
    run = load("gpu_metrics", open_trace)
    assert run.shift == 38_000
    [family] = run.result.families
    assert (family.family, family.read, family.written) == ("gpu_metrics", 12, 12)
    assert not any("not shown" in note for note in run.result.capture.notes)
    with open_trace(run.result.output) as tp:
        query.assert_clean(tp)
        found = by_counter(query.rows(tp, NATIVE), "gpu", "name")
        named = query.rows(tp, "select gpu, name from gpu order by gpu")
    for gpu, samples in run.facts["samples"].items():
        for name in samples[0][1]:
            values = [(at, row[name]) for at, row in samples]
            assert found[gpu, describe(name).name] == as_intervals(values, run.shift)
    assert [g["gpu"] for g in named] == [0, 1] and all(g["name"] for g in named)
    without = converted(run.path, open_trace, skip=["gpu_metrics"])
    [family] = without.result.families
    assert (family.read, family.written, family.filtered) == (0, 0, 12)
    assert without.shift == 0


def test_an_early_export_is_converted(open_trace, tmp_path):
    builder = Builder("3.1.7")
    json_events(builder, [(n * 100, None, f'{{"SM Active": "{n}"}}') for n in range(1, 9)])
    path = builder.save(tmp_path, "early")
    result = convert(path)
    assert [(f.family, f.table, f.written) for f in result.families] == [
        ("gpu_metrics", "GENERIC_EVENTS", 8)
    ]
    assert not any("not shown" in note for note in result.capture.notes)
    inspected = inspect(path)
    assert [(f.table, f.read) for f in inspected.families] == [("GENERIC_EVENTS", 8)]
    assert inspected.other_tables == {}
    assert (inspected.capture.first_event_ns, inspected.capture.duration_ns) == (100, 700)
    with open_trace(result.output) as tp:
        found = by_counter(query.rows(tp, NATIVE), "gpu", "name")
    assert found == {(2, "SM Active"): as_intervals([(n * 100, n) for n in range(1, 9)])}


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "[" * 100_000, '{"a":' * 100_000])
def test_what_is_no_json_object_describes_nothing(text):
    assert gpu_metrics._parsed(text) == {}
