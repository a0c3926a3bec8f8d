"""The GPU scripts of Perfetto's own repository, and what they rely on, against plain SQL.

google/perfetto has scripts for GPU work of any vendor, in `ai/skills/perfetto/workflows/gpu`. They
are no part of this project: where `PERFETTO_SOURCE` names a checkout (a folder tree or a git
directory) they run here unchanged; without one, queries of our own ask the same tables, columns,
arguments and modules. Both are held to the same rows, taken from the capture by `sqlite3`.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from nsys2perfetto import convert
from samples.builder import A100, Capture, Kernel
from tests.engine import query
from tests.gpu_script_checks import (
    Check,
    Interval,
    busy,
    check_all,
    check_gaps,
    check_gpus,
    check_kernels,
    check_nothing,
    check_shares,
    covered,
)
from tests.oracle import METRIC_NAMES, METRICS
from tests.runs import Run, Trace, load, load_capture

FOLDER = "ai/skills/perfetto/workflows/gpu"
RUNS = (
    "decode_eager", "decode_graph", "two_processes_two_gpus", "gpu_order_differs",
    "eight_hundred_streams", "overlapping_kernels", "unified_memory", "every_copy_kind",
    "graph_nodes", "graph_level", "negative_times", "unsorted_rows", "zero_length", "odd_text",
    "dangling_strings", "fewer_columns", "gpu_metrics", "no_metadata", "no_kernels",
    "no_cuda_at_all",
)  # fmt: skip
"""Several processes, GPUs and streams, overlap, graphs, copies only, nothing at all."""

SCRIPTS: dict[str, Check] = {
    "compute/scripts/kernels_summary.sql": check_kernels,
    "compute/scripts/launch_statistics.sql": check_kernels,
    "compute/nvidia/scripts/occupancy.sql": check_kernels,
    "compute/nvidia/scripts/speed_of_light.sql": check_kernels,
    "compute/nvidia/scripts/workload_analysis.sql": check_kernels,
    "scripts/gpu_idle_gaps.sql": check_gaps,
    "scripts/gpu_timeline_decomposition.sql": check_shares,
    "scripts/gpu_info.sql": check_gpus,
    "scripts/gpu_frequency_residency.sql": check_nothing,
    "scripts/gpu_dvfs_ramp.sql": check_nothing,
    "scripts/gpu_sustained_throttle.sql": check_nothing,
}


# Perfetto's scripts


def git(*arguments: str) -> str:
    """What git prints of the checkout that is a git directory."""
    command = ["git", "-C", os.environ["PERFETTO_SOURCE"], *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@functools.cache
def script(name: str) -> str:
    """The text of a script in the checkout that `PERFETTO_SOURCE` names."""
    if not os.environ.get("PERFETTO_SOURCE"):
        pytest.skip("PERFETTO_SOURCE names no checkout of google/perfetto")
    path = Path(os.environ["PERFETTO_SOURCE"], FOLDER, name)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return git("show", f"HEAD:{FOLDER}/{name}")


def scripts() -> list[tuple[str, str, Check]]:
    return [(name, script(name), check) for name, check in SCRIPTS.items()]


@pytest.mark.parametrize("name", RUNS)
def test_perfettos_scripts(name, open_trace):
    sources = scripts()
    check_all(load(name, open_trace), sources, open_trace)


def test_perfettos_scripts_on_real_captures(capture, open_trace):
    sources = scripts()
    check_all(load_capture(capture, open_trace), sources, open_trace)


def test_no_script_of_perfetto_is_forgotten():
    script(next(iter(SCRIPTS)))
    folder = Path(os.environ["PERFETTO_SOURCE"], FOLDER)
    if folder.is_dir():
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.sql")}
    else:
        listed = git("ls-tree", "-r", "--name-only", f"HEAD:{FOLDER}").split()
        found = {name for name in listed if name.endswith(".sql")}
    assert found == set(SCRIPTS)


# The same with queries of our own

OURS: dict[str, tuple[str, Check]] = {
    "kernels": (
        """
        SELECT
          row_number() OVER (ORDER BY k.ts) AS id,
          ifnull(
            extract_arg(k.arg_set_id, 'kernel_demangled_name'),
            ifnull(extract_arg(k.arg_set_id, 'kernel_name'), k.name)
          ) AS kernel,
          extract_arg(queue.dimension_arg_set_id, 'ugpu') AS ugpu,
          k.dur AS dur_ns,
          extract_arg(k.arg_set_id, 'workgroup_size') AS block_size,
          extract_arg(k.arg_set_id, 'grid_size') AS grid_size,
          extract_arg(k.arg_set_id, 'thread_count') AS thread_count,
          extract_arg(k.arg_set_id, 'registers_per_thread') AS registers,
          extract_arg(k.arg_set_id, 'shared_mem_static') AS shared_mem_static,
          extract_arg(k.arg_set_id, 'shared_mem_dynamic') AS shared_mem_dynamic,
          extract_arg(k.arg_set_id, 'shared_mem_config_size') AS shared_mem_config,
          extract_arg(k.arg_set_id, 'waves_per_multiprocessor') AS waves_per_sm,
          extract_arg(k.arg_set_id, 'func_cache_config') AS func_cache_config,
          extract_arg(k.arg_set_id, 'barriers_per_block') AS barriers_per_block,
          (
            SELECT avg(c.value)
            FROM gpu_counter_group AS grouped
            JOIN gpu_counter_track AS t ON t.id = grouped.track_id
            JOIN counter AS c ON c.track_id = t.id
            WHERE grouped.group_id = 6
              AND t.ugpu = extract_arg(queue.dimension_arg_set_id, 'ugpu')
              AND c.ts BETWEEN k.ts AND k.ts + k.dur - 1
          ) AS compute_counters
        FROM gpu_slice AS k, gpu_track AS queue
        WHERE queue.id = k.track_id AND k.render_stage_category = 2 AND k.dur > 0
        ORDER BY k.dur DESC""",
        check_kernels,
    ),
    "idle gaps": (
        """
        INCLUDE PERFETTO MODULE intervals.overlap;
        SELECT ends - trace_start() AS gap_start_rel_ns, starts - ends AS gap_dur_ns
        FROM (
          SELECT lag(ts + dur) OVER (ORDER BY ts) AS ends, ts AS starts
          FROM interval_merge_overlapping!((SELECT ts, dur FROM gpu_slice WHERE dur > 0), 0)
        )
        WHERE starts > ends
        ORDER BY gap_dur_ns DESC
        LIMIT 10""",
        check_gaps,
    ),
    "busy share": (
        """
        INCLUDE PERFETTO MODULE intervals.overlap;
        WITH work AS (
          SELECT s.ts, s.dur, extract_arg(q.dimension_arg_set_id, 'ugpu') AS ugpu
          FROM gpu_slice AS s JOIN gpu_track AS q ON q.id = s.track_id
          WHERE s.dur > 0
        ),
        merged AS (
          SELECT ugpu, sum(dur) AS busy, max(ts + dur) - min(ts) AS active
          FROM interval_merge_overlapping_partitioned!(work, (ugpu))
          GROUP BY ugpu
        )
        SELECT
          ugpu AS gpu,
          ifnull(gpu.name, 'GPU ' || ugpu) AS gpu_name,
          (SELECT count() FROM work WHERE work.ugpu = merged.ugpu) AS activities,
          trace_end() - trace_start() AS trace_wall_ns,
          active AS active_span_ns,
          busy AS gpu_busy_ns,
          100.0 * busy / active AS busy_pct_of_active,
          100.0 * busy / (trace_end() - trace_start()) AS busy_pct_of_trace
        FROM merged LEFT JOIN gpu USING (ugpu)
        ORDER BY gpu""",
        check_shares,
    ),
    "GPUs": (
        """
        SELECT machine_id, machine_id = 0 AS is_host, ugpu, gpu AS gpu_index, vendor, name, model,
          architecture, uuid, pci_bdf
        FROM gpu ORDER BY ugpu""",
        check_gpus,
    ),
    "frequencies": (
        "SELECT * FROM gpu_counter_track WHERE name IN ('gpufreq', 'Temperature', 'Power')",
        check_nothing,
    ),
}


def ours() -> list[tuple[str, str, Check]]:
    return [(name, sql, check) for name, (sql, check) in OURS.items()]


@pytest.mark.parametrize("name", RUNS)
def test_what_the_scripts_rely_on(name, open_trace):
    check_all(load(name, open_trace), ours(), open_trace)


def test_what_the_scripts_rely_on_in_real_captures(capture, open_trace):
    check_all(load_capture(capture, open_trace), ours(), open_trace)


# What the pages around the scripts ask for: windows, host work, clocks

WINDOWS = """
    INCLUDE PERFETTO MODULE intervals.overlap;
    INCLUDE PERFETTO MODULE intervals.intersect;
    CREATE PERFETTO TABLE our_steps AS
    SELECT row_number() OVER (ORDER BY ts) AS id, name, ts, dur
    FROM slice WHERE name GLOB '*step *' AND dur > 0;
    CREATE PERFETTO TABLE our_busy AS
    SELECT row_number() OVER (ORDER BY ts) AS id, ts, dur
    FROM interval_merge_overlapping!((SELECT ts, dur FROM gpu_slice WHERE dur > 0), 0);
    SELECT step.name, step.ts, step.dur, ifnull(sum(both.dur), 0) AS busy_ns
    FROM our_steps AS step
    LEFT JOIN _interval_intersect!((our_steps, our_busy), ()) AS both ON both.id_0 = step.id
    GROUP BY step.id
