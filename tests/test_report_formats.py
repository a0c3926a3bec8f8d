"""Tables as text: aligned, within the terminal, and the same values in every format."""

import csv
import io
import json
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis.kernel_families import FAMILIES, classify
from nsys2perfetto.errors import UsageError
from nsys2perfetto.report import formats, kernel_groups

TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
FRAMES = st.lists(
    st.tuples(
        TEXTS,
        st.one_of(st.none(), st.integers(-(1 << 62), 1 << 62)),
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    ),
    max_size=6,
).map(
    lambda rows: pl.DataFrame(
        rows, schema={"name": pl.String, "total_ns": pl.Int64, "pct": pl.Float64}, orient="row"
    )
)
HOSTILE = "\x1b[31mred\x07\r\nnext \u202e \x9b1m | `x` <b> \\"


def lines(frame, **how):
    return formats.table(frame, **how).split("\n")


# For programs


@given(FRAMES)
def test_json_has_every_value(frame):
    text = formats.json(frame)
    assert text.isascii() and json.loads(text) == frame.to_dicts()
    assert text.count("\n") == (len(frame) + 1 if len(frame) else 0)


@given(FRAMES)
def test_csv_has_every_value(frame):
    # The csv module knows no difference between an empty text and none.
    head, *rows = csv.reader(io.StringIO(formats.csv(frame), newline=""))
    assert head == frame.columns
    found = [(name, int(n) if n else None, float(p) if p else None) for name, n, p in rows]
    assert found == [(name or "", n, p) for name, n, p in frame.rows()]


def test_csv_tells_an_empty_text_from_none():
    assert formats.csv(pl.DataFrame({"a": ["", None], "b": [1, 2]})) == 'a,b\n"",1\n,2'


def test_what_has_no_text_in_json_or_csv():
    frame = pl.DataFrame({"x": [float("nan"), float("inf"), 1.5], "blob": [b"\x00\xff", None, b""]})
    assert json.loads(formats.json(frame)) == [
        {"x": None, "blob": "00ff"},
        {"x": None, "blob": None},
        {"x": 1.5, "blob": ""},
    ]
    assert formats.csv(frame) == 'x,blob\n,00ff\n,\n1.5,""'


def test_json_escapes_what_a_terminal_would_obey():
    text = formats.json(pl.DataFrame({"name": [HOSTILE + "\x7f\U0001f680"]}))
    assert all(c == "\n" or " " <= c <= "~" for c in text)
    assert json.loads(text) == [{"name": HOSTILE + "\x7f\U0001f680"}]


# For people


@given(FRAMES, st.booleans())
def test_tables_are_printable_and_aligned(frame, units):
    head, *rows = lines(frame, units=units)
    assert len(rows) == max(len(frame), 1)
    for row in rows:
        assert row.isprintable()
        assert len(frame) or row == "(no rows)"
    # The last column is of numbers, aligned to the right: all rows end where the head does.
    if len(frame) and formats.table(frame).isascii():
        assert {len(row) for row in (head, *rows)} == {len(head)}


def test_a_table():
    frame = pl.DataFrame({"name": ["a", None], "n": [1, 12345], "x": [0.1 + 0.2, None]})
    assert lines(frame) == ["name      n    x", "a         1  0.3", "-     12345    -"]
    assert lines(frame.clear()) == ["name  n  x", "(no rows)"]
    assert formats.table(pl.DataFrame()) == "(no columns)"


def test_units():
    frame = pl.DataFrame(
        {
            "ts": [1_500_000_000, 2_000_000_001],
            "step": [1234, 1235],
            "instances": [1_234_567, 12],
            "total_ns": [48_938_123, 2_500_000],
            "avg_ns": [48_938_123.0, 2_112.4],
            "max_ns": [74_000_000, 2_400],
            "gap_ns": [-812, None],
            "time_pct": [99.96, 0.04],
            "med_count": [3.0, 4.0],
            "copied_bytes": [1_500_000, 8],
            "gb_per_s": [23.627, None],
            "name": ["x", "y"],
        }
    )
    head, first, second = (re.split(r"  +", line.strip()) for line in lines(frame, units=True))
    assert head == [
        "ts_s", "step", "instances", "total_ms", "avg_us", "max_us", "gap_ns", "time_pct",
        "med_count", "copied_MB", "gb_per_s", "name",
    ]  # fmt: skip
    assert first == [
        "1.500000", "1234", "1,234,567", "48.938", "48,938.12", "74,000.00", "-812", "100.0", "3",
        "1.500", "23.63", "x",
    ]  # fmt: skip
    assert second == [
        "2.000000", "1235", "12", "2.500", "2.11", "2.40", "-", "0.0", "4", "0.000", "-", "y",
    ]  # fmt: skip


