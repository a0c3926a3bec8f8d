"""The reading of single tables from folders: types, conditions, batches, and what is damaged."""

import datetime
import os
import shutil
import sys
import tempfile
from pathlib import Path

import polars as pl
import pytest

from nsys2perfetto import outputs
from nsys2perfetto.errors import CaptureError, UsageError
from nsys2perfetto.nsys import store
from nsys2perfetto.nsys.capture import Capture
from tests.command import listing, without_rights
from tests.folders import WRITERS

STRINGS = pl.DataFrame({"id": [1, 2], "value": ["gemm", "relu"]})


@pytest.fixture(params=WRITERS)
def form(request):
    return request.param


@pytest.fixture
def made(tmp_path, form):
    """Makes a folder of the table T and what else a capture needs."""

    def make(frame):
        folder = tmp_path / "trace_arwdir"
        folder.mkdir()
        WRITERS[form](STRINGS, folder / "StringIds")
        WRITERS[form](frame, folder / "T")
        return folder

    return make


def complaint(folder, *columns):
    """What is said of a folder that cannot be read: one line that names it."""
    with pytest.raises(CaptureError) as raised, Capture(folder) as capture:
        for table in capture.tables:
            capture.read(table, dict.fromkeys(columns or capture.tables[table], "text"))
    text = str(raised.value)
    assert text.isprintable() and "\n" not in text
    return text


# Values

DAY = datetime.datetime(2025, 2, 20)
VALUES = [
    (pl.Series([1, None, 255], dtype=pl.UInt8), "int", [1, None, 255]),
    (pl.Series([-1, 2**31 - 1], dtype=pl.Int32), "int", [-1, 2**31 - 1]),
    (pl.Series([2**64 - 1, 2**63 - 1, None], dtype=pl.UInt64), "int", [-1, 2**63 - 1, None]),
    (pl.Series([True, False, None]), "int", [1, 0, None]),
    (pl.Series([True]), "text", ["1"]),
    (pl.Series([2.9, -2.9, None, float("nan")]), "int", [2, -2, None, None]),
    (pl.Series([1.5, float("nan"), None]), "real", [1.5, None, None]),
    (pl.Series([0.5], dtype=pl.Float32), "real", [0.5]),
    (pl.Series([7], dtype=pl.UInt16), "real", [7.0]),
    (pl.Series(["17", "x", None]), "int", [17, None, None]),
    (pl.Series(["a", "", None, "ü" * 70_000]), "text", ["a", "", None, "ü" * 65_536]),
    (pl.Series(["a", "b", "a"], dtype=pl.Categorical), "text", ["a", "b", "a"]),
    (pl.Series([5, None], dtype=pl.Int16), "text", ["5", None]),
    (pl.Series([b"ab\xff", None]), "text", ["ab�", None]),
    (pl.Series([b"ab\xff"]), "int", [None]),
    (pl.Series([[1, 2]]), "int", [None]),
    (pl.Series([[1, 2]]), "text", [None]),
    (pl.Series([None, None], dtype=pl.Null), "real", [None, None]),
    (pl.Series([DAY], dtype=pl.Datetime("ns")), "int", [1740009600 * 10**9]),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "kind", "expected"), VALUES)
