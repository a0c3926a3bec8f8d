"""`report --html`: the page says what the reports say, loads nothing, and survives any name."""

import base64
import hashlib
import json
import os
import subprocess
import sys

import plotly.graph_objects as go
import polars as pl
import pytest

from nsys2perfetto import convert
from nsys2perfetto.report import chart_tables, page, reports
from nsys2perfetto.report.html import page as html
from nsys2perfetto.report.opening import open_source
from samples.builder import Capture
from samples.builder.scenarios import SCENARIOS
from tests.engine import query
from tests.html_page import Page, time_of, trace_of, without_colours
from tests.report_sources import of_trace
from tests.runs import scenario
from tests.step_checks import loop

CAPTURES = ("decode_eager", "decode_graph", "two_processes_two_gpus", "sync_zoo", "units")
"""Captures with everything: one unit, graphs, several GPUs, no steps, several units."""


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """Two processes on two GPUs, each with steps."""
    capture = Capture("3.16.1")
    for gpu in range(2):
        capture.gpu(gpu)
    for pid in (50, 51):
        thread = capture.thread(capture.process(pid, f"rank{pid}"), pid, f"rank{pid}")
        for gpu in range(2):
            at = 1_000_000 + 2_345 * pid
            loop(capture, thread, at, 12, late=1_000 * (pid - 50 + gpu), device=gpu)
    return capture.save(tmp_path_factory.mktemp("units"), "units")


@pytest.fixture(params=CAPTURES)
def path(request, units):
    return units if request.param == "units" else scenario(request.param).path


def build(path, **options):
    with open_source(path) as source:
        return html.build(source, reports.Options(**options), path)


def frames(path):
    """Name of each report to its rows."""
    with open_source(path) as source:
        return {
            name: pl.concat([s.frame for s in report(source, reports.Options())], how="diagonal")
            for name, report in reports.REPORTS.items()
            if name != "decode_step"
        }


# The numbers


def test_every_number_of_the_tables_is_in_the_reports(path):
    found, expected = Page(build(path)), frames(path)
    names = [t.report for t in found.tables]
    assert {"gpu_balance", "gap_total", "gap_buckets", "gap_causes"} <= set(names)
    compared = 0
    for table in found.tables:
        frame = expected[table.report]
        # Counts are shown for a step; sizes of gaps side by side, see the test below.
        shared = [c for c in table.columns if c in frame.columns and c != "part"]
        shared = [c for c in shared if (table.report, c) != ("step_parts", "count")]
        rows = set(frame.select(shared).rows())
        if table.report == "gap_buckets":
            continue
        for row in table.rows:
            cells = dict(zip(table.columns, row, strict=False))
            values = tuple(
                cells[c][1] if frame.schema[c].is_numeric() else text_of(cells[c][0])
                for c in shared
            )
            assert values in rows, (table.report, values)
            compared += len(values)
        if table.report not in ("step_times", "step_parts", "steady_step"):
            assert len(table.rows) == min(len(frame), html.TOP)
    assert compared > 20


def text_of(cell):
    return None if cell == "–" else cell


def test_gaps_by_size_side_by_side(path):
    table, frame = Page(build(path)).table("gap_buckets"), frames(path)["gap_buckets"]
    for definition in ("consecutive", "idle"):
        sums = frame.filter(pl.col("definition") == definition).group_by("bucket")
        sums = {b: (n, ns) for b, n, ns in sums.agg(pl.col("count", "total_ns").sum()).rows()}
        if definition not in table.columns:
            assert not sums
            continue
        places = [table.columns.index(c) for c in (definition, f"{definition}_ns")]
        shown = {r[0][0]: tuple(r[i][1] for i in places) for r in table.rows}
        assert {b: v for b, v in shown.items() if v != (None, None)} == sums


def test_what_is_read_is_what_the_terminal_shows(path):
    found = Page(build(path))
    with open_source(path) as source:
        said = page.build(source, reports.Options())
    for sentence in said.verdict:
        assert sentence in found.text
    for name in said.facts.gpus.values():
        assert name in found.text
    assert found.text.count("captured") == (said.facts.session_start_utc_ns is not None)