"""


@pytest.mark.parametrize("name", ["decode_eager", "decode_graph"])
def test_decode_steps_are_windows_of_their_own(name, open_trace):
    run = load(name, open_trace)
    with open_trace(run.result.output) as tp:
        rows = query.rows(tp, WINDOWS)
    steps = [s for s in run.trace.cpu if s["category"] == "nsys.step"]
    assert len(rows) == sum("step " in s["name"] for s in steps) > 10
    measured = {s["ts"]: run.trace.args(s)["decode_step.busy_ns"] for s in steps}
    work = busy(run)
    for row in rows:
        assert row["busy_ns"] == covered(work, row["ts"], row["ts"] + row["dur"])
        assert row["busy_ns"] == measured[row["ts"]]


HOST = """
    INCLUDE PERFETTO MODULE slices.with_context;
    SELECT name, tid, sum(min(ts + dur, {end}) - max(ts, {start})) AS overlap_ns
    FROM thread_or_process_slice
    WHERE dur > 0 AND depth = 0 AND tid IS NOT NULL AND ts < {end} AND ts + dur > {start}
    GROUP BY name, tid
"""


def test_host_work_during_the_longest_gap(open_trace):
    run = load("decode_eager", open_trace)
    work = busy(run)
    start, end = max(((e, s) for (_, e), (s, _) in pairwise(work)), key=lambda g: g[1] - g[0])
    with open_trace(run.result.output) as tp:
        rows = query.rows(tp, HOST.format(start=start, end=end))
    calls = [*run.oracle.calls, *run.oracle.library_calls]
    # The outermost calls of the only thread: those that lie in no other.
    spans = sorted({(c["start"], -c["end"]) for c in calls})
    outer: list[Interval] = []
    for first, last in spans:
        if not outer or -last > outer[-1][1]:
            outer.append((first, -last))
    expected: dict[str, int] = defaultdict(int)
    for c in calls:
        if (c["start"], c["end"]) in outer:
            overlap = covered([(c["start"] + run.shift, c["end"] + run.shift)], start, end)
            expected[c["name"]] += overlap
    assert {r["name"]: r["overlap_ns"] for r in rows} == {n: ns for n, ns in expected.items() if ns}


CLOCK = """
    INCLUDE PERFETTO MODULE counters.intervals;
    INCLUDE PERFETTO MODULE intervals.intersect;
    INCLUDE PERFETTO MODULE intervals.overlap;
    CREATE PERFETTO TABLE our_clock AS
    SELECT c.id, c.ts, c.dur, c.value AS hz, t.ugpu
    FROM counter_leading_intervals!((
      SELECT counter.*
      FROM counter JOIN gpu_counter_track AS t ON t.id = track_id
      WHERE t.name = 'GPC Clock Frequency'
    )) AS c
    JOIN gpu_counter_track AS t ON t.id = c.track_id;
    CREATE PERFETTO TABLE our_busy AS
    SELECT row_number() OVER () AS id, ts, dur, ugpu
    FROM interval_merge_overlapping_partitioned!((
      SELECT s.ts, s.dur, extract_arg(q.dimension_arg_set_id, 'ugpu') AS ugpu
      FROM gpu_slice AS s JOIN gpu_track AS q ON q.id = s.track_id
      WHERE s.dur > 0
    ), (ugpu));
    SELECT c.ugpu, c.hz, sum(both.dur) AS ns
    FROM _interval_intersect!((our_busy, our_clock), (ugpu)) AS both
    JOIN our_clock AS c ON c.id = both.id_1
    GROUP BY c.ugpu, c.hz
