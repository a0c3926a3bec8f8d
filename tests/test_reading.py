"""Reading columns out of captures: odd types, missing columns, damaged rows, texts."""

import sqlite3

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys import events, store
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.dictionary import RowDictionary
from nsys2perfetto.nsys.events import Selection
from nsys2perfetto.nsys.text import StringTable, to_text

EXAMPLES = settings(max_examples=60, deadline=None)


@pytest.fixture
def made(tmp_path):
    """A function from SQL statements to the path of a file that counts as an nsys export."""

    def write(script, rows=()):
        path = tmp_path / "made.sqlite"
        with sqlite3.connect(path) as sql:
            sql.execute("create table StringIds (id integer primary key, value text)")
            sql.executescript(script)
            for statement, values in rows:
                sql.execute(statement, values)
        sql.close()
        return path

    return write


# ---- dictionaries of rows

ROWS = st.tuples(
    st.one_of(st.none(), st.integers(-2, 2)), st.one_of(st.none(), st.sampled_from("ab"))
)


@EXAMPLES
@given(st.lists(st.lists(ROWS, max_size=12), min_size=1, max_size=4))
def test_a_row_dictionary_gives_rows_back(batches):
    dictionary = RowDictionary()
    schema = {"a": pl.Int64, "b": pl.String}
    codes = [dictionary.encode(pl.DataFrame(rows, schema=schema, orient="row")) for rows in batches]
    table = dictionary.table().rows()
    assert [table[c] for part in codes for c in part] == [r for rows in batches for r in rows]
    assert len(table) == len(dictionary) == len(set(table))
    seen = list(dict.fromkeys(c for part in codes for c in part.tolist()))
    assert seen == list(range(len(table))), "codes in order of appearance"


def test_null_and_zero_are_different_rows():
    dictionary = RowDictionary()
    codes = dictionary.encode(pl.DataFrame({"a": [0, None, 0], "b": [None, 0, 0]}))
    assert len(set(codes.tolist())) == 3


def test_an_empty_dictionary_keeps_its_columns():
    dictionary = RowDictionary()
    dictionary.encode(pl.DataFrame(schema={"a": pl.Int64}))
    assert dictionary.table().columns == ["a"]
    assert len(dictionary.table()) == 0


# ---- texts


@EXAMPLES
@given(st.lists(st.one_of(st.none(), st.binary(max_size=6)), max_size=10))
def test_any_bytes_become_text(values):
    expected = [None if v is None else v.decode("utf-8", "replace") for v in values]
    assert to_text(pl.Series("x", values, dtype=pl.Binary)).to_list() == expected


def test_one_broken_text_among_many():
    found = to_text(pl.Series([b"good", b"bad \xff", None, b"", "é".encode(), b"bad \xff"]))
    assert found.to_list() == ["good", "bad \ufffd", None, "", "é", "bad \ufffd"]


def test_a_string_table():
    table = StringTable(pl.Series([1, 2, 2, None]), pl.Series(["a", "b", "c", "d"]))
    assert table.look_up(pl.Series("n", [2, 1, 9, None])).to_list() == ["b", "a", None, None]
    assert table.look_up(pl.Series("n", [], dtype=pl.Int64)).to_list() == []


# ---- captures


def test_missing_tables_and_columns(made):
    with Capture(made("create table T (a integer); insert into T values (1), (2)")) as capture:
        assert capture.has("T", "a") and not capture.has("T", "b") and not capture.has("U")
        read = capture.read("T", {"a": "int", "b": "int", "c": "text", "d": "real"})
        assert read.rows() == [(1, None, None, None), (2, None, None, None)]
        assert read.dtypes == [pl.Int64, pl.Int64, pl.String, pl.Float64]
        absent = capture.read("U", {"a": "int", "c": "text"})
        assert (absent.columns, len(absent)) == (["a", "c"], 0)
        assert capture.count("T") == 2 and capture.count("T", "a > 1") == 1
        assert capture.count("U") == 0


