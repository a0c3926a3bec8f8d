"""The server that a tab fetches a trace from: what it gives to whom, and the link to it."""

import gzip
import socket
import threading
from pathlib import Path

import pytest

import nsys2perfetto
from nsys2perfetto.annotation_tracks import _GAPS, _STEPS
from nsys2perfetto.errors import Nsys2PerfettoError, TraceError, UsageError
from nsys2perfetto.first_screen import UTILIZATION
from nsys2perfetto.viewer import browser, head, viewing
from nsys2perfetto.viewer.link import (
    BY_PROCESS,
    BY_PROCESS_LIMIT,
    COMPUTE,
    COMPUTE_LIMIT,
    EXPAND,
    PIN,
    link,
    plugins,
)
from tests.command import KERNELS, write_capture
from tests.opened import ask, parsed

UI = "https://ui.example"


@pytest.fixture
def trace(tmp_path):
    """Any bytes will do for the server."""
    path = tmp_path / "my trace.pftrace"
    path.write_bytes(b"\x0a\x02\x08\x01" * 999)
    return path


@pytest.fixture
def serving(trace):
    with viewing.serve(trace, ui=UI, port=0) as found:
        yield found


@pytest.fixture
def url(serving):
    return parsed(serving.link)[1]


def make_ui(folder):
    """The files of a UI, with a secret beside them."""
    (folder / "web" / "v1").mkdir(parents=True)
    (folder / "web" / "index.html").write_text("<title>UI</title>")
    (folder / "web" / "v1" / "engine.wasm").write_bytes(b"\0asm")
    (folder / "secret.txt").write_text("secret")
    (folder / "web" / "way_out").symlink_to(folder / "secret.txt")
    (folder / "web" / "loop").symlink_to("loop")
    return folder / "web"


# ---- the link


def test_the_link_says_what_to_fetch_and_what_to_show():
    made = link("https://ui.perfetto.dev", "http://127.0.0.1:9001/x/a.pftrace", 1)
    base, url, chosen, commands = parsed(made)
    assert (base, url) == ("https://ui.perfetto.dev/", "http://127.0.0.1:9001/x/a.pftrace")
    assert chosen == ["dev.perfetto.GpuByProcess", "com.meta.GpuCompute"]
    assert [(c["id"], c["args"]) for c in commands] == [
        ("dev.perfetto.ExpandTracksByRegex", [EXPAND, "name"]),
        ("dev.perfetto.PinTracksByRegex", [PIN, "name"]),
    ]
    assert made.isascii() and not set(made) & set(' "+[]{}|^$\\')


def test_the_link_to_a_ui_below_a_path():
    made = link("https://host/perfetto/", "http://127.0.0.1:9001/x", 1)
    assert made.startswith("https://host/perfetto/#!/?url=")


@pytest.mark.parametrize(
    ("kernels", "chosen"),
    [
        (0, [BY_PROCESS, COMPUTE]),
        (COMPUTE_LIMIT, [BY_PROCESS, COMPUTE]),
        (COMPUTE_LIMIT + 1, [BY_PROCESS]),
        (BY_PROCESS_LIMIT + 1, []),
        (None, [BY_PROCESS]),
    ],
)
def test_plugins_that_take_too_long_stay_off(kernels, chosen):
    assert plugins(kernels) == chosen
    assert ("enablePlugins" in link(UI, "http://x", kernels)) == bool(chosen)


def test_the_pinned_tracks_are_those_of_the_trace(tmp_path, open_trace):
    """The regular expression is for names that are made elsewhere."""
    import re  # noqa: PLC0415

    sample = Path(__file__).parent.parent / "samples" / "decode_eager.sqlite"
    trace = nsys2perfetto.convert(sample, tmp_path / "x.pftrace").output
    with open_trace(trace) as tp:
        names = [row.name for row in tp.query("SELECT DISTINCT name FROM track")]
    assert {n for n in names if n and re.search(PIN, n)} == {_STEPS, _GAPS, UTILIZATION}


# ---- how many kernels