def test_types(made, stored, kind, expected):
    with Capture(made(pl.DataFrame({"a": stored, "b": 1}))) as capture:
        found = capture.read("T", {"a": kind, "missing": kind})
        assert found["a"].to_list() == expected
        assert found["missing"].to_list() == [None] * len(expected)
        assert found["a"].dtype == found["missing"].dtype == store.DTYPES[kind]
        # Of a table that has none of the columns, the rows count all the same.
        assert len(capture.read("T", {"missing": kind})) == len(expected)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_batches_are_the_whole_table(made, monkeypatch, size):
    monkeypatch.setattr(store, "ROWS_PER_BATCH", size)
    numbers = [30, 10, 20, 70, None, 40]
    with Capture(made(pl.DataFrame({"a": numbers, "b": 0}))) as capture:
        batches = list(capture.batches("T", {"a": "int"}))
        assert pl.concat(batches)["a"].to_list() == numbers
        assert all(0 < len(b) <= size for b in batches)
        found = capture.read("T", {"a": "int"}, ["a > 10", "a < 70"])
        assert found["a"].to_list() == [30, 20, 40]
        assert capture.count("T") == 6
        assert capture.count("T", "a > 10 AND a < 70") == 3
        assert capture.count("T", "FALSE") == 0
        assert capture.count("absent") == 0


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("big < 0", [1]),
        ('("big" & 281474959933440) IN (16777216)', [0]),
        ("small NOT IN (31, 32)", [0]),
        ("NOT coalesce(small IN (NULL), FALSE)", [0, 1, 2]),
        ("CASE WHEN small = 31 THEN small ELSE coalesce(big, 50) END >= 31", [0, 1, 2]),
        ("name LIKE '%:MODE'", [1]),
        ("missing = 1", []),
        ("missing IS NULL", [0, 1, 2]),
    ],
)
def test_conditions(made, condition, rows):
    frame = pl.DataFrame(
        {"n": [0, 1, 2], "small": [1, 31, None], "big": [1 << 24, 2**63, None],
         "name": ["MODE:x", "x:MODE", None]},
        schema={"n": pl.UInt8, "small": pl.UInt8, "big": pl.UInt64, "name": pl.String},
    )  # fmt: skip
    with Capture(made(frame)) as capture:
        assert capture.read("T", {"n": "int"}, [condition])["n"].to_list() == rows


def test_tables_without_rows_or_columns(made, form):
    folder = made(pl.DataFrame({"a": []}, schema={"a": pl.Int64}))
    WRITERS[form](pl.DataFrame(), folder / "Nothing")
    with Capture(folder) as capture:
        assert capture.tables == {"Nothing": [], "StringIds": ["id", "value"], "T": ["a"]}
        for table in ("T", "Nothing"):
            assert capture.count(table) == capture.count(table, "a > 1") == 0
            assert len(capture.read(table, {"a": "int"})) == 0
        assert capture.views() == []


@pytest.mark.parametrize("name", ["with blanks", "日本語", "[a]*?{b}", "date=2025", "x\udcff"])
def test_names_of_folders(made, tmp_path, name):
    try:
        folder = made(pl.DataFrame({"a": [1]})).rename(tmp_path / name)
    except OSError:
        pytest.skip("no such names here")
    before = listing(folder)
    with Capture(folder) as capture:
        assert capture.read("T", {"a": "int"})["a"].to_list() == [1]
        capture.check_unchanged()
    assert listing(folder) == before


def test_other_files_are_no_obstacle(made):
    folder = made(pl.DataFrame({"a": [1]}))
    for name in ("notes.txt", ".T.parquet.tmp", ".hidden.parquet", "trace.pftrace"):
        (folder / name).write_text("something else")
    with Capture(folder) as capture:
        assert set(capture.tables) == {"StringIds", "T"}


# What cannot be read


def test_folders_that_are_no_exports(tmp_path):
    folder = tmp_path / "a_directory"
    folder.mkdir()
    assert complaint(folder).endswith("run nsys export again")
    (folder / "notes.txt").touch()
    said = complaint(folder)
    assert said.startswith(f"{folder} is a directory without tables of nsys: name the .sqlite")
    assert "did you mean" not in said
    (folder / "trace_pqtdir").mkdir()
    assert complaint(folder).endswith(f"did you mean {folder / 'trace_pqtdir'}?")
    STRINGS.write_parquet(folder / "weather.parquet")
    assert complaint(folder) == f"{folder} is not an nsys export: it has none of nsys' tables"


def file_of(folder, table="T"):
    [path] = folder.glob(f"{table}.*")
    return path