@pytest.mark.parametrize(
    ("stored", "kind", "expected"),
    [
        (["7", 8, None], "int", [7, 8, None]),
        ([1.0, 2, None], "int", [1, 2, None]),
        ([1.9, 2], "int", [1, 2]),
        (["x", 5], "int", [0, 5]),
        ([1, 2], "real", [1.0, 2.0]),
        (["1.5", 2], "real", [1.5, 2.0]),
        ([5, "five", None], "text", ["5", "five", None]),
        ([b"bytes", "text"], "text", ["bytes", "text"]),
        ([None, None], "int", [None, None]),
        ([-(1 << 63), (1 << 63) - 1], "int", [-(1 << 63), (1 << 63) - 1]),
    ],
)  # fmt: skip
def test_columns_whose_values_are_of_another_type(made, stored, kind, expected):
    rows = [("insert into T values (?)", (value,)) for value in stored]
    with Capture(made("create table T (a)", rows)) as capture:
        assert capture.read("T", {"a": kind})["a"].to_list() == expected


def test_values_of_another_type_in_a_later_batch_of_the_driver(made):
    """The driver fixes its types by the first rows that it sees."""
    rows = [("insert into T values (?)", (n,)) for n in range(3000)]
    rows += [("insert into T values (?)", (v,)) for v in ("17", 2.5, None)]
    with Capture(made("create table T (a)", rows)) as capture:
        assert capture.read("T", {"a": "int"})["a"].to_list()[-3:] == [17, 2, None]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_batches_are_the_whole_table(made, monkeypatch, size):
    monkeypatch.setattr(store, "ROWS_PER_BATCH", size)
    script = "create table T (a integer); delete from T;" + "".join(
        f"insert into T (rowid, a) values ({rowid}, {rowid * 10});" for rowid in (3, 4, 7, 9, 12)
    )
    with Capture(made(script)) as capture:
        batches = list(capture.batches("T", {"a": "int"}))
        assert pl.concat(batches)["a"].to_list() == [30, 40, 70, 90, 120]
        assert all(0 < len(b) <= size for b in batches)
        found = pl.concat(capture.batches("T", {"a": "int"}, ["a > 30", "a < 120"]))
        assert found["a"].to_list() == [40, 70, 90]


def test_tables_with_odd_rowids_and_views(made):
    script = """
        create table Holes (a integer);
        insert into Holes (rowid, a) values (-5, 1), (9000000000000000000, 2);
        create table Keyed (a text primary key, b integer) without rowid;
        insert into Keyed values ('x', 1);
        create view Seen as select b from Keyed;
        create table "odd ""name" ("a b" integer); insert into "odd ""name" values (4);
    """
    with Capture(made(script)) as capture:
        assert sorted(capture.read("Holes", {"a": "int"})["a"].to_list()) == [1, 2]
        assert capture.read("Keyed", {"a": "text", "b": "int"}).rows() == [("x", 1)]
        assert capture.read("Seen", {"b": "int"}).rows() == []
        assert capture.views() == ["Seen"]
        assert capture.read('odd "name', {"a b": "int"}).rows() == [(4,)]


def test_texts_are_cut_not_lost(made):
    rows = [("insert into T values (?)", ("é" * 100_000,))]
    with Capture(made("create table T (a text)", rows)) as capture:
        [text] = capture.read("T", {"a": "text"})["a"].to_list()
        assert set(text) == {"é"} and 10_000 < len(text) < 100_000


