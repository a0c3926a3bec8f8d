"""`open_source`: what a file is, and what is said of files that are neither."""

import pytest

from nsys2perfetto import convert
from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.errors import CaptureError, TraceError, UsageError
from nsys2perfetto.query.session import Trace
from nsys2perfetto.report import opening
from nsys2perfetto.report.capture_source import CaptureSource
from nsys2perfetto.report.opening import open_source
from nsys2perfetto.report.trace_source import TraceSource
from tests.report_checks import check_alike
from tests.report_sources import PACKAGE, Session
from tests.runs import folder, scenario


def test_an_export_is_read_without_a_trace_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "open_trace", None)
    path = tmp_path / "named.pftrace"  # the content decides
    path.write_bytes(scenario("decode_eager").path.read_bytes())
    with open_source(path) as found:
        assert isinstance(found, CaptureSource)
        assert len(found.kernel_summary()) == 11
    with open_source(str(path), annotate=AnnotationOptions(min_gap=9_000)) as found:
        assert found.facts.min_gap_ns == 9_000
        assert found.gaps()["dur"].min() >= 9_000
    with open_source(path, pids=[1]) as found:
        assert found.facts.processes == {}
        assert found.kernel_summary().is_empty()
    with open_source(path, start=1 << 60) as found:
        assert found.api_summary().is_empty()


def test_a_trace_is_asked_with_sql(open_trace, monkeypatch):
    def session(path, engine, **options):
        assert engine == "engine"
        assert not any(options.values())
        return Trace(open_trace(path, [PACKAGE]))

    monkeypatch.setattr(opening, "open_trace", session)
    capture = scenario("decode_eager").path
    path = convert(capture, folder() / "asked.pftrace", force=True).output
    # The default options are no wish: a command gives them always.
    with (
        open_source(path, engine="engine", annotate=AnnotationOptions()) as trace,
        open_source(capture) as tables,
    ):
        assert isinstance(trace, TraceSource)
        check_alike(tables, trace)


@pytest.mark.parametrize(
    "options",
    [{"start": 0}, {"end": 9}, {"pids": [1]}, {"annotate": AnnotationOptions(min_gap=9)}],
    ids=str,
)
def test_options_of_captures_are_refused_for_a_trace(options, tmp_path):
    path = tmp_path / "trace.pftrace"
    path.write_bytes(b"\x0a\x00")
    with pytest.raises(UsageError, match="is a trace already"), open_source(path, **options):
        pass


@pytest.mark.parametrize("name", ["absent.sqlite", "absent.pftrace"])
def test_a_file_that_is_not_there(name, tmp_path):
    with pytest.raises(CaptureError, match=f"{name}: no such file"), open_source(tmp_path / name):
        pass


def test_what_is_no_capture(tmp_path):
    for name, reason in (("a.sqlite", "not an SQLite file"), ("a.nsys-rep", "nsys report")):
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(CaptureError, match=reason), open_source(tmp_path / name):
            pass
    with pytest.raises(CaptureError, match="is a directory"), open_source(tmp_path):
        pass


def test_a_trace_of_another_program_is_refused(open_trace):
    with open_trace(b"") as tp, pytest.raises(TraceError, match="not made by nsys2perfetto"):
        TraceSource(Session(tp))
