"""What the SQL package `nsys` offers: read from the comments in its own files.

Each view, table, function and macro there is described the way Perfetto's standard library does it:
a comment above the statement, a comment above each column. No engine is needed, and no Polars.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nsys2perfetto.sql import PACKAGE

if TYPE_CHECKING:
    from nsys2perfetto.query.result import Schema

_STATEMENT = re.compile(
    r"(?P<comment>(?:^--[^\n]*\n)*)"
    r"^CREATE\s+(?:OR\s+REPLACE\s+)?PERFETTO\s+(?P<kind>TABLE|VIEW|FUNCTION|MACRO)\s+(?P<name>\w+)"
    r"\s*\(",
    re.MULTILINE | re.IGNORECASE,
)
_COLUMN = re.compile(
    r"(?P<comment>(?:^\s*--[^\n]*\n)*)^\s*(?P<name>\w+)\s+(?P<type>\w+)(?:\([\w.]*\))?\s*,?\s*$",
    re.MULTILINE,
)
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Field:
    """A column of a view: its type in PerfettoSQL (`LONG`, `TIMESTAMP`, ...) and what it is."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class View:
    """A view or table that users may ask, all texts in one line.

    Attributes:
        name: Such as `nsys_step`.
        module: What `INCLUDE PERFETTO MODULE` calls the file, such as `nsys.steps`.
        comment: What a row is.
        columns: In order.
    """

    name: str
    module: str
    comment: str
    columns: tuple[Field, ...]

    def schema(self) -> Schema:
        """Its columns' types in Polars."""
        import polars as pl  # noqa: PLC0415 - not needed to list views

        types = {"DOUBLE": pl.Float64, "FLOAT": pl.Float64, "STRING": pl.String}
        types["BYTES"] = pl.Binary
        return {column.name: types.get(column.type, pl.Int64) for column in self.columns}


@lru_cache(maxsize=4)
def views(package: Path = PACKAGE) -> Mapping[str, View]:
    """The public views by name, in order of files and statements."""
    found = {}
    for module, kind, name, match, text in _statements(package):
        if kind in {"TABLE", "VIEW"} and not name.startswith("_"):
            fields = _fields(_until_closed(text, match.end()))
            found[name] = View(name, module, _prose(match["comment"]), fields)
    return found


@lru_cache(maxsize=4)
def _modules(package: Path) -> Mapping[str, str]:
    """Each name that the package defines, in small letters, and the module that does."""
    return {name.lower(): module for module, _, name, _, _ in _statements(package)}


def modules_of(sql: str, package: Path = PACKAGE) -> list[str]:
    """The modules that a query needs: those that define a name which occurs in it.

    Modules make tables, which costs time, so a session includes them only when they are asked for.
    """
    known = _modules(package)
    found = {known[word]: None for word in _words(sql) if word in known}
    return list(found)


def types_in(sql: str, package: Path = PACKAGE) -> Schema:
    """Types of the columns of all views that are named in a query."""
    known = views(package)
    return {
        name: dtype
        for word in _words(sql)
        if word in known
        for name, dtype in known[word].schema().items()
    }


def _words(sql: str) -> Iterable[str]:
    return dict.fromkeys(word.lower() for word in _WORD.findall(sql))


def _statements(package: Path) -> Iterator[tuple[str, str, str, re.Match[str], str]]:
    """Module, kind and name of every statement that defines something, where it is, the file."""
    for path in sorted(package.rglob("*.sql")):
        text = path.read_text(encoding="utf-8")
        module = ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
        for match in _STATEMENT.finditer(text):
            yield module, match["kind"].upper(), match["name"], match, text


def _until_closed(text: str, start: int) -> str:
    """What stands between a bracket, which opens before `start`, and the one that closes it."""
    depth = 1
    code = re.sub(r"--[^\n]*", lambda comment: " " * len(comment[0]), text)
    for bracket in re.finditer(r"[()]", code[start:]):
        depth += 1 if bracket[0] == "(" else -1
        if depth == 0:
            return text[start : start + bracket.start()]
    return ""


def _fields(body: str) -> tuple[Field, ...]:
    return tuple(
        Field(match["name"], match["type"].upper(), _prose(match["comment"]))
        for match in _COLUMN.finditer(body)
    )


def _prose(comment: str) -> str:
    """The text of comment lines, in one line."""
    lines = (line.strip().removeprefix("--").strip() for line in comment.strip().splitlines())
    return " ".join(lines)
