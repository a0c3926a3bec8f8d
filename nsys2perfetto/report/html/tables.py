"""A table of the report as HTML: sortable, exact numbers kept, names whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import polars as pl

from nsys2perfetto.nsys.source import printable
from nsys2perfetto.report import formats
from nsys2perfetto.report.html.links import Links

_UNIT = re.compile(r"_(ns|us|ms|s|bytes|kB|MB|GB)$")
_ABSENT = "&ndash;"


@dataclass(frozen=True)
class Extras:
    """What a table has beyond the numbers.

    Attributes:
        full_names: Name of a kernel, in whichever column, to what is shown when it is pointed at.
        links: Into the trace; None for a table without times.
        places: `ts` and `dur` of each row, ns, shape (rows,): where a row's link leads to.
    """

    full_names: Mapping[str, str] = field(default_factory=dict)
    links: Links | None = None
    places: Sequence[tuple[int, int]] = ()


def text(value: str) -> str:
    """A text as HTML, without anything that nothing would show (`printable`)."""
    return escape(printable(value))


def table(frame: pl.DataFrame, extras: Extras | None = None) -> str:
    """The table; the exact number of a cell is its attribute `data-v`.

    Args:
        frame: Any columns; its names tell the units.
        extras: Names and links to add.
    """
    extras = extras or Extras()
    shown = formats.readable(frame)
    head, columns = [], []
    for (title, cells), series in zip(shown, frame, strict=True):
        number = series.dtype.is_numeric()
        head.append(_heading(title, series.name, number))
        values = zip(cells.to_list(), series.to_list(), strict=True)
        make = _number if number else _word
        columns.append([make(cell, value, series.name, extras) for cell, value in values])
    if extras.links is not None and extras.places:
        head.append("<th>in the trace</th>")
        columns.append([_place(extras.links, ts, dur) for ts, dur in extras.places])
    rows = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*columns, strict=True))
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{"".join(head)}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def words(column: str) -> str:
    """The name of a column in words, its unit after a comma."""
    if column == "pct":
        return "%"
    if column.endswith("_pct"):
        return f"{column.removesuffix('_pct')} %".replace("_", " ")
    found = _UNIT.search(column)
    stem = column[: found.start()] if found else column
    return stem.replace("_", " ") + (f", {found[1]}" if found else "")


def _heading(title: str, column: str, number: bool) -> str:
    kind = ' class="n"' if number else ""
    return (
        f'<th{kind} data-column="{text(column)}" aria-sort="none">'
        f"<button>{text(words(title))}</button></th>"
    )


def _number(cell: str | None, value: float | None, column: str, extras: Extras) -> str:
    del extras
    if cell is None or value is None:
        return f'<td class="n">{_ABSENT}</td>'
    bar = ""
    if column in ("pct", "time_pct"):
        bar = f' style="--w:{min(max(value, 0), 100):.1f}%"'
    return f'<td class="n{" bar" * bool(bar)}" data-v="{value!r}"{bar}>{cell}</td>'


def _word(cell: str | None, value: str | None, column: str, extras: Extras) -> str:
    del value
    if cell is None:
        return f"<td>{_ABSENT}</td>"
    name = ' class="name"' * (column in _NAMES)
    full = extras.full_names.get(cell) if name else None
    title = f' title="{text(full)}"' if full else ""
    return f"<td{name}{title}>{text(cell)}</td>"


_NAMES = {"name", "top_kernel", "after", "before"}
"""Columns of names that may be long."""


def _place(links: Links, ts: int, dur: int) -> str:
    """A link to a time in the trace, and a button that copies it for `--range`."""
    span = f"{ts}:{ts + dur}"
    return (
        f'<td class="go"><a href="{text(links.to(ts, dur))}" target="_blank" rel="noopener">open'
        f'</a> <button data-copy="{span}" title="copy {span}, for --range">copy</button></td>'
    )