def test_several_units_are_all_there(units):
    found, expected = Page(build(units)), frames(units)
    for report in ("step_parts", "steady_step"):
        shown = [t for t in found.tables if t.report == report]
        assert len(shown) == 4
        assert sum(len(t.rows) for t in shown) == len(expected[report])
    assert {f"chart-steps-{n}" for n in range(4)} < set(found.charts)
    assert {"chart-gaps-0", "chart-gaps-1"} < set(found.charts)
    assert len(found.table("decode_steps").rows) == len(expected["decode_steps"])


# The charts


def charts(path):
    return Page(build(path)).charts


def traces(charts, name):
    return charts[name]["data"]


def test_the_bar_of_a_step_is_step_parts(path):
    found, expected = charts(path), frames(path)
    for name, report in (("chart-parts", "step_parts"), ("chart-gpus", "gpu_parts")):
        if name not in found:
            assert expected[report].is_empty()
            continue
        drawn = [x for t in traces(found, name) for x in t["x"]]
        assert sorted(drawn) == sorted(expected[report]["pct"].to_list())


def test_the_points_are_decode_steps(path):
    found, steps = charts(path), frames(path)["decode_steps"]
    drawn = []
    with open_source(path) as source:
        order = page.units(source.steps())
    for name in found:
        if not name.startswith("chart-steps-"):
            continue
        unit = page.of_unit(order[int(name.rsplit("-", 1)[1])], steps)
        *phases, busy = traces(found, name)
        for trace in phases:
            for y, about in zip(trace["y"], trace["customdata"], strict=True):
                drawn.append((about[0], trace["name"], int(about[1]), about[2]))
                wall = unit.filter(step=about[0], ts=int(about[1]))["wall_ns"][0]
                assert any(y == pytest.approx(wall / unit) for unit in (1e3, 1e6))
        assert len(busy["x"]) == sum(len(t["x"]) for t in phases)
    assert sorted(drawn) == sorted(steps.select("step", "phase", "ts", "dur").rows())


def test_the_columns_of_gaps_are_gap_buckets_and_gap_causes(path):
    found, expected = charts(path), frames(path)
    buckets = expected["gap_buckets"].filter(pl.col("definition") == "idle")
    counts, causes = {}, {}
    for name in found:
        if name.startswith("chart-gaps-"):
            for trace in traces(found, name):
                if trace["xaxis"] != "x2":
                    continue
                for bucket, number in zip(trace["x"], trace["y"], strict=True):
                    key = (int(name.rsplit("-", 1)[1]), bucket.replace("&lt;", "<"))
                    counts[key] = counts.get(key[:2], 0) + number
                    cause = trace["legendgroup"].removesuffix("_host_paced")
                    causes[key[0], cause] = causes.get((key[0], cause), 0) + number
    counts = {(gpu, b.replace("&gt;", ">")): n for (gpu, b), n in counts.items()}
    assert counts == {(r["gpu"], r["bucket"]): r["count"] for r in buckets.to_dicts()}
    expected = {(r["gpu"], r["cause"]): r["count"] for r in expected["gap_causes"].to_dicts()}
    assert {k: n for k, n in causes.items() if k[1] != "short_gaps"} == expected


def test_the_columns_of_kernels_are_the_kernel_time_of_the_steps(path):
    found, steps = charts(path), frames(path)["decode_steps"]
    names = [n for n in found if n.startswith(("chart-families-", "chart-kernels-"))]
    assert bool(names) == bool(len(steps))
    with open_source(path) as source:
        order = page.units(source.steps())
    for name in names:
        mine = page.of_unit(order[int(name.rsplit("-", 1)[1])], steps)
        sums = {}
        for trace in traces(found, name):
            for step, about in zip(trace["x"], trace["customdata"], strict=True):
                assert about[0] == step
                sums[step] = sums.get(step, 0) + about[1]
        assert sums.keys() == set(mine.filter(pl.col("kernel_count") > 0)["step"])
        assert list(sums.values()) == pytest.approx([100] * len(sums), abs=0.1)


def test_plotly_takes_every_chart(path):
    for name, figure in without_colours(charts(path)).items():
        made = go.Figure(figure["data"], figure["layout"])
        assert len(made.data) == len(figure["data"]), name
        for change in figure["views"].values():
            made.update_layout({key.replace(".", "_"): v for key, v in change.items()})


