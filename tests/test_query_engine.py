"""Trace processors as processes of ours: which one, when it is ready, and that none is left."""

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from perfetto.trace_processor import api

import nsys2perfetto
from nsys2perfetto.errors import EngineError, TraceError
from nsys2perfetto.query import engine as engines
from nsys2perfetto.query import locate
from tests.command import environment
from tests.engine.locate import REPOSITORY
from tests.sessions import engine_program

FAKE = REPOSITORY / "tests" / "fake_engine.py"
SAMPLE = REPOSITORY / "samples" / "decode_graph.sqlite"

posix = pytest.mark.skipif(os.name != "posix", reason="signals and sh of POSIX")
linux = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks into /proc")


@pytest.fixture(autouse=True)
def no_engine_but_the_named(monkeypatch):
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.delenv("FAKE_ENGINE", raising=False)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "some trace.pftrace"
    path.write_bytes(b"\x0a\x00")
    return path


@pytest.fixture
def fake(monkeypatch):
    """Sets what the fake engine does, and returns its path."""

    def choose(mode=""):
        monkeypatch.setenv("FAKE_ENGINE", mode)
        return FAKE

    locate._version_output.cache_clear()  # it may say another now
    return choose


def processes_with(text):
    """Ids of all living processes with a text in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.fsencode(text) in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found


def gone(text, patience=10):
    """Whether all processes with a text in their command line end."""
    deadline = time.monotonic() + patience
    while processes_with(text):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wait_for(condition, patience=30):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


# Which engine


def program(path, version="v99.0"):
    path.write_text(f"#!/bin/sh\necho 'Perfetto {version}-test'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_download(monkeypatch):
    """perfetto's download does not happen here; raise what it should raise."""

    def refuse(error):
        def get_shell_path(self, bin_path=None, fetch_latest=False):
            print("Downloading https://example.com/engine")
            raise error

        monkeypatch.setattr(api.PLATFORM_DELEGATE, "get_shell_path", get_shell_path)

    refuse(AssertionError("downloads"))
    return refuse


@posix
def test_the_order_of_engines(tmp_path, monkeypatch, no_download):
    for name in ("named", "variable", "path"):
        (tmp_path / name).mkdir()
    named = program(tmp_path / "named" / "any_name")
    variable = program(tmp_path / "variable" / "any_name")
    installed = program(tmp_path / "path" / "trace_processor_shell")
    pinned = program(tmp_path / "pinned")
    monkeypatch.setenv("PATH", f"{installed.parent}:/bin:/usr/bin")
    monkeypatch.setenv(locate.VARIABLE, str(variable))
    assert locate.find(named) == locate.find(str(named)) == named
    assert locate.find() == locate.find("") == variable
    monkeypatch.setenv(locate.VARIABLE, "trace_processor_shell")
    assert locate.find() == installed
    monkeypatch.setenv(locate.VARIABLE, "")
    assert locate.find() == installed
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.setattr(
        api.PLATFORM_DELEGATE, "get_shell_path", lambda self, bin_path=None: str(pinned)
    )
    assert locate.find() == pinned


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (subprocess.CalledProcessError(6, ["/usr/bin/curl", "-f"]), "curl ended with status 6"),
        (FileNotFoundError(2, "No such file", "curl"), "curl is not installed"),
        (
            Exception("No prebuilts available for plan9-mips\nSee"),
            "No prebuilts available for plan",
        ),
        (PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
def test_without_network_the_way_is_told_once(monkeypatch, no_download, capsys, error, reason):
    no_download(error)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineError) as caught:
        locate.find()
    message = str(caught.value)
    assert reason in message and "\n" not in message
    for way in ("trace_processor_shell v55", "PATH", locate.VARIABLE, "releases"):
        assert way in message
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Downloading https://example.com/engine\n")