"""


def test_the_clock_while_a_gpu_was_busy(tmp_path, open_trace):
    capture = Capture("3.16.1")
    for gpu in (0, 1):
        capture.gpu(gpu, A100)
        clock = [(50_000 * n, [1_000_000_000 + 100_000_000 * n + gpu]) for n in range(1, 20)]
        capture.gpu_metrics(gpu, ["GPC Clock Frequency [MHz]"], clock)
        thread = capture.thread(capture.process(100 + gpu, "app"), 100 + gpu, "app")
        for n in range(8):
            at = 90_000 + 95_000 * n + 3_000 * gpu
            capture.launch(
                thread, Kernel("k"), at=at, call=1_000, start=at + 2_000,
                duration=30_000 + 9_000 * n, device=gpu,
            )  # fmt: skip
    path = capture.save(tmp_path, "clocks")
    result = convert(path)
    run = Run(path, {}, result, Trace(result.output, open_trace))
    expected: dict[tuple[int, int], int] = defaultdict(int)
    kinds = {
        (r["typeId"], r["metricId"]): r["typeId"] & 0xFF
        for r in run.oracle.select(METRIC_NAMES, "typeId", "metricId")
    }
    samples = run.oracle.select(METRICS, "timestamp", "typeId", "metricId", "value")
    assert len(kinds) == 2 and len(samples) == 38
    for r in samples:
        # A sample is what was measured up to its time (NSYS_SCHEMA section 6).
        gpu, end = kinds[r["typeId"], r["metricId"]], r["timestamp"]
        expected[gpu, r["value"]] += covered(busy(run, gpu), end - 50_000, end)
    with open_trace(result.output) as tp:
        rows = query.rows(tp, CLOCK)
    found = {(r["ugpu"], int(r["hz"])): r["ns"] for r in rows}
    assert found == {key: ns for key, ns in expected.items() if ns}