def test_of_very_many_steps_nothing_that_sticks_out_is_lost():
    number = 100_003
    wall = pl.Series([1_000_000 + (n * 7919) % 5_000 for n in range(number)])
    wall = wall.scatter([17, 50_000, 99_999], [9_000_000, 200, 8_000_000])
    steps = pl.DataFrame({"step": range(number), "phase": "steady", "wall_ns": wall})
    drawn, width = chart_tables.drawn_steps(steps)
    assert width > 1 and len(drawn) <= chart_tables.MOST_STEPS
    assert drawn["step"].is_sorted() and drawn["step"].n_unique() == len(drawn)
    assert {17, 50_000, 99_999} <= set(drawn["step"])
    assert drawn["wall_ns"].max() == wall.max() and drawn["wall_ns"].min() == wall.min()
    few, one = chart_tables.drawn_steps(steps.head(chart_tables.MOST_STEPS))
    assert one == 1 and few.equals(steps.head(chart_tables.MOST_STEPS))
    kernels = pl.DataFrame({"step": steps["step"], "name": "gemm", "total_ns": wall})
    shares = chart_tables.shares(steps, kernels, 5)
    assert len(shares) <= chart_tables.COLUMNS
    assert shares["total_ns"].sum() == wall.sum() and shares["steps"].sum() == number


def test_names_without_a_colour_are_added_up():
    steps = pl.DataFrame({"step": [1, 2]})
    rows = [(s, f"k{n}", 100 - n) for s in (1, 2) for n in range(9)]
    kernels = pl.DataFrame(rows, schema=["step", "name", "total_ns"], orient="row")
    found = chart_tables.shares(steps, kernels, 3)
    assert found["name"].unique(maintain_order=True).to_list() == ["k0", "k1", "k2", "all others"]
    assert found["total_ns"].sum() == kernels["total_ns"].sum()
    assert chart_tables.shares(steps, kernels, 8)["name"].n_unique() == 9


# Links


@pytest.mark.parametrize("name", ["decode_eager", "early"])
def test_links_lead_to_what_they_say(name, tmp_path, open_trace):
    capture = scenario(name).path if name != "early" else save_early(tmp_path)
    with open_source(capture) as source:
        options = reports.Options(longer_than=1_000)
        found = Page(html.build(source, options, capture))
    links = [link for table in found.tables for link in table.links]
    assert links
    trace = convert(capture, tmp_path / f"{name}.pftrace").output
    with open_trace(trace) as tp:
        [bounds] = query.rows(tp, "SELECT start_ts, end_ts FROM trace_bounds")
        for link in links:
            assert trace_of(link) == f"http://127.0.0.1:9001/{name}.pftrace"
            at = time_of(link)
            assert bounds["start_ts"] <= at["visStart"] <= at["ts"]
            assert at["ts"] + at["dur"] <= at["visEnd"] <= bounds["end_ts"]
        for at in map(time_of, found.table("decode_steps").links):
            sql = f"SELECT count() FROM slice WHERE ts = {at['ts']} AND dur = {at['dur']}"
            assert query.scalar(tp, sql) >= 1
        gaps = [time_of(link) for link in found.table("big_gaps").links]
        before = "SELECT count() FROM slice WHERE ts + dur = {ts}"
        after = "SELECT count() FROM slice WHERE ts = {ts} + {dur}"
        for at in gaps:
            assert query.scalar(tp, before.format(**at)) and query.scalar(tp, after.format(**at))


def save_early(folder):
    """A capture in which something that reports do not read begins first, before time 0."""
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(7, "app"), 8, "t")
    loop(capture, thread, -50_000_000, 8)
    capture.osrt(thread, "read", -70_000_000, -60_000_000)
    return capture.save(folder, "early")


def test_the_page_of_a_trace_is_that_of_its_capture(tmp_path, open_trace):
    for name in ("decode_eager", "negative_times", "two_processes_two_gpus"):
        capture = scenario(name).path
        trace = convert(capture, tmp_path / f"{name}.pftrace").output
        with of_trace(trace, open_trace) as source:
            made = html.build(source, reports.Options(), trace)
        assert made.replace(f"{name}.pftrace<", f"{name}.sqlite<").replace(
            f"open {name}.pftrace", f"open {name}.sqlite"
        ) == build(capture)


# Safety


