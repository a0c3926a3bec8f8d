"""A conversion as a whole: time, metadata, secrets, outputs, filters, and what it tells."""

import contextlib
import gzip
import os
import shutil
import sqlite3
import stat
import subprocess
import sys

import pytest

from nsys2perfetto import convert
from nsys2perfetto.errors import OutputError, UsageError
from samples.builder import PRODUCTS, SECRETS, SESSION_START_NS, Capture
from tests import checks
from tests.engine.locate import REPOSITORY
from tests.oracle import FOREVER, NVTX, PROCESS, START_END, pid
from tests.runs import RUNS, SAMPLES, Trace, converted, load, same, scenario


@pytest.fixture(scope="session", params=RUNS)
def run(request, open_trace):
    return load(request.param, open_trace)


def rows(trace):
    """What a trace shows, without the engine's own numbers."""
    by_id = trace.by_id

    def key(s):
        where = (s["pid"], s.get("tid"), s["track"], s.get("gpu"))
        return (s["ts"], s["dur"], s["name"], where, tuple(sorted(trace.args(s).items(), key=str)))

    def plain(s):
        what = key(s)
        arguments = [a for a in what[-1] if not is_id(a[0])]
        return (*what[:-1], tuple(arguments))

    def is_id(name):
        return "event_id" in name or name in ("hw_queue_id", "context_id", "upid")

    slices = [plain(s) for s in by_id.values()]
    flows = [(plain(by_id[f["slice_out"]])[:4], plain(by_id[f["slice_in"]])[:4])
             for f in trace.flows]  # fmt: skip
    return slices, flows


# ---- time


@pytest.mark.parametrize("check", checks.WHOLE_CHECKS, ids=lambda check: check.__name__)
def test_whole(run, check):
    check(run)


def test_a_normalized_export_is_not_shifted_twice(open_trace):
    run = load("ts_normalized", open_trace)
    [kernel] = run.trace.gpu
    assert kernel["ts"] == run.facts["kernel_start"]
    assert {r["utc"] - r["ts"] for r in run.trace.utc} == {0}
    session = run.trace.metadata["trace_attribute.session_start_utc_ns"]
    assert session == run.facts["utc_start"] == SESSION_START_NS


def test_negative_times_are_shifted_and_the_shift_recorded(open_trace):
    run = load("negative_times", open_trace)
    assert run.trace.metadata["trace_attribute.time_shift_ns"] > 0
    assert min(s["ts"] for s in run.trace.by_id.values()) >= 0
    [kernel] = run.trace.gpu
    assert kernel["ts"] - run.shift == -1_900_000_000 + 5_000
    [message] = run.trace.calls("nsys.message")
    assert run.trace.args(message)["debug.time_ns"] == run.facts["earliest"]
    utc = {r["ts"]: r["utc"] for r in run.trace.utc}
    assert utc[kernel["ts"]] == SESSION_START_NS - 1_900_000_000 + 5_000


# ---- secrets


def test_no_secret_is_in_the_trace(run):
    data = run.result.output.read_bytes()
    told = str(run.result).replace(str(run.path.parent), "")
    for secret in SECRETS:
        assert secret.encode() not in data
        assert secret not in told


def test_the_secrets_are_in_the_captures(tmp_path):
    """Else the test above proves nothing."""
    data = scenario("secrets").path.read_bytes()
    assert all(secret.encode() in data for secret in SECRETS)


@pytest.mark.parametrize("argument", ["--token=", "token=", "-t "])
def test_a_command_line_as_a_process_name_is_cut(argument, tmp_path, open_trace):
    capture = Capture("3.25.0")
    line = f"/srv/somebody/app {argument}{SECRETS[0]}"
    process = capture.process(4242, line, main_thread=False)
    capture.api(capture.thread(process, 4243, "t"), "cudaFree_v3020", 1_000, 2_000)
    run = converted(capture.save(tmp_path, "built"), open_trace)
    assert [p["name"] for p in run.trace.processes] == ["app"]
    assert run.result.capture.processes == [(4242, "app")]


# ---- outputs


@pytest.mark.parametrize("name", [*SAMPLES, "nvtx_zoo", "secrets", "every_library"])
def test_a_compressed_trace_is_the_same_trace(name, tmp_path, open_trace):
    run = load(name, open_trace)
    output = tmp_path / "trace.pftrace.gz"
    result = convert(run.path, output)
    data = output.read_bytes()
    plain = gzip.decompress(data)
    assert plain == run.result.output.read_bytes()
    assert result.output_size == len(data) < len(plain)
    assert not any(secret.encode() in data or secret.encode() in plain for secret in SECRETS)
    assert rows(Trace(output, open_trace)) == rows(run.trace)


