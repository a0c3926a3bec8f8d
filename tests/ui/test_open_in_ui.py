"""`nsys2perfetto open` with a real browser and the real UI: the tab shows what the link asks for.

UI and browser are those of `tests.ui.place`.
"""

import contextlib
import functools
import http.server
import os
import re
import signal
import socket
import threading

import pytest

from nsys2perfetto.viewer.link import PORT
from tests.engine.locate import REPOSITORY
from tests.opened import finish, opened, parsed
from tests.ui import place

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

UI, CHROMIUM = place.folder(), place.browser()
SAMPLE = REPOSITORY / "samples" / "decode_eager.sqlite"
PATIENCE = 120_000
"""ms; the machine may be busy."""


@pytest.fixture(scope="module")
def chromium():
    arguments = ["--disable-gpu", "--disable-background-networking"]
    arguments += ["--no-sandbox"] * (os.geteuid() == 0)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    """A fresh tab that reaches nothing but this machine."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(PATIENCE)
    context.route(re.compile(r"^(?!http://(127\.0\.0\.1|localhost):)"), lambda route: route.abort())
    context.add_init_script("localStorage.setItem('cookieAck', 'true')")
    yield context.new_page()
    context.close()


def shown(tab):
    """Paths of the tracks that a loaded tab shows, top to bottom; the pinned ones without groups.

    Fails on a dialog.
    """
    tab.wait_for_selector(".pf-track")
    tab.evaluate("self.waitForPerfettoIdle()")
    assert tab.locator(".pf-modal-dialog").all_inner_texts() == []
    return tab.locator(".pf-track").evaluate_all("ts => ts.map(t => t.getAttribute('ref'))")


def check_first_screen(tracks):
    assert tracks[:2] == ["Decode steps", "GPU idle gaps"]
    assert tracks.index("GPU") > 1
    streams = [t for t in tracks if re.fullmatch(r"GPU/Render Stage/Stream +\d+", t)]
    assert streams, "the queues are open"


def test_a_capture_with_a_ui_that_is_served_too(tab):
    with opened(SAMPLE, "--no-browser", "--ui", UI, "--port", "0") as (process, link):
        tab.goto(link)
        check_first_screen(shown(tab))
        assert "decode_eager.pftrace" in tab.locator("nav, .pf-sidebar").first.inner_text()
        plugins = tab.evaluate(
            "self.app.plugins.getAllPlugins().filter(p => p.active).map(p => p.desc.id)"
        )
        assert "dev.perfetto.GpuByProcess" in plugins
        tab.goto("about:blank")
        tab.goto(link)
        check_first_screen(shown(tab))
        process.send_signal(signal.SIGINT)
        out, err = finish(process)
    assert (process.returncode, err) == (130, "")
    assert "The tab has the trace." in out


class _Files(http.server.SimpleHTTPRequestHandler):
    """A web site with the UI; of a wrong type, WebAssembly would not load."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".wasm": "application/wasm",
        ".js": "text/javascript",
    }

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path != "/vizviewer_info":  # see viewer.server
            super().do_GET()


@contextlib.contextmanager
def site():
    """The UI at an origin of its own."""
    handler = functools.partial(_Files, directory=str(UI))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()


def is_free(port):
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.skipif(not is_free(PORT), reason=f"port {PORT} is in use")
def test_a_ui_on_a_site_of_its_own_and_no_other_page(tab):
    """As with ui.perfetto.dev: another origin, and a policy that allows one port only."""
    with site() as ui, site() as other:
        with opened(SAMPLE, "--no-browser", "--ui", ui) as (process, link):
            base, url, _, _ = parsed(link)
            assert base == f"{ui}/"
            assert url.startswith(f"http://127.0.0.1:{PORT}/")
            tab.goto(f"{other}/a-page-of-errors")
            read = "url => fetch(url).then(r => r.status, e => e.name)"
            assert tab.evaluate(read, url) == "TypeError", "another page gets nothing"
            assert process.poll() is None
            tab.goto(link)
            check_first_screen(shown(tab))
            out, err = finish(process)
        assert (process.returncode, err) == (0, "")
        assert out.endswith("The tab has the trace; nothing is served any more.\n")
        tab.evaluate("self.app.trace.engine.query('select 1')")
