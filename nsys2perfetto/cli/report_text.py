"""What `report` prints on a terminal: facts, verdict, tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nsys2perfetto.cli.summary import fact
from nsys2perfetto.cli.terminal import colour
from nsys2perfetto.cli.text import wrap
from nsys2perfetto.nsys.source import printable
from nsys2perfetto.report import formats
from nsys2perfetto.report.page import Page
from nsys2perfetto.report.render import Document
from nsys2perfetto.report.reports import Section

_INDENT = "  "
_PROCESSES = 8
"""Most processes that are listed."""


def lines(document: Document, path: Path, width: int | None) -> list[str]:
    """Lines of the page, or of a named report.

    Args:
        document: What is reported.
        path: Of the capture or trace.
        width: Columns of the terminal, to which long names are shortened; None for whole names.
    """
    if isinstance(document, Page):
        return _page(document, path, width)
    return _sections(document, width)


def _page(found: Page, path: Path, width: int | None) -> list[str]:
    result = [colour(printable(str(path)), bold=True), *_facts(found), ""]
    for sentence in found.verdict:
        result += wrap(sentence, _INDENT)
    for section in found.sections:
        if not section.hidden and len(section.for_people):
            result += ["", *_section(section, width)]
    return result


def _sections(found: Sequence[Section], width: int | None) -> list[str]:
    """Lines of a named report; a single table has no title."""
    result: list[str] = []
    for section in found:
        result += [""] * bool(result)
        result += _section(section, width, title=len(found) > 1)
    return result


def _facts(page: Page) -> list[str]:
    facts = page.facts
    lines = fact("nsys", facts.nsys_version or "older than 2022 (the export does not tell)")
    for number, name in facts.gpus.items():
        lines += fact(f"GPU {number}", name if name != "GPU" else "its name is not in the capture")
    processes = list(facts.processes.items())
    for pid, name in processes[:_PROCESSES]:
        lines += fact("process", f"{pid} {name}".rstrip())
    if len(processes) > _PROCESSES:
        lines += fact("", f"and {len(processes) - _PROCESSES} more processes")
    if page.has_steps:
        lines += fact("steps", facts.decode_steps)
    return lines


def _section(section: Section, width: int | None, title: bool = True) -> list[str]:
    lines = [colour(section.title, bold=True)] * title
    for text in section.above:
        lines += wrap(text, _INDENT)
    if section.above and section.for_people.is_empty():
        return lines
    room = None if width is None else width - len(_INDENT)
    table = formats.table(section.for_people, max_width=room, units=True)
    return [*lines, *(f"{_INDENT}{line}".rstrip() for line in [*table.split("\n"), *section.below])]
