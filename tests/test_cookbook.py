"""The cookbook: its commands run, its queries give the numbers of the manual, in both languages."""

import contextlib
import io
import re
import shlex
import shutil

import pytest

from nsys2perfetto import convert
from nsys2perfetto.cli.main import run
from nsys2perfetto.sql import PACKAGE
from tests import documents, manual_sql, sessions
from tests.documents import REPOSITORY, quoted
from tests.engine import query

ENGLISH = REPOSITORY / "docs" / "cookbook.md"
CHINESE = REPOSITORY / "docs" / "cookbook.zh.md"
SAMPLES = ("decode_eager", "decode_graph")


def commands(page):
    """Command lines of a page, those in tables included, without comments."""
    text = "".join(block for _, block in documents.blocks(page, "bash"))
    lines = [re.sub(r"\s*#.*", "", line) for line in text.splitlines()]
    lines += [c for c in quoted(documents.prose(page)) if re.match("nsys2perfetto .*trace", c)]
    return sorted(set(filter(None, lines)))


@pytest.mark.parametrize("command", commands(ENGLISH))
def test_a_command_runs_and_prints(command):
    program, *arguments = shlex.split(command)
    assert program == "nsys2perfetto"
    with documents.playground() as folder, contextlib.redirect_stdout(io.StringIO()) as printed:
        for name in ("before", "after"):
            shutil.copy(folder / "trace.sqlite", folder / f"{name}.sqlite")
        with sessions.in_process():
            assert run(arguments) == 0
    assert printed.getvalue().strip()


def test_both_languages_show_the_same():
    assert commands(CHINESE) == commands(ENGLISH)
    for language in ("sql", "console", "bash"):
        english, chinese = (
            [re.sub(r"\s*#.*", "", text) for _, text in documents.blocks(page, language)]
            for page in (ENGLISH, CHINESE)
        )
        assert english == chinese
    headings = [re.findall(r"^#+ ", documents.prose(p), re.MULTILINE) for p in (ENGLISH, CHINESE)]
    assert headings[0] == headings[1]


@pytest.fixture(scope="module", params=SAMPLES)
def answers(request, tmp_path_factory, open_trace):
    """A sample's path, and a function: heading and number of a query there, to its rows."""
    capture = REPOSITORY / "samples" / f"{request.param}.sqlite"
    trace = convert(capture, tmp_path_factory.mktemp("cookbook") / "trace.pftrace").output
    with open_trace(trace, [PACKAGE]) as tp:

        def rows(heading, block=0):
            sql = documents.blocks_under(ENGLISH, heading, "sql")[block]
            return [tuple(row.values()) for row in query.rows(tp, sql)]

        yield capture, rows


def test_the_gap_total_is_the_manuals(answers):
    capture, rows = answers
    [total] = [row[2:] for row in rows("Gaps in all") if row[:2] == ("consecutive", 0)]
    assert total == manual_sql.gap_total(capture)


def test_the_gap_buckets_are_the_manuals(answers):
    capture, rows = answers
    found = {row[2]: row[3:] for row in rows("Gaps by size") if row[:2] == ("consecutive", 0)}
    expected = manual_sql.buckets(capture)
    assert found.keys() == expected.keys()
    for bucket, row in found.items():
        assert row == pytest.approx(expected[bucket])


def test_the_large_gaps_are_the_manuals(answers):
    capture, rows = answers
    found = rows("Large gaps and what is around them")
    assert [(ns, a[:40], b[:40]) for ns, a, b in found] == manual_sql.big_gaps(capture)


def test_the_decode_step_is_the_manuals(answers):
    capture, rows = answers
    [step] = rows("One decode step taken apart")
    assert step == pytest.approx(tuple(manual_sql.decode_step(capture, 11)))
    kernels = rows("One decode step taken apart", 1)
    assert (sum(k[1] for k in kernels), sum(k[2] for k in kernels)) == step[:2]


@pytest.mark.parametrize(
    ("heading", "events", "name"),
    [
        ("Kernels, the most expensive first", "CUPTI_ACTIVITY_KIND_KERNEL", "shortName"),
        ("CUDA calls", "CUPTI_ACTIVITY_KIND_RUNTIME", "nameId"),
    ],
)
def test_the_rankings_count_everything(answers, heading, events, name):
    capture, rows = answers
    expected = manual_sql.rows(
        capture,
        # `nsys stats` takes the version off the name of a call, see `nsys_api_summary`.
        f"SELECT iif(substr(value, -6, 2) = '_v', substr(value, 1, length(value) - 6), value) AS n,"
        f' sum("end" - start), count(*), min("end" - start), max("end" - start)'
        f" FROM {events} JOIN StringIds ON id = {name} GROUP BY n",
    )
    found = [(row[0], row[2], row[3], row[6], row[7]) for row in rows(heading)]
    assert sorted(found) == sorted(expected)
    assert [row[2] for row in rows(heading)] == sorted(
        (row[2] for row in rows(heading)), reverse=True
    )