@posix
def test_engines_that_cannot_be_used(tmp_path, monkeypatch, no_download):
    old = program(tmp_path / "old", "v54.0")
    (tmp_path / "plain").write_text("text")
    bad_format = tmp_path / "bad_format"
    bad_format.write_bytes(b"\x7fELF nothing")
    bad_format.chmod(0o755)
    for path, message in {
        tmp_path / "absent": "is not there",
        tmp_path: "is a directory",
        tmp_path / "plain": "is not executable",
        bad_format: "cannot be run",
        old: "is v54, which knows nothing of kernels: these traces need .* v55 or later",
        "/bin/true": "is not a trace_processor_shell",
        "/bin/echo": "is not a trace_processor_shell",
        "a\0b": "is not there|cannot be looked at",
    }.items():
        with pytest.raises(EngineError, match=message):
            locate.find(path)
    monkeypatch.setenv(locate.VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(EngineError, match=f"{locate.VARIABLE} names, .*absent, is not there"):
        locate.find()


@posix
@pytest.mark.parametrize("version", ["v55.0", "v100", "v0.0"])
def test_versions_that_are_new_enough(tmp_path, version):
    path = program(tmp_path / "engine", version)
    assert locate.find(path) == path
    unknown = tmp_path / "unknown"
    unknown.write_text("#!/bin/sh\necho 'unknown\nTrace Processor RPC API version: 14'\n")
    unknown.chmod(0o755)
    assert locate.find(unknown) == unknown


# Life and death


@posix
@linux
def test_an_engine_answers_and_ends(trace, fake):
    with nsys2perfetto.open_trace(trace, fake()) as session:
        assert session.engine_version == "Perfetto v99.1-fake"
        assert [row.one for row in session.query("SELECT 1")] == [1]
        assert processes_with(str(trace))
    assert not processes_with(str(trace))
    session.close()
    with pytest.raises(EngineError, match="the session is closed: open the trace again"):
        session.query("SELECT 1")


@posix
@linux
def test_two_sessions_at_once(trace, fake):
    with nsys2perfetto.open_trace(trace, fake()) as one:
        with nsys2perfetto.open_trace(trace, fake()) as other:
            assert one.trace_processor.http.conn.port != other.trace_processor.http.conn.port
            assert len(other.query("SELECT 1")) == 1
        assert len(one.query("SELECT 1")) == 1
    assert not processes_with(str(trace))


@posix
@linux
def test_many_threads_and_the_thread_that_opened_it_ends(trace, fake):
    sessions, answers = [], []
    opener = threading.Thread(
        target=lambda: sessions.append(nsys2perfetto.open_trace(trace, fake()))
    )
    opener.start()
    opener.join()
    time.sleep(0.2)  # PR_SET_PDEATHSIG would have killed it by now

    def ask():
        answers.extend(row.one for _ in range(20) for row in sessions[0].query("SELECT 1"))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sessions[0].close()
    assert answers == [1] * 100
    assert not processes_with(str(trace))


@posix
@linux
def test_a_session_that_nobody_holds_ends(trace, fake):
    session = nsys2perfetto.open_trace(trace, fake())
    assert processes_with(str(trace))
    del session
    gc.collect()
    assert not processes_with(str(trace))


@posix
@linux
def test_an_exception_ends_it(trace, fake, monkeypatch):
    with pytest.raises(ZeroDivisionError), nsys2perfetto.open_trace(trace, fake()):
        _ = 1 / 0
    assert not processes_with(str(trace))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(engines.Engine, "is_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nsys2perfetto.open_trace(trace, fake("hang"))
    assert not processes_with(str(trace))


@posix
@linux
def test_a_script_around_the_engine_ends_with_it(trace, fake):
    with nsys2perfetto.open_trace(trace, fake("wrapped")) as session:
        assert len(session.query("SELECT 1")) == 1
        assert len(processes_with(str(trace))) == 4  # guardian, its watch, script, engine
    assert gone(str(trace))


HOLD = """
import os, sys, threading, time, nsys2perfetto
how = sys.argv[1]
session = nsys2perfetto.open_trace(sys.argv[2], sys.argv[3])
if how == "fork":  # a child that lives on with all our files open, as multiprocessing makes them
    if os.fork() == 0:
        print("forked", flush=True)
        time.sleep(600)
if how == "forked end":
    if os.fork() == 0:
        sys.exit()  # runs exit handlers
    os.wait()
    assert len(session.query("SELECT 1")) == 1
if how == "query":
    threading.Thread(target=lambda: session.query("slow"), daemon=True).start()
    time.sleep(0.2)
print("ready", flush=True)
if how == "exit":
    sys.exit()
if how == "os._exit":
    os._exit(0)
time.sleep(600)
"""


@contextlib.contextmanager
def holder(trace, how, engine=FAKE, mode="", ready=True):
    """A Python process that has a session with a trace."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, how, str(trace), str(engine)],
        env=environment(FAKE_ENGINE=mode, PERFETTO_TP_WASM=os.environ.get("PERFETTO_TP_WASM")),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        if ready:
            while (line := process.stdout.readline()) != b"ready\n":
                assert line, "it ended"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@posix
@linux
@pytest.mark.parametrize("how", ["exit", "os._exit"])
def test_the_end_of_the_interpreter(trace, how):
    with holder(trace, how) as process:
        process.wait(30)
        # The holder's own command line names the trace too.
        assert gone(str(trace))


@posix
@linux
@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("idle", signal.SIGTERM),
        ("idle", signal.SIGKILL),
        ("query", signal.SIGKILL),
        ("fork", signal.SIGKILL),
    ],
)
def test_no_engine_outlives_a_process_that_a_signal_ends(trace, how, number):
    with holder(trace, how) as process:
        engine = [p for p in processes_with("--http-port") if p in processes_with(str(trace))]
        assert engine
        os.kill(process.pid, number)
        process.wait(30)
        wait_for(lambda: not [p for p in engine if Path(f"/proc/{p}/cmdline").exists()])


@posix
@linux
def test_a_forked_process_leaves_the_engine_alone(trace):
    with holder(trace, "forked end") as process:
        assert process.poll() is None
        assert processes_with(str(trace))


@posix
@linux
def test_killed_while_the_engine_reads_a_capture_converted_to_a_temporary_file(tmp_path):
    """Neither the engine nor the temporary trace outlives it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    capture = shutil.copy(SAMPLE, tmp_path / "capture.sqlite")
    changes = {"TMPDIR": str(folder), "FAKE_ENGINE": "hang"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, "idle", capture, FAKE], env=environment(**changes)
    )
    wait_for(lambda: processes_with(f"{folder}/nsys2perfetto-"))
    [made] = folder.glob("nsys2perfetto-*")
    assert (made / "capture.pftrace").stat().st_size > 1000
    assert made.stat().st_mode & 0o077 == 0
    process.kill()
    process.wait(30)
    assert gone(str(folder))
    wait_for(lambda: not list(folder.iterdir()))


@posix
@linux
def test_ctrl_c_in_a_terminal_does_not_reach_the_engine(trace, fake):
    with nsys2perfetto.open_trace(trace, fake()) as session:
        for process in processes_with(str(trace)):
            assert os.getsid(process) != os.getsid(0)
        assert len(session.query("SELECT 1")) == 1


@posix
@linux
def test_the_pipe_does_not_leak_into_other_children(trace, fake):
    """Else a program that the user starts would keep the engine alive."""
    with nsys2perfetto.open_trace(trace, fake()) as session:
        pipe = session._running._process.stdin.fileno()
        assert not os.get_inheritable(pipe)
        for process in processes_with(str(trace)):
            files = [str(f.readlink()) for f in Path(f"/proc/{process}/fd").iterdir()]
            assert f"pipe:[{os.fstat(pipe).st_ino}]" not in files or is_guardian(process)


def is_guardian(process):
    return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"/bin/sh\0")


