"""Numbers and tables as people read them: plain ASCII, aligned, 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from nsys2perfetto.cli.terminal import WIDTH
from nsys2perfetto.nsys.source import printable

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def size(number: int) -> str:
    """Bytes with a decimal unit (1 kB = 1000 bytes), three digits."""
    if number < 1000:
        return f"{number} bytes"
    value = float(number)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{value / 1000:,.2f} TB"


def duration(ns: int) -> str:
    """A time with the unit that suits it, to about a thousandth."""
    sign, rest = ("-", -ns) if ns < 0 else ("", ns)
    if rest < 1000:
        return f"{sign}{rest} ns"
    for unit, scale in (("us", 10**3), ("ms", 10**6)):
        if rest < 1000 * scale:
            return f"{sign}{rest / scale:.{_digits(rest / scale)}f} {unit}"
    return f"{sign}{rest / 10**9:,.{_digits(rest / 10**9)}f} s"


def _digits(value: float) -> int:
    return 3 if value < 10 else 2 if value < 100 else 1


def utc(ns: int | None) -> str | None:
    """A time since 1970 as a date, to the second; None for what no date can say."""
    if ns is None:
        return None
    try:
        return f"{_EPOCH + timedelta(microseconds=ns // 1000):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError):
        return None


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), indent: int = 2
) -> list[str]:
    """Lines of an aligned table.

    Args:
        head: Column titles; all empty for none.
        rows: Cells; the columns in `left` are aligned to the left, the others to the right.
        left: Numbers of the columns with text.
        indent: Blanks before each line.
    """
    cells = [list(head), *[[printable(c) for c in row] for row in rows]]
    if not any(head):
        cells = cells[1:]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))] if cells else []
    lines = []
    for row in cells:
        parts = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * indent + "  ".join(parts)).rstrip())
    return lines


def fit(text: str, width: int) -> str:
    """The text, its middle replaced by `...` where it is too long."""
    text = printable(text)
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def wrap(text: str, first: str = "", rest: str | None = None) -> list[str]:
    """A sentence in lines of at most 80 columns; long words such as paths stay whole.

    Args:
        text: From anywhere: made printable here.
        first: Before the first line.
        rest: Before the others; blanks by default.
    """
    lines = textwrap.wrap(
        " ".join(printable(" ".join(text.split())).split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first) if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [first.rstrip()]