@pytest.mark.parametrize("name", ["a.pftrace", "a.pftrace.gz"])
def test_a_trace_tells_how_many_kernels_it_has(tmp_path, name):
    capture = write_capture(tmp_path / "a.sqlite")
    trace = nsys2perfetto.convert(capture, tmp_path / name).output
    assert head.kernels(trace) == KERNELS
    part = nsys2perfetto.convert(capture, tmp_path / "b.pftrace", skip=["kernel"]).output
    assert head.kernels(part) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no trace at all",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff",
        b"\x0a\x02\xff\xff",
        b"\x0a\x02\x08\x01",
        b"\x1f\x8b broken",
        gzip.compress(b"\x0a\x02\x08\x01" * 99, mtime=0)[:-9],
    ],
)
def test_other_traces_do_not_tell(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert head.kernels(tmp_path / "x") is None


# ---- the trace


def test_the_ui_gets_the_trace(serving, url, trace):
    status, headers, body = ask(url)
    assert (status, body) == (200, trace.read_bytes())
    assert headers["Content-Length"] == str(len(body))
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Encoding"] is None
    assert headers["Access-Control-Allow-Origin"] == UI
    assert headers["Vary"] == "Origin"
    assert headers["Cache-Control"] == "no-store"
    assert url.endswith("/my_trace.pftrace")
    assert serving.wait(30)


def test_a_part_is_not_served_but_the_whole(url, trace):
    status, headers, body = ask(url, Range="bytes=0-3")
    assert (status, len(body)) == (200, trace.stat().st_size)
    assert headers["Accept-Ranges"] is None


def test_compressed_traces_go_out_as_they_are(tmp_path):
    trace = tmp_path / "a.pftrace.gz"
    trace.write_bytes(gzip.compress(b"\x0a\x02\x08\x01" * 99))
    with viewing.serve(trace, ui=UI, port=0) as serving:
        _, headers, body = ask(parsed(serving.link)[1], Accept_Encoding="gzip")
    assert body == trace.read_bytes()
    assert headers["Content-Encoding"] is None
    assert parsed(serving.link)[1].endswith("/a.pftrace.gz")


def test_head_is_no_fetch(serving, url, trace):
    status, headers, body = ask(url, "HEAD")
    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == str(trace.stat().st_size)
    assert not serving.wait(0.1)


def test_the_question_before_a_fetch(serving, url):
    status, headers, body = ask(
        url,
        "OPTIONS",
        Access_Control_Request_Method="GET",
        Access_Control_Request_Private_Network="true",
    )
    assert (status, body) == (204, b"")
    assert headers["Access-Control-Allow-Origin"] == UI
    assert headers["Access-Control-Allow-Private-Network"] == "true"
    assert headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    plain = ask(url, "OPTIONS")[1]
    assert plain["Access-Control-Allow-Private-Network"] is None
    assert not serving.wait(0.1)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://ui.example"])
def test_other_pages_do_not_get_it(serving, url, method, origin):
    status, headers, body = ask(url, method, Origin=origin)
    assert status == 403
    assert len(body) < 99
    assert headers["Access-Control-Allow-Origin"] is None
    assert not serving.wait(0.1)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize("host", [None, "evil.example", "evil.example:{}", "127.0.0.1", "[::1]:{}"])
def test_other_names_of_this_host_are_refused(serving, url, method, host):
    host = host and host.format(serving.port)
    assert ask(url, method, Host=host)[0] == 403


def test_localhost_is_this_host(serving, url):
    assert ask(url, Host=f"localhost:{serving.port}")[0] == 200


@pytest.mark.parametrize("path", ["/", "/my_trace.pftrace", "/x/my_trace.pftrace", "/status"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_nothing_else_is_there(serving, path, method):
    assert ask(f"http://127.0.0.1:{serving.port}{path}", method)[0] == 404


def test_paths_that_are_almost_that_of_the_trace(serving, url):
    for other in (url + "/", url[:-1], url.replace("/my", "/./my"), f"{url}?x", url.upper()):
        assert ask(other.replace("HTTP://", "http://"))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_it_is_only_read(url, method):
    status, headers, _ = ask(url, method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_nonsense_is_refused(serving):
    for request in (b"\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 70_000, b"BREW / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", serving.port), timeout=30) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(99)
        assert not answer.startswith(b"HTTP/1.0 200")


def test_it_listens_on_the_loopback_only(serving):
    assert serving._server.server_address == ("127.0.0.1", serving.port)


def test_the_path_holds_a_secret(trace):
    urls = set()
    for _ in range(3):
        with viewing.serve(trace, ui=UI, port=0) as serving:
            urls.add(parsed(serving.link)[1].split("/")[-2])
    assert len(urls) == 3 and all(len(secret) >= 16 for secret in urls)


def test_a_big_trace_is_streamed(tmp_path):
    """Sparse: the file is far bigger than what the server holds of it."""
    size = 3 << 30
    with (tmp_path / "big.pftrace").open("wb") as file:
        file.write(b"\x0a\x02\x08\x01")
        file.truncate(size)
    with viewing.serve(tmp_path / "big.pftrace", ui=UI, port=0) as serving:
        path = parsed(serving.link)[1].partition(str(serving.port))[2]
        with socket.create_connection(("127.0.0.1", serving.port), timeout=60) as connection:
            lines = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{serving.port}\r\nOrigin: {UI}\r\n\r\n"
            connection.sendall(lines.encode())
            start = connection.recv(4096)
            assert f"Content-Length: {size}".encode() in start
            waited = threading.Thread(target=serving.wait, args=(0.01,))
            waited.start()
            waited.join(0.3)
            assert waited.is_alive(), "no patience while a browser fetches"
            at_once = peak()
            got = sum(len(connection.recv(1 << 20)) for _ in range(200))
            assert got > 1 << 20
            assert peak() - at_once < 64 << 20
        waited.join(30)
        assert not waited.is_alive()
        assert not serving.wait(0), "half of it is not all"


def peak():
    """Bytes of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def test_it_waits_for_the_whole(serving, url):
    assert not serving.wait(0)
    ask(url)
    assert serving.wait(0)
    assert ask(url)[0] == 200, "a second tab, or a retry"


def test_a_trace_that_has_gone(url, trace):
    trace.unlink()
    assert ask(url)[0] == 410


# ---- a UI that is served, too


@pytest.fixture
def local(trace, tmp_path):
    with viewing.serve(trace, ui=make_ui(tmp_path), port=0) as serving:
        yield serving


def test_the_files_of_a_ui(local):
    base, url, _, _ = parsed(local.link)
    assert base == f"http://127.0.0.1:{local.port}/"
    status, headers, body = ask(base, Origin=None)
    assert (status, body) == (200, b"<title>UI</title>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    status, headers, body = ask(f"{base}v1/engine.wasm", Origin=None)
    assert (status, headers["Content-Type"], body) == (200, "application/wasm", b"\0asm")
    assert ask(f"{base}v1/engine.wasm", "HEAD", Origin=None)[2] == b""
    assert headers["Access-Control-Allow-Origin"] is None
    assert ask(url, Origin=None)[0] == 200
    assert ask(url, Origin=base.rstrip("/"))[0] == 200
    assert ask(url, Origin="https://ui.perfetto.dev")[0] == 403
    assert ask(base, Host="evil.example")[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/v1/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "/way_out",
        "/loop",
        "/v1",
        "/v1/",
        "/index.html/",
        "/x%00",
        "/" + "x" * 999,
        "//etc/passwd",
        "/{}/secret.txt",
        "/%2f{}/secret.txt",
        "http://127.0.0.1/index.htm",
    ],
)
def test_what_is_not_below_the_folder(local, tmp_path, path):
    with socket.create_connection(("127.0.0.1", local.port), timeout=30) as connection:
        target = path.format(tmp_path).replace(" ", "%20")
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{local.port}\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 404") and b"secret" not in answer


def test_viztracers_ui_gets_no_answer(local):
    with socket.create_connection(("127.0.0.1", local.port), timeout=30) as connection:
        connection.sendall(
            f"GET /vizviewer_info HTTP/1.1\r\nHost: 127.0.0.1:{local.port}\r\n\r\n".encode()
        )
        assert connection.recv(99) == b""


# ---- which UI


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://ui.perfetto.dev", "https://ui.perfetto.dev"),
        ("https://UI.Perfetto.dev:443/", "https://ui.perfetto.dev"),
        ("http://host:80/a/b/", "http://host"),
        ("http://host:8080/a", "http://host:8080"),
        ("https://[fd00::1]:8443", "https://[fd00::1]:8443"),
    ],
)
def test_the_origin_of_a_ui(url, origin):
    assert viewing.find_ui(url).origin == origin


@pytest.mark.parametrize(
    "ui",
    [
        "ftp://host",
        "https://",
        "https://user:word@host",
        "https://host/?x=1",
        "https://host/#!/",
        "https://host:0",
        "https://host:x",
        "javascript://host",
    ],
)
def test_what_is_no_ui(ui, trace):
    with pytest.raises(UsageError, match="is not the URL of a UI"), viewing.serve(trace, ui=ui):
        pass


def test_what_is_no_folder_of_a_ui(tmp_path, trace):
    for folder in (tmp_path, tmp_path / "absent", trace, "ui.perfetto.dev"):
        with pytest.raises(UsageError, match="no build of Perfetto's UI"):
            viewing.find_ui(folder)


# ---- what is wrong


def test_the_public_ui_can_fetch_from_one_port_only(trace):
    with (
        pytest.raises(UsageError, match="only fetch from port 9001"),
        viewing.serve(trace, port=9002),
    ):
        pass


def test_there_are_so_many_ports(trace):
    for port in (-1, 65536):
        with pytest.raises(UsageError, match="no port"), viewing.serve(trace, ui=UI, port=port):
            pass


def test_a_port_in_use_is_told_before_anything_is_converted(tmp_path):
    capture = write_capture(tmp_path / "a.sqlite")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(Nsys2PerfettoError, match=rf"port {port} of 127\.0\.0\.1 is in use: end"),
            viewing.serve(capture, ui=UI, port=port, progress=lambda *_: pytest.fail("reads")),
        ):
            pass


def test_options_of_conversions_are_for_captures(trace):
    for options in ({"steps": (1, 2)}, {"lean": True}, {"start": 0}, {"pids": [1]}):
        [name] = options
        with (
            pytest.raises(UsageError, match=f"is a trace already: {name} can only"),
            viewing.serve(trace, ui=UI, port=0, **options),
        ):
            pass


def test_files_that_are_no_traces(tmp_path):
    with pytest.raises(TraceError, match="no such file"), viewing.serve(tmp_path / "absent"):
        pass


# ---- captures, and the function


def test_a_capture_is_converted_with_its_options(tmp_path, open_trace):
    capture = write_capture(tmp_path / "my run.sqlite")
    with viewing.serve(capture, ui=UI, port=0, skip=["cuda_api"]) as serving:
        temporary = serving.trace
        url = parsed(serving.link)[1]
        assert url.endswith("/my_run.pftrace")
        body = ask(url)[2]
        assert (serving.kernels, serving.conversion.capture.path) == (KERNELS, capture)
    assert not temporary.parent.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["my run.sqlite"]
    with open_trace(body) as tp:
        [row] = tp.query("SELECT count(*) AS n FROM gpu_slice")
        assert row.n == KERNELS


def test_the_function_returns_when_the_tab_has_the_trace(trace, monkeypatch, capsys):
    fetched = []

    def tab(link):
        fetched.append(ask(parsed(link)[1]))
        return True

    monkeypatch.setattr(browser, "open_link", tab)
    nsys2perfetto.open_in_ui(trace, ui=UI, port=0)
    assert [status for status, _, _ in fetched] == [200]
    assert capsys.readouterr().out == ""


def test_the_function_gives_up(trace, capsys):
    with pytest.raises(Nsys2PerfettoError, match=r"no browser has fetched the trace within 0\.1 s"):
        nsys2perfetto.open_in_ui(trace, ui=UI, port=0, open_browser=False, timeout=0.1)
    assert parsed(capsys.readouterr().out.strip())[0] == f"{UI}/"


# ---- browsers


class FakeBrowser:
    def __init__(self, name, answer=True):
        self.name, self.answer, self.opened = name, answer, []

    def open(self, link, new=0):
        self.opened.append((link, new))
        return self.answer


@pytest.fixture
def display(monkeypatch):
    for name in ("WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")


def test_a_browser_gets_the_link_in_a_new_tab(display, monkeypatch):
    for answer in (True, False):
        chosen = FakeBrowser("firefox", answer)
        monkeypatch.setattr("webbrowser.get", lambda chosen=chosen: chosen)
        assert browser.open_link("https://x") == answer
        assert chosen.opened == [("https://x", 2)]


def test_browsers_for_text_are_left_alone(display, monkeypatch):
    chosen = FakeBrowser("/usr/bin/w3m")
    monkeypatch.setattr("webbrowser.get", lambda: chosen)
    assert not browser.open_link("https://x")
    assert chosen.opened == []


def test_no_browser(display, monkeypatch):
    def get():
        raise browser.webbrowser.Error

    monkeypatch.setattr("webbrowser.get", get)
    assert not browser.open_link("https://x")


def test_without_a_display_no_browser_is_looked_for(display, monkeypatch):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.setattr("webbrowser.get", lambda: pytest.fail("looked for"))
    monkeypatch.setattr("sys.platform", "linux")
    assert not browser.open_link("https://x")
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("SSH_CONNECTION", "x")
    assert not browser.open_link("https://x")