# Failures


@posix
@linux
@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("exit=3", EngineError, "ended with status 3: Aborted, for no reason"),
        ("refuse", TraceError, "some trace.pftrace cannot be read as a trace: unknown type"),
        ("version=54", EngineError, "is v54, which knows nothing"),
    ],
)
def test_engines_that_do_not_get_ready(trace, fake, mode, error, message):
    with pytest.raises(error, match=message) as caught:
        nsys2perfetto.open_trace(trace, fake(mode))
    assert "\n" not in str(caught.value)
    assert not processes_with(str(trace))


@posix
@linux
@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("crash", r"ended with status 7: CHECK\(it works\); open the trace again"),
        ("killed", "was killed; maybe there was not enough memory; open the trace again"),
    ],
)
def test_an_engine_that_dies(trace, fake, sql, message):
    with nsys2perfetto.open_trace(trace, fake()) as session:
        for question in (sql, "SELECT 1"):
            with pytest.raises(EngineError, match=message):
                session.query(question)
    assert not processes_with(str(trace))


@posix
@linux
def test_a_port_that_is_taken_meanwhile(trace, fake, monkeypatch):
    """By another engine, which must not be asked in place of ours; then another port is tried."""
    choose, ports = engines.free_port, []
    with nsys2perfetto.open_trace(trace, fake()) as other:
        taken = other.trace_processor.http.conn.port

        def free_port():
            ports.append(choose() if ports else taken)
            return ports[-1]

        monkeypatch.setattr(engines, "free_port", free_port)
        with nsys2perfetto.open_trace(trace, fake()) as session:
            assert len(ports) == 2
            assert session.trace_processor.http.conn.port == ports[1]
            assert len(session.query("SELECT 1")) == 1
        assert len(other.query("SELECT 1")) == 1
    assert not processes_with(str(trace))


