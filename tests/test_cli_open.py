"""The command `open`, in a process of its own, with a program of ours in the browser's place."""

import os
import re
import signal
import socket
import sys

import pytest

import nsys2perfetto
from nsys2perfetto.cli import main
from nsys2perfetto.cli.convert import command as convert_command
from nsys2perfetto.cli.open import command as open_command
from nsys2perfetto.viewer.link import COMPUTE_LIMIT
from samples.builder import Capture
from tests import fake_nsys
from tests.command import capture_bytes, environment, listing, run, write_capture
from tests.opened import ANY_PORT, ask, finish, opened, parsed
from tests.test_viewer import make_ui

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals, and a shell script")


@pytest.fixture
def trace(tmp_path):
    write_capture(tmp_path / "run.sqlite")
    return nsys2perfetto.convert(tmp_path / "run.sqlite").output


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for what is temporary, which must be empty at the end."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def test_it_ends_when_the_tab_has_the_trace(trace):
    with opened(trace, "--no-browser", *ANY_PORT) as (process, link):
        base, url, plugins, commands = parsed(link)
        assert base == "https://ui.example/"
        assert "com.meta.GpuCompute" in plugins
        assert len(commands) == 2
        assert ask(url)[2] == trace.read_bytes()
        out, err = finish(process)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("The tab has the trace; nothing is served any more.\n")


def test_the_links_of_a_page_lead_to_what_is_served_with_stay(trace, tmp_path):
    page = tmp_path / "page.html"
    assert run("report", tmp_path / "run.sqlite", "--html", page)[0] == 0
    [path] = set(re.findall(r"127\.0\.0\.1%3A9001%2F([\w.-]+?)&", page.read_text()))
    options = ("--no-browser", "--stay", "--timeout", "0", *ANY_PORT)
    with opened(tmp_path / "run.sqlite", *options) as (process, link):
        url = parsed(link)[1]
        assert url.rpartition(":")[2].partition("/")[2] == path
        for _ in range(2):
            assert ask(url)[2] == trace.read_bytes()
        process.send_signal(signal.SIGINT)
        finish(process)
    assert process.returncode == 130


def test_a_capture_is_converted_and_nothing_is_left(temporary, tmp_path):
    capture = write_capture(tmp_path / "run.sqlite")
    before = listing(tmp_path)
    options = ("--no-browser", "--skip", "cuda_api", "--no-gaps")
    with opened(capture, *options, *ANY_PORT) as (process, link):
        body = ask(parsed(link)[1])[2]
        _, err = finish(process)
    assert (process.returncode, err) == (0, "")
    expected = nsys2perfetto.convert(capture, tmp_path / "x.pftrace", skip=["cuda_api"]).output
    assert 0 < len(body) < expected.stat().st_size, "without gaps"
    expected.unlink()
    assert listing(tmp_path) == before


def test_a_report_is_exported_and_converted(temporary, tmp_path):
    programs = fake_nsys.install(tmp_path / "bin")
    report = fake_nsys.write_report(tmp_path / "run.nsys-rep", capture_bytes())
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    env = environment(PATH=path, TMPDIR=str(temporary))
    with opened(report, "--no-browser", *ANY_PORT, env=env) as (process, link):
        assert parsed(link)[1].endswith("/run.pftrace")
        assert ask(parsed(link)[1])[0] == 200
        finish(process)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_waits(temporary, tmp_path, number):
    capture = write_capture(tmp_path / "run.sqlite")
    with opened(capture, "--no-browser", *ANY_PORT) as (process, link):
        port = parsed(link)[1].split(":")[2].split("/")[0]
        process.send_signal(number)
        _, err = finish(process)
    assert (process.returncode, err) == (128 + number, "")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=5)


def test_stopped_while_a_tab_fetches(tmp_path):
    big = tmp_path / "big.pftrace"
    with big.open("wb") as file:
        file.write(b"\x0a\x02\x08\x01")
        file.truncate(1 << 30)
    with opened(big, "--no-browser", *ANY_PORT) as (process, link):
        url = parsed(link)[1]
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            head = f"Host: 127.0.0.1:{port}\r\nOrigin: https://ui.example\r\n\r\n"
            connection.sendall(f"GET {url.partition(str(port))[2]} HTTP/1.1\r\n{head}".encode())
            assert connection.recv(99)
            process.send_signal(signal.SIGINT)
            _, err = finish(process)
    assert (process.returncode, err) == (130, "")


def test_nobody_comes(trace):
    status, out, err = run("open", trace, "--no-browser", *ANY_PORT, "--timeout", "100ms")
    assert status == 1
    assert err.startswith("nsys2perfetto: no browser has fetched the trace within 0.1 s: ")
    assert "ssh -L " in out


def test_the_tunnel_names_no_host(trace):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    out = run("open", trace, "--no-browser", "--ui", "https://ui.example", "--port", port,
              "--timeout", "0")[1]  # fmt: skip
    assert f"\n  ssh -L {port}:127.0.0.1:{port} HOST\n" in out
    assert socket.gethostname() not in out


