"""The command on a terminal, in a pipe, and in surroundings of every kind."""

import os
import sys

import pytest

from nsys2perfetto.cli.progress import Progress
from tests.command import environment, run, start, write_capture


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "trace.sqlite")


def on_terminal(capture, *arguments, before="", **changes):
    """Runs the command on a pseudo terminal; returns the exit status and all that it showed."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    env = environment(**{"TERM": "xterm-256color", **changes})
    with start(
        capture, *arguments, before=before, env=env, stdout=theirs, stderr=theirs, text=False
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:
                break
            if not more:
                break
            shown += more
        process.wait(60)
    os.close(ours)
    return process.returncode, shown.decode()


EAGER = "import nsys2perfetto.cli.progress as p; p.PATIENCE = 0\n"


def test_progress_and_colour_on_a_terminal(capture):
    status, shown = on_terminal(capture, before=EAGER)
    assert status == 0
    assert "trace.sqlite" in shown and "writing" in shown and "%" in shown
    assert "\x1b[32mWrote" in shown
    assert shown.rstrip().endswith("ui.perfetto.dev")


def test_terminal_without_colour(capture):
    status, shown = on_terminal(capture, NO_COLOR="1")
    assert status == 0
    assert "\x1b" not in shown
    assert "Wrote" in shown


def test_dumb_terminal(capture):
    status, shown = on_terminal(capture, before=EAGER, TERM="dumb")
    assert (status, "\x1b" in shown) == (0, False)


def test_quiet_terminal(capture):
    assert on_terminal(capture, "-q", before=EAGER) == (0, "")


def test_short_conversions_show_no_bar(capture):
    _, shown = on_terminal(capture, before=EAGER.replace("= 0", "= 60"))
    assert "%" not in shown


def test_no_progress_and_no_colour_in_a_pipe(capture):
    status, out, err = run(capture, before=EAGER)
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    assert out.isascii()


ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.skipif(sys.platform != "linux", reason="locales of Linux")
@pytest.mark.parametrize("extra", [ASCII, {"PYTHONIOENCODING": "ascii"}, {"LANG": None}])
def test_any_locale(tmp_path, extra):
    capture = write_capture(tmp_path / "日本 ü.sqlite")
    for arguments in (["info", capture], [capture], [capture]):
        status, _, err = run(*arguments, env=environment(**extra))
        assert status == (2 if err else 0)
        assert "Traceback" not in err
    assert "exists: use --force" in err


def test_surroundings_do_not_matter(tmp_path, capture):
    """No home, no terminal size, another working directory, a stray configuration."""
    env = environment(HOME=None, COLUMNS="7", TERM=None, LANG=None)
    status, out, err = run("trace.sqlite", env=env, cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "Wrote trace.pftrace" in out


def test_progress_takes_the_time_of_stages():
    with Progress("x", visible=False) as progress:
        progress("reading", 0, 2)
        progress("writing", 1, 2)
        progress("writing", 2, 2)
    assert list(progress.seconds) == ["starting", "reading", "writing", "in all"]
    parts = [progress.seconds[s] for s in ("starting", "reading", "writing")]
    assert sum(parts) == pytest.approx(progress.seconds["in all"])