def test_two_conversions_give_the_same_bytes(run, tmp_path):
    again = convert(run.path, tmp_path / "again.pftrace")
    assert again.output.read_bytes() == run.result.output.read_bytes()


def test_another_process_gives_the_same_bytes(tmp_path, open_trace):
    run = load("nvtx_zoo", open_trace)
    code = "import sys; from nsys2perfetto import convert; convert(sys.argv[1], sys.argv[2])"
    output = tmp_path / "other.pftrace"
    environment = os.environ | {"PYTHONHASHSEED": "7", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, "-c", code, str(run.path), str(output)]
    subprocess.run(command, check=True, cwd=REPOSITORY, env=environment)
    assert output.read_bytes() == run.result.output.read_bytes()


def test_the_capture_is_only_read(tmp_path):
    folder = tmp_path / "a folder ü % ? # 100%25"
    folder.mkdir()
    capture = folder / "what? 50% & 'quotes'.sqlite"
    shutil.copy(scenario("graph_nodes").path, capture)
    before = capture.read_bytes(), capture.stat().st_mtime_ns
    result = convert(capture)
    assert (capture.read_bytes(), capture.stat().st_mtime_ns) == before
    assert sorted(folder.iterdir()) == sorted([capture, result.output])
    assert result.output.stem == capture.stem


def test_a_capture_that_must_not_be_written(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    capture = folder / "a.sqlite"
    shutil.copy(scenario("graph_nodes").path, capture)
    capture.chmod(stat.S_IREAD)
    folder.chmod(stat.S_IREAD | stat.S_IEXEC)
    try:
        assert convert(capture, tmp_path / "a.pftrace").events_written > 0
    finally:
        folder.chmod(stat.S_IRWXU)


def test_an_output_is_not_overwritten_unless_asked(tmp_path):
    capture = shutil.copy(scenario("graph_nodes").path, tmp_path / "a.sqlite")
    result = convert(capture)
    assert result.output == tmp_path / "a.pftrace"
    result.output.write_bytes(b"mine")
    with pytest.raises(UsageError, match="--force"):
        convert(capture)
    assert result.output.read_bytes() == b"mine"
    assert convert(capture, force=True).output.read_bytes() != b"mine"


def test_the_capture_itself_is_never_the_output(tmp_path):
    capture = tmp_path / "a.sqlite"
    shutil.copy(scenario("graph_nodes").path, capture)
    before = capture.read_bytes()
    link = tmp_path / "link.pftrace"
    link.symlink_to(capture)
    for output in (capture, link):
        with pytest.raises(UsageError):
            convert(capture, output, force=True)
    assert capture.read_bytes() == before


def test_a_directory_as_the_output_is_where_the_trace_goes(tmp_path):
    output = convert(scenario("graph_nodes").path, tmp_path).output
    assert output == tmp_path / "graph_nodes.pftrace" and output.exists()


def test_a_missing_folder_leaves_nothing(tmp_path):
    with pytest.raises(OutputError):
        convert(scenario("graph_nodes").path, tmp_path / "none" / "a.pftrace")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_output(tmp_path, monkeypatch):
    output = tmp_path / "a.pftrace"
    output.write_bytes(b"mine")
    monkeypatch.setattr("nsys2perfetto.tracks.thread_slices.packets", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(scenario("graph_nodes").path, output, force=True)
    assert output.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [output]


# ---- the order of rows


def shuffled(path, target, order):
    shutil.copy(path, target)
    with contextlib.closing(sqlite3.connect(target)) as sql:
        tables = sql.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            sql.executescript(
                f'create table shuffled as select * from "{table}" order by {order};'
                f'drop table "{table}"; alter table shuffled rename to "{table}";'
            )
        sql.execute("vacuum")
    return target


SHUFFLED = (
    *SAMPLES, "nvtx_zoo", "nested_calls", "every_library", "two_processes_two_gpus",
    "gpu_order_differs", "unified_memory", "every_copy_kind", "sync_zoo", "overlapping_kernels",
    "orphans", "graph_nodes", "graph_level", "unsorted_rows", "negative_times", "same_run 2020.4",
    "same_run 3.25.0 graph",
)  # fmt: skip


@pytest.mark.parametrize("order", ["random()", "rowid desc"])
@pytest.mark.parametrize("name", SHUFFLED)
def test_the_order_of_rows_does_not_matter(name, order, tmp_path, open_trace):
    run = load(name, open_trace)
    other = converted(shuffled(run.path, tmp_path / "other.sqlite", order), open_trace)
    found, expected = rows(other.trace), rows(run.trace)
    same(found[0], expected[0], "slices")
    same(found[1], expected[1], "arrows")
    checks.nothing_lost(other)
    checks.nesting(other)


# ---- filters


def taken(run, start=None, end=None, pids=()):
    """Family to the number of events that the filters leave, by the oracle."""

    def wanted(row, owner):
        low = row["start"] if row.get("mark") else row["end"]
        return (
            (start is None or (FOREVER if low is None else low) >= start)
            and (end is None or row["start"] <= end)
            and (not pids or owner is None or pid(row[owner]) in pids)
        )

    counts = {}
    oracle = run.oracle
    waits = oracle.select("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", "start", "end", "globalPid")
    everything = [(r["family"], r, "globalPid") for r in oracle.gpu_work]
    everything += [
        (r["family"], r, "globalTid") for r in (*oracle.calls, *oracle.library_calls, *oracle.nvtx)
    ]
    everything += [("cuda_wait", r, "globalPid") for r in waits]
    for r in oracle.counter_events:  # GPU metrics belong to no process
        everything.append((r["family"], r, "globalPid" if r["globalPid"] else None))
    for family, row, owner in everything:
        inside, total = counts.get(family, (0, 0))
        counts[family] = (inside + wanted(row, owner), total + 1)
    return counts


def check_filtered(run, filtered, **options):
    expected = taken(run, **options)
    families = {f.family: f for f in filtered.result.families if f.family != "message"}
    assert {n: (f.read, f.filtered) for n, f in families.items()} == {
        n: (inside, total - inside) for n, (inside, total) in expected.items()
    }
    checks.nothing_lost(filtered)
    checks.nesting(filtered)
    gpu = sum(n for f, (n, _) in expected.items() if f in ("kernel", "memcpy", "memset", "graph"))
    assert len(filtered.trace.gpu) == gpu
    assert len(filtered.trace.calls(*checks.CUDA)) == expected.get("cuda_api", (0, 0))[0]
    assert len(filtered.trace.calls("nvtx")) == expected.get("nvtx", (0, 0))[0]
    return filtered


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("decode_eager", 600_000_000, 610_000_000),
        ("decode_eager", 600_000_000, None),
        ("decode_graph", None, 600_000_000),
        ("nvtx_zoo", 1_455_000, 2_105_000),
        ("nvtx_zoo", 1_455_000, None),
        ("nvtx_zoo", None, 1_455_000),
        ("graph_nodes", 1_210_000, 1_230_000),
        ("unified_memory", 1_100_000, 1_150_000),
        ("every_library", 5_000, 19_000),
        ("sync_zoo", 1_056_500, 1_056_500),
        ("decode_eager", 1 << 60, None),
    ],
)
def test_a_range_of_time(name, start, end, open_trace):
    run = load(name, open_trace)
    filtered = converted(run.path, open_trace, start=start, end=end)
    check_filtered(run, filtered, start=start, end=end)


