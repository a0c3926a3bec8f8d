"""Traces of the samples, each opened once in the browser."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

import nsys2perfetto
from tests.engine.locate import REPOSITORY
from tests.ui import place, screen


@dataclass(frozen=True)
class Case:
    """How a sample is converted and opened.

    Attributes:
        sample: Its name.
        compat: Without the GPU model.
        newer: With the test engine (v55.3) beside the UI, as `trace_processor_shell --httpd` is
            run for large traces; else with the engine that the UI has in itself.
    """

    sample: str
    compat: bool = False
    newer: bool = False

    def __str__(self):
        kind = "compat" if self.compat else "native"
        return f"{self.sample}-{kind}-{'v55' if self.newer else 'own'}-engine"

    @property
    def capture(self) -> Path:
        return REPOSITORY / "samples" / f"{self.sample}.sqlite"


CASES = [
    Case("decode_eager"),
    Case("decode_eager", newer=True),
    Case("decode_eager", compat=True),
    Case("decode_graph", newer=True),
]


@dataclass
class Opened:
    """A trace on the screen.

    Attributes:
        case: Which.
        trace: Its file.
        ui: The tab.
        first: The tracks before anything was touched.
        view: The time shown then, ns.
        every: The tracks once all groups were opened.
    """

    case: Case
    trace: Path
    ui: screen.Screen
    first: list[str]
    view: tuple[int, int]
    every: list[str]

    def sqlite(self, sql: str, *values) -> list[tuple]:
        """Plain SQL on the capture."""
        with closing(sqlite3.connect(f"file:{self.case.capture}?mode=ro", uri=True)) as file:
            return file.execute(sql, values).fetchall()


@pytest.fixture(scope="session")
def chromium():
    with screen.browser() as browser:
        yield browser


@pytest.fixture(scope="session", params=CASES, ids=str)
def opened(request, chromium, tmp_path_factory):
    """A sample, converted and dragged into the UI."""
    case = request.param
    trace = tmp_path_factory.mktemp("traces") / f"{case}.pftrace"
    nsys2perfetto.convert(case.capture, trace, compat=case.compat)
    with chromium.ui(with_engine=case.newer) as ui:
        ui.drag_in(trace)
        ui.picture(place.PICTURES / f"{case}-1-first.png")
        assert ui.dialogs() == []
        first, view = ui.tracks(), ui.visible()
        ui.expand_all()
        every = ui.tracks()
        ui.picture(place.PICTURES / f"{case}-2-expanded.png")
        yield Opened(case, trace, ui, first, view, every)
