"""A comparison as people read it (terminal, Markdown), and as programs do (JSON, CSV)."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from nsys2perfetto.nsys.source import printable
from nsys2perfetto.report import comparison_words, formats
from nsys2perfetto.report.comparison import SECTIONS, Comparison

_TITLES = {
    "summary": "Numbers",
    "parts": "Where the time goes",
    "kernels": "Kernels",
    "families": "Families of kernels",
    "gaps": "Idle gaps",
    "api": "CUDA calls",
}
_SHOWN = ("parts", "summary", "kernels", "gaps", "api")
"""Sections for people and their order: families are among the parts."""

_METRICS = {
    "gpus": "GPUs",
    "steady_steps": "steady steps",
    "outlier_steps": "outliers, left out",
    "step_median_ns": "median step",
    "step_p95_ns": "95 % of steps within",
    "step_p25_ns": "25 % of steps within",
    "step_p75_ns": "75 % of steps within",
    "tokens_per_s": "tokens/s of a sequence",
    "step_mean_ns": "mean step",
    "wall_ns": "first to last GPU work",
    "busy_ns": "GPU busy",
    "idle_ns": "GPU idle",
    "kernel_ns": "sum of all kernels",
    "busy_util_pct": "GPU busy, %",
    "kernel_util_pct": "sum of all kernels, %",
    "kernel_count": "kernels",
    "launch_count": "launching calls",
    "sync_count": "synchronizations",
    "sync_ns": "time in them",
    "allocation_count": "allocations and frees",
    "copy_count": "copies",
    "copy_ns": "time of copies",
    "copy_bytes": "bytes copied",
    "call_count": "CUDA calls",
    "call_ns": "time in them",
}
"""Metric to its label."""

_WIDTH = 80
"""Columns of sentences."""

_NO_PERCENT = ("busy_util_pct", "kernel_util_pct", "steady_steps", "outlier_steps", "gpus")
"""Metrics whose change in percent says nothing, or confuses."""

_PCT = "in %"

_NUMBERS = ("before", "after", "change", _PCT, "count", "each %")
"""Columns of numbers, made to texts here."""


@dataclass(frozen=True)
class Names:
    """What the two are called: paths as the user wrote them."""

    before: str
    after: str


@dataclass(frozen=True)
class _Table:
    """A section for people.

    Attributes:
        title: Its heading.
        frame: Texts only.
        rest: A line about the rows that are not shown; may be empty.
    """

    title: str
    frame: pl.DataFrame
    rest: str


def text(
    comparison: Comparison,
    names: Names,
    *,
    top: int | None = 20,
    width: int | None = None,
    section: str | None = None,
) -> str:
    """For a terminal.

    Args:
        comparison: What changed.
        names: Of the two.
        top: Rows of each table, None for all.
        width: Columns of the terminal; None for as wide as tables are.
        section: Only this one of `SECTIONS`, and no sentences.
    """
    pieces = []
    if section is None:
        about = comparison_words.about(comparison, names.before, names.after)
        lines = [line for label, said in about for line in _wrapped(said, f"{label:<8}")]
        pieces += ["\n".join(lines)]
        told = comparison_words.verdict(comparison) + [
            f"! {n}" for n in comparison_words.notes(comparison)
        ]
        pieces += ["\n".join(line for said in told for line in _wrapped(said, rest="  "))]
    for table in _tables(comparison, top, section):
        shown = formats.table(table.frame, max_width=width, numbers=_NUMBERS)
        pieces.append("\n".join([table.title, shown, *[table.rest] * bool(table.rest)]))
    return "\n\n".join(pieces)


def markdown(
    comparison: Comparison, names: Names, *, top: int | None = 20, section: str | None = None
) -> str:
    """For a pull request or an issue; arguments as for `text`."""
    pieces = []
    if section is None:
        verdict = [formats.escape(said) for said in comparison_words.verdict(comparison)]
        about = comparison_words.about(comparison, names.before, names.after)
        facts = [f"- {label}: {formats.escape(said)}" for label, said in about]
        notes = [f"- {formats.escape(said)}" for said in comparison_words.notes(comparison)]
        pieces += [f"**{verdict[0]}**", *verdict[1:], "\n".join(facts + notes)]
    for table in _tables(comparison, top, section):
        shown = formats.markdown(table.frame, numbers=_NUMBERS)
        rest = [table.rest] * bool(table.rest)
        pieces.append("\n\n".join([f"#### {table.title}", shown, *rest]))
    return "\n\n".join(pieces)


def csv(comparison: Comparison, *, section: str | None = None) -> str:
    """Numbers as they are, all rows; of several sections blocks, each after a line `# NAME`."""
    if section is not None:
        return formats.csv(comparison.section(section))
    return "\n\n".join(f"# {name}\n{formats.csv(comparison.section(name))}" for name in SECTIONS)


def as_json(comparison: Comparison, names: Names, *, section: str | None = None) -> str:
    """An object with all sections, all rows; or the list of one section."""
    if section is not None:
        return formats.json(comparison.section(section))
    about: dict[str, Any] = {
        "basis": "steady_step" if comparison.per_step else "capture",
        "measure": comparison.measure,
        "slowdown_pct": comparison.slowdown_pct,
        "within_scatter": comparison.within_scatter,
    }
    for label in ("before", "after"):
        side = getattr(comparison, label)
        about[label] = {
            "file": getattr(names, label),
            "nsys_version": side.facts.nsys_version,
            "gpus": {str(number): name for number, name in side.facts.gpus.items()},
            "decode_steps": side.facts.decode_steps,
            "steps": side.steps,
            "steady_steps": side.steady,
        }
    about["verdict"] = comparison_words.verdict(comparison)
    about["notes"] = comparison_words.notes(comparison)
    members = [f'"{key}": {_plain(value)}' for key, value in about.items()]
    members += [f'"{name}": {formats.json(comparison.section(name))}' for name in SECTIONS]
    return "{\n" + ",\n".join(members) + "\n}"


def _wrapped(sentence: str, first: str = "", rest: str | None = None) -> list[str]:
    """A sentence in lines of at most 80 columns; names in it are made printable."""
    return textwrap.wrap(
        printable(sentence),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first) if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(value: object) -> str:
    return json.dumps(value).replace("\x7f", "\\u007f")


# Tables


def _tables(comparison: Comparison, top: int | None, section: str | None) -> Iterator[_Table]:
    unit = _Unit.of(comparison)
    per = f"per step, {unit.name}" if comparison.per_step else f"in all, {unit.name}"
    for name in _SHOWN if section is None else (section,):
        rows = comparison.section(name)
        if name == "summary":
            yield _Table(_TITLES[name], _summary(rows), "")
            continue
        if rows.is_empty() and section is None:
            continue
        title = f"{_TITLES[name]} ({per})"
        if name == "parts":
            rows = rows.filter((pl.col("before_ns") != 0) | (pl.col("after_ns") != 0))
        shown = rows if name == "parts" or top is None else rows.head(top)
        frame = _changes(name, shown, unit)
        if name == "parts":
            # Together they are the mean step, or the time from first to last GPU work.
            frame = pl.concat([frame, _all(rows, unit)])
        yield _Table(title, frame, _rest(rows.slice(shown.height), unit))


def _changes(name: str, rows: pl.DataFrame, unit: _Unit) -> pl.DataFrame:
    def numbers(column: str, signed: bool = False) -> list[str]:
        return [unit.cell(v, signed) for v in rows[column].to_list()]

    columns = {
        **_keys(name, rows),
        "before": numbers("before_ns"),
        "after": numbers("after_ns"),
        "change": numbers("change_ns", signed=True),
        _PCT: [
            "new" if b is None and a else "gone" if a is None and b else percent(change)
            for b, a, change in rows.select("before_ns", "after_ns", "change_pct").rows()
        ],
        "count": [
            _counts(b, a) for b, a in zip(rows["before_count"], rows["after_count"], strict=True)
        ],
    }
    if "change_avg_pct" in rows.columns:
        columns["each %"] = [percent(v) for v in rows["change_avg_pct"].to_list()]
    return pl.DataFrame(columns, dict.fromkeys(columns, pl.String))


def _keys(name: str, rows: pl.DataFrame) -> dict[str, list[str]]:
    """The columns that say what a row is."""
    if name == "parts":
        words = [comparison_words.part(*row) for row in rows.select("kind", "part").rows()]
        return {"part": words}
    if name == "gaps":
        return {
            "cause": [comparison_words.cause(cause) for cause in rows["cause"]],
            "mostly": [comparison_words.mostly(m) for m in rows["mostly"]],
        }
    title = {"kernels": "kernel", "api": "call", "families": "family"}[name]
    return {title: [n if n else "(no name)" for n in rows[rows.columns[0]]]}


def _all(rows: pl.DataFrame, unit: _Unit) -> pl.DataFrame:
    before, after = (float(rows[c].fill_null(0).sum()) for c in ("before_ns", "after_ns"))
    change = float(rows["change_ns"].sum())
    row = {
        "part": "together",
        "before": unit.cell(before),
        "after": unit.cell(after),
        "change": unit.cell(change, signed=True),
        _PCT: percent(100 * change / before if before else None),
        "count": "",
    }
    return pl.DataFrame([row], dict.fromkeys(row, pl.String))


def _rest(rows: pl.DataFrame, unit: _Unit) -> str:
    if rows.is_empty():
        return ""
    change = unit.cell(float(rows["change_ns"].sum()), signed=True)
    return f"and {rows.height:,} more, together {change} {unit.name}"


def _summary(rows: pl.DataFrame) -> pl.DataFrame:
    shown: dict[str, list[str]] = {c: [] for c in ("number", "before", "after", "change", _PCT)}
    for row in rows.iter_rows(named=True):
        write = _UNITS[row["unit"]]
        shown["number"].append(_METRICS[row["metric"]])
        shown["before"].append(_or_absent(row["before"], write))
        shown["after"].append(_or_absent(row["after"], write))
        change = row["change"]
        sign = "+" if change is not None and change > 0 else ""
        shown["change"].append(sign + _or_absent(change, write))
        shown[_PCT].append("" if row["metric"] in _NO_PERCENT else percent(row["change_pct"]))
    return pl.DataFrame(shown, dict.fromkeys(shown, pl.String))


# Cells


@dataclass(frozen=True)
class _Unit:
    """The unit of all times of a comparison, so that they can be set against each other."""

    name: str
    ns: int
    decimals: int

    @classmethod
    def of(cls, comparison: Comparison) -> _Unit:
        largest = max(
            comparison.section(name).select(pl.max_horizontal("before_ns", "after_ns").max()).item()
            or 0.0
            for name in SECTIONS
            if name != "summary"
        )
        steps = ((1e7, "us", 10**3, 2), (1e8, "ms", 10**6, 3), (1e11, "ms", 10**6, 2))
        return next(
            (cls(name, ns, decimals) for limit, name, ns, decimals in steps if largest < limit),
            cls("s", 10**9, 3),
        )

    def cell(self, ns: float | None, signed: bool = False) -> str:
        """A time, with a sign where it is a change."""
        if ns is None:
            return formats.ABSENT
        return number(ns / self.ns, self.decimals, signed)


def number(value: float, decimals: int, signed: bool = False) -> str:
    """Digits with separators; a plain 0 for what has not changed at all."""
    if signed and value == 0:
        return "0"
    written = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    return written[1:] if float(written.replace(",", "")) == 0 and written[0] in "+-" else written


def percent(value: float | None) -> str:
    """A change in percent."""
    return formats.ABSENT if value is None else number(value, 1, signed=True)


def _counts(before: float | None, after: float | None) -> str:
    """Counts, which are whole numbers only in whole captures and in steps that are alike."""
    if before is None and after is None:
        return ""
    first, second = (_count(c or 0) for c in (before, after))
    return first if first == second else f"{first} -> {second}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def _or_absent(value: float | None, write: Callable[[float], str]) -> str:
    return formats.ABSENT if value is None else write(value)


def _bytes(value: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:,.2f} {unit}"
    return f"{_count(value)} bytes"


_UNITS: dict[str, Callable[[float], str]] = {
    "ns": formats.time,
    "bytes": _bytes,
    "percent": lambda v: f"{v:.1f}",
    "per_s": lambda v: f"{v:,.1f}",
    "count": _count,
}
