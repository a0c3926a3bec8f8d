"""Memory in use, in the engine, against the capture in plain SQL."""

import sqlite3
from collections import defaultdict
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis import running_sum
from nsys2perfetto.nsys import gpu_memory, gpus
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.tracks import memory_counters
from nsys2perfetto.tracks.processes import Tracks
from samples.builder import Capture as Builder
from samples.builder.scenarios import SCENARIOS
from tests.counters import OF_PROCESSES, by_counter, with_tracks
from tests.engine import query
from tests.engine.locate import REPOSITORY
from tests.oracle import Oracle, pid
from tests.runs import converted, load

SHIFT = 1 << 40


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


# --- in a whole conversion -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["decode_eager", "decode_graph", "device_memory"])
def test_a_conversion_has_the_memory(name, open_trace):
    run = load(name, open_trace)
    families = {f.family: f for f in run.result.families}
    with open_trace(run.result.output) as tp:
        query.assert_clean(tp)
        found = by_counter(query.rows(tp, OF_PROCESSES), "pid", "name")
    expected = memory_oracle(run.path)
    samples = 0
    for (number, gpu, kind), values in expected.items():
        shown = found[number, counter_name(gpu, kind)]
        if len(shown) > len(values):  # what was there before stands where the trace begins
            assert shown.pop(0)[0] == run.result.capture.first_event_ns + run.shift
        assert shown == [(t + run.shift, v) for t, v in values]
        samples += len(values)
    assert families["memory"].read == families["memory"].written == samples
    notes = [n for n in run.result.capture.notes if "more were freed" in n]
    assert len(notes) == (name == "device_memory")


def test_a_range_and_skipped_memory(open_trace):
    run = load("device_memory", open_trace)
    ranged = converted(run.path, open_trace, start=1_250_000)
    families = {f.family: (f.read, f.filtered) for f in ranged.result.families}
    assert families["memory"] == (4, 3)
    without = converted(run.path, open_trace, skip=["memory", "memory_pool"])
    families = {f.family: (f.read, f.filtered) for f in without.result.families}
    assert families["memory"] == (0, 7) and families["memory_pool"] == (0, 2)
    assert not any("freed" in note for note in without.result.capture.notes)


@pytest.mark.parametrize("start", [-1, -(1 << 61)])
def test_a_range_that_begins_before_the_trace(open_trace, start):
    """What is in use is shown from time 0 on: a trace has none below."""
    run = load("device_memory", open_trace)
    ranged = converted(run.path, open_trace, start=start)
    assert ranged.trace.losses == []
    assert ranged.result.time_shift_ns == 0
