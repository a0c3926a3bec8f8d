"""Folders of Parquet or Arrow tables give what the SQLite export gives."""

import dataclasses
from pathlib import Path

import pytest

import nsys2perfetto
from nsys2perfetto.cli.main import run
from nsys2perfetto.errors import Nsys2PerfettoError
from samples.builder import scenarios
from samples.builder.scenarios import SCENARIOS
from tests import sessions
from tests.engine.locate import REPOSITORY
from tests.engine.query import assert_clean, scalar
from tests.folders import WRITERS, export

EAGER = REPOSITORY / "samples" / "decode_eager.sqlite"
GRAPH = REPOSITORY / "samples" / "decode_graph.sqlite"


@pytest.fixture(scope="module", params=WRITERS)
def eager(request, tmp_path_factory):
    """The sample as a folder, in each format."""
    return export(EAGER, tmp_path_factory.mktemp("folders") / "trace_pqtdir", request.param)


def outcome(capture, output, **options):
    """All that a conversion tells but for names and sizes, or why there is none."""
    try:
        result = nsys2perfetto.convert(capture, output, force=True, **options)
    except Nsys2PerfettoError as error:
        return str(error).replace(str(capture), "")
    about = dataclasses.replace(result.capture, path=Path(), size=0)
    return dataclasses.replace(result, capture=about, output=Path())


def contents(capture):
    found = nsys2perfetto.inspect(capture)
    about = dataclasses.replace(found.capture, path=Path(), size=0)
    return dataclasses.replace(found, capture=about)


def assert_same(capture, folder, **options):
    """One conversion each: the traces are the same, byte for byte."""
    traces = [folder.with_suffix(".first"), folder.with_suffix(".second")]
    expected = outcome(capture, traces[0], **options)
    assert outcome(folder, traces[1], **options) == expected
    if not isinstance(expected, str):
        assert traces[0].read_bytes() == traces[1].read_bytes()


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_oddity(tmp_path, name):
    capture = SCENARIOS[name](tmp_path).path
    folder = export(capture, tmp_path / "folder", "parquet")
    assert_same(capture, folder)
    assert contents(folder) == contents(capture)


@pytest.mark.parametrize("schema", ["2020.4", "2.9.1", "3.1.7", "3.16.1", "3.25.0"])
@pytest.mark.parametrize("form", ["parquet", "stream"])
def test_schema_versions(tmp_path, schema, form):
    capture = scenarios.same_run(tmp_path, schema).path
    folder = export(capture, tmp_path / "folder", form)
    assert_same(capture, folder)
    assert contents(folder) == contents(capture)


def test_real_captures(capture, tmp_path):
    folder = export(capture, tmp_path / "folder", "parquet")
    assert_same(capture, folder)
    assert contents(folder) == contents(capture)


OPTIONS = {
    "all": {},
    "range": {"start": 500_000_000, "end": 600_000_000},
    "outside": {"start": 1 << 60},
    "steps": {"steps": (5, 9)},
    "families": {"only": ["kernel", "nvtx"]},
    "lean": {"lean": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(eager, name):
    assert_same(EAGER, eager, **OPTIONS[name])


def test_processes(tmp_path):
    capture = SCENARIOS["two_processes_two_gpus"](tmp_path).path
    folder = export(capture, tmp_path / "folder", "arrow")
    pids = [p.pid for p in nsys2perfetto.inspect(capture).processes]
    assert len(pids) == 2
    for chosen in (pids[:1], pids[1:], [1]):
        assert_same(capture, folder, pids=chosen)


def test_the_trace_in_the_engine(eager, tmp_path, open_trace):
    result = nsys2perfetto.convert(eager, tmp_path / "a.pftrace")
    assert result.capture.size == sum(p.stat().st_size for p in eager.iterdir())
    with open_trace(result.output) as tp:
        assert_clean(tp)
        assert scalar(tp, "select count(*) from gpu_slice") == 1528 + 82 + 1


def said(capsys, *arguments, status=0):
    """What a command prints."""
    assert run([str(a) for a in arguments]) == status
    out, err = capsys.readouterr()
    return out + err


@pytest.mark.parametrize(
    "name", ["", "decode_steps", "gap_causes", "cuda_gpu_kern_sum", "cuda_api_sum"]
)
def test_reports(eager, name, capsys):
    options = [name] * bool(name)
    expected = said(capsys, "report", *options, EAGER, "--format", "json")
    found = said(capsys, "report", *options, eager, "--format", "json")
    assert found.replace(str(eager), str(EAGER)) == expected


def test_comparison(eager, capsys):
    expected = said(capsys, "compare", EAGER, GRAPH, "--format", "json")
    found = said(capsys, "compare", eager, GRAPH, "--format", "json")
    assert found.replace(str(eager), str(EAGER)) == expected


def test_queries(eager, capsys):
    with sessions.in_process():
        query = "SELECT cause, count, total_ns FROM nsys_gap_cause"
        assert said(capsys, "query", eager, query) == said(capsys, "query", EAGER, query)
        with nsys2perfetto.open_trace(eager) as trace:
            assert len(trace.steps()) == 32


def test_the_summary(eager, capsys):
    text = said(capsys, eager, "--force")
    size = sum(p.stat().st_size for p in eager.iterdir()) / 1000
    assert f"folder of {size:.0f} kB" in text
    assert f"Wrote {eager.with_name('trace.pftrace')}" in text
    assert "folder of" in said(capsys, "info", eager)
