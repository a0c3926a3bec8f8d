"""Reports for programs and for Markdown: from sections to one text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nsys2perfetto.report import formats
from nsys2perfetto.report.page import Page
from nsys2perfetto.report.reports import Section

Document = Page | Sequence[Section]
"""The page, or the sections of a named report."""


def as_json(document: Document) -> str:
    """JSON: a list of objects, keys are the column names.

    The page is an object instead: name of the report to its list, and `verdict`. The parts of a
    taken-apart step are lists inside of the objects.
    """
    if isinstance(document, Page):
        parts = {"verdict": json.dumps(document.verdict)}
        parts |= {section.name: formats.json(section.frame) for section in document.sections}
        return "{\n" + ",\n".join(f"{json.dumps(n)}: {text}" for n, text in parts.items()) + "\n}"
    first, *inner = document
    if not inner:
        return formats.json(first.frame)
    key = ["pid", "gpu", "step"]
    objects = first.frame.to_dicts()
    for unit in objects:
        for section in inner:
            mine = section.frame.filter(**{name: unit[name] for name in key}).drop(key)
            unit[section.name] = mine.to_dicts()
    return json.dumps(objects, indent=2)


def as_csv(document: Document) -> str:
    """CSV with a header; of several tables blocks, each after a line `# NAME`."""
    if isinstance(document, Page):
        sections: Sequence[Section] = document.sections
    elif len(document) == 1:
        return formats.csv(document[0].frame)
    else:
        sections = document
    return "\n\n".join(f"# {section.name}\n{formats.csv(section.frame)}" for section in sections)


def as_markdown(document: Document, title: str) -> str:
    """Markdown: the verdict, and a table under a heading for each section.

    Args:
        document: What is reported.
        title: Of what; shown as a heading where there are several sections.
    """
    sections = document.sections if isinstance(document, Page) else document
    blocks = []
    if len(sections) > 1:
        blocks.append(f"# {formats.code(title)}")
    if isinstance(document, Page):
        blocks.append("\n".join(formats.escape(line) for line in document.verdict))
    for section in sections:
        if section.hidden:
            continue
        blocks.append(f"## {section.title}")
        blocks += [formats.escape(line) for line in section.above]
        if len(section.for_people) or not section.above:
            blocks.append(formats.markdown(section.for_people, units=True))
        if section.below:
            blocks.append("```\n" + "\n".join(section.below).strip("\n") + "\n```")
    return "\n\n".join(blocks)