def test_events_at_the_edge_of_the_range_are_in_it(open_trace):
    run = load("overlapping_calls", open_trace)
    filtered = converted(run.path, open_trace, start=3_000, end=5_500)
    found = sorted((s["ts"], s["ts"] + s["dur"]) for s in filtered.trace.cpu)
    assert found == [
        (1_000, 3_000), (2_000, 4_000), (2_500, 4_500), (3_500, 5_000), (4_200, 6_000),
        (5_500, 7_000),
    ]  # fmt: skip
    filtered = converted(run.path, open_trace, start=3_001, end=5_499)
    assert len(filtered.trace.cpu) == 4


@pytest.mark.parametrize(
    ("name", "pids"),
    [("two_processes_two_gpus", [5001]), ("nvtx_zoo", [4300]), ("orphans", [4343]),
     ("nvtx_zoo", [4242, 4300]), ("sync_zoo", [1]), ("negative_global_ids", [4242])],
)  # fmt: skip
def test_processes(name, pids, open_trace):
    run = load(name, open_trace)
    filtered = converted(run.path, open_trace, pids=pids)
    check_filtered(run, filtered, pids=pids)
    assert {p["pid"] for p in filtered.trace.processes} <= set(pids)


FAMILIES = (
    "kernel",
    "memcpy",
    "memset",
    "cuda_api",
    "cuda_wait",
    "nvtx",
    "cublas",
    "osrt",
    "message",
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["decode_graph", "nvtx_zoo"])
def test_only_and_skip(name, family, open_trace):
    run = load(name, open_trace)
    all_counts = {f.family: f for f in run.result.families}
    for filtered, is_in in (
        (converted(run.path, open_trace, only=[family]), lambda f: f == family),
        (converted(run.path, open_trace, skip=[family]), lambda f: f != family),
    ):
        checks.nothing_lost(filtered)
        found = {f.family: f for f in filtered.result.families}
        assert {n: f.read for n, f in found.items() if f.read} == {
            n: f.read for n, f in all_counts.items() if is_in(n)
        }
        for n, f in found.items():
            if not is_in(n):
                left = f.filtered if n not in ("nvtx", "osrt") else all_counts[n].read
                assert (f.written, left) == (0, all_counts[n].read), n
        kinds = {checks.KINDS[s["kind"]] for s in filtered.trace.gpu}
        assert kinds == {
            n for n in all_counts if is_in(n) and n in ("kernel", "memcpy", "memset", "graph")
        }
        assert bool(filtered.trace.calls(*checks.CUDA)) == is_in("cuda_api")


