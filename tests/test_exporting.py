"""Reports of nsys as inputs: every command takes what the nsys on the PATH can export."""

import contextlib
import json
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

import nsys2perfetto
from nsys2perfetto.cli import main
from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys import exporting
from nsys2perfetto.report.opening import open_source
from tests import fake_nsys
from tests.command import KERNELS, capture_bytes, environment, listing, start
from tests.engine import query
from tests.sessions import in_process

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A report, an nsys for it on the PATH, and a folder of its own for what is temporary."""
    programs = fake_nsys.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(exporting, "PROGRAM", "nsys")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "work").mkdir()
    path = fake_nsys.write_report(tmp_path / "work" / "my run.nsys-rep", capture_bytes())
    yield path
    assert list((tmp_path / "tmp").iterdir()) == [], "temporary files are left"


def run(capsys, *arguments):
    status = main.run([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_convert_writes_the_trace_of_the_export_beside_the_report(report, open_trace):
    result = nsys2perfetto.convert(report)
    assert (result.output, result.capture.path) == (report.with_suffix(".pftrace"), report)
    direct = report.with_name("direct.sqlite")
    direct.write_bytes(capture_bytes())
    other = nsys2perfetto.convert(direct)
    assert result.output.read_bytes() == other.output.read_bytes()
    assert result.capture.size == direct.stat().st_size
    with open_trace(result.output) as tp:
        query.assert_clean(tp)
        assert query.scalar(tp, "SELECT count(*) FROM gpu_slice") == KERNELS


@pytest.mark.parametrize("name", ["OLD.QDREP", "a.b.nsys-rep", "-dash.nsys-rep", "é'\".nsys-rep"])
def test_names_of_reports(report, name):
    other = report.rename(report.with_name(name))
    output = nsys2perfetto.convert(other).output
    assert output == other.with_suffix(".pftrace")


def test_every_command_takes_a_report(report, capsys):
    before = listing(report.parent)
    status, out, err = run(capsys, "info", "--json", report)
    assert (status, err) == (0, "")
    [found] = json.loads(out)
    assert found["capture"] == str(report)
    status, out, err = run(capsys, "report", "cuda_gpu_kern_sum", report, "--format", "json")
    assert (status, err) == (0, "")
    assert sum(row["instances"] for row in json.loads(out)) == KERNELS
    status, out, err = run(capsys, "compare", report, report, "--format", "json")
    assert (status, err) == (0, "")
    sql = "SELECT count(*) AS n FROM nsys_kernel"
    with in_process():
        status, out, err = run(capsys, "query", report, sql, "--format", "json")
    assert (status, err) == (0, "")
    assert json.loads(out) == [{"n": KERNELS}]
    assert listing(report.parent) == before
    status, out, err = run(capsys, report)
    assert (status, err) == (0, "")
    assert out.startswith(f"{report}\n") and f"Wrote {report.with_suffix('.pftrace')}" in out


def test_progress_is_what_nsys_shows(report):
    seen = []
    with exporting.exported(report, lambda *call: seen.append(call)) as export:
        assert export.read_bytes() == capture_bytes()
        assert export.name == "my run.sqlite"
    assert {stage for stage, _, _ in seen} == {"exporting"}
    done = [done for _, done, _ in seen]
    assert done == sorted(done)
    assert not export.exists()


def test_what_is_no_report_is_handed_back(tmp_path):
    for name in ("x.sqlite", "absent.nsys-rep", "a\0b.nsys-rep"):
        with exporting.exported(tmp_path / name) as path:
            assert path == tmp_path / name
    misnamed = tmp_path / "really_sqlite.nsys-rep"
    misnamed.write_bytes(capture_bytes())
    assert nsys2perfetto.convert(misnamed).capture.path == misnamed


# ---- the export beside


def test_an_export_beside_that_is_newer_is_read_instead(report, capsys, monkeypatch):
    export = report.with_suffix(".sqlite")
    export.write_bytes(capture_bytes())
    monkeypatch.setenv("PATH", "")  # nsys is not needed
    status, out, err = run(capsys, report)
    assert status == 0
    assert err == f"Reading {export}, the export beside {report}\n"
    assert out.startswith(f"{export}\n")
    assert run(capsys, report, "-f", "-q")[2] == ""
    with open_source(report) as tables:
        assert tables.kernel_summary()["instances"].sum() == KERNELS


@pytest.mark.parametrize("fault", ["older", "half written", "something else"])
def test_an_export_beside_that_is_old_or_unusable_is_not(report, fault):
    export = report.with_suffix(".sqlite")
    data = {"older": b"old", "half written": capture_bytes()[:9000], "something else": b"text"}
    export.write_bytes(data[fault])
    if fault == "older":
        os.utime(export, ns=(1, 1))
    assert nsys2perfetto.convert(report).capture.path == report
    assert export.read_bytes() == data[fault]


# ---- what goes wrong

FAILURES = {
    "stranger": "is not the nsys of NVIDIA Nsight Systems",
    "old": "nsys 2022.4.2.1 cannot export it: Unsupported file version (a report can be read by",
    "mute": "nsys 2022.4.2.1 cannot export it: exit status 0",
    "crash": "nsys 2022.4.2.1 cannot export it: it was ended by signal 9",
    "junk": "the export of {} is not an SQLite file",
}


@pytest.mark.parametrize("mode", FAILURES)
def test_a_failure_of_nsys_is_one_line(report, mode, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_NSYS", mode)
    before = listing(report.parent)
    status, out, err = run(capsys, report)
    assert (status, out) == (1, "")
    assert err.startswith("nsys2perfetto: ") and err.count("\n") == 1
    assert FAILURES[mode].format(report) in err
    assert str(Path(tempfile.gettempdir())) not in err
    assert listing(report.parent) == before


def test_a_damaged_report(report):
    report.write_bytes(bytes(999))
    with pytest.raises(CaptureError, match=r"my run\.nsys-rep: .* does not contain a delimiter \("):
        nsys2perfetto.inspect(report)


def test_without_nsys_the_command_to_run_is_told(report, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    for verb in ("convert", "info", "report"):
        status, _, err = run(capsys, verb, report)
        assert status == 1
        export = report.with_suffix(".sqlite")
        assert f"run `nsys export --type=sqlite --output='{export}' '{report}'` first" in err
        assert "or put nsys on the PATH" in err


def test_nsys_that_does_not_answer(report, monkeypatch):
    monkeypatch.setenv("FAKE_NSYS", "deaf")
    monkeypatch.setattr(exporting, "_PATIENCE", 0.2)
    with pytest.raises(CaptureError, match="does not answer"):
        nsys2perfetto.convert(report)


def test_bad_outputs_are_told_before_nsys_works(report, monkeypatch):
    monkeypatch.setenv("FAKE_NSYS", "hang")
    report.with_suffix(".pftrace").write_bytes(b"precious")
    with pytest.raises(nsys2perfetto.Nsys2PerfettoError, match="exists: use --force"):
        nsys2perfetto.convert(report)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_nsys_works(report, number):
    """Nothing is left: neither the temporary folder, nor nsys, nor what nsys has started."""
    changes = {"PATH": os.environ["PATH"], "TMPDIR": tempfile.tempdir, "FAKE_NSYS": "hang"}
    pids = report.with_suffix(".pids")
    with start(report, env=environment(**changes)) as process:
        deadline = time.monotonic() + 60
        while not (pids.exists() and len(pids.read_text().split(" ", 2)) == 3):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (128 + number, "", "")
    *numbers, target = pids.read_text().split(" ", 2)
    assert not Path(target).parent.exists()
    for pid in map(int, numbers):
        assert is_gone(pid)
    pids.unlink()
    assert [p.name for p in report.parent.iterdir()] == [report.name]


def is_gone(pid):
    """Whether a process has ended; a killed one may take a moment."""
    for _ in range(200):
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            if state[0] != "Z":
                time.sleep(0.02)
                continue
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}").exists():
            return True  # a zombie that nobody waits for
        time.sleep(0.02)
    return False