@given(st.integers(-(1 << 53), 1 << 53))
def test_separators(number):
    [_, cell] = lines(pl.DataFrame({"instances": [number]}), units=True)
    assert cell.strip() == f"{number:,}"


@pytest.mark.parametrize(
    "ns, text",
    [(0, "0 ns"), (999, "999 ns"), (1_112, "1.11 us"), (731_220, "731.2 us"), (8.4e6, "8.400 ms"),
     (2.5e9, "2,500.000 ms"), (6e10, "60.000 s"), (-2_000, "-2.00 us")],
)  # fmt: skip
def test_time(ns, text):
    assert formats.time(ns) == text


@pytest.mark.parametrize(
    "ns, text", [(10**6, "1 ms"), (1_500, "1.5 us"), (0, "0 ns"), (999, "999 ns"), (10**9, "1 s")]
)
def test_short_time(ns, text):
    assert formats.short_time(ns) == text


@pytest.mark.parametrize("width", [44, 60, 61, 80])
def test_long_texts_lose_their_middle(width):
    frame = pl.DataFrame(
        {"n": [1, 2], "short": ["abc", "def"], "a": ["a" * 70, "b"], "b": ["b" * 30, "漢字" * 20]}
    )
    out = lines(frame, max_width=width)
    wide = [len(line) + len(re.findall("[漢字]", line)) for line in out]
    assert max(wide) <= width
    assert " abc " in out[1] and "a...a" in out[1] and "..." in out[2]
    assert "a" * 70 in lines(frame)[1]


def test_numbers_are_never_cut_and_texts_stay_readable():
    frame = pl.DataFrame({"ts": [1 << 60, 1], "name": ["void very_long_kernel_name_indeed", ""]})
    assert lines(frame, max_width=5)[1] == f"{1 << 60}  void v..._indeed"


def test_hostile_names():
    frame = pl.DataFrame({HOSTILE: [HOSTILE]})
    for text in (formats.table(frame), formats.table(frame, max_width=20)):
        assert text.count("\n") == 1
        assert all(line.isprintable() for line in text.split("\n"))
    text = formats.markdown(frame)
    assert text.count("\n") == 2 and all(line.isprintable() for line in text.split("\n"))
    # A pipe inside a cell would begin another one.
    assert re.findall(r"(?<!\\)\|", text.split("\n")[2]) == ["|", "|"]


def test_markdown():
    frame = pl.DataFrame({"name": ["gemm_kernel", "f<int>", "a`b", None], "total_ns": [5, 6, 7, 8]})
    assert formats.markdown(frame, units=True).split("\n") == [
        "| name | total_ns |",
        "| --- | ---: |",
        "| gemm_kernel | 5 |",
        "| `f<int>` | 6 |",
        "| ``a`b`` | 7 |",
        "| - | 8 |",
    ]
    assert formats.markdown(frame.clear()).count("\n") == 1
    assert formats.escape("a_b | <i>*x*") == r"a\_b \| \<i\>\*x\*"


# Families of the user


def families(tmp_path, text):
    path = tmp_path / "families.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return kernel_groups.load(path)


def test_families_of_the_user_come_first(tmp_path):
    found = families(tmp_path, "\ufeff# mine\r\n\r\nmy attention: ^flash|:fwd\r\n  gemm :x y #z\n")
    assert found == (("my attention", "^flash|:fwd"), ("gemm", "x y #z"), *FAMILIES)
    names = ["FLASH_fwd", "x::fwd", "rms_norm", "nvjet_tst"]
    assert classify(names, names, found) == ["my attention", "my attention", "norm", "gemm"]
    assert kernel_groups.load(None) == FAMILIES


@pytest.mark.parametrize(
    "text, message",
    [
        ("gemm: x\nno colon", "line 2: not `family: regular expression`"),
        (": x", "line 1: not `family"),
        ("gemm:", "line 1: not `family"),
        ("\n\ngemm: (x", "line 3: not a regular expression: (x (missing )"),
        (b"gemm: \xff", "no text in UTF-8"),
    ],
)
def test_wrong_families(tmp_path, text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        families(tmp_path, text)


def test_families_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="cannot read the families"):
            kernel_groups.load(path)
