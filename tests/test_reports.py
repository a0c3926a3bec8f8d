"""The named reports and the page, on whole captures: the manual's numbers, and sums that hold."""

import csv
import io
import json
import re
import sqlite3
from collections import defaultdict

import pytest

from nsys2perfetto import convert
from nsys2perfetto.errors import Nsys2PerfettoError, UsageError
from nsys2perfetto.report import names, page, render, reports
from nsys2perfetto.report.opening import open_source
from nsys2perfetto.report.reports import Options
from samples.builder import Capture
from tests import manual_sql
from tests.runs import RUNS, SAMPLES, folder, scenario
from tests.sessions import in_process
from tests.step_checks import loop

EVERYTHING = Options(full_names=True, all_gpus=True, longer_than=-(1 << 60))
WITHOUT_KERNELS = "no such table: CUPTI_ACTIVITY_KIND_KERNEL"


def rows(path, name, **options):
    """A report as JSON gives it."""
    with open_source(path) as source:
        return json.loads(render.as_json(reports.REPORTS[name](source, Options(**options))))


def whole(path, options=Options()):  # noqa: B008 - frozen
    with open_source(path) as source:
        return json.loads(render.as_json(page.build(source, options)))


@pytest.fixture(scope="module", params=RUNS)
def path(request):
    """Each capture that the project makes."""
    return scenario(request.param).path


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Two processes that share GPU 0, of which one uses GPU 1 as well; all of them decode."""
    made = Capture("3.16.1")
    made.gpu()
    for n, number in enumerate((4242, 4343)):
        thread = made.thread(made.process(number, f"rank{n}"), number, f"rank{n}")
        loop(made, thread, 1_000_000 + 2_345 * n, 12, late=3_000 * n)
        if n:
            loop(made, thread, 1_000_000, 9, device=1, stream=8, late=500)
    return made.save(tmp_path_factory.mktemp("several"), "several")


# The manual's numbers, to the nanosecond


def check_the_manuals_tables(path):
    [total] = [r for r in rows(path, "gap_total", all_gpus=True) if r["definition"] != "idle"]
    found = (total["total_gap_ns"], total["total_kernel_ns"], total["wall_ns"])
    expected = manual_sql.gap_total(path)
    # The manual's has no gaps where there are less than two kernels.
    assert found == (expected.gap_ns or 0, expected.kernel_ns, expected.wall_ns)
    buckets = {
        r["bucket"]: (r["count"], r["total_ns"], r["pct"])
        for r in rows(path, "gap_buckets", all_gpus=True)
        if r["definition"] == "consecutive"
    }
    expected = {n: (c, t, round(p, 3)) for n, (c, t, p) in manual_sql.buckets(path).items()}
    assert buckets == expected
    gaps = rows(path, "big_gaps", all_gpus=True)
    found = [
        (r["gap_ns"], *(r[f"{k}_demangled_name"][:40] for k in ("prev", "next"))) for r in gaps
    ]
    assert sorted(found) == sorted(manual_sql.big_gaps(path))
    lengths = [r["gap_ns"] for r in gaps]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("name", [*SAMPLES, "two_processes_two_gpus", "overlapping_kernels"])
def test_the_manuals_tables(name):
    check_the_manuals_tables(scenario(name).path)


def test_the_manuals_tables_of_real_captures(capture):
    try:
        manual_sql.gap_total(capture)
    except sqlite3.OperationalError as error:
        assert str(error) == WITHOUT_KERNELS
        return
    check_the_manuals_tables(capture)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_step_is_the_manuals(name):
    path = scenario(name).path
    for step in rows(path, "decode_steps")[1:]:
        [found] = rows(path, "decode_step", step=step["step"])
        expected = manual_sql.decode_step(path, step["step"])
        numbers = [found[k] for k in ("kernel_count", "kernel_ns", "wall_ns", "kernel_util_pct")]
        assert numbers == [*expected[:3], round(expected.util_pct, 3)]
        assert {k: v for k, v in found.items() if k in step} == step
        assert sum(k["count"] for k in found["kernels"]) == found["kernel_count"]
        assert sum(k["total_ns"] for k in found["kernels"]) == found["kernel_ns"]
        assert sum(g["total_ns"] for g in found["gaps"]) == found["idle_ns"]


# What holds of every capture


def check_sums(tables):
    """Parts add up to their wholes, for people and machines."""
    walls, parts = defaultdict(int), defaultdict(int)
    for r in tables["step_times"]:
        if r["phase"] == "steady":
            walls[r["pid"], r["gpu"]] = round(r["avg_ns"] * r["steps"])
    for r in tables["step_parts"]:
        if r["phase"] == "steady":
            parts[r["pid"], r["gpu"]] += r["total_ns"]
    # A mean has three decimals here.
    assert parts.keys() == walls.keys()
    assert all(abs(parts[unit] - walls[unit]) <= 10 for unit in walls)
    balance = {r["gpu"]: r for r in tables["gpu_balance"]}
    for gpu, r in balance.items():
        mine = [p for p in tables["gpu_parts"] if p["gpu"] == gpu]
        assert sum(p["total_ns"] for p in mine) == r["wall_ns"] == r["busy_ns"] + r["idle_ns"]
        assert sum(p["total_ns"] for p in mine if p["idle"]) == r["idle_ns"]
    for r in tables["gap_causes"]:
        mine = [p for p in tables["gpu_parts"] if p["gpu"] == r["gpu"]]
        same = [p for p in mine if p["part"].removesuffix("_host_paced") == r["cause"]]
        assert sum(p["total_ns"] for p in same) == r["total_ns"]
        spent = ("sync", "launch", "memory", "copy", "other_cuda", "outside_cuda")
        assert sum(r[f"{kind}_ns"] for kind in spent) == r["total_ns"]
    kernels, families = tables["cuda_gpu_kern_sum"], tables["kernel_families"]
    for column in ("total_ns", "instances"):
        assert sum(r[column] for r in kernels) == sum(r[column] for r in families)
    for name in ("cuda_gpu_kern_sum", "cuda_api_sum", "kernel_families"):
        total = sum(r["total_ns"] for r in tables[name])
        shares = [100 * r["total_ns"] / total if total else 0 for r in tables[name]]
        assert [r["time_pct"] for r in tables[name]] == pytest.approx(shares, abs=6e-4)


def check_the_page(path):
    with open_source(path) as source:
        tables = json.loads(render.as_json(page.build(source, Options())))
        for name in tables.keys() - {"verdict"}:
            [section] = reports.REPORTS[name](source, Options())
            assert json.loads(render.as_json([section])) == tables[name], name
            assert section.name == name and section.title
            assert len(section.for_people) == len(section.frame)
    assert next(iter(tables)) == "verdict" and 1 <= len(tables["verdict"]) <= 4
    assert set(tables) == {"verdict", *names.WORDS} - {"decode_step", "decode_steps"}
    check_sums(tables)
    return tables


def test_the_page_is_made_of_the_reports(path):
    check_the_page(path)


def test_the_page_of_real_captures(capture):
    check_the_page(capture)


def test_several_units(several):
    tables = check_the_page(several)
    assert tables["verdict"][0].startswith("Process 4343 on GPU 0, one of 3 with steps: a steady")
    units = {(r["pid"], r["gpu"]) for r in tables["step_parts"]}
    assert units == {(4242, 0), (4343, 0), (4343, 1)}
    assert len(rows(several, "decode_step", step=4)) == 3
    # Where processes share a GPU, a step's idle time is its process's.
    for unit in rows(several, "decode_step", step=4):
        assert {g["cause"] for g in unit["gaps"]} <= {"launch_bound", "short_gaps"}
        assert sum(g["total_ns"] for g in unit["gaps"]) == unit["idle_ns"] > 0


# A trace gives the same


def check_the_trace(path):
    with in_process():
        trace = convert(path, folder() / f"{path.stem}.reports.pftrace", force=True).output
        for options in (Options(), EVERYTHING):
            assert whole(trace, options) == whole(path, options)
        for name in ("decode_steps", "gap_total"):
            assert rows(trace, name) == rows(path, name)
        trace.unlink()


@pytest.mark.parametrize("name", [*SAMPLES, "negative_times", "two_processes_two_gpus", "odd_text"])
def test_the_trace_gives_the_same_page(name):
    check_the_trace(scenario(name).path)


def test_the_trace_of_several_units_gives_the_same_page(several):
    check_the_trace(several)
    trace = convert(several).output
    with in_process():
        assert rows(trace, "decode_step", step=4) == rows(several, "decode_step", step=4)


def test_the_traces_of_real_captures_give_the_same_page(capture):
    check_the_trace(capture)


# Options


def test_top():
    path = scenario("decode_eager").path
    for name in ("cuda_gpu_kern_sum", "cuda_api_sum", "big_gaps", "kernel_families", "steady_step"):
        assert rows(path, name, top=2) == rows(path, name)[:2]


def test_the_longest_gaps_of_all_gpus():
    path = scenario("two_processes_two_gpus").path
    every = rows(path, "big_gaps", longer_than=0)
    lengths = sorted((r["gap_ns"] for r in every), reverse=True)
    assert {r["gpu"] for r in every} == {1, 3}
    assert [r["gap_ns"] for r in rows(path, "big_gaps", longer_than=0, top=7)] == lengths[:7]
    longest = lengths[0]
    assert rows(path, "big_gaps", longer_than=longest) == []
    assert rows(path, "big_gaps", longer_than=longest - 1) != []


def test_full_names():
    path = scenario("decode_eager").path
    short, full = (rows(path, "cuda_gpu_kern_sum", full_names=f) for f in (False, True))
    assert sum(r["total_ns"] for r in short) == sum(r["total_ns"] for r in full)
    assert any("<" in r["name"] for r in full) and not any("<" in r["name"] for r in short)
    assert any("<" in r["name"] for r in rows(path, "steady_step", full_names=True))


def test_families_of_the_user():
    path = scenario("decode_eager").path
    found = rows(path, "kernel_families", families=(("mine", "^rms_norm"), ("rest", ".")))
    assert {r["family"] for r in found} == {"mine", "rest"}


def test_a_step_that_is_not_there():
    path = scenario("decode_eager").path
    with pytest.raises(UsageError, match="no decode step 33: they are numbered 1 to 32"):
        rows(path, "decode_step", step=33)
    with pytest.raises(UsageError, match="needs the number of a step"):
        rows(path, "decode_step")
    with pytest.raises(Nsys2PerfettoError, match="there are no decode steps: nothing in the"):
        rows(scenario("nvtx_zoo").path, "decode_step", step=1)


# Other formats


def sections_of(text):
    """Blocks of CSV by name."""
    parts = re.split(r"(?:\A|\n\n)# (\w+)\n", text)
    return {
        name: list(csv.DictReader(io.StringIO(body)))
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.parametrize("name", ["decode_eager", "nvtx_zoo", "all_tables_empty"])
def test_csv_of_the_page_has_the_same_numbers(name):
    path = scenario(name).path
    tables = whole(path)
    with open_source(path) as source:
        found = sections_of(render.as_csv(page.build(source, Options())))
    assert set(found) == set(tables) - {"verdict"}
    for section, lines in found.items():
        assert len(lines) == len(tables[section])
        for line, row in zip(lines, tables[section], strict=True):
            for key, value in row.items():
                if isinstance(value, bool | str):
                    assert line[key] == (value if isinstance(value, str) else str(value).lower())
                else:
                    assert float(line[key]) == value if value is not None else line[key] == ""


def test_csv_of_one_table_and_of_a_step():
    path = scenario("decode_eager").path
    with open_source(path) as source:
        text = render.as_csv(reports.REPORTS["gap_total"](source, Options()))
        assert text.startswith("definition,gpu,total_gap_ns,total_kernel_ns,wall_ns\nconsecutive,0")
        step = render.as_csv(reports.REPORTS["decode_step"](source, Options(step=11)))
    assert list(sections_of(step)) == ["decode_step", "kernels", "gaps", "calls"]


def test_markdown_of_the_page():
    path = scenario("odd_text").path
    with open_source(path) as source:
        text = render.as_markdown(page.build(source, Options()), path.name)
    assert text.startswith("# odd_text.sqlite\n\nNo decode steps: ")
    assert "\n## Kernels\n" in text and "`<script>alert(1)</script>`" in text
    assert all(line.isprintable() for line in text.split("\n"))
    # Every row of a table has as many cells as its head.
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_every_report_is_there_and_described():
    assert set(reports.REPORTS) == set(names.WORDS)
    assert all(report.__doc__ for report in reports.REPORTS.values())
    assert names.find("Gap-Total") == "gap_total" and names.find("gap") is None