def test_a_file_that_is_not_an_export(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as sql:
        sql.execute("create table recipes (a)")
    sql.close()
    with pytest.raises(CaptureError, match="not an nsys export"):
        Capture(path)


# ---- events

EVENTS = "create table E (start integer, end integer, kind integer, who integer, value integer);"


def read(path, **options):
    with Capture(path) as capture:
        return events.read(
            capture, "E", {"kind": "int"}, {"value": "int"}, owner="who", **options
        )  # fmt: skip


def test_events(made):
    script = EVENTS + "insert into E values (1, 5, 7, 0, 10), (2, 3, 8, 0, null), (4, 4, 7, 0, 30)"
    found = read(made(script), nullable=["value"])
    assert found.start.tolist() == [1, 2, 4] and found.end.tolist() == [5, 3, 4]
    assert found.column("kind").tolist() == [7, 8, 7] and len(found.config) == 2
    assert found.values["value"].tolist() == [10, -1, 30]
    assert found.valid["value"].tolist() == [True, False, True]
    assert (found.rows_read, found.filtered, found.dropped, found.open_ended) == (3, 0, {}, 0)
    part = found.take(np.array([False, True, True]))
    assert part.start.tolist() == [2, 4] and part.values["value"].tolist() == [-1, 30]


def test_events_that_cannot_be_shown_are_counted_by_reason(made):
    script = (
        EVENTS
        + f"""insert into E values
        (null, 5, 1, 0, 1), (9, 5, 1, 0, 2), (1, {1 << 62}, 1, 0, 3), ({1 << 62}, null, 1, 0, 4),
        (-{1 << 62}, 5, 1, 0, 5), (1, 2, 1, 0, 6), (3, 3, 1, 0, 7), (-7, -5, 1, 0, 8)"""
    )
    found = read(made(script))
    assert found.values["value"].tolist() == [8, 6, 7], "in order of time"
    assert found.rows_read == 8
    assert sum(found.dropped.values()) == 5
    assert found.dropped == {
        "no start time": 1, "ends before it starts": 1, "end time out of range": 1,
        "start time out of range": 2,
    }  # fmt: skip


def test_open_events_end_with_the_last_of_their_table(made):
    script = (
        EVENTS + "insert into E values (1, null, 1, 0, 1), (5, 9, 1, 0, 2), (12, null, 1, 0, 3)"
    )
    found = read(made(script))
    assert found.end.tolist() == [12, 9, 12]
    assert found.open_ended == 2


@pytest.mark.parametrize("kind", ["real", "text", "blob"])
def test_open_events_among_times_of_another_type(made, kind):
    """Never do they end before they start."""
    script = EVENTS.replace("start integer, end integer", f"start {kind}, end {kind}")
    found = read(made(script + "insert into E values (1, null, 1, 0, 1), (5, 9, 1, 0, 2)"))
    assert found.end.tolist() == [9, 9]


def test_open_events_without_a_column_of_ends(made):
    script = EVENTS.replace(" end integer,", "")
    found = read(made(script + "insert into E values (1, 1, 0, 1), (5, 1, 0, 2)"))
    assert found.end.tolist() == [5, 5]


def test_only_open_events(made):
    found = read(made(EVENTS + "insert into E values (5, null, 1, 0, 1), (7, null, 1, 0, 2)"))
    assert found.end.tolist() == [7, 7]


def test_an_open_event_that_is_damaged_is_not_counted_as_open(made):
    found = read(made(EVENTS + "insert into E values (null, null, 1, 0, 1), (5, 6, 1, 0, 2)"))
    assert found.open_ended == 0 and found.dropped == {"no start time": 1}


def test_no_events_at_all(made):
    path = made(EVENTS)
    found = read(path, nullable=["value"])
    assert len(found) == 0 and found.config.columns == ["kind"]
    assert found.values["value"].tolist() == [] and found.valid["value"].tolist() == []
    with Capture(path) as capture:
        found = events.read(capture, "absent", {"kind": "int"}, {"value": "int"})
        assert len(found) == 0 and found.config.columns == ["kind"]


PID_5, PID_6 = 5 << 24, (6 << 24) | (1 << 48)
SELECTED = (
    EVENTS
    + f"""insert into E values
    (0, 10, 1, {PID_5}, 1), (5, 20, 1, {PID_6}, 2), (15, null, 1, {PID_6 | 3}, 3),
    (30, 31, 1, null, 4)"""
)


@pytest.mark.parametrize(
    ("selection", "values"),
    [
        (Selection(), [1, 2, 3, 4]),
        (Selection(start=10), [1, 2, 3, 4]),
        (Selection(start=11), [2, 3, 4]),
        (Selection(end=4), [1]),
        (Selection(end=5), [1, 2]),
        (Selection(start=11, end=14), [2]),
        (Selection(pids=frozenset([6])), [2, 3]),
        (Selection(end=5, pids=frozenset([6])), [2]),
        (Selection(start=0, end=0), [1]),
        (Selection(pids=frozenset([99])), []),
    ],
)
def test_selections(made, selection, values):
    found = read(made(SELECTED), selection=selection)
    assert found.values["value"].tolist() == values
    assert (found.rows_read, found.filtered) == (len(values), 4 - len(values))


@pytest.mark.parametrize("far", [1 << 62, 1 << 63, 1 << 80])
def test_selections_beyond_all_times(made, far):
    path = made(EVENTS + "insert into E values (1, 5, 1, 0, 1), (7, null, 1, 0, 2)")
    for chosen, count in (
        (Selection(start=-far, end=far), 2),
        (Selection(start=far), 0 if far > 1 << 62 else 1),
        (Selection(end=-far), 0),
    ):
        assert len(read(path, selection=chosen)) == count


def test_the_end_of_an_open_event_does_not_depend_on_the_selection(made):
    path = made(SELECTED)
    assert read(path).end.tolist()[2] == 31
    assert read(path, selection=Selection(pids=frozenset([6]))).end.tolist() == [20, 31]