def test_it_stays_if_asked_to(trace):
    with opened(trace, "--no-browser", "--stay", *ANY_PORT) as (process, link):
        url = parsed(link)[1]
        assert ask(url)[0] == 200
        for line in process.stdout:
            if line == "The tab has the trace. Serving until Ctrl-C.\n":
                break
        assert ask(url)[0] == 200
        process.send_signal(signal.SIGINT)
        finish(process)
    assert process.returncode == 130


def test_a_ui_of_ones_own_is_served_until_ctrl_c(trace, tmp_path):
    web = make_ui(tmp_path / "ui")
    with opened(trace, "--no-browser", "--ui", web, "--port", "0") as (process, link):
        base, url, _, _ = parsed(link)
        assert ask(base, Origin=None)[2] == b"<title>UI</title>"
        assert ask(url, Origin=None)[0] == 200
        for line in process.stdout:
            if line == "The tab has the trace. Serving until Ctrl-C.\n":
                break
        assert ask(base, Origin=None)[0] == 200
        process.send_signal(signal.SIGINT)
        finish(process)
    assert process.returncode == 130


BROWSER = """#!{python}
import sys, urllib.parse, urllib.request
arguments = urllib.parse.parse_qs(sys.argv[-1].partition("#!/?")[2])
request = urllib.request.Request(arguments["url"][0], headers={{"Origin": "https://ui.example"}})
print("fetched", len(urllib.request.urlopen(request).read()), file=open({log!r}, "w"))
"""


def test_the_browser_gets_the_link(trace, tmp_path):
    program = tmp_path / "browser"
    log = tmp_path / "log"
    program.write_text(BROWSER.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    env = environment(BROWSER=str(program), no_proxy="*")
    status, out, err = run("open", trace, *ANY_PORT, env=env)
    assert (status, err) == (0, "")
    assert log.read_text() == f"fetched {trace.stat().st_size}\n"
    assert "Opened this link in the browser." in out and "ssh" not in out


def test_without_a_browser_the_link_is_enough(trace):
    env = environment(DISPLAY=None)
    with opened(trace, *ANY_PORT, env=env) as (process, link):
        assert ask(parsed(link)[1])[0] == 200
        out, _ = finish(process)
    assert process.returncode == 0
    assert "There is no browser to open here: open the link yourself." in out


def test_the_port_is_in_use(trace):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, out, err = run("open", trace, "--ui", "https://ui.example", "--port", port)
    assert (status, out) == (1, "")
    assert err.startswith(f"nsys2perfetto: port {port} of 127.0.0.1 is in use: end what listens")
    assert "another `nsys2perfetto open`" in err and "trace_processor --httpd" in err
    assert err.count("\n") == 1


def test_many_kernels_do_without_their_table(tmp_path):
    """As large a trace as it takes, in the cheapest way."""
    capture = Capture()
    capture.gpu()
    process = capture.process(4242, "app")
    for n in range(COMPUTE_LIMIT + 1):
        capture.kernel(process, "k", 10 * n, 10 * n + 5, correlation=None)
    path = capture.save(tmp_path, "many")
    options = ("--no-browser", "--no-gaps", "--no-counters", "--no-steps", *ANY_PORT)
    with opened(path, *options) as (process, link):
        assert parsed(link)[2] == ["dev.perfetto.GpuByProcess"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("absent.pftrace",), 1, "absent.pftrace: no such file"),
        (("run.pftrace", "--port", "9002"), 2, "can only fetch from port 9001"),
        (("run.pftrace", "--ui", "nowhere"), 2, "no build of Perfetto's UI"),
        (("run.pftrace", "--ui", "ftp://x"), 2, "is not the URL of a UI"),
        (("run.pftrace", "--steps", "1..2", *ANY_PORT), 2, "is a trace already: steps can only"),
        (("run.sqlite", "--steps", "1", "--range", "1:2"), 2, "contradict each other"),
        (("run.sqlite", "--steps", "7..9", *ANY_PORT), 2, "step"),
        (("run.pftrace", "--port", "70000"), 2, "70000"),
        ((), 2, "missing argument 'TRACE|CAPTURE'"),
    ],
)
def test_wrong_usage_is_one_line(trace, monkeypatch, capsys, arguments, status, words):
    monkeypatch.chdir(trace.parent)
    before = listing(trace.parent)
    assert main.run(["open", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nsys2perfetto: ") and captured.err.count("\n") == 1
    assert words in captured.err
    assert listing(trace.parent) == before


def test_the_trace_of_a_capture_can_have_every_shape():
    """Whatever `convert` can be told, `open` can be told, too."""
    convert, opening = ({p.name for p in c.params} for c in (convert_command, open_command))
    own = {"captures", "output", "force", "quiet", "verbose"}
    assert convert - opening == own
    assert opening - convert == {"path", "no_browser", "ui", "port", "timeout", "stay"}
