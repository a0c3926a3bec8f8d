"""Causes of gaps: against the simulated runs' truth, a plain reference, and one by one."""

from __future__ import annotations

import re
import sqlite3
import tempfile
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsys2perfetto.analysis import causes, correlate, gaps
from nsys2perfetto.analysis.causes import (
    ACTIVITIES,
    VERDICTS,
    Activity,
    Causes,
    GpuWork,
    HostCalls,
    Overheads,
    StreamWaits,
    Verdict,
    categories,
)
from nsys2perfetto.analysis.gaps import IdleGaps
from samples.builder import Capture, decode_run
from samples.builder.truth import CPU_KINDS, cpu_time
from samples.make_samples import SAMPLES

ROOT = Path(__file__).resolve().parent.parent
PROCESS = ~0xFFFFFF
SYNC, LAUNCH, MEMORY, COPY, OTHER, OUTSIDE = Activity


def int64s(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


# --- names of calls


@pytest.mark.parametrize(
    ("activity", "names"),
    [
        (
            SYNC,
            "cudaDeviceSynchronize_v3020 cuStreamSynchronize cudaEventSynchronize_v3020 "
            "cuCtxSynchronize cudaThreadSynchronize cudaStreamSynchronize_ptsz",
        ),
        (
            LAUNCH,
            "cudaLaunchKernel_v7000 cudaLaunchKernelExC_v11060 cuLaunchKernel cuLaunchKernelEx "
            "cuGraphLaunch cudaGraphLaunch_v10000 cudaLaunchCooperativeKernel cuLaunchHostFunc "
            "cudaLaunch_v3020",
        ),
        (
            MEMORY,
            "cudaMalloc_v3020 cudaMallocAsync_v11020 cudaMallocHost cudaMallocManaged cudaFree "
            "cudaFreeAsync_v11020 cudaFreeHost cudaHostAlloc cudaHostRegister cudaHostUnregister "
            "cuMemAlloc_v2 cuMemAllocAsync cuMemAllocFromPoolAsync cuMemFree_v2 cuMemFreeAsync "
            "cuMemFreeHost cuMemHostAlloc cuMemHostRegister_v2 cuMemHostUnregister cuMemCreate "
            "cuMemMap cuMemUnmap cuMemSetAccess cuMemRelease cuMemAddressReserve cuMemAddressFree "
            "cudaMemPoolCreate cudaMemPoolTrimTo cuMemPoolDestroy cuIpcOpenMemHandle_v2 "
            "cuArray3DCreate_v2 cuMipmappedArrayDestroy",
        ),
        (
            COPY,
            "cudaMemcpy_v3020 cudaMemcpyAsync_v3020 cudaMemcpy2DAsync cudaMemcpyPeerAsync "
            "cudaMemcpyToSymbol cuMemcpyHtoDAsync_v2 cuMemcpyDtoH_v2 cuMemsetD8Async cuMemsetD32 "
            "cudaMemset_v3020 cudaMemsetAsync cudaMemPrefetchAsync cuMemPrefetchAsync",
        ),
        (
            OTHER,
            "cudaStreamWaitEvent cudaEventRecord cudaEventQuery cuModuleLoadData cuLibraryLoadData "
            "cudaGraphInstantiate cudaGraphAddMemcpyNode cudaGraphAddMemAllocNode cudaMemGetInfo "
            "cuDeviceGetDefaultMemPool cudaMemPoolSetAttribute cudaMemAdvise cuStreamBeginCapture "
            "cudaPointerGetAttributes cuInit cudaOccupancyMaxActiveClusters cuGraphUpload",
        ),
    ],
)
def test_categories_of_calls(activity, names):
    found = categories(names.split())
    assert dict(zip(names.split(), found.tolist(), strict=True)) == dict.fromkeys(
        names.split(), activity
    )


def test_a_call_without_a_name_is_some_other_call():
    assert categories([None, "[unnamed call]"]).tolist() == [OTHER, OTHER]
    assert categories([]).tolist() == []


# --- reading a capture, the plain way


@dataclass
class Read:
    """GPU work and calls of a capture, and what was found about its gaps."""

    operations: list[tuple[int, ...]]  # start, end, globalPid, device, context, stream, ...
    calls: list[tuple[int, int, int, int, str]]  # start, end, globalTid, correlation id, name
    waits: list[tuple[tuple[int, ...], int]]  # (process, device, context, stream), start
    overheads: list[tuple[int, int, int]]  # globalTid, start, end
    work: GpuWork
    gaps: IdleGaps
    causes: Causes


def rows_of(connection, sql):
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []


def read(path: Path) -> Read:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        operations = []
        for kind in ("KERNEL", "MEMCPY", "MEMSET"):
            where = "WHERE copyKind NOT IN (11, 12, 13)" if kind == "MEMCPY" else ""
            operations += rows_of(
                connection,
                "SELECT start, end, globalPid, deviceId, contextId, streamId, correlationId,"
                f" coalesce(graphNodeId, 0) FROM CUPTI_ACTIVITY_KIND_{kind} {where}",
            )
        calls = rows_of(
            connection,
            "SELECT start, end, globalTid, correlationId, value FROM CUPTI_ACTIVITY_KIND_RUNTIME"
            " LEFT JOIN StringIds ON id = nameId",
        )
        started = {(c[2] & PROCESS, c[3]): (c[0], c[4]) for c in calls}
        waits = []
        for *queue, correlation in rows_of(
            connection,
            "SELECT globalPid, deviceId, contextId, streamId, correlationId"
            " FROM CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
        ):
            start, name = started.get((queue[0], correlation), (0, ""))
            if "StreamWaitEvent" in name:
                waits.append((tuple(queue), start))
        overheads = rows_of(connection, "SELECT globalTid, start, end FROM PROFILER_OVERHEAD")

    processes = {p: i for i, p in enumerate(sorted({o[2] for o in operations}))}
    queues = {q: i for i, q in enumerate(sorted({o[2:6] for o in operations}))}
    for queue, _ in waits:
        queues.setdefault(queue, len(queues))
    key = correlate.keys(
        int64s(processes[o[2]] for o in operations), int64s(o[6] for o in operations)
    )
    call_key = correlate.keys(
        int64s(processes.setdefault(c[2] & PROCESS, len(processes)) for c in calls),
        int64s(c[3] for c in calls),
    )
    start, end = int64s(o[0] for o in operations), int64s(o[1] for o in operations)
    track = int64s(processes[o[2]] * 100 + o[3] for o in operations)
    work = GpuWork(
        call=correlate.submitting_call(correlate.match(call_key, key), len(key)),
        launch=key,
        graph_node=int64s(o[7] for o in operations) != 0,
        queue=int64s(queues[o[2:6]] for o in operations),
        start=start,
        process=int64s(o[2] for o in operations),
    )
    names = sorted({c[4] for c in calls})
    code = {name: i for i, name in enumerate(names)}
    by_name = categories(names)
    host = HostCalls(
        int64s(c[2] for c in calls),
        int64s(c[0] for c in calls),
        int64s(c[1] for c in calls),
        np.array([by_name[code[c[4]]] for c in calls], dtype=np.int8),
    )
    idle = gaps.idle(track, start, end)
    found = causes.find(
        idle,
        work,
        host,
        StreamWaits(int64s(queues[q] for q, _ in waits), int64s(s for _, s in waits)),
        Overheads(*(int64s(o[i] for o in overheads) for i in range(3))),
    )
    return Read(operations, calls, waits, overheads, work, idle, found)


# --- the simulated runs

HOST_REASONS = {"host_pause", "host_stall", "between_runs", "model_load"}


def check_against_truth(capture: Capture, truth) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.sqlite"
        capture.write(path)
        found = read(path)
    result = found.causes
    assert len(found.gaps) == len(truth.gaps)
    assert (result.split.sum(axis=0) == found.gaps.gap).all()
    assert (result.overhead_ns == 0).all()
    agree = 0
    for i, gap in enumerate(truth.gaps):
        assert (found.gaps.start[i], found.gaps.end[i]) == (gap.start, gap.end)
        assert dict(zip(CPU_KINDS, result.split[:, i].tolist(), strict=True)) == gap.cpu_ns

        call = found.calls[result.call[i]]
        assert call[3] == found.operations[found.gaps.next[i]][6]
        assert result.lateness[i] == call[0] - gap.start
        verdict, late = Verdict(result.verdict[i]), bool(call[0] >= gap.start)
        mostly = Activity(result.mostly[i])
        assert result.split[mostly, i] == result.split[:, i].max()
        agree += bool(result.host_paced[i]) == gap.late
        if gap.cause == "graph":
            assert verdict is Verdict.GRAPH_INTERNAL
        elif not late:
            assert verdict is Verdict.LAUNCH_LATENCY
            assert gap.cause in ("queued", "launch", "sync") or gap.late
        elif gap.cause == "allocation":
            assert (verdict, mostly) == (Verdict.ALLOCATION, MEMORY)
        elif gap.cause in HOST_REASONS:
            assert (verdict, mostly) == (Verdict.LAUNCH_BOUND, OUTSIDE)
        elif gap.cause == "module_load":
            assert (verdict, mostly) == (Verdict.LAUNCH_BOUND, OTHER)
        else:
            assert gap.cause in ("sync", "launch")
            until = cpu_time(gap.start, call[0], truth.calls)
            waited = 2 * until["sync"] > sum(until.values())
            assert verdict is (Verdict.SYNCHRONIZATION if waited else Verdict.LAUNCH_BOUND)
    # Estimated from the usual launch latency, so not every time, least in short runs.
    assert agree >= 0.75 * len(truth.gaps)


@given(
    st.fixed_dictionaries(
        {
            "steps": st.integers(1, 18),
            "warmup_steps": st.integers(0, 4),
            "layers": st.integers(1, 2),
            "prompt": st.integers(1, 96),
            "graph": st.booleans(),
            "seed": st.integers(0, 1 << 30),
        }
    )
)
@settings(max_examples=12, deadline=None)
def test_splits_and_verdicts_of_random_decode_runs(run):
    capture = Capture(schema="3.16.1", graph_nodes=run["graph"])
    check_against_truth(capture, decode_run(capture, **run))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_as_they_are(name):
    found = read(ROOT / "samples" / f"{name}.sqlite")
    total = Counter()
    for verdict, ns in zip(found.causes.verdict, found.gaps.gap, strict=True):
        total[VERDICTS[verdict]] += int(ns)
    assert total.most_common(1)[0][0] == "launch_bound"
    assert ("graph_internal" in total) == (name == "decode_graph")
    assert total.keys() <= {
        "launch_bound", "launch_latency", "synchronization", "allocation", "graph_internal"
    }  # fmt: skip


def test_the_example_in_the_documentation_is_true():
    """The numbers of the worked example are those of the sample that it names."""
    text = (ROOT / "docs" / "causes.md").read_text(encoding="utf-8")
    found = read(ROOT / "samples" / "decode_eager.sqlite")
    table = re.findall(r"^\| (\d) \| ([\d,]+) \|.*\| `(\w+)` \| `(\w+)` \|$", text, re.MULTILINE)
    assert len(table) == 6
    by_start = {int(s): i for i, s in enumerate(found.gaps.start)}
    for _, start, verdict, mostly in table:
        i = by_start[int(start.replace(",", ""))]
        assert VERDICTS[found.causes.verdict[i]] == verdict
        assert ACTIVITIES[found.causes.mostly[i]] == mostly
        row = next(line for line in text.splitlines() if f"| {start} |" in line)
        numbers = [n.strip().replace(",", "") for n in row.split("|")[3:-3]]
        expected = [found.gaps.gap[i], found.causes.lateness[i], *found.causes.split[:, i]]
        assert numbers == [str(int(n)) for n in expected]


# --- real captures, against the rules written down plainly


def outermost(calls):
    """Per thread: (start, end, activity) of what is not inside of another call."""
    names = sorted({c[4] or "" for c in calls})
    activity = dict(zip(names, categories(names).tolist(), strict=True))
    threads = defaultdict(list)
    for start, end, thread, _, name in sorted(calls, key=lambda c: (c[0], -c[1])):
        own = threads[thread]
        if own and start < own[-1][1]:
            assert end <= own[-1][1], "calls of a thread nest"
        elif end > start:
            own.append((start, end, activity[name or ""]))
    return threads


def spent(own, t0, t1):
    answer = [0] * 6
    i = bisect_left(own, t0, key=lambda c: c[1])
    while i < len(own) and own[i][0] < t1:
        answer[own[i][2]] += max(0, min(t1, own[i][1]) - max(t0, own[i][0]))
        i += 1
    answer[OUTSIDE] = t1 - t0 - sum(answer)
    return answer


def held_up(found: Read, owner, t0, t1):
    """Length of the union of the profiler's rows of a thread or process within [t0, t1)."""
    total, reach = 0, t0
    for thread, start, end in sorted(found.overheads, key=lambda o: o[1]):
        if thread == owner and end > reach and start < t1:
            total += min(end, t1) - max(start, reach)
            reach = min(end, t1)
    return total


def judged(found: Read, i: int, threads, by_queue, waits) -> Verdict:
    """The rules of docs/causes.md, one by one."""
    work, gap = found.work, found.gaps
    g0, g1, previous, following = (int(a[i]) for a in (gap.start, gap.end, gap.previous, gap.next))
    before, after = found.operations[previous], found.operations[following]
    if before[7] and after[7] and (before[2], before[6]) == (after[2], after[6]):
        return Verdict.GRAPH_INTERNAL
    row = int(work.call[following])
    call = found.calls[row] if row >= 0 else None
    owners = [after[2], *([call[2]] if call else [])]
    if any(2 * held_up(found, owner, g0, g1) > g1 - g0 for owner in owners):
        return Verdict.PROFILER_OVERHEAD
    if call is None:
        return Verdict.UNKNOWN
    start, end, thread, _, name = call
    inside = min(end, g1) - max(start, g0)
    if categories([name])[0] == COPY and 2 * inside > g1 - g0 and g0 - start < g1 - g0:
        return Verdict.COPY
    if start >= g0:
        until = spent(threads[thread], g0, start)
        for activity, verdict in (
            (SYNC, Verdict.SYNCHRONIZATION),
            (MEMORY, Verdict.ALLOCATION),
            (COPY, Verdict.COPY),
        ):
            if 2 * until[activity] > start - g0 and 10 * until[activity] >= g1 - g0:
                return verdict
        return Verdict.LAUNCH_BOUND
    queue = after[2:6]
    submissions = [s for s in by_queue[queue] if s < start]
    waited = [s for s in waits[queue] if s < start]
    if waited and (not submissions or waited[-1] >= submissions[-1]):
        return Verdict.STREAM_DEPENDENCY
    return Verdict.LAUNCH_LATENCY


def test_real_captures_by_the_rules_written_down(capture):
    found = read(capture)
    result, gap = found.causes, found.gaps
    assert (result.split.sum(axis=0) == gap.gap).all()
    assert (result.split >= 0).all()
    threads = outermost(found.calls)
    by_queue, waits = defaultdict(list), defaultdict(list)
    for operation, row in zip(found.operations, found.work.call, strict=True):
        by_queue[operation[2:6]].append(found.calls[row][0] if row >= 0 else operation[0])
    for queue, start in found.waits:
        waits[queue].append(start)
    for times in (*by_queue.values(), *waits.values()):
        times.sort()
    if not found.waits:
        by_queue.clear()
    some = np.random.default_rng(1).permutation(len(gap))[:1_500]
    for i in some.tolist():
        row = int(found.work.call[gap.next[i]])
        assert result.call[i] == row
        t0, t1 = int(gap.start[i]), int(gap.end[i])
        if row < 0:
            assert result.split[:, i].tolist() == [0, 0, 0, 0, 0, t1 - t0]
            assert (result.mostly[i], result.lateness[i]) == (causes.NONE, 0)
        else:
            thread = found.calls[row][2]
            assert result.split[:, i].tolist() == spent(threads[thread], t0, t1)
            assert result.lateness[i] == found.calls[row][0] - t0
            assert result.host_paced[i] or result.lateness[i] < 0
        assert Verdict(result.verdict[i]) is judged(found, i, threads, by_queue, waits)


# --- one verdict after the other

THREAD = 1 << 50
US = 1_000


def one_gap(
    calls,
    *,
    launch=0,
    graph=False,
    same_launch=False,
    streams=(0, 0),
    waits=(),
    overheads=(),
    unit=US,
    gap=(100, 200),
    previous_launch=None,
):
    """Causes of one gap between two operations; calls are (start, end, activity) in us."""
    start, end = int64s([10, gap[1]]) * unit, int64s([gap[0], gap[1] + 100]) * unit
    before = NO_CALL if previous_launch is None else previous_launch
    work = GpuWork(
        call=int64s([before, NO_CALL if launch is None else launch]),
        launch=int64s([7, 7 if same_launch else 8]),
        graph_node=np.array([graph, graph]),
        queue=int64s(streams),
        start=start,
        process=int64s([5, 5]),
    )
    host = HostCalls(
        np.full(len(calls), THREAD),
        int64s(c[0] for c in calls) * unit,
        int64s(c[1] for c in calls) * unit,
        np.array([c[2] for c in calls], dtype=np.int8),
    )
    idle = gaps.idle(np.zeros(2, np.int64), start, end)
    assert len(idle) == 1
    return causes.find(
        idle,
        work,
        host,
        StreamWaits(int64s(w[0] for w in waits), int64s(w[1] for w in waits) * unit),
        Overheads(
            int64s(o[0] for o in overheads),
            int64s(o[1] for o in overheads) * unit,
            int64s(o[2] for o in overheads) * unit,
        ),
    )


NO_CALL = causes.NONE


def verdict_of(found: Causes) -> str:
    return VERDICTS[found.verdict[0]]


def split_of(found: Causes) -> dict[str, int]:
    spent_us = zip(ACTIVITIES, (found.split[:, 0] // US).tolist(), strict=True)
    return {name: us for name, us in spent_us if us}


def test_the_host_did_something_else_and_launched_late():
    found = one_gap([(190, 195, LAUNCH), (20, 110, SYNC)])
    assert verdict_of(found) == "launch_bound"
    assert ACTIVITIES[found.mostly[0]] == "outside_cuda"
    assert split_of(found) == {"sync": 10, "launch": 5, "outside_cuda": 85}
    assert (found.call[0], found.lateness[0], found.host_paced[0]) == (0, 90 * US, True)


def test_the_launch_itself_took_long():
    found = one_gap([(110, 199, LAUNCH), (20, 108, SYNC)])
    assert verdict_of(found) == "launch_bound"
    assert ACTIVITIES[found.mostly[0]] == "launch"


def test_waking_up_took_most_of_the_time_until_the_launch():
    found = one_gap([(150, 160, LAUNCH), (20, 140, SYNC)])
    assert verdict_of(found) == "synchronization"
    assert split_of(found) == {"sync": 40, "launch": 10, "outside_cuda": 50}


def test_allocation_and_freeing_took_most_of_the_time_until_the_launch():
    found = one_gap([(190, 195, LAUNCH), (102, 140, MEMORY), (140, 180, MEMORY)])
    assert verdict_of(found) == "allocation"


def test_copy_calls_took_most_of_the_time_until_the_launch():
    assert verdict_of(one_gap([(190, 195, LAUNCH), (102, 180, COPY)])) == "copy"


def test_a_copy_from_pageable_memory_copies_within_its_call():
    assert verdict_of(one_gap([(120, 205, COPY)])) == "copy"
    # It began before the GPU fell idle, but most of its time until the copy is the gap's.
    assert verdict_of(one_gap([(60, 205, COPY)])) == "copy"


def test_a_copy_that_waited_its_turn_for_long_is_launch_latency():
    found = one_gap([(20, 400, COPY)], gap=(150, 160))
    assert verdict_of(found) == "launch_latency"
    assert split_of(found) == {"copy": 10}


def test_queued_or_being_launched_when_the_gpu_fell_idle():
    found = one_gap([(40, 45, LAUNCH), (50, 300, SYNC)])
    assert verdict_of(found) == "launch_latency"
    assert found.lateness[0] == -60 * US
    assert not found.host_paced[0]
    assert verdict_of(one_gap([(99, 105, LAUNCH)])) == "launch_latency"
    assert verdict_of(one_gap([(100, 105, LAUNCH)])) == "launch_bound"


def test_the_stream_had_been_made_to_wait():
    calls = [(60, 64, LAUNCH), (20, 24, LAUNCH)]
    waiting = {"previous_launch": 1, "streams": (3, 3)}
    assert verdict_of(one_gap(calls, waits=[(3, 50)], **waiting)) == "stream_dependency"
    # before the stream's previous submission; after this one; another stream
    for wait in ((3, 10), (3, 61), (4, 50)):
        assert verdict_of(one_gap(calls, waits=[wait], **waiting)) == "launch_latency"
    # A stream's first operation: any wait before it counts.
    first = one_gap(calls, waits=[(3, 10)], previous_launch=1, streams=(2, 3))
    assert verdict_of(first) == "stream_dependency"
    # A launch that came late is late for another reason.
    late = one_gap([(150, 155, LAUNCH)], waits=[(3, 50)], streams=(2, 3))
    assert verdict_of(late) == "launch_bound"


def test_between_two_nodes_of_one_graph_launch():
    calls = [(20, 30, LAUNCH), (40, 300, SYNC)]
    assert verdict_of(one_gap(calls, graph=True, same_launch=True)) == "graph_internal"
    assert verdict_of(one_gap(calls, graph=True)) == "launch_latency"  # from one to the next
    assert verdict_of(one_gap(calls, same_launch=True)) == "launch_latency"
    assert verdict_of(one_gap([], launch=None, graph=True, same_launch=True)) == "graph_internal"


def test_the_profiler_held_the_thread_up():
    calls = [(190, 195, LAUNCH)]
    most = [(THREAD, 90, 140), (THREAD, 120, 155)]  # overlapping: 55 of 100
    found = one_gap(calls, overheads=most)
    assert verdict_of(found) == "profiler_overhead"
    assert found.overhead_ns[0] == 55 * US
    assert verdict_of(one_gap(calls, overheads=[(5, 100, 170)])) == "profiler_overhead"
    half = one_gap(calls, overheads=[(THREAD, 100, 150)])
    assert (verdict_of(half), half.overhead_ns[0]) == ("launch_bound", 50 * US)
    assert verdict_of(one_gap(calls, overheads=[(THREAD + 1, 100, 200)])) == "launch_bound"


def test_no_launching_call_in_the_capture():
    found = one_gap([(20, 300, SYNC)], launch=None)
    assert verdict_of(found) == "unknown"
    assert split_of(found) == {"outside_cuda": 100}
    assert (found.call[0], found.mostly[0], found.lateness[0]) == (NO_CALL, NO_CALL, 0)
    assert not found.host_paced[0]
    assert verdict_of(one_gap([], launch=None)) == "unknown"


def test_nested_calls_count_once_as_the_outer_one():
    # cudaMalloc > cuMemAlloc, and a launch that loads a module first.
    calls = [(190, 196, LAUNCH), (110, 150, MEMORY), (112, 149, MEMORY), (191, 195, OTHER)]
    assert split_of(one_gap(calls)) == {"launch": 6, "memory": 40, "outside_cuda": 54}


def test_no_gap_at_all():
    none = int64s([])
    idle = gaps.idle(none, none, none)
    work = GpuWork(none, none, none.astype(bool), none, none, none)
    found = causes.find(idle, work, HostCalls(none, none, none, none.astype(np.int8)))
    assert found.split.shape == (6, 0)
    assert len(found.verdict) == 0


def test_names():
    assert VERDICTS == (
        "unknown", "launch_bound", "synchronization", "allocation", "copy", "launch_latency",
        "stream_dependency", "graph_internal", "profiler_overhead",
    )  # fmt: skip
    assert ACTIVITIES == ("sync", "launch", "memory", "copy", "other_cuda", "outside_cuda")
    text = (ROOT / "docs" / "causes.md").read_text(encoding="utf-8")
    for name in (*VERDICTS, *ACTIVITIES):
        assert f"`{name}`" in text, f"docs/causes.md does not speak of {name}"


def test_a_million_gaps_cost_little():
    rng = np.random.default_rng(5)
    n = 1_000_001
    duration = rng.integers(1_500, 9_000, n)
    start = np.cumsum(duration + rng.integers(500, 6_000, n)) - duration
    called = np.sort(start - rng.integers(2_000, 20_000, n))
    returned = called + 2_000
    rows, none = np.arange(n), np.zeros(n, np.int64)
    work = GpuWork(rows, rows, none != 0, none, start, none)
    host = HostCalls(none + THREAD, called, returned, rng.integers(0, 5, n).astype(np.int8))
    idle = gaps.idle(none, start, start + duration)
    began = time.process_time()
    found = causes.find(
        idle,
        work,
        host,
        StreamWaits(none[::50], called[::50]),
        Overheads(host.thread[::90], called[::90], returned[::90]),
    )
    assert time.process_time() - began < 6
    assert (found.split.sum(axis=0) == idle.gap).all()
