"""The builder of made-up captures: its schemas are nsys' own, its ground truth is true."""

import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from samples.builder import (
    PRODUCTS,
    SECRETS,
    Capture,
    UnknownColumnError,
    UnknownTableError,
    decode_run,
)
from samples.builder.enums import ENUMS
from samples.builder.scenarios import SCENARIOS, same_run
from samples.builder.tables import TABLES, create_statement, known_columns, tables_in
from samples.builder.truth import bucket, busy_ns, cpu_time, idle_intervals
from samples.builder.versions import parse
from samples.make_samples import SAMPLES, make

ROOT = Path(__file__).resolve().parent.parent
DDL = ROOT.parent / "shared" / "ddl"
WITHOUT_VERSION = {"0.2020": "2020.4", "0.2021": "2021.3"}


def query(path, sql):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        return connection.execute(sql).fetchall()


def table_names(path):
    return {name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type='table'")}


def columns_of(statement, name):
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(statement)
        info = connection.execute(f"PRAGMA table_info({name})")
        return [(column, kind, not_null, key) for _, column, kind, not_null, _, key in info]


def observed(path):
    """Table → the forms of it (lists of columns) that a file of CREATE statements shows."""
    forms = {}
    for statement in re.split(r";\s*(?:\n|$)", path.read_text()):
        match = re.search(r"CREATE TABLE (\w+)", statement)
        if match:
            forms.setdefault(match[1], []).append(columns_of(statement, match[1]))
    return forms


DDL_FILES = sorted(DDL.glob("*.sql"))


# --- schemas -------------------------------------------------------------------------------------


@pytest.mark.skipif(not DDL_FILES, reason="../shared is not there")
@pytest.mark.parametrize("path", DDL_FILES, ids=lambda path: path.stem)
def test_columns_are_those_of_real_exports(path):
    schema = path.stem.split("_")[1]
    mine = tables_in(WITHOUT_VERSION.get(schema, schema))
    known = {table.name for table in TABLES}
    checked = 0
    for name, forms in observed(path).items():
        if name not in known:
            continue
        assert name in mine, f"{name} exists in {schema}"
        assert columns_of(create_statement(name, mine[name]), name) in forms, name
        checked += 1
    assert checked >= 12


@pytest.mark.skipif(not DDL_FILES, reason="../shared is not there")
@pytest.mark.parametrize("path", DDL_FILES, ids=lambda path: path.stem)
def test_enumerations_exist_where_real_exports_have_them(path):
    schema = path.stem.split("_")[1]
    schema = WITHOUT_VERSION.get(schema, schema)
    forms = observed(path)
    real = {name for name in forms if name.startswith("ENUM_")}
    present = {enum.name for enum in ENUMS if enum.exists_in(schema, set(forms))}
    assert present == {enum.name for enum in ENUMS} & real


@pytest.mark.skipif(not DDL_FILES, reason="../shared is not there")
def test_every_observed_schema_version_is_known():
    versions = {path.stem.split("_")[1] for path in DDL_FILES}
    assert {WITHOUT_VERSION.get(version, version) for version in versions} <= PRODUCTS.keys()


@pytest.mark.parametrize("schema", PRODUCTS)
def test_no_table_is_described_twice_for_a_version(schema):
    names = Counter(t.name for t in TABLES if t.exists_in(parse(schema)))
    assert set(names.values()) == {1}
    for name in names:
        columns = [column.name for column in tables_in(schema)[name]]
        assert len(columns) == len(set(columns))
        assert known_columns(name) >= set(columns)


def test_tables_that_changed_their_name_or_meaning():
    def columns(schema, table):
        return {c.name for c in tables_in(schema).get(table, ())}

    assert "graphNodeId" in columns("3.7.2", "CUDA_GRAPH_EVENTS")
    assert "graphExecId" in columns("3.11.1", "CUDA_GRAPH_EVENTS")
    assert "CUPTI_ACTIVITY_KIND_GRAPH_TRACE" not in tables_in("3.7.2")
    assert "EXPORT_META_DATA" in tables_in("3.1.7")
    assert "META_DATA_EXPORT" in tables_in("3.4.0")
    assert not {"EXPORT_META_DATA", "META_DATA_EXPORT"} & tables_in("none").keys()
    assert "graphId" in columns("3.24.0", "CUPTI_ACTIVITY_KIND_KERNEL")
    assert "graphId" not in columns("3.23.3", "CUPTI_ACTIVITY_KIND_KERNEL")


# --- rows ----------------------------------------------------------------------------------------


def test_columns_of_other_versions_are_dropped_unknown_ones_raise(tmp_path):
    capture = Capture("3.1.7")
    capture.row("CUPTI_ACTIVITY_KIND_MEMSET", start=1, end=2, greenContextId=5)
    with pytest.raises(UnknownColumnError, match="colour"):
        capture.row("NVTX_EVENTS", start=1, colour=5)
    with pytest.raises(UnknownTableError, match="GRAPH_TRACE"):
        capture.row("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", start=1, end=2)
    with pytest.raises(UnknownTableError):
        capture.row("NO_SUCH_TABLE", start=1)
    with pytest.raises(ValueError, match="unknown schema"):
        Capture("9.9.9")
    path = capture.save(tmp_path, "x")
    assert query(path, "SELECT start, end, value, memKind FROM CUPTI_ACTIVITY_KIND_MEMSET") == [
        (1, 2, 0, None)
    ]


def test_tables_are_lazy(tmp_path):
    path = Capture("3.16.1").save(tmp_path, "lazy")
    names = {n for n in table_names(path) if not n.startswith("ENUM_")}
    assert names == {
        "META_DATA_EXPORT",
        "META_DATA_CAPTURE",
        "TARGET_INFO_SYSTEM_ENV",
        "TARGET_INFO_SESSION_START_TIME",
    }
    eager = Capture("3.16.1", lazy=False).save(tmp_path, "eager")
    assert tables_in("3.16.1").keys() <= table_names(eager)


def test_rows_in_bulk_are_the_same_as_one_by_one(tmp_path):
    one, bulk = Capture(metadata=False), Capture(metadata=False)
    for n in range(5):
        one.row("OSRT_API", start=n, end=n + 1, eventClass=27, nameId=1)
    times = list(range(5))
    bulk.bulk("OSRT_API", 5, start=times, end=[t + 1 for t in times], eventClass=27, nameId=1)
    assert one.save(tmp_path, "a").read_bytes() == bulk.save(tmp_path, "b").read_bytes()


def test_a_thread_is_named_once(tmp_path):
    path = SCENARIOS["nvtx_zoo"](tmp_path).path
    assert query(path, "SELECT globalTid FROM ThreadNames GROUP BY 1 HAVING COUNT(*) > 1") == []


def test_unsigned_payload_is_stored_as_nsys_stores_it(tmp_path):
    path = SCENARIOS["nvtx_zoo"](tmp_path).path
    sql = "SELECT uint64Value FROM NVTX_EVENTS WHERE text = 'uint64 max'"
    assert query(path, sql) == [(-1,)]


# --- the decode run ------------------------------------------------------------------------------

STEPS_SQL = """
WITH argmax AS (
  SELECT k.start, k.end, ROW_NUMBER() OVER (ORDER BY k.start) AS step
  FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds s ON k.demangledName = s.id
  WHERE s.value LIKE 'argmax%'
)
SELECT b.step, a.end, b.end,
  (SELECT COUNT(*) FROM CUPTI_ACTIVITY_KIND_KERNEL k WHERE k.start >= a.end AND k.end <= b.end),
  (SELECT SUM(k.end - k.start) FROM CUPTI_ACTIVITY_KIND_KERNEL k
   WHERE k.start >= a.end AND k.end <= b.end)
FROM argmax a JOIN argmax b ON b.step = a.step + 1 ORDER BY b.step
"""  # the manual's single-step query, for every step

GAPS_SQL = """
WITH work AS (
  SELECT start, end FROM CUPTI_ACTIVITY_KIND_KERNEL
  UNION ALL SELECT start, end FROM CUPTI_ACTIVITY_KIND_MEMCPY
  UNION ALL SELECT start, end FROM CUPTI_ACTIVITY_KIND_MEMSET
), numbered AS (
  SELECT end AS gap_start, LEAD(start) OVER (ORDER BY start) AS gap_end FROM work
)
SELECT gap_start, gap_end FROM numbered WHERE gap_end > gap_start ORDER BY gap_start
"""


@pytest.fixture(scope="module", params=[False, True], ids=["eager", "graph"])
def decoded(request, tmp_path_factory):
    capture = Capture()
    truth = decode_run(capture, graph=request.param)
    return capture.save(tmp_path_factory.mktemp("decode"), "decode"), truth


def test_steps_are_those_of_the_manuals_query(decoded):
    path, truth = decoded
    expected = [(s.index, s.start, s.end, s.kernel_count, s.kernel_ns) for s in truth.steps[1:]]
    assert query(path, STEPS_SQL) == expected
    assert [(s.run, s.kind) for s in truth.steps] == [
        ("warmup", "prefill"),
        *[("warmup", "decode")] * 5,
        ("measured", "prefill"),
        *[("measured", "decode")] * 25,
    ]


def test_gaps_are_those_of_sql_and_fully_explained(decoded):
    path, truth = decoded
    assert query(path, GAPS_SQL) == [(gap.start, gap.end) for gap in truth.gaps]
    for gap in truth.gaps:
        assert sum(gap.cpu_ns.values()) == gap.end - gap.start
        assert min(gap.cpu_ns.values()) >= 0
    causes = Counter(gap.cause for gap in truth.gaps)
    for cause in ("host_pause", "host_stall", "allocation", "between_runs", "module_load"):
        assert causes[cause] == 1, cause


def test_busy_and_idle_make_up_every_step(decoded):
    _, truth = decoded
    for step in truth.steps[1:]:
        idle = sum(
            max(0, min(gap.end, step.end) - max(gap.start, step.start)) for gap in truth.gaps
        )
        assert step.busy_ns + idle == step.end - step.start


def test_counts_are_those_of_sql(decoded):
    path, truth = decoded
    names = query(
        path,
        "SELECT s.value, COUNT(*) FROM CUPTI_ACTIVITY_KIND_KERNEL k "
        "JOIN StringIds s ON s.id = k.shortName GROUP BY 1",
    )
    assert dict(names) == truth.count_by_name()
    assert truth.count_by_name()["argmax_kernel"] == 32
    for table, expected in (
        ("CUPTI_ACTIVITY_KIND_RUNTIME", len(truth.calls)),
        ("CUBLAS_EVENTS", truth.cublas_calls),
        ("CUDA_GPU_MEMORY_USAGE_EVENTS", truth.memory_events),
        ("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", truth.synchronizations),
    ):
        assert query(path, f"SELECT COUNT(*) FROM {table}") == [(expected,)], table
    in_use = query(
        path,
        "SELECT SUM(CASE memoryOperationType WHEN 0 THEN bytes ELSE -bytes END) "
        "FROM CUDA_GPU_MEMORY_USAGE_EVENTS",
    )
    assert in_use == [(truth.memory_in_use,)]


def test_every_kernel_has_its_call_and_starts_after_it(decoded):
    path, truth = decoded
    joined = query(
        path,
        "SELECT COUNT(*), SUM(k.start > r.start) FROM CUPTI_ACTIVITY_KIND_KERNEL k "
        "JOIN CUPTI_ACTIVITY_KIND_RUNTIME r ON r.correlationId = k.correlationId "
        "AND (r.globalTid & ~0xFFFFFF) = k.globalPid",
    )
    assert joined == [(len(truth.kernels), len(truth.kernels))]
    without = query(
        path,
        "SELECT COUNT(*) FROM CUPTI_ACTIVITY_KIND_RUNTIME r JOIN StringIds s ON s.id = r.nameId "
        "WHERE s.value LIKE 'cu%LaunchKernel%' AND NOT EXISTS (SELECT 1 FROM "
        "CUPTI_ACTIVITY_KIND_KERNEL k WHERE k.correlationId = r.correlationId)",
    )
    assert without == [(truth.launches_without_kernel,)]


def test_calls_of_the_thread_do_not_overlap_and_lie_inside_their_library_call(decoded):
    path, truth = decoded
    assert all(a.end <= b.start for a, b in zip(truth.calls, truth.calls[1:], strict=False))
    crossing = query(
        path,
        "SELECT COUNT(*) FROM CUBLAS_EVENTS c JOIN CUPTI_ACTIVITY_KIND_RUNTIME r "
        "ON r.start < c.end AND r.end > c.start AND (r.start < c.start OR r.end > c.end)",
    )
    assert crossing == [(0,)]


def test_graph_launches_carry_their_nodes(tmp_path):
    scenario = same_run(tmp_path, "3.24.0", graph=True)
    truth = scenario.facts["truth"]
    launches = query(
        scenario.path,
        "SELECT correlationId, COUNT(*), COUNT(DISTINCT graphNodeId), MIN(graphId), "
        "COUNT(DISTINCT n.graphNodeId) FROM CUPTI_ACTIVITY_KIND_KERNEL k "
        "JOIN CUDA_GRAPH_NODE_EVENTS n USING (graphNodeId) GROUP BY 1",
    )
    assert len(launches) == truth.graph_launches == 5
    assert {row[1:] for row in launches} == {(26, 26, 2, 26)}


@pytest.mark.parametrize("schema", PRODUCTS)
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_the_same_run_in_every_schema(tmp_path, schema, graph):
    scenario = same_run(tmp_path, schema, graph=graph)
    truth = scenario.facts["truth"]
    kernels = query(
        scenario.path, "SELECT COUNT(*), SUM(end - start) FROM CUPTI_ACTIVITY_KIND_KERNEL"
    )
    assert kernels == [(len(truth.kernels), sum(k.end - k.start for k in truth.kernels))]


# --- samples -------------------------------------------------------------------------------------


def dump(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


def test_samples_are_what_the_script_writes(tmp_path):
    make(tmp_path)
    for name in SAMPLES:
        here = ROOT / "samples" / f"{name}.sqlite"
        assert dump(here) == dump(tmp_path / f"{name}.sqlite"), (
            "run: python -m samples.make_samples"
        )
        assert 200_000 < here.stat().st_size < 600_000


def test_samples_are_reproducible_to_the_byte(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    make(tmp_path / "a")
    make(tmp_path / "b")
    for name in SAMPLES:
        first = (tmp_path / "a" / f"{name}.sqlite").read_bytes()
        assert first == (tmp_path / "b" / f"{name}.sqlite").read_bytes()


def test_samples_are_of_the_version_the_manual_names():
    for name in SAMPLES:
        path = ROOT / "samples" / f"{name}.sqlite"
        export = dict(query(path, "SELECT name, value FROM META_DATA_EXPORT"))
        assert export["EXPORT_SCHEMA_VERSION"] == "3.16.1"
        assert export["EXPORT_PRODUCT_VERSION"] == "2024.6.2.225"
        gpu = query(path, "SELECT name, smCount, computeMajor, computeMinor FROM TARGET_INFO_GPU")
        assert gpu == [("NVIDIA GeForce RTX 5070 Ti", 70, 12, 0)]
        assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_samples_hold_the_secrets_that_must_not_leak():
    for name in SAMPLES:
        text = "\n".join(dump(ROOT / "samples" / f"{name}.sqlite"))
        for secret in SECRETS:
            assert secret in text


# --- scenarios and arithmetic --------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_hold_the_rows_they_claim(tmp_path, name):
    scenario = SCENARIOS[name](tmp_path)
    assert scenario.path == tmp_path / f"{name}.sqlite"
    for table, count in scenario.rows.items():
        assert query(scenario.path, f"SELECT COUNT(*) FROM {table}") == [(count,)], table


def test_scenario_facts_that_sql_can_check(tmp_path):
    streams = SCENARIOS["eight_hundred_streams"](tmp_path)
    sql = "SELECT DISTINCT streamId FROM CUPTI_ACTIVITY_KIND_KERNEL ORDER BY 1"
    assert [row[0] for row in query(streams.path, sql)] == streams.facts["streams"]
    two = SCENARIOS["two_processes_two_gpus"](tmp_path)
    sql = "SELECT pid, gpuId FROM TARGET_INFO_CUDA_DEVICE"
    assert dict(query(two.path, sql)) == two.facts["gpu_of_pid"]
    shared = query(
        two.path,
        "SELECT COUNT(*) FROM (SELECT correlationId FROM CUPTI_ACTIVITY_KIND_RUNTIME "
        "GROUP BY 1 HAVING COUNT(DISTINCT globalTid) > 1)",
    )
    assert shared == [(20,)]
    moved = SCENARIOS["unified_memory"](tmp_path)
    sql = "SELECT COUNT(*), SUM(end - start) FROM CUPTI_ACTIVITY_KIND_MEMCPY WHERE streamId = 0"
    assert query(moved.path, sql) == [(moved.facts["migrations"], moved.facts["migrated_ns"])]
    shifted = SCENARIOS["ts_normalized"](tmp_path)
    sql = "SELECT start FROM CUPTI_ACTIVITY_KIND_KERNEL"
    assert query(shifted.path, sql) == [(shifted.facts["kernel_start"],)]
    zoo = SCENARIOS["nvtx_zoo"](tmp_path)
    kinds = dict(query(zoo.path, "SELECT eventType, COUNT(*) FROM NVTX_EVENTS GROUP BY 1"))
    assert (kinds[59], kinds[60], kinds[34]) == (
        zoo.facts["push_pop"],
        zoo.facts["start_end"],
        zoo.facts["marks"],
    )


def test_reference_arithmetic():
    capture = Capture()
    truth = decode_run(capture, steps=1, warmup_steps=1, layers=1)
    operations = truth.operations
    assert idle_intervals(operations) == [(gap.start, gap.end) for gap in truth.gaps]
    first, last = operations[0].start, operations[-1].end
    idle = sum(end - start for start, end in idle_intervals(operations))
    assert busy_ns(operations, first, last) + idle == last - first
    assert cpu_time(0, 10, []) == {
        "sync": 0, "launch": 0, "memory": 0, "copy": 0, "other": 0, "outside": 10
    }  # fmt: skip
    names = [bucket(n) for n in (-5, 999, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000)]
    assert names == ["<1us", "<1us", "1-5us", "5-10us", "10-50us", "50-100us", "0.1-1ms", ">1ms"]
