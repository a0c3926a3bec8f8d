"""The report as a page, taken apart again: its tables, charts, links and what it would load."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

_VOID = {"meta", "br", "link", "img"}


@dataclass
class Table:
    """A table: the columns' names, and the cells as (text, exact number or None)."""

    report: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[tuple[str, float | None]]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Reads a page; fails where elements are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tables: list[Table] = []
        self.scripts: list[tuple[dict, str]] = []
        self.attributes: list[tuple[str, dict]] = []
        self.styles: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    @property
    def charts(self) -> dict:
        [data] = [text for attributes, text in self.scripts if attributes.get("id") == "charts"]
        return json.loads(data)

    @property
    def policy(self) -> str:
        [policy] = [
            a["content"] for tag, a in self.attributes
            if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
        ]  # fmt: skip
        return policy

    def table(self, report: str) -> Table:
        [found] = [t for t in self.tables if t.report == report]
        return found

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs)
        self.attributes.append((tag, attributes))
        if tag not in _VOID:
            self.open.append(tag)
        if tag in ("script", "style", "td", "th"):
            self._text, self._last = "", attributes
        if "data-report" in attributes:
            self.tables.append(Table(attributes["data-report"]))
        if tag == "th" and "data-column" in attributes:
            self.tables[-1].columns.append(attributes["data-column"])
        if tag == "tr" and "tbody" in self.open:
            self.tables[-1].rows.append([])
        if tag == "a":
            self.links.append(attributes["href"])
            if "td" in self.open:
                self.tables[-1].links.append(attributes["href"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "script":
            self.scripts.append((self._last, self._text))
        elif tag == "style":
            self.styles.append(self._text)
        elif tag == "td":
            value = self._last.get("data-v")
            self.tables[-1].rows[-1].append((self._text, None if value is None else float(value)))

    def handle_data(self, data):
        self._text += data
        if not {"script", "style"} & set(self.open):
            self.text += data


def time_of(link: str) -> dict[str, int]:
    """The numbers of a link into the trace."""
    arguments = _arguments(link)
    return {k: int(arguments[k]) for k in ("visStart", "visEnd", "ts", "dur")}


def trace_of(link: str) -> str:
    """Where a link finds the trace."""
    return _arguments(link)["url"]


def _arguments(link: str) -> dict[str, str]:
    parts = urlsplit(link)
    assert parts[:3] == ("https", "ui.perfetto.dev", "/")
    assert parts.fragment.startswith("!/?")
    return {k: v for k, [v] in parse_qs(parts.fragment[3:], strict_parsing=True).items()}


def without_colours(value, key=""):
    """A figure with a colour that Plotly knows for each name of one."""
    if isinstance(value, list):
        return [without_colours(v, key) for v in value]
    if isinstance(value, dict):
        return {k: without_colours(v, k) for k, v in value.items()}
    named = re.search("color$", key, re.IGNORECASE) and str(value).startswith("--")
    return "#000000" if named else value
