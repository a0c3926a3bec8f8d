"""Sessions with traces: answers as rows and frames, the package's views, errors."""

import copy
import inspect
import math
import pickle
import re
import sys
from pathlib import Path

import polars as pl
import pytest

import nsys2perfetto
from nsys2perfetto.errors import (
    CaptureError,
    EngineError,
    Nsys2PerfettoError,
    QueryError,
    TraceError,
    UsageError,
)
from nsys2perfetto.query import package
from nsys2perfetto.query.session import Trace
from nsys2perfetto.query.tables import Tables
from samples.builder.scenarios import SCENARIOS
from tests import manual_sql
from tests.engine.locate import REPOSITORY
from tests.sessions import in_process

SAMPLE = REPOSITORY / "samples" / "decode_eager.sqlite"
INTEGERS = (2**63 - 1, -(2**63), 2**53 + 1, 0, -1)


@pytest.fixture(scope="module", autouse=True)
def engine():
    with in_process():
        yield


@pytest.fixture(scope="module")
def session(engine):
    with nsys2perfetto.open_trace(SAMPLE) as trace:
        yield trace


@pytest.fixture(scope="module")
def empty(engine, tmp_path_factory):
    """A session with a trace in which there is nothing."""
    folder = tmp_path_factory.mktemp("empty")
    with nsys2perfetto.open_trace(SCENARIOS["empty_tables"](folder).path) as trace:
        yield trace


def values(rows):
    return "VALUES " + ", ".join(f"({row})" for row in rows)


# Rows


def test_rows(session):
    result = session.query("SELECT 1 AS a, 2.5 AS b, 'text' AS c, NULL AS d, x'00ff' AS e")
    assert result.columns == ["a", "b", "c", "d", "e"]
    [row] = result
    assert (row.a, row["b"], row[2], row.d, row[-1]) == (1, 2.5, "text", None, b"\x00\xff")
    assert list(row) == [1, 2.5, "text", None, b"\x00\xff"]
    assert (len(row), len(result), result[0] == row, result[-1] == row) == (5, 1, True, True)
    assert repr(row) == "Row(a=1, b=2.5, c='text', d=None, e=b'\\x00\\xff')"
    assert result.to_dicts() == [{"a": 1, "b": 2.5, "c": "text", "d": None, "e": b"\x00\xff"}]
    assert copy.copy(row) == pickle.loads(pickle.dumps(row)) == row
    assert row != session.query("SELECT 1 AS other")[0]
    with pytest.raises(AttributeError, match="no column 'x'; there are: a, b, c, d, e"):
        _ = row.x
    with pytest.raises(IndexError):
        _ = result[1]


def test_a_column_may_have_any_name(session):
    [row] = session.query(
        'SELECT 1 AS count, 2 AS "index", 3 AS keys, count(*), 5 AS "" FROM thread'
    )
    assert (row.count, row.index, row.keys, row["count(*)"] > 0, row[""]) == (1, 2, 3, True, 5)


def test_names_that_occur_twice(session):
    result = session.query("SELECT 1 AS a, 2 AS a, 3 AS b, 4 AS a")
    assert result.columns == ["a", "a:1", "b", "a:2"] == result.to_polars().columns
    assert list(result[0]) == [1, 2, 3, 4]


def test_a_result_is_a_sequence_of_any_length(session):
    sql = (
        "WITH RECURSIVE r(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM r LIMIT {}) SELECT x FROM r"
    )
    for size in (1, 2, 100_000):
        result = session.query(sql.format(size))
        assert len(result) == size
        assert [row.x for row in result] == list(range(1, size + 1)) == [r.x for r in result[:]]
        assert result[-1].x == result[size - 1].x == size
    none = session.query("SELECT 1 AS x WHERE 0")
    assert (len(none), list(none), none.columns, none.to_dicts()) == (0, [], ["x"], [])


def test_the_last_statement_counts(session):
    result = session.query(
        "CREATE PERFETTO TABLE mine AS SELECT 7 AS x; SELECT 1; SELECT x FROM mine;"
    )
    assert [list(row) for row in result] == [[7]]
    assert len(session.query("SELECT * FROM mine")) == 1  # stays until the session ends
    nothing = session.query("DROP TABLE mine")
    assert (nothing.columns, len(nothing), list(nothing)) == ([], 0, [])
    assert nothing.to_polars().shape == (0, 0)


# Frames


