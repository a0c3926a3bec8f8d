"""`--lean`: the same events with less said of them, and what that leaves out is documented."""

import functools
import re

import pytest

from nsys2perfetto import convert
from nsys2perfetto.annotation import LEAN_MIN_GAP, AnnotationOptions
from nsys2perfetto.query import package
from nsys2perfetto.sql import PACKAGE
from nsys2perfetto.tracks.detail import FULL, LEAN, LEFT_OUT
from samples.builder.scenarios import SCENARIOS
from tests.command import run
from tests.documents import REPOSITORY, quoted, tables
from tests.engine import query
from tests.loaded import Loaded

NAMES = (
    "decode_eager", "decode_graph", "nvtx_zoo", "every_copy_kind", "sync_zoo", "graph_level",
    "two_processes_two_gpus", "overlapping_kernels", "unified_memory", "device_memory",
)  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory, open_trace):
    """The capture of a name, and both traces of it."""
    folder = tmp_path_factory.mktemp("lean")

    @functools.cache
    def make(name):
        path = REPOSITORY / "samples" / f"{name}.sqlite"
        if name in SCENARIOS:
            path = SCENARIOS[name](folder).path
        full = convert(path, folder / f"{name}.full.pftrace")
        lean = convert(path, folder / f"{name}.lean.pftrace", lean=True)
        return full, lean, Loaded(full.output, open_trace), Loaded(lean.output, open_trace)

    return make


@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_there_with_its_times(name, pair):
    full, lean, whole, less = pair(name)
    assert [s for s, _ in less.events()] == [s for s, _ in whole.events()]
    assert less.counters == whole.counters
    assert lean.families == full.families
    assert lean.events_written == full.events_written


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_is_the_same(name, pair):
    _, _, whole, less = pair(name)
    for (row, few), (_, all_) in zip(less.events(), whole.events(), strict=True):
        assert few.items() <= all_.items(), row
    gaps = {(s["ts"], s["dur"], s["track"]): a for s, a in whole.gaps()}
    for row, few in less.gaps():
        assert few.items() <= gaps[row["ts"], row["dur"], row["track"]].items()


@pytest.mark.parametrize("name", NAMES)
def test_gaps_from_ten_microseconds_on_are_there(name, pair):
    _, _, whole, less = pair(name)
    wanted = [s for s, _ in whole.gaps() if s["dur"] >= LEAN_MIN_GAP]
    assert [s for s, _ in less.gaps()] == wanted
    essential = {"gpu", "process_id", "bucket", "cause"}
    for row, args in less.gaps():
        assert {f"gpu_gap.{n}" for n in essential} <= args.keys(), row


def test_only_arrows_to_wake_ups_are_left(pair):
    full, lean, whole, less = pair("decode_eager")
    assert full.arrows and not lean.arrows
    assert {to["category"] for _, to in less.arrows} == {"cuda_wake_up"}
    woken = [arrow for arrow in whole.arrows if arrow[1]["category"] == "cuda_wake_up"]
    assert less.arrows == woken


def test_gaps_share_their_arguments(pair, open_trace):
    """What makes them cheap: a set of arguments for each kind of gap in a step, not for each."""
    path = REPOSITORY / "samples" / "decode_eager.sqlite"
    lean = pair("decode_eager")[1].output.with_name("all.pftrace")
    convert(path, lean, annotate=AnnotationOptions(min_gap=0), lean=True)
    with open_trace(lean) as tp:
        [row] = query.rows(
            tp,
            "select count() as gaps, count(distinct arg_set_id) as sets from slice "
            "where category = 'nsys.gap'",
        )
    assert row["gaps"] > 1_000 and row["sets"] < 0.3 * row["gaps"]


def test_the_trace_says_that_it_is_lean(pair):
    _, _, whole, less = pair("decode_eager")
    assert less.metadata["trace_attribute.lean"] == LEFT_OUT
    assert "trace_attribute.lean" not in whole.metadata


def test_a_given_shortest_gap_is_respected(tmp_path, open_trace):
    path = REPOSITORY / "samples" / "decode_eager.sqlite"
    for options, expected in (([], 10_000), (["--min-gap", "2us"], 2_000)):
        target = tmp_path / f"{expected}.pftrace"
        assert run(path, "-o", target, "-q", "--lean", *options)[0] == 0
        loaded = Loaded(target, open_trace)
        assert expected <= min(s["dur"] for s, _ in loaded.gaps()) < 2 * expected


def test_a_lean_trace_of_many_gaps_is_much_smaller(pair):
    full, lean, *_ = pair("decode_eager")
    assert lean.output_size < 0.8 * full.output_size


def test_detail_says_what_to_write(tmp_path, pair, open_trace):
    path = REPOSITORY / "samples" / "decode_eager.sqlite"
    same = convert(path, tmp_path / "full.pftrace", lean=FULL).output
    assert same.read_bytes() == pair("decode_eager")[0].output.read_bytes()
    same = convert(path, tmp_path / "lean.pftrace", lean=LEAN).output
    assert same.read_bytes() == pair("decode_eager")[1].output.read_bytes()


# What is left out is documented


@pytest.fixture(scope="module")
def left_out():
    """The table in docs/trace.md: arguments (not what replaces them), and columns and views."""
    page = (REPOSITORY / "docs" / "trace.md").read_text(encoding="utf-8")
    [section] = re.findall(r"^## Lean traces\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    rows = tables(section, "left out")
    names = {name for row in rows for name in quoted(re.sub(r"\(.*?\)", "", row[0]))}
    return names, {name for row in rows for name in quoted(row[1])}


def test_the_arguments_that_are_left_out_are_documented(pair, left_out):
    missing = set()
    for name in NAMES:
        _, _, whole, less = pair(name)
        for (_, few), (_, all_) in zip(less.events(), whole.events(), strict=True):
            missing |= all_.keys() - few.keys()
        gaps = {(s["ts"], s["dur"], s["track"]): a for s, a in whole.gaps()}
        for s, few in less.gaps():
            missing |= gaps[s["ts"], s["dur"], s["track"]].keys() - few.keys()
    assert {re.sub(r"\[\d+\]$", "", name) for name in missing} == left_out[0]


def test_what_is_null_in_sql_is_documented(pair, open_trace, left_out):
    """`nsys_x.y`: a column that has no value any more; `nsys_x`: a view without any row."""
    found = {}
    for name in NAMES:
        for kind, path in zip(("full", "lean"), (r.output for r in pair(name)[:2]), strict=True):
            with open_trace(path, [PACKAGE]) as tp:
                for view in package.views().values():
                    tp.query(f"include perfetto module {view.module}")
                    counts = ", ".join(f"count({c.name}) as {c.name}" for c in view.columns)
                    [row] = query.rows(
                        tp, f"select count() as nsys_rows, {counts} from {view.name}"
                    )
                    known = found.setdefault(view.name, {}).setdefault(kind, {})
                    for column, count in row.items():
                        known[column] = known.get(column, 0) + count
    null = set()
    for view, counts in found.items():
        if counts["full"]["nsys_rows"] and not counts["lean"]["nsys_rows"]:
            null.add(view)
            continue
        null |= {
            f"{view}.{column}"
            for column, count in counts["full"].items()
            if count and not counts["lean"][column]
        }
    assert {n.replace("process_gap.", "gap.") for n in null} == left_out[1] - {"nsys_process_gap"}