@posix
@linux
@pytest.mark.parametrize("mode", ["deaf", "stranger"])
def test_no_port_at_all(trace, fake, mode):
    with pytest.raises(EngineError, match=r"finds no port on 127\.0\.0\.1"):
        nsys2perfetto.open_trace(trace, fake(mode))
    assert not processes_with(str(trace))


@posix
def test_without_a_shell_the_engine_is_a_plain_child(trace, fake, monkeypatch):
    monkeypatch.setattr(engines, "_SH", "/no/such/shell")
    with nsys2perfetto.open_trace(trace, fake()) as session:
        child = session._running._process
        assert child.args[0] == str(FAKE)
        assert len(session.query("SELECT 1")) == 1
        with pytest.raises(EngineError, match="was killed"):
            session.query("killed")
    with nsys2perfetto.open_trace(trace, fake()) as session:
        child = session._running._process
    assert child.returncode == -signal.SIGKILL


@posix
def test_a_session_that_another_thread_closes(trace, fake):
    session = nsys2perfetto.open_trace(trace, fake())
    threading.Timer(0.3, session.close).start()
    with pytest.raises(EngineError, match="the session is closed"):
        session.query("slow")


@posix
def test_an_interrupted_query_does_not_confuse_the_next(trace, fake):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with nsys2perfetto.open_trace(trace, fake()) as session:
            # As Ctrl-C does it in an interactive session.
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                session.query("slow")
            assert [row.one for row in session.query("SELECT 1")] == [1]
    finally:
        signal.signal(signal.SIGINT, before)


# The real one


@posix
@linux
def test_the_real_engine(tmp_path):
    """Opens a capture, answers, and does not outlive a process that is killed."""
    capture = shutil.copy(SAMPLE, tmp_path / "capture.sqlite")
    trace = nsys2perfetto.convert(capture, tmp_path / "real.pftrace.gz").output
    with nsys2perfetto.open_trace(trace, engine_program()) as session:
        [row] = session.query("SELECT count(*) AS steps FROM nsys_step")
        assert row.steps > 10
        assert session.engine_version.startswith("Perfetto v")
    assert not processes_with(str(trace))
    with holder(trace, "idle", engine_program()) as process:
        assert len(processes_with(str(trace))) >= 3
        process.kill()
        process.wait(30)
        assert gone(str(trace))


@posix
@linux
def test_what_the_real_engine_cannot_read(tmp_path):
    path = tmp_path / "notes.pftrace"
    path.write_text("these are no packets at all, but words")
    with pytest.raises(TraceError, match=r"notes.pftrace cannot be read as a trace: .*"):
        nsys2perfetto.open_trace(path, engine_program())
    assert not processes_with(str(path))
