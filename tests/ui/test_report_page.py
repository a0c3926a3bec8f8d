"""The report as a page in a real browser: drawn without errors, in light and dark, wide and narrow.

Pictures are left in `$NSYS2PERFETTO_PICTURES`, if that names a folder.
"""

import os
from pathlib import Path

import pytest

from nsys2perfetto.report import reports
from nsys2perfetto.report.html import page
from nsys2perfetto.report.opening import open_source
from tests.engine.locate import REPOSITORY
from tests.ui import browser

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")

EAGER = REPOSITORY / "samples" / "decode_eager.sqlite"
DRAWN = "[...document.querySelectorAll('.chart')].every((c) => c.querySelector('.main-svg'))"


@pytest.fixture(scope="module")
def tab():
    with browser.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("page") / "page.html"
    with open_source(EAGER) as source:
        made.write_text(page.build(source, reports.Options(), EAGER), encoding="utf-8")
    return made


@pytest.fixture
def pictures(tmp_path):
    return Path(os.environ.get("NSYS2PERFETTO_PICTURES", tmp_path))


def draw_all(tab):
    """Scrolls through the page, as charts are drawn when they come into sight."""
    tab.ask(
        "(async () => { for (const c of document.querySelectorAll('.chart')) {"
        " c.scrollIntoView({behavior: 'instant'}); for (let n = 0; n < 600 && !c.querySelector("
        "'.main-svg'); ++n) await new Promise((r) => setTimeout(r, 50)); }"
        " scrollTo({top: 0, behavior: 'instant'}); })()"
    )


def colour_of(tab, what):
    return tab.ask(f"getComputedStyle({what}).fill")


TICK = "document.querySelector('#chart-parts .xtick text')"


@pytest.mark.parametrize("width", [1280, 600])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_is_drawn(tab, path, pictures, width, dark):
    tab.open(path, width, 900, dark)
    draw_all(tab)
    assert tab.ask(DRAWN)
    assert tab.problems() == []
    assert tab.ask("document.documentElement.scrollWidth") <= width
    inside = (
        "[...document.querySelectorAll('.chart')].filter((c) => "
        "c.getBoundingClientRect().right > innerWidth + 1).map((c) => c.id)"
    )
    assert tab.ask(inside) == []
    background = tab.ask("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(15, 19, 24)" if dark else "rgb(255, 255, 255)")
    assert colour_of(tab, TICK) == ("rgb(230, 237, 243)" if dark else "rgb(27, 31, 36)")
    assert tab.picture(pictures / f"report-{width}-{'dark' if dark else 'light'}.png")


def test_the_colours_follow_the_system_at_once(tab, path):
    tab.open(path, 1280, 900)
    draw_all(tab)
    light = colour_of(tab, TICK)
    tab.show(dark=True)
    tab.ask("new Promise((r) => setTimeout(r, 1500))")
    assert colour_of(tab, TICK) != light
    tab.show(dark=False)
    tab.ask("new Promise((r) => setTimeout(r, 1500))")
    assert colour_of(tab, TICK) == light
    assert tab.problems() == []


def column(tab, number):
    cells = f"[data-report=cuda_gpu_kern_sum] tbody td:nth-child({number})"
    return tab.ask(
        f"[...document.querySelectorAll('{cells}')].map((c) => c.dataset.v ?? c.textContent)"
    )


def test_tables_are_sorted_by_a_click(tab, path):
    tab.open(path, 1280, 900)
    heading = "document.querySelector('[data-report=cuda_gpu_kern_sum] th:nth-child({}) button')"
    before = [float(v) for v in column(tab, 3)]
    assert before != sorted(before, reverse=True)
    tab.ask(heading.format(3) + ".click()")
    assert [float(v) for v in column(tab, 3)] == sorted(before, reverse=True)
    tab.ask(heading.format(3) + ".click()")
    assert [float(v) for v in column(tab, 3)] == sorted(before)
    tab.ask(heading.format(8) + ".click()")
    assert column(tab, 8) == sorted(column(tab, 8), key=str.lower)
    state = heading.format(8) + ".parentNode.getAttribute('aria-sort')"
    assert tab.ask(state) == "ascending"


def test_views_of_a_chart_are_chosen_by_buttons(tab, path):
    tab.open(path, 1280, 900)
    draw_all(tab)
    chart = "document.getElementById('chart-steps-0')"
    bar = f"{chart}.previousElementSibling"
    names = tab.ask(f"[...{bar}.children].map((b) => b.textContent)")
    assert names == ["from 0", "close", "all", "all, logarithmic"]
    usual = tab.ask(f"{chart}.layout.yaxis.range")
    tab.ask(f"{bar}.children[2].click()")
    assert tab.ask(f"{chart}.layout.yaxis.range")[1] > 10 * usual[1]
    tab.ask(f"{bar}.children[3].click()")
    assert tab.ask(f"{chart}.layout.yaxis.type") == "log"
    tab.ask(f"{bar}.children[0].click()")
    assert tab.ask(f"{chart}.layout.yaxis.range") == usual
    assert tab.problems() == []


def test_a_click_on_a_step_leads_into_the_trace(tab, path):
    tab.open(path, 1280, 900)
    draw_all(tab)
    tab.ask("window.open = (link) => { window.opened = link; }")
    tab.ask(
        "document.getElementById('chart-steps-0').emit('plotly_click', {points: "
        "[{customdata: document.getElementById('chart-steps-0').data[0].customdata[2]}]})"
    )
    step = tab.ask("document.getElementById('chart-steps-0').data[0].customdata[2][0]")
    link = tab.ask(
        "[...document.querySelectorAll('[data-report=decode_steps] tbody tr')].find((r) => "
        f"r.textContent.startsWith('{step}') || [...r.cells].some((c, n) => n < 2 && "
        f"c.textContent === '{step}')).querySelector('a').href"
    )
    opened = tab.ask("window.opened")
    assert opened.split("&visStart")[0] == link.split("&visStart")[0]
    assert opened.split("&ts=")[1] == link.split("&ts=")[1]


def test_all_is_printed_on_white(tab, path):
    tab.open(path, 1280, 900, dark=True)
    tab.ask("dispatchEvent(new Event('beforeprint'))")
    assert tab.ask(DRAWN) and colour_of(tab, TICK) == "rgb(27, 31, 36)"
    tab.ask("dispatchEvent(new Event('afterprint'))")
    assert colour_of(tab, TICK) == "rgb(230, 237, 243)"


def test_no_name_runs_anything(tab, tmp_path):
    from tests.test_report_html import save_hostile  # noqa: PLC0415 - only here

    capture = save_hostile(tmp_path)
    made = tmp_path / "hostile.html"
    with open_source(capture) as source:
        made.write_text(page.build(source, reports.Options(), capture), encoding="utf-8")
    tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="window.alert = (n) => { document.title = 'hacked ' + n; }",
    )
    tab.open(made, 1280, 900)
    draw_all(tab)
    assert tab.ask(DRAWN) and tab.problems() == []
    assert "hacked" not in tab.ask("document.title")
    assert tab.ask("document.querySelectorAll('script').length") == 3
    names = tab.ask(
        "[...document.querySelectorAll('#chart-kernels-0 .legendtext')].map((t) => t.textContent)"
    )
    assert "a<float, 4>::b&amp;c" in names and "<script>alert(1)</script>" in names