@pytest.mark.parametrize(
    ("cells", "dtype", "expected"),
    [
        (map(str, (*INTEGERS[2:], "NULL")), pl.Int64, [*INTEGERS[2:], None]),
        (["9223372036854775807", "-9223372036854775807 - 1"], pl.Int64, [*INTEGERS[:2]]),
        (["1.5", "NULL", "1e999", "-1e999"], pl.Float64, [1.5, None, math.inf, -math.inf]),
        (["1", "2.5", "NULL"], pl.Float64, [1.0, 2.5, None]),
        (["'a'", "''", "NULL", "'日本\n'"], pl.String, ["a", "", None, "日本\n"]),
        (["'a'", "1", "2.5", "NULL"], pl.String, ["a", "1", "2.5", None]),
        (["NULL", "NULL"], pl.Null, [None, None]),
        (["x'00'", "NULL", "x''"], pl.Binary, [b"\0", None, b""]),
        (["x'00'", "'a'", "1", "NULL"], pl.Binary, [b"\0", b"a", b"1", None]),
    ],
)
def test_types_of_columns(session, cells, dtype, expected):
    frame = session.query(f"SELECT column1 AS a, 1 AS b FROM ({values(cells)})").to_polars()
    assert frame.schema == {"a": dtype, "b": pl.Int64}
    assert frame["a"].to_list() == expected
    assert frame["b"].to_list() == [1] * len(expected)


def test_rows_have_what_the_engine_has_also_where_kinds_are_mixed(session):
    result = session.query(values(["1, 'a'", "'b', 2.5", "NULL, 9223372036854775807", "1.5, NULL"]))
    assert [list(r) for r in result] == [[1, "a"], ["b", 2.5], [None, 2**63 - 1], [1.5, None]]


def test_text_that_is_not_utf_8(session):
    [row] = session.query("SELECT CAST(x'ff41' AS TEXT) AS a, 'ok' AS b")
    assert (row.a, row.b) == ("\ufffdA", "ok")


def test_columns_without_a_value_have_the_type_that_the_package_declares(session, empty):
    sql = "SELECT step, phase, busy_util_pct, NULL AS own FROM nsys_step WHERE 0"
    schema = {"step": pl.Int64, "phase": pl.String, "busy_util_pct": pl.Float64, "own": pl.Null}
    assert session.query(sql).to_polars().schema == schema
    assert (
        session.query("SELECT NULL AS phase FROM nsys_step").to_polars().schema["phase"]
        == pl.String
    )
    own = session.query(sql).to_polars({"own": pl.Binary, "absent": pl.Int8})
    assert own.schema == {**schema, "own": pl.Binary}


def test_a_result_outlives_its_session():
    with nsys2perfetto.open_trace(SAMPLE) as trace:
        result = trace.query("SELECT step FROM nsys_step LIMIT 2")
    assert [row.step for row in result] == result.to_polars()["step"].to_list() == [1, 2]
    with pytest.raises(EngineError, match="the session is closed"):
        trace.query("SELECT 1")
    trace.close()


def test_pandas(session):
    pandas = pytest.importorskip("pandas")
    sql = values(["9223372036854775807, 1.5, 'a', 1", "NULL, NULL, NULL, 'x'"])
    frame = session.query(sql).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert [str(t) for t in frame.dtypes] == ["Int64", "Float64", "string", "string"]
    assert frame["column1"][0] == 2**63 - 1 and frame["column1"][1] is pandas.NA
    assert len(session.query("SELECT 1 AS a WHERE 0").to_pandas()) == 0


def test_arrow(session):
    pyarrow = pytest.importorskip("pyarrow")
    table = session.query(values(["9223372036854775807, 'a'", "NULL, NULL"])).to_arrow()
    assert isinstance(table, pyarrow.Table)
    assert table.to_pydict() == {"column1": [2**63 - 1, None], "column2": ["a", None]}


