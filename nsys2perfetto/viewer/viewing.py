"""`serve` and `open_in_ui`: a trace, or a capture, in Perfetto's UI."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from nsys2perfetto.errors import Nsys2PerfettoError, OutputError, UsageError
from nsys2perfetto.nsys.source import printable
from nsys2perfetto.viewer import browser, head
from nsys2perfetto.viewer import link as links
from nsys2perfetto.viewer.link import PORT, UI
from nsys2perfetto.viewer.server import TraceServer

if TYPE_CHECKING:
    from nsys2perfetto.reading import Progress
    from nsys2perfetto.result import Conversion

_LAST_PORT = 65535
TIMEOUT = 600.0
"""Seconds to wait for a browser: enough to set up a tunnel by hand."""


@dataclass(frozen=True)
class Ui:
    """A UI: somebody's web site, or files that we serve.

    Attributes:
        url: Of the site, without query and fragment; None for files.
        folder: The files; None for a site.
    """

    url: str | None = UI
    folder: Path | None = None

    @property
    def origin(self) -> str | None:
        """Of the site, as browsers name it; None for files, which have that of our server."""
        if self.url is None:
            return None
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        port = parts.port
        if port in (None, {"http": 80, "https": 443}[parts.scheme]):
            return f"{parts.scheme}://{_bracketed(host)}"
        return f"{parts.scheme}://{_bracketed(host)}:{port}"


@dataclass(frozen=True)
class Serving:
    """A trace that is served.

    Attributes:
        link: What to open in a browser.
        port: Where it is served.
        trace: The file.
        kernels: How many it has; None if it does not tell.
        conversion: How it was made, if it was made for this.
        serves_ui: Whether the UI is served, too: then a tab that has the trace needs more of it.
    """

    link: str
    port: int
    trace: Path
    kernels: int | None
    conversion: Conversion | None
    serves_ui: bool
    _server: TraceServer

    def open_browser(self) -> bool:
        """Opens the link; False if there is no browser, or nowhere to show it."""
        return browser.open_link(self.link)

    def wait(self, timeout: float | None = TIMEOUT) -> bool:
        """Waits until a tab has fetched the whole trace; see `TraceServer.wait`."""
        return self._server.wait(timeout)

    def wait_for_ever(self) -> NoReturn:
        """Serves until the process is told to stop (Ctrl-C)."""
        while True:
            time.sleep(1.0)


@contextlib.contextmanager
def serve(
    path: str | Path,
    *,
    ui: str | Path = UI,
    port: int | None = None,
    lasting: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[Serving]:
    """Serves a trace to Perfetto's UI until the block ends.

    Args:
        path: A trace, or a capture, which is converted to a temporary file first.
        ui: The UI: a URL, or a folder with its files, which are then served, too.
        port: Of 127.0.0.1. 9001 if None, the only one from which ui.perfetto.dev may fetch.
        lasting: Serve it under its name alone, so that the links of `report --html` lead to it.
            Other users of this machine can fetch it then, as long as it is served.
        progress: Called now and then while a capture is converted.
        options: How to convert a capture, see `convert`.

    Raises:
        TraceError, CaptureError: The file cannot be read.
        UsageError: There is no such UI, it cannot use this port, or these are options of a
            conversion for what is a trace already.
        OutputError: The temporary file cannot be written.
        Nsys2PerfettoError: The port is in use.
    """
    from nsys2perfetto.query import session  # noqa: PLC0415 - imports protobuf

    path = Path(path)
    where = find_ui(ui)
    if port is None:
        port = PORT
    elif port != PORT and where.url == UI:
        raise UsageError(f"{UI} can only fetch from port {PORT}: leave --port out")
    if not 0 <= port <= _LAST_PORT:
        raise UsageError(f"there is no port {port}: name one from 0 to {_LAST_PORT}")
    is_capture = session.is_capture(path)
    if not is_capture and (given := _given(options)):
        raise UsageError(
            f"{printable(str(path))} is a trace already: {' and '.join(given)} can only be chosen "
            f"where a capture is converted"
        )
    with contextlib.ExitStack() as stack:
        # Listens before it converts: that a port is in use should not be told after minutes.
        server = stack.enter_context(TraceServer(port, where.origin, where.folder))
        conversion = None
        trace, kernels = path, None
        if is_capture:
            folder = _temporary_folder(stack)
            conversion = session.convert_into(folder, path, {**options, "progress": progress})
            trace = conversion.output
            kernels = sum(c.written for c in conversion.families if c.family == "kernel")
        else:
            kernels = head.kernels(trace)
        server.offer(trace, links.served_name(trace.name), lasting=lasting)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        stack.callback(server.shutdown)
        trace_url = server.address + server.trace_path
        made = links.link(where.url or server.address, trace_url, kernels)
        serves_ui = where.folder is not None
        yield Serving(made, server.port, trace, kernels, conversion, serves_ui, server)


def open_in_ui(
    path: str | Path,
    *,
    ui: str | Path = UI,
    port: int | None = None,
    open_browser: bool = True,
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
    **options: Any,
) -> None:
    """Opens a trace, or a capture, in Perfetto's UI; returns when the tab has it.

        nsys2perfetto.open_in_ui("trace.sqlite", steps=(10, 19))

    The UI keeps a copy of its own. If `ui` is a folder, it never returns: the tab needs more and
    more of the files in it.

    Args:
        path, ui, port, progress, options: See `serve`.
        open_browser: If False, or if there is no browser, the link is printed.
        timeout: Seconds in which the tab must fetch the trace.

    Raises:
        Nsys2PerfettoError: No tab fetched it in time; and what `serve` raises.
    """
    with serve(path, ui=ui, port=port, progress=progress, **options) as serving:
        if not (open_browser and serving.open_browser()):
            print(serving.link)  # noqa: T201 - that is what is asked for
        if not serving.wait(timeout):
            raise not_fetched(timeout)
        if serving.serves_ui:
            serving.wait_for_ever()


def not_fetched(timeout: float) -> Nsys2PerfettoError:
    """Why it ends without a tab that has the trace."""
    return Nsys2PerfettoError(
        f"no browser has fetched the trace within {timeout:g} s: open the link sooner (--timeout), "
        f"and allow the page to reach this machine if the browser asks"
    )


def find_ui(ui: str | Path) -> Ui:
    """What the user means by a URL or a folder.

    Raises:
        UsageError: It is neither.
    """
    text = str(ui)
    shown = printable(text)
    if "://" not in text:
        folder = Path(ui)
        if not (folder / "index.html").is_file():
            raise UsageError(
                f"{shown} is no build of Perfetto's UI: name its URL, or the folder with its "
                f"index.html"
            )
        return Ui(None, folder)
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(f"{shown} is not the URL of a UI, such as {UI}")
    return Ui(text.rstrip("/"))


def _given(options: dict[str, Any]) -> list[str]:
    """Names of the options of `convert` that say something other than its defaults."""
    from nsys2perfetto.annotation import AnnotationOptions  # noqa: PLC0415 - imports Polars

    def is_said(value: Any) -> bool:
        if value is None or value is False or value == AnnotationOptions():
            return False
        return not (isinstance(value, Collection) and not value)

    return [name for name, value in options.items() if is_said(value)]


def _temporary_folder(stack: contextlib.ExitStack) -> Path:
    """A folder that is removed with the stack."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="nsys2perfetto-"))
    except OSError as error:
        raise OutputError(f"no folder for temporary files: {error.strerror or error}") from None
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
