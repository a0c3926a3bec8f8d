"""What options are made of: times with units, time ranges, process ids, families."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import click

from nsys2perfetto.families import FAMILIES

T = TypeVar("T")

UNITS = {
    "": 1, "ns": 1, "nsec": 1, "us": 10**3, "usec": 10**3, "µs": 10**3, "μs": 10**3,
    "ms": 10**6, "msec": 10**6, "s": 10**9, "sec": 10**9, "m": 60 * 10**9, "min": 60 * 10**9,
}  # fmt: skip
"""Unit to ns; both micro signs of Unicode, and the unit names of `nsys stats --timeunit`."""

LIMIT = 1 << 62
"""ns: as far from 0 as an event can be (nsys.events.LATEST)."""

_TIME = re.compile(r"([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([A-Za-zµμ]*)")


def parse_time(text: str) -> int:
    """Reads `1.5s`, `200ms`, `3us`, `-4ns`, `1_000`, `1e9`: ns as the capture counts.

    A number without a unit is ns, as in the capture's own columns and in what `nsys stats` prints;
    a fraction of those would be a forgotten unit.

    Raises:
        ValueError: It is not a time; the text says why.
    """
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a time such as 1.5s, 200ms, 3us or 1500000 (ns)")
    number, unit = match.groups()
    if unit not in UNITS:
        raise ValueError(f"{text!r}: no such unit; use s, ms, us or ns")
    value = Decimal(number.replace("_", "")) * UNITS[unit]
    if not unit and value != value.to_integral_value():
        raise ValueError(f"{text!r} has no unit; did you mean {number}s or {number}ms?")
    if abs(value) >= LIMIT:
        raise ValueError(f"{text!r} is out of range")
    return int(value.to_integral_value())


def parse_range(text: str) -> tuple[int | None, int | None]:
    """Reads `START:END`; either may be missing. `START/END`, as nsys itself writes it, is the same.

    Raises:
        ValueError: It is not a range; the text says why.
    """
    parts = re.split("[:/]", text)
    if len(parts) != 2 or not any(p.strip() for p in parts):
        raise ValueError(f"{text!r} is not a range such as 1.5s:2s, 1.5s: or :2s")
    start, end = (parse_time(p) if p.strip() else None for p in parts)
    return start, end


def parse_steps(text: str) -> tuple[int | None, int | None]:
    """Reads `A..B`, `A:B`, `A..`, `..B` or `A`: numbers of the first and the last decode step.

    Raises:
        ValueError: It is something else; the text says why.
    """
    match = re.fullmatch(r"\s*(\d{1,10})?\s*(?:(\.\.|:)\s*(\d{1,10})?)?\s*", text)
    low, separator, high = match.groups() if match else (None, None, None)
    if low is None and high is None:
        raise ValueError(f"{text!r} is not a number of a decode step, or a range such as 100..109")
    first = None if low is None else int(low)
    last = first if separator is None else None if high is None else int(high)
    if 0 in (first, last):
        raise ValueError(f"{text!r}: decode steps are counted from 1")
    if first is not None and last is not None and last < first:
        raise ValueError(f"{text!r} ends before it starts")
    return first, last


def parse_pids(text: str) -> tuple[int, ...]:
    """Reads process ids, separated by commas.

    Raises:
        ValueError: It is something else; the text says so.
    """
    parts = _split(text)
    if not parts or not all(re.fullmatch(r"\d{1,10}", p) for p in parts):
        raise ValueError(f"{text!r} is not a process id, or several with commas")
    return tuple(int(p) for p in parts)


def parse_families(text: str) -> tuple[str, ...]:
    """Reads names of families of events, separated by commas.

    Raises:
        ValueError: A family is unknown; the text lists all.
    """
    names = tuple(p.lower().replace("-", "_") for p in _split(text))
    known = ", ".join(FAMILIES)
    for name in names:
        if name not in FAMILIES:
            close = difflib.get_close_matches(name, FAMILIES, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"no family {name!r}; {hint}there are: {known}")
    if not names:
        raise ValueError(f"name at least one of {known}")
    return names


def _split(text: str) -> list[str]:
    """The parts of a comma list, without blanks and empty ones."""
    return [part for p in text.split(",") if (part := p.strip())]


def one(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, Any], T | None]:
    """The callback of an option that is read by `parse`."""

    def read(ctx: click.Context, param: click.Parameter, value: Any) -> T | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return read


def many(
    parse: Callable[[str], tuple[T, ...]],
) -> Callable[[click.Context, click.Parameter, Any], tuple[T, ...]]:
    """The callback of an option that may be given several times: all values, each once."""
    single = one(parse)

    def read(ctx: click.Context, param: click.Parameter, values: Any) -> tuple[T, ...]:
        lists = [single(ctx, param, value) or () for value in values]
        return tuple(dict.fromkeys(value for found in lists for value in found))

    return read