@pytest.mark.parametrize("name", ["pandas", "pyarrow"])
def test_what_is_not_installed_is_told(session, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(pl.DataFrame, "to_arrow", lambda _: __import__("pyarrow"))
    result = session.query("SELECT 1")
    convert = result.to_pandas if name == "pandas" else result.to_arrow
    with pytest.raises(Nsys2PerfettoError, match=f"needs {name}: `pip install {name}`"):
        convert()


# The package


def test_every_view_is_there_without_an_include(session):
    for view in package.views().values():
        frame = session.query(f"SELECT * FROM {view.name}").to_polars(view.schema())
        assert frame.columns == [column.name for column in view.columns]


def test_every_view_has_its_types_in_a_trace_of_nothing(empty):
    for name, view in package.views().items():
        assert empty.table(name).schema == view.schema(), name


def methods():
    """The methods that give a table."""
    return [
        name
        for name, function in vars(Tables).items()
        if not name.startswith("_") and name not in ("query", "table")
    ]


VARIANTS = {"kernel_summary": "full_names", "gap_total": "all_gpus", "gap_buckets": "all_gpus"}
VARIANTS["consecutive_gaps"] = "all_gpus"


@pytest.mark.parametrize("name", methods())
def test_methods_say_which_columns_they_give(session, name):
    method = getattr(session, name)
    _, columns = inspect.getdoc(method).split("Columns: ")
    expected = re.findall(r"`(\w+)`", columns)
    assert method().columns == expected
    if name in VARIANTS:
        assert method(**{VARIANTS[name]: True}).columns == expected


def test_methods_and_views_are_the_same(session, monkeypatch):
    asked = []
    query = Trace.query
    monkeypatch.setattr(Trace, "query", lambda s, sql: asked.append(sql) or query(s, sql))
    for name in methods():
        getattr(session, name)()
        if name in VARIANTS:
            getattr(session, name)(**{VARIANTS[name]: True})
    assert {sql.split()[3] for sql in asked} == set(package.views())


def test_tables_are_those_of_the_manual(session):
    [total] = session.gap_total(all_gpus=True).filter(definition="consecutive").to_dicts()
    keys = ("total_gap_ns", "total_kernel_ns", "wall_ns")
    assert tuple(total[key] for key in keys) == manual_sql.gap_total(SAMPLE)
    large = session.consecutive_gaps(longer_than=1_000_000, all_gpus=True)
    assert sorted(large["gap_ns"]) == sorted(gap for gap, *_ in manual_sql.big_gaps(SAMPLE))
    assert session.kernel_summary()["instances"].sum() == len(session.kernels()) == 1528
    assert set(session.kernel_summary(full_names=True)["name"]) == set(
        session.kernels()["demangled_name"]
    )
    with pytest.raises(
        UsageError, match="no view 'nsys_nope' in the package nsys: there are nsys_"
    ):
        session.table("nsys_nope")


def test_only_modules_that_a_query_names_are_included(monkeypatch):
    with nsys2perfetto.open_trace(SAMPLE) as trace:
        sent = []
        run = Trace._run
        monkeypatch.setattr(Trace, "_run", lambda s, sql: sent.append(sql) or run(s, sql))
        for _ in range(2):
            trace.query("SELECT count(*) FROM slice -- of nsys")
            trace.query("SELECT * FROM NSYS_STEP, nsys_copy LIMIT 0")
    included = [sql for sql in sent if sql.startswith("INCLUDE")]
    assert included == [
        "INCLUDE PERFETTO MODULE nsys.steps;",
        "INCLUDE PERFETTO MODULE nsys.copies;",
    ]


def test_the_schema_is_read_from_comments(tmp_path):
    folder = tmp_path / "nsys"
    (folder / "deep").mkdir(parents=True)
    (folder / "_shared.sql").write_text(
        "-- Not for users.\nCREATE PERFETTO TABLE _nsys_hidden(\n  -- Id.\n  id LONG\n)\n"
        "AS SELECT 1 AS id;\n"
    )
    (folder / "deep" / "more.sql").write_text(
        "-- About the file.\n\nINCLUDE PERFETTO MODULE nsys._shared;\n\n"
        "-- What a row is,\n-- in two lines (of course).\n"
        "CREATE OR REPLACE PERFETTO VIEW nsys_more(\n"
        "  -- A slice (see `slice`).\n  id JOINID(slice.id),\n"
        "  -- Share, in\n  -- percent.\n  pct DOUBLE,\n  name STRING,\n  -- Bytes.\n  data BYTES\n"
        ")\nAS\nSELECT 1 AS id, 2.0 AS pct, '' AS name, NULL AS data;\n\n"
        "-- A function.\nCREATE PERFETTO FUNCTION nsys_twice(\n  -- It.\n  x LONG\n)\n"
        "RETURNS LONG\nAS\nSELECT 2 * $x;\n"
    )
    [view] = package.views(folder).values()
    assert (view.name, view.module) == ("nsys_more", "nsys.deep.more")
    assert view.comment == "What a row is, in two lines (of course)."
    assert [(c.name, c.type, c.comment) for c in view.columns] == [
        ("id", "JOINID", "A slice (see `slice`)."),
        ("pct", "DOUBLE", "Share, in percent."),
        ("name", "STRING", ""),
        ("data", "BYTES", "Bytes."),
    ]
    types = {"id": pl.Int64, "pct": pl.Float64, "name": pl.String, "data": pl.Binary}
    assert view.schema() == types == package.types_in("select * from NSYS_MORE", folder)
    assert package.modules_of("SELECT nsys_twice(id) FROM _nsys_hidden", folder) == [
        "nsys.deep.more",
        "nsys._shared",
    ]


def test_every_column_of_the_package_is_described():
    for view in package.views().values():
        assert view.comment, view.name
        assert view.columns and all(column.comment for column in view.columns), view.name


# Errors in SQL


@pytest.mark.parametrize(
    ("sql", "message", "excerpt"),
    [
        ("selec 1", "syntax error near 'selec' (line 1, column 1)", "selec 1\n^"),
        (
            "SELECT 1,\n\tnope\nFROM slice",
            "no such column: nope (line 2, column 2)",
            " nope\n ^",
        ),
        ("SELECT * FROM nsys_nope", "no such table: nsys_nope (line 1, column 1)", None),
        (
            "SELECT * FROM nsys_stepp",
            "no such table: nsys_stepp (line 1, column 1); did you mean nsys_step?",
            None,
        ),
        ("", "No valid SQL to run", ""),
        ("INCLUDE PERFETTO MODULE nsys.nope", "INCLUDE: unknown module 'nsys.nope'", None),
        ("SELECT '\ud800'", "the SQL is not valid text: write it in UTF-8", ""),
    ],
)
def test_mistakes(session, sql, message, excerpt):
    with pytest.raises(QueryError) as caught:
        session.query(sql)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    if excerpt is not None:
        assert caught.value.excerpt == excerpt
    assert len(session.query("SELECT 1")) == 1


def test_mistakes_in_a_module_tell_the_module():
    from nsys2perfetto.query.session import _query_error  # noqa: PLC0415 - not public

    error = _query_error(
        'Traceback (most recent call last):\n  File "stdin" line 1 col 1\n    include it\n    ^\n'
        '  Module include "nsys.a" line 5 col 8\n    SELECT \x1b[2J\n           ^\n'
        "no such column: x\n"
    )
    assert str(error) == "no such column: x (line 5, column 8 of module nsys.a)"
    assert error.excerpt == "SELECT \\x1b[2J\n       ^"


# What is opened


def test_conversion_options_are_for_captures(tmp_path):
    trace = nsys2perfetto.convert(SAMPLE, tmp_path / "a.pftrace").output
    with nsys2perfetto.open_trace(SAMPLE, start=640_000_000, skip=["osrt"], pids=[41250]) as part:
        assert 0 < len(part.kernels()) < 1528
    for options in ({"start": 0}, {"pids": [1]}, {"only": {"kernel"}}):
        with pytest.raises(UsageError, match=f"is a trace already: {next(iter(options))} can only"):
            nsys2perfetto.open_trace(trace, **options)
    with nsys2perfetto.open_trace(str(trace), pids=[], only=set(), skip=()) as whole:
        assert len(whole.kernels()) == 1528


def test_a_converted_capture_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with nsys2perfetto.open_trace(SAMPLE) as trace:
        assert list(tmp_path.iterdir()) == []
        assert len(trace.query("SELECT 1")) == 1
    with pytest.raises(CaptureError, match="has none of nsys' tables"):
        nsys2perfetto.open_trace(contacts(tmp_path / "contacts.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["contacts.db"]


def contacts(path):
    import sqlite3  # noqa: PLC0415

    database = sqlite3.connect(path)
    database.execute("CREATE TABLE contacts(name)")
    database.close()
    return path


def test_compressed_traces(tmp_path):
    trace = nsys2perfetto.convert(SAMPLE, tmp_path / "a.pftrace.gz").output
    with nsys2perfetto.open_trace(trace) as opened:
        assert len(opened.steps()) == 32


def test_files_that_cannot_be_opened(tmp_path):
    (tmp_path / "empty.pftrace").touch()
    (tmp_path / "report.nsys-rep").write_bytes(b"NSYS")
    (tmp_path / "notes.sqlite").write_text("no database")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "T.parquet").write_bytes(b"PAR1")
    for name, error, message in (
        ("absent.pftrace", TraceError, "absent.pftrace: no such file"),
        (".", CaptureError, "is a directory without tables of nsys"),
        ("one/T.parquet", CaptureError, "is one table of an export"),
        ("empty.pftrace", TraceError, "empty.pftrace is empty"),
        ("report.nsys-rep", CaptureError, "is an nsys report, not its SQLite export"),
        ("notes.sqlite", CaptureError, "is not an SQLite file"),
        ("a\0b", TraceError, "no such file|no file can have this name"),
    ):
        with pytest.raises(error, match=message) as caught:
            nsys2perfetto.open_trace(tmp_path / name)
        assert "\n" not in str(caught.value)
    device = Path("/dev/null")
    if device.exists():
        with pytest.raises(TraceError, match="is not a regular file"):
            nsys2perfetto.open_trace(device)


def test_the_public_names_are_there_on_first_use():
    assert nsys2perfetto.open_trace.__module__ == "nsys2perfetto.query.session"
    assert nsys2perfetto.Trace is Trace
    with pytest.raises(AttributeError):
        _ = nsys2perfetto.nope