def test_nothing_is_loaded_and_nothing_else_runs(path):
    found = Page(build(path))
    assert not {"link", "img", "iframe", "object", "base"} & {t for t, _ in found.attributes}
    for tag, attributes in found.attributes:
        assert not {"src", "srcset", "action", "ping"} & set(attributes), tag
        assert not [a for a in attributes if a.startswith("on")]
    for link in found.links:
        assert link.startswith(("#", "https://ui.perfetto.dev/#!/?url=http%3A%2F%2F127.0.0.1"))
    assert not any("url(" in style or "@import" in style for style in found.styles)
    run = [text for attributes, text in found.scripts if "type" not in attributes]
    hashes = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in run}
    policy = dict(part.split(" ", 1) for part in found.policy.split("; "))
    assert policy["default-src"] == "'none'" and "connect-src" not in policy
    assert set(policy["script-src"].split()) == {f"'sha256-{h}'" for h in hashes}


HOSTILE = [
    "<script>alert(1)</script>", "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    '"><b onmouseover=alert(4)>', "' onclick='alert(5)", "]]>--><!--<script>", "%{customdata}",
    "a<float, 4>::b&amp;c", "\x1b[31mred\x07", "\u202eright to left", "back\\slash\u2028line",
    "$\\alpha$", "__proto__", "x" * 5_000, "--part-kernels",
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return save_hostile(tmp_path_factory.mktemp("hostile"))


def save_hostile(folder):
    """A capture whose names all try to get out of the page."""
    capture = Capture("3.16.1")
    capture.gpu()
    thread = capture.thread(capture.process(7, "app\x1b<script>alert(9)</script>"), 8, "t")
    at = 1_000_000
    for step in range(6):
        for number, name in enumerate([*HOSTILE, "argmax_kernel"]):
            duration = 9_000 - 100 * number  # the first have colours of their own
            capture.launch(thread, name, at=at, call=1_500, start=at + 4_000, duration=duration)
            at += 20_000 + 1_500_000 * (step == 3)
    return capture.save(folder, "hostile").rename(folder / "a'<b>\x1b&.sqlite")


def test_hostile_names_do_nothing(hostile):
    made = build(hostile)
    found = Page(made)
    assert [a for a, _ in found.scripts if "type" not in a] == [{}, {}]
    assert {tag for tag, _ in found.attributes} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "dl", "dt",
        "dd", "section", "p", "nav", "a", "b", "code", "div", "table", "thead", "tbody", "tr", "th",
        "td", "button", "details", "summary", "noscript", "script",
    }  # fmt: skip
    assert all(c.isprintable() or c == "\n" for c in found.text)
    names = {row[-1][0] for row in found.table("cuda_gpu_kern_sum").rows}
    assert {"<script>alert(1)</script>", "a<float, 4>::b&amp;c", "\\x1b[31mred\\x07"} <= names
    assert "x" * 5_000 in names
    shown = json.dumps(found.charts)
    assert "<script" not in shown and "<img" not in shown
    assert "a&lt;float, 4&gt;::b" in shown
    for trace in found.charts["chart-kernels-0"]["data"]:
        assert "meta" in trace["hovertemplate"] and trace["meta"] not in trace["hovertemplate"]
    assert trace_of_link(found).endswith("/a_b_.pftrace")


def trace_of_link(found):
    return trace_of(found.table("decode_steps").links[0]).replace("%25", "%")


# Captures of every kind


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_capture_has_a_page(name):
    made = build(scenario(name).path)
    found = Page(made)
    assert found.tables or "There is no GPU work in this capture." in found.text
    for chart in found.charts:
        assert ("div", chart) in [(t, a.get("id")) for t, a in found.attributes]
    if not found.charts:
        assert len(made) < 100_000


def test_real_captures_have_pages(capture):
    found = Page(build(capture))
    assert found.text.count(capture.name)


def test_the_page_says_nothing_of_the_machine(path):
    made = build(path)
    assert str(path.parent) not in made and os.uname().nodename not in Page(made).text


def test_the_same_capture_gives_the_same_page(tmp_path, units):
    pages = []
    for seed in ("1", "2"):
        target = tmp_path / f"{seed}.html"
        command = [sys.executable, "-m", "nsys2perfetto", "report", units, "--html", target]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, env=environment, check=True, timeout=300)
        pages.append(target.read_bytes())
    assert pages[0] == pages[1]
