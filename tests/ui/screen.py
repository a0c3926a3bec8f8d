"""The UI as its user has it: open a file, look at tracks, search, select, type SQL."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from tests.ui import engine_link, place
from tests.ui.server import serving

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--font-render-hinting=none",
]
MINUTE = 60_000
"""ms: the machine may be busy."""

_DROP = """([bytes, name]) => {
  const data = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], name));
  for (const type of ['dragenter', 'dragover', 'drop']) {
    const event = new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true});
    window.dispatchEvent(event);
  }
}"""


@contextmanager
def browser(width: int = 1400, height: int = 900, scale: float = 1.0) -> Iterator[Browser]:
    """A browser with the UI at hand."""
    with serving(place.folder()) as origin, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=place.browser(), headless=True, args=FLAGS
        )
        try:
            yield Browser(chromium, origin, (width, height), scale)
        finally:
            chromium.close()


class Browser:
    """Opens the UI, each time as if for the first time."""

    def __init__(self, chromium, origin: str, size: tuple[int, int], scale: float) -> None:
        self._chromium, self._origin, self._size, self._scale = chromium, origin, size, scale

    @contextmanager
    def ui(self, with_engine: bool = False, arguments: str = "") -> Iterator[Screen]:
        """The UI, just loaded; `with_engine`: it finds the test engine on port 9001."""
        context = self._chromium.new_context(
            viewport={"width": self._size[0], "height": self._size[1]},
            device_scale_factor=self._scale,
            service_workers="block",
        )
        context.set_default_timeout(4 * MINUTE)
        page = context.new_page()
        # Nothing but our own server: analytics and the like fail at once, not by a timeout.
        page.route(
            lambda url: url.startswith("http") and urlsplit(url).netloc not in self._origin,
            lambda route: route.abort(),
        )
        page.add_init_script(
            "localStorage.setItem('dismissedPanningHint', 'true');"
            "localStorage.setItem('cookieAck', 'true');"
        )
        module = engine_link.connect(page) if with_engine else None
        try:
            page.goto(f"{self._origin}/?testing=1{arguments}")  # no animations
            page.wait_for_selector("input.trace_file", state="attached")
            yield Screen(page)
        finally:
            context.close()
            if module is not None:
                module.close()


class Screen:
    """One tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)[:300]))

    # ---- opening a file

    def drag_in(self, trace: Path) -> None:
        """Drops the file on the window."""
        content = base64.b64encode(trace.read_bytes()).decode()
        self.page.evaluate(_DROP, [content, trace.name])
        self._loaded()

    def choose(self, trace: Path) -> None:
        """What the menu's `Open trace file` does."""
        self.page.set_input_files("input.trace_file", trace)
        self._loaded()

    def _loaded(self) -> None:
        self.page.wait_for_selector(".pf-track, .pf-modal-dialog", state="attached")
        if not self.dialogs():
            self.settle()

    def settle(self, ms: int = 300) -> None:
        """Waits until the UI has nothing to do; the UI's own hook for tests."""
        self.page.evaluate("(ms) => window.waitForPerfettoIdle(ms)", ms)

    # ---- what it says

    def dialogs(self) -> list[str]:
        """Texts of the dialogs that are open: the UI shows fatal errors so."""
        return self.page.locator(".pf-modal-dialog").all_inner_texts()

    def badges(self) -> list[str]:
        """What the badge of import errors says."""
        return self.page.locator(".pf-topbar__error-box button").evaluate_all(
            "(found) => found.map((b) => b.title)"
        )

    def tracks(self) -> list[str]:
        """Every track that is laid out, top to bottom: its path, of titles with slashes."""
        return self.page.locator(".pf-track").evaluate_all(
            "(found) => found.map((t) => t.getAttribute('ref'))"
        )

    def names(self) -> list[str]:
        """The same, only titles."""
        return [path.rpartition("/")[2] for path in self.tracks()]

    def details(self) -> str:
        """Text of the panel below, about what is selected."""
        return self.page.locator(".pf-details-shell").first.inner_text()

    # ---- what one does

    def command(self, name: str, *arguments: object) -> object:
        """Runs a command of the palette (Ctrl+Shift+P)."""
        done = self.page.evaluate(
            "([name, given]) => self.app.commands.runCommand(name, ...given)",
            [name, list(arguments)],
        )
        self.settle()
        return done

    def expand_all(self) -> None:
        """Every group."""
        self.command("dev.perfetto.ExpandAllGroups")

    def search(self, text: str) -> str:
        """Types into the search box and goes to the first hit; `1 / 27`."""
        box = self.page.locator("input[ref=omnibox]")
        box.focus()
        box.fill(text)
        self.settle()
        box.press("Enter")
        self.settle()
        return self.page.locator(".pf-omnibox__stepthrough-current").first.inner_text()

    def select(self, slice_id: int) -> None:
        """Selects a slice, as a click on it does."""
        self.page.evaluate(
            "(id) => self.app.trace.selection.selectSqlEvent('slice', id,"
            " {scrollToSelection: true, switchToCurrentSelectionTab: true})",
            slice_id,
        )
        self.settle()

    def fit(self) -> None:
        """Zooms to what is selected: the key f."""
        self.page.locator("body").press("f")
        self.settle()

    def show(self, start: int, end: int) -> None:
        """Shows this time, in ns of the trace."""
        self.page.evaluate(
            "([start, end]) => { const line = self.app.trace.timeline;"
            " const span = line.visibleWindow.constructor.fromTime(BigInt(start), BigInt(end));"
            " (line.setVisibleWindow ?? line.updateVisibleTimeHP).call(line, span); }",
            [str(start), str(end)],
        )
        self.settle()

    def sidebar(self) -> None:
        """Hides or shows the menu on the left."""
        self.command("dev.perfetto.ToggleLeftSidebar")

    def visible(self) -> tuple[int, int]:
        """Start and end of what the timeline shows, in ns of the trace."""
        start, end = self.page.evaluate(
            "() => { const shown = self.app.trace.timeline.visibleWindow.toTimeSpan();"
            " return [Number(shown.start), Number(shown.end)]; }"
        )
        return start, end

    def query(self, sql: str) -> list[list[str]]:
        """Rows that the query page shows for `sql`, typed there."""
        self.page.evaluate("location.hash = '#!/query'")
        self.settle()
        editor = self.page.locator(".pf-editor div[role=textbox]").first
        editor.focus()
        editor.clear()
        editor.fill(sql)
        editor.press("ControlOrMeta+Enter")
        editor.blur()  # its cursor blinks, and the UI is never idle with that
        self.settle()
        return self.page.locator(".pf-query-page .pf-data-grid tbody tr").evaluate_all(
            "(rows) => rows.map("
            " (r) => [...r.querySelectorAll('td')].map((cell) => cell.innerText.trim()))"
        )

    def ask(self, sql: str) -> list[dict[str, object]]:
        """Rows from the engine below the UI, without the screen; integers as text beyond 2^53."""
        return self.page.evaluate(
            """async (sql) => {
              const result = await self.app.trace.engine.query(sql), rows = [];
              const plain = (v) => typeof v === 'bigint'
                ? (Number.isSafeInteger(Number(v)) ? Number(v) : String(v)) : v;
              for (const it = result.iter({}); it.valid(); it.next())
                rows.push(Object.fromEntries(result.columns().map((c) => [c, plain(it.get(c))])));
              return rows;
            }""",
            sql,
        )

    def picture(self, path: Path) -> Path:
        """What is on the screen."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        return path
