"""NVTX ranges and marks, and their projection onto the GPU."""

import pytest

from samples.builder import Capture
from tests import checks
from tests.runs import RUNS, converted, load


@pytest.fixture(scope="session", params=RUNS)
def run(request, open_trace):
    return load(request.param, open_trace)


@pytest.mark.parametrize("check", checks.NVTX_CHECKS, ids=lambda c: c.__name__)
def test_nvtx(run, check):
    check(run)


@pytest.fixture(scope="session")
def zoo(open_trace):
    return load("nvtx_zoo", open_trace)


def ranges(run, name):
    return [s for s in run.trace.calls("nvtx") if s["name"] == name]


def argument(run, name, what):
    [found] = {run.trace.args(s).get(f"debug.{what}") for s in ranges(run, name)}
    return found


def test_every_kind_is_there(zoo):
    on_threads = [s for s in zoo.trace.calls("nvtx") if s["tid"] is not None]
    crossing = [s for s in zoo.trace.calls("nvtx") if s["tid"] is None]
    assert len(on_threads) == zoo.facts["push_pop"] + zoo.facts["marks"]
    assert len(crossing) == zoo.facts["start_end"]


def test_payloads_of_all_kinds(zoo):
    for name, (_, value) in zoo.facts["payloads"].items():
        assert argument(zoo, name, "payload") == value, name
    assert argument(zoo, "token", "payload") == 42
    assert argument(zoo, "uint64 max", "payload") == (1 << 64) - 1


def test_domains_belong_to_a_process(zoo):
    assert argument(zoo, "attention", "domain") == zoo.facts["domains"][4242, 1]
    assert argument(zoo, "encode", "domain") == zoo.facts["domains"][4300, 1]
    assert argument(zoo, "step", "domain") is None


def test_categories_belong_to_a_domain(zoo):
    assert argument(zoo, "attention", "category") == "attention"
    assert argument(zoo, "layer", "category") == "model"


def test_colours_without_their_alpha(zoo):
    assert argument(zoo, "layer", "color") == "#00ff00"
    assert argument(zoo, "crossing", "color") == "#800080"
    assert argument(zoo, "flush", "color") == "#ff0000"
    assert argument(zoo, "step", "color") is None


def test_json(zoo):
    assert argument(zoo, "json", "json") == '{"batch": 8, "ids": [1, 2]}'


def test_a_range_without_a_text(zoo):
    nameless = sorted(s["ts"] for s in zoo.trace.calls("nvtx") if not s["name"])
    assert nameless == [1_700_000, 1_810_000]


def test_ranges_over_two_threads_and_ranges_that_overlap(zoo):
    first, second = sorted(ranges(zoo, "request"), key=lambda s: s["ts"])
    assert (first["ts"], first["dur"]) == (1_050_000, 900_000)
    assert (second["ts"], second["dur"]) == (1_500_000, 1_000_000)
    assert first["track_id"] != second["track_id"]
    assert zoo.trace.args(first)["debug.end_thread"] == 4250
    assert zoo.trace.args(first)["debug.thread_id"] == 4242
    assert "debug.end_thread" not in zoo.trace.args(second)


def test_the_name_of_a_thread_by_nvtx(zoo):
    assert {t["name"] for t in zoo.trace.threads if t["tid"] == 4250} == {"data loader"}


def built(capture, tmp_path, open_trace):
    return converted(capture.save(tmp_path, "built"), open_trace)


def one_thread():
    capture = Capture("3.16.1")
    capture.gpu()
    process = capture.process(4242, "app")
    return capture, process, capture.thread(process, 4242, "app")


@pytest.mark.parametrize("value", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_unsigned_payloads(value, tmp_path, open_trace):
    capture, _, thread = one_thread()
    capture.nvtx_push_pop(thread, "r", 1_000, 2_000, payload=("uint64", value))
    assert argument(built(capture, tmp_path, open_trace), "r", "payload") == value


@pytest.mark.parametrize("value", [-(1 << 63), -1, 0, (1 << 63) - 1])
def test_signed_payloads(value, tmp_path, open_trace):
    capture, _, thread = one_thread()
    capture.nvtx_push_pop(thread, "r", 1_000, 2_000, payload=("int64", value))
    capture.nvtx_push_pop(thread, "other", 1_000, 2_000, payload=("int64", 3))
    run = built(capture, tmp_path, open_trace)
    assert argument(run, "r", "payload") == value
    assert argument(run, "other", "payload") == 3


@pytest.mark.parametrize("value", [-1.5, 1e300, 5e-324, 0.0])
def test_real_payloads(value, tmp_path, open_trace):
    capture, _, thread = one_thread()
    capture.nvtx_push_pop(thread, "r", 1_000, 2_000, payload=("double", value))
    assert argument(built(capture, tmp_path, open_trace), "r", "payload") == value


def test_marks_do_not_count_as_open_ranges(tmp_path, open_trace):
    capture, _, thread = one_thread()
    capture.nvtx_mark(thread, "early", 1_000)
    capture.nvtx_push_pop(thread, "range", 5_000, 9_000)
    run = built(capture, tmp_path, open_trace)
    [family] = run.result.families
    assert family.total_ns == 4_000
    assert run.result.capture.notes == [n for n in run.result.capture.notes if "no end" not in n]


def test_a_range_that_was_never_closed(tmp_path, open_trace):
    capture, _, thread = one_thread()
    capture.nvtx_push_pop(thread, "open", 1_000, None)
    capture.nvtx_push_pop(thread, "closed", 2_000, 9_000)
    run = built(capture, tmp_path, open_trace)
    assert [s["dur"] for s in ranges(run, "open")] == [8_000]
    assert any("1 events had no end" in note for note in run.result.capture.notes)


def test_projection_nests_where_ranges_nest(tmp_path, open_trace):
    capture, _, thread = one_thread()
    other = capture.thread(thread.process, 4300, "other")
    capture.nvtx_push_pop(thread, "outer", 1_000, 9_000)
    capture.nvtx_push_pop(thread, "inner", 2_000, 4_000)
    capture.nvtx_push_pop(thread, "no work", 6_000, 7_000)
    capture.nvtx_push_pop(other, "other thread", 1_000, 9_000)
    capture.nvtx_range(thread, "handed over", 1_000, 9_000, range_id=1, end_thread=other)
    capture.nvtx_range(thread, "start/end", 1_500, 4_500, range_id=2)
    for at in (2_100, 3_000, 5_000):
        capture.launch(thread, f"k{at}", at=at, call=100, start=20_000 + at, duration=400)
    capture.launch(thread, "cut", at=3_950, call=100, start=30_000, duration=400)  # not in inner
    run = built(capture, tmp_path, open_trace)
    for check in checks.CHECKS:
        check(run)
    found = {s["name"]: s for s in run.trace.calls(checks.PROJECTED)}
    assert found.keys() == {"outer", "inner", "start/end"}
    assert (found["inner"]["ts"], found["inner"]["dur"]) == (22_100, 1_300)
    assert (found["outer"]["ts"], found["outer"]["dur"]) == (22_100, 8_300)
    assert found["inner"]["depth"] > found["outer"]["depth"]
