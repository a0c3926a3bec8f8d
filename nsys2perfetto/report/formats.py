"""Tables as text: for people (`table`, `markdown`) and for programs (`csv`, `json`).

None of the texts ends with a newline. Names in captures may hold anything: `table`, `json` and
`markdown` give only characters that a terminal prints; `csv` gives them as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from json import dumps as to_json

import polars as pl

from nsys2perfetto.nsys.source import printable

ABSENT = "-"
"""What stands in a table where there is no value."""

_BETWEEN = "  "
_NARROWEST = 16
"""Columns that a text keeps at least where a table is too wide."""
_ODD = r"[^\x20-\x7e]"
_NO_MARKUP = r"[A-Za-z0-9](?:[A-Za-z0-9 .,%/+()-]|(?<=[A-Za-z0-9])_(?=[A-Za-z0-9]))*"
"""What Markdown shows as it is; an underscore inside a word is no emphasis."""
_NUMBERS_OF_THINGS = {"gpu", "id", "number", "pid", "run", "step", "step_in_run", "stream", "upid"}
"""Columns whose numbers are names: no thousands separators."""

_SIZES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_STATISTICS = (
    "avg_ns", "med_ns", "min_ns", "max_ns", "stddev_ns", "p5_ns", "p95_ns", "p99_ns",
)  # fmt: skip


@dataclass(frozen=True)
class _Column:
    """One column as text: shape (rows,), no nulls."""

    title: str
    cells: pl.Series
    left: bool

    @property
    def width(self) -> int:
        """Columns of the terminal that it needs."""
        return max(_width(self.title), _widest(self.cells))


def table(
    frame: pl.DataFrame,
    *,
    max_width: int | None = None,
    units: bool = False,
    numbers: Collection[str] = (),
) -> str:
    """An aligned table with a line of column names, for people.

    Args:
        frame: Any columns.
        max_width: Where it is wider, texts lose their middle, down to 16 columns each; numbers are
            never cut. None for as wide as it is.
        units: See `readable`; else numbers are shown as they are.
        numbers: Columns whose texts are numbers: aligned to the right, never cut.
    """
    columns = _columns(frame, units, numbers)
    if max_width is not None:
        columns = _narrowed(columns, max_width)
    if not columns:
        return "(no columns)"
    lines = pl.select(
        pl.concat_str(
            [
                _aligned(pl.concat([pl.Series([c.title]), c.cells.rename("")]), c.width, c.left)
                for c in columns
            ],
            separator=_BETWEEN,
        )
        .str.strip_chars_end()
        .alias("")
    ).to_series()
    return "\n".join([*lines.to_list(), *["(no rows)"] * frame.is_empty()])


def csv(frame: pl.DataFrame) -> str:
    """RFC 4180 with a line of column names; an absent value is empty, an empty text is `""`."""
    return _plain(frame).write_csv().removesuffix("\n")


def json(frame: pl.DataFrame) -> str:
    """A JSON list of objects, keys are the column names; one object a line, ASCII only."""
    lines = _plain(frame).write_ndjson().split("\n")
    rows = ",\n".join(f"  {line}" for line in lines if line)
    text = f"[\n{rows}\n]" if rows else "[]"
    return re.sub(r"[^\n\x20-\x7e]", _escaped, text)


def markdown(frame: pl.DataFrame, *, units: bool = False, numbers: Collection[str] = ()) -> str:
    """A Markdown table (GitHub's kind); texts are never cut.

    Args:
        frame: Any columns.
        units: See `readable`.
        numbers: Columns whose texts are numbers: aligned to the right, shown as they are.
    """
    columns = _columns(frame, units, numbers)
    cells = [
        replace(c, cells=_each(c.cells, "[^A-Za-z0-9 ]", code)) if c.left else c for c in columns
    ]
    rule = "|".join(" --- " if c.left else " ---: " for c in cells)
    head = " | ".join(code(c.title) for c in cells)
    if not frame.height or not cells:
        return f"| {head} |\n|{rule}|"
    rows = pl.select(pl.concat_str([c.cells for c in cells], separator=" | ").alias(""))
    body = "\n".join(f"| {row} |" for row in rows.to_series().to_list())
    return f"| {head} |\n|{rule}|\n{body}"


def readable(frame: pl.DataFrame) -> list[tuple[str, pl.Series]]:
    """Columns of a report for people: names and cells, each column with a unit that suits it.

    `total_ns` becomes `total_ms`, for example; counts get separators, shares one decimal. Columns
    of one statistic (`avg_ns`, `p95_ns`, ...) have the same unit. Texts, and numbers that are
    names, stay as they are.
    """
    spread = [frame[name] for name in frame.columns if name in _STATISTICS]
    statistics = pl.concat([s.cast(pl.Float64).rename("") for s in spread]) if spread else None
    return [_readable(series, statistics) for series in frame]


def _readable(series: pl.Series, statistics: pl.Series | None) -> tuple[str, pl.Series]:
    name = series.name
    if not series.dtype.is_numeric():
        return name, series
    if name in _NUMBERS_OF_THINGS:
        return name, series.cast(pl.String)
    values = statistics if statistics is not None and name in _STATISTICS else series
    title, scale, decimals = _unit(name, values)
    return title, _decimal(series if scale == 1 else series / scale, decimals)


def time(ns: float) -> str:
    """A time with its unit, as a column of such times would show it."""
    unit, scale, decimals = _unit_of_time(abs(ns), abs(ns)) if abs(ns) < 1e10 else ("s", 1e9, 3)
    return f"{ns / scale:,.{decimals}f} {unit}"


def short_time(ns: int) -> str:
    """A time that a person gave, without needless decimals: `1 ms`, `2.5 us`."""
    unit, scale = next(
        (u for u in (("s", 10**9), ("ms", 10**6), ("us", 10**3)) if abs(ns) >= u[1]), ("ns", 1)
    )
    return f"{ns / scale:,.10g} {unit}"


def _unit(name: str, values: pl.Series) -> tuple[str, float, int]:
    """New name, what to divide by, and decimals of a column, by its name and values."""
    size = values.abs().drop_nulls()
    largest = float(size.max() or 0)  # type: ignore[arg-type]
    if name == "ts":
        return ("ts_s", 1e9, 6) if largest >= 1e9 else ("ts_ms", 1e6, 3)
    if name == "dur" or name.endswith("_ns"):
        smallest = float(size.filter(size > 0).quantile(0.1) or largest)
        unit, scale, decimals = _unit_of_time(smallest, largest)
        return f"{name.removesuffix('_ns')}_{unit}", scale, decimals
    if name.endswith("_bytes"):
        unit, scale = next((u for u in _SIZES if largest >= u[1]), ("bytes", 1.0))
        return f"{name.removesuffix('_bytes')}_{unit}", scale, 0 if scale == 1 else 3
    if name.endswith("count"):
        return name, 1, 0 if (size == size.cast(pl.Int64)).all() else 1
    return name, 1, 0 if not values.dtype.is_float() else 1 if name.endswith("pct") else 2


def _unit_of_time(smallest: float, largest: float) -> tuple[str, float, int]:
    """Unit, its ns, and decimals for times, so that three digits of the small ones are seen."""
    if largest < 1e3:
        return "ns", 1, 0
    if largest < 1e6 or (smallest < 1e6 and largest < 1e9):
        return "us", 1e3, 2 if smallest < 1e4 or largest < 1e5 else 1
    return ("ms", 1e6, 3) if largest < 1e11 else ("s", 1e9, 3)


def _decimal(numbers: pl.Series, decimals: int) -> pl.Series:
    """Numbers with thousands separators and a fixed number of decimals; null stays null."""
    scale = 10**decimals
    if numbers.dtype.is_float():
        scaled = (numbers.abs() * scale).round(0).cast(pl.Int64, strict=False)
    else:
        scaled = numbers.cast(pl.Int64).abs() * scale
    rest = scaled // scale
    fraction = scaled % scale if decimals else None
    text = pl.Series([""]).new_from_index(0, len(numbers))
    while (rest.max() or 0) >= 1000:
        group = "," + (rest % 1000).cast(pl.String).str.zfill(3)
        text = _choose(rest >= 1000, group + text, text)
        rest = _choose(rest >= 1000, rest // 1000, rest)
    text = rest.cast(pl.String) + text
    if fraction is not None:
        text = text + "." + fraction.cast(pl.String).str.zfill(decimals)
    return _choose((numbers < 0) & (scaled > 0), "-" + text, text)


def _choose(condition: pl.Series, yes: pl.Series, no: pl.Series) -> pl.Series:
    return pl.select(pl.when(condition).then(yes).otherwise(no)).to_series()


def _columns(frame: pl.DataFrame, units: bool, numbers: Collection[str]) -> list[_Column]:
    """The columns as texts that a terminal can show."""
    columns = []
    plain = _plain(frame)
    found = readable(plain) if units else [(series.name, series) for series in plain]
    for (title, values), series in zip(found, plain, strict=True):
        cells = values
        if cells.dtype.is_float():
            # Ten digits are enough to look at, and hide that 0.1 + 0.2 is not 0.3.
            cells = cells.map_elements(lambda x: f"{x:.10g}", pl.String)
        cells = _each(cells.cast(pl.String).fill_null(ABSENT), _ODD, printable)
        number = series.dtype.is_numeric() or series.name in numbers
        columns.append(_Column(printable(title), cells, left=not number))
    return columns


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without what has no text: blobs become hexadecimal, NaN and infinity null."""
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    blobs = [name for name, dtype in frame.schema.items() if dtype == pl.Binary]
    return frame.with_columns(
        *(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in floats),
        *(pl.col(name).bin.encode("hex") for name in blobs),
    )


def _each(cells: pl.Series, pattern: str, change: Callable[[str], str]) -> pl.Series:
    """Changes the cells in which the pattern is found; each different text once."""
    found = cells.filter(cells.str.contains(pattern)).unique().to_list()
    return cells.replace({text: change(text) for text in found}) if found else cells


def _escaped(match: re.Match[str]) -> str:
    """A character as JSON escapes it."""
    return to_json(match[0])[1:-1].replace("\x7f", "\\u007f")


def escape(text: str) -> str:
    """A sentence as Markdown, every character meant as it is."""
    return re.sub(r"[\\`*_<>\[\]|&~#]", r"\\\g<0>", printable(text))


def code(text: str) -> str:
    """A text for Markdown, as code where it would be taken for markup."""
    text = printable(text)
    if text == ABSENT or re.fullmatch(_NO_MARKUP, text):
        return text
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " * (text.startswith("`") or text.endswith("`"))
    inside = text.replace("|", "\\|")
    return f"{ticks}{pad}{inside}{pad}{ticks}" if text else ""


# Widths


def _width(text: str) -> int:
    """Columns of a terminal: some characters take two, some none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _widest(cells: pl.Series) -> int:
    odd = cells.str.contains(_ODD)
    plain = cells.filter(~odd).str.len_bytes().max() or 0
    return max([int(plain), *map(_width, cells.filter(odd).unique())])


def _aligned(cells: pl.Series, width: int, left: bool) -> pl.Series:
    def pad(text: str) -> str:
        blanks = " " * (width - _width(text))
        return text + blanks if left else blanks + text

    cells = _each(cells, _ODD, pad)
    return cells.str.pad_end(width) if left else cells.str.pad_start(width)


def _narrowed(columns: list[_Column], max_width: int) -> list[_Column]:
    """Cuts the widest texts, all to the same width, until the table fits or they are narrow."""
    widths = [c.width for c in columns]
    spare = max_width - len(_BETWEEN) * (len(columns) - 1)
    texts = sorted((w for c, w in zip(columns, widths, strict=True) if c.left), reverse=True)
    if sum(widths) <= spare or not texts:
        return columns
    spare -= sum(widths) - sum(texts)
    limit = texts[0]
    for number in range(1, len(texts) + 1):
        # The `number` widest share what the others leave.
        limit = (spare - sum(texts[number:])) // number
        if number == len(texts) or limit >= texts[number]:
            break
    limit = max(limit, _NARROWEST)
    return [
        replace(c, cells=_each(c.cells, f"^.{{{limit + 1},}}|{_ODD}", lambda t: fit(t, limit)))
        if c.left and w > limit
        else c
        for c, w in zip(columns, widths, strict=True)
    ]


def fit(text: str, width: int) -> str:
    """The text, its middle replaced by `...` where it takes more columns than `width`."""
    if _width(text) <= width:
        return text
    head, tail = (width - 3) // 2, width - 3 - (width - 3) // 2
    begin, end = text[:head], text[len(text) - tail :]
    while _width(begin) > head:
        begin = begin[:-1]
    while _width(end) > tail:
        end = end[1:]
    return f"{begin}...{end}"