def test_files_that_are_no_tables(made):
    path = file_of(made(pl.DataFrame({"a": [1]})))
    folder, content = path.parent, path.read_bytes()
    path.write_bytes(b"")
    assert complaint(folder).startswith(f"{path} is empty: the export did not finish")
    path.write_bytes(b"hello, world")
    assert complaint(folder) == f"{path} is neither Parquet nor Arrow: export it again"
    path.write_bytes(content)
    part = path.with_stem("T-00000")
    part.write_bytes(content)
    assert complaint(folder) == f"{part} does not have the name of a table"
    part.unlink()
    other = path.with_suffix(".arrows")
    other.write_bytes(content)
    assert "has T twice" in complaint(folder)
    other.unlink()
    path.unlink()
    path.mkdir()
    assert complaint(folder) == f"{path} is not a regular file: export it again"


def test_truncated_files(made):
    path = file_of(made(pl.DataFrame({"a": range(5000)})))
    content = path.read_bytes()
    for size in (3, 5, 100, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:size])
        said = complaint(path.parent)
        assert str(path) in said and said.endswith("export it again")


def test_damaged_files(made, capfd):
    path = file_of(made(pl.DataFrame({"a": range(5000)})))
    content = bytearray(path.read_bytes())
    content[200:-200] = bytes(len(content) - 400)
    content[-40:-10] = bytes(30)
    path.write_bytes(content)
    said = complaint(path.parent)
    assert said.startswith(f"{path} is damaged (") and said.endswith("export it again")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("form", ["parquet"])
def test_text_that_is_not_utf8(made):
    folder = made(pl.DataFrame({"a": [1], "b": ["good"]}))
    path = file_of(folder)
    pl.DataFrame({"a": [1], "b": ["good"]}).write_parquet(
        path, compression="uncompressed", statistics=False
    )
    path.write_bytes(path.read_bytes().replace(b"good", b"b\xffad"))
    assert "holds text that is not UTF-8" in complaint(folder, "b")
    with Capture(folder) as capture:  # what is not wanted is not read
        assert capture.read("T", {"a": "int"})["a"].to_list() == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="no such rights")
@pytest.mark.parametrize("name", [".", "StringIds.parquet"])
def test_permissions(name):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        STRINGS.write_parquet(Path(folder) / "StringIds.parquet")
        (Path(folder) / name).chmod(0)
        with without_rights():
            assert complaint(Path(folder)) == f"{Path(folder) / name}: no permission to read it"
        (Path(folder) / name).chmod(0o755)


def changed(path):
    path.write_bytes(path.read_bytes() + b"\0")


def renewed(path):
    shutil.copy(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def added(path):
    shutil.copy(path, path.with_stem("U"))


@pytest.mark.parametrize("change", [changed, renewed, added, Path.unlink])
def test_changes_while_it_is_read(made, change):
    folder = made(pl.DataFrame({"a": [1]}))
    with Capture(folder) as capture:
        change(file_of(folder))
        with pytest.raises(CaptureError, match="was changed while it was read"):
            capture.check_unchanged()


def test_a_table_that_is_gone(made):
    folder = made(pl.DataFrame({"a": [1]}))
    with Capture(folder) as capture:
        file_of(folder).unlink()
        with pytest.raises(CaptureError, match="was removed while the capture was read"):
            capture.read("T", {"a": "int"})


# Outputs


@pytest.mark.parametrize(
    ("capture", "trace"),
    [
        ("runs/trace_pqtdir", "runs/trace.pftrace"),
        ("runs/trace_arwdir/", "runs/trace.pftrace"),
        ("trace.parquetdir", "trace.pftrace"),
        ("run.1", "run.1.pftrace"),
        ("_pqtdir", "_pqtdir.pftrace"),
    ],
)
def test_where_traces_go(capture, trace):
    assert outputs.plan([Path(capture)], None) == [(Path(capture), Path(trace))]


def test_the_folder_that_one_is_in(made, monkeypatch, tmp_path):
    monkeypatch.chdir(made(pl.DataFrame({"a": [1]})))
    [(_, target)] = outputs.plan([Path()], None)
    assert target == Path(os.path.realpath(tmp_path)) / "trace.pftrace"


def test_a_trace_never_replaces_a_table(made):
    folder = made(pl.DataFrame({"a": [1]}))
    with pytest.raises(UsageError, match="is part of the capture"):
        outputs.plan([folder], str(file_of(folder)))