def test_a_family_that_does_not_exist(tmp_path):
    with pytest.raises(UsageError, match="kernels"):
        convert(scenario("graph_nodes").path, tmp_path / "a.pftrace", only=["kernels"])


def test_skipped_families_count_their_events_not_their_rows(open_trace):
    """`read + filtered` = rows of the table that are events: markers and names are not."""
    for name, family in (("nvtx_zoo", "nvtx"), ("zero_length", "osrt")):
        run = load(name, open_trace)
        [whole] = [f for f in run.result.families if f.family == family]
        skipped = converted(run.path, open_trace, skip=[family])
        [left] = [f for f in skipped.result.families if f.family == family]
        assert left.filtered == whole.read


# ---- what a conversion tells


def test_result(run):
    result = run.result
    assert result.output_size == result.output.stat().st_size
    assert result.events_read == result.events_written
    assert result.left_out == {}
    oracle = run.oracle
    events = [*oracle.gpu_work, *oracle.calls, *oracle.library_calls, *oracle.nvtx]
    events += [*oracle.counter_events, *oracle.stays, *oracle.samples]
    if events and not oracle.select("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", "start"):
        duration = max(e["end"] for e in events) - min(e["start"] for e in events)
        assert result.capture.duration_ns == duration
    kernels = sum(e.get("family") == "kernel" for e in events)
    assert sum(g.kernels for g in result.capture.gpus) == kernels
    owners = {(e["globalTid"] or 0) & PROCESS for e in events if "globalTid" in e}
    owners |= {e["globalPid"] for e in events if e.get("globalPid")}
    assert {p for p, _ in result.capture.processes} >= {pid(o) for o in owners}


def test_no_kernels_shows_why(open_trace):
    run = load("no_kernels", open_trace)
    notes = " ".join(run.result.capture.notes)
    assert "no kernels" in notes
    for message in run.facts["messages"]:
        assert message in notes
    assert "Profiling has started" not in notes


def test_a_capture_that_hides_kernels_in_graphs_says_so(tmp_path, open_trace):
    capture = Capture("3.16.1", graph_nodes=False)
    capture.gpu()
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    capture.launch(thread, "eager", at=1_000, call=100, start=2_000, duration=10)
    capture.api(thread, "cudaGraphLaunch_v10000", 5_000, 6_000)
    run = converted(capture.save(tmp_path, "built"), open_trace)
    [note] = [n for n in run.result.capture.notes if "--cuda-graph-trace=node" in n]
    assert "no kernels inside graphs" in note


def test_orphans_are_told(open_trace):
    run = load("orphans", open_trace)
    assert any("5 of 6 kernels" in note for note in run.result.capture.notes)


@pytest.mark.parametrize("schema", PRODUCTS)
@pytest.mark.parametrize("graph", ["", " graph"])
def test_the_same_run_in_every_version(schema, graph, open_trace):
    """What the builder knows of the run is what the trace holds, whatever the version."""
    run = load(f"same_run {schema}{graph}", open_trace)
    truth = run.facts["truth"]
    found = [(s["name"], s["ts"], s["ts"] + s["dur"]) for s in run.trace.gpu
             if checks.KINDS[s["kind"]] == "kernel"]  # fmt: skip
    same(found, [(k.name, k.start, k.end) for k in truth.kernels])
    calls = [(s["name"], s["ts"]) for s in run.trace.calls(*checks.CUDA)]
    same([at for _, at in calls], [c.start for c in truth.calls])
    assert len(run.trace.calls("cublas")) == truth.cublas_calls
    assert len({s["name"] for s in run.trace.by_id.values()}) > 15


def test_progress_is_told(tmp_path):
    seen = []
    convert(
        scenario("decode_eager").path,
        tmp_path / "a.pftrace",
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    assert seen and all(0 <= done <= total for _, done, total in seen)
    assert seen[-1][1] == seen[-1][2]


def test_start_end_ranges_lie_on_tracks_of_their_process(open_trace):
    run = load("nvtx_zoo", open_trace)
    assert NVTX in run.oracle.columns
    crossing = [r for r in run.oracle.nvtx if r["eventType"] in START_END]
    found = [s for s in run.trace.calls("nvtx") if s["tid"] is None]
    assert len(found) == len(crossing) and all(s["pid"] == 4242 for s in found)
