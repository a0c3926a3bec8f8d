"""A headless Chromium, asked through its DevTools protocol over a pipe: no port, no driver."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
    "--remote-debugging-pipe",
]  # fmt: skip
_HIGH = 20
"""Lowest number of our ends of the pipes, so that 3 and 4 stay free for Chromium's."""


class Browser:
    """One tab."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, os.fdopen(answers, "rb", buffering=0)
        self._rest, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Runs a command of the protocol; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def open(self, path: Path, width: int, height: int, dark: bool = False) -> None:
        """Loads a file and waits for it."""
        self.show(dark)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._read())

    def show(self, dark: bool) -> None:
        """Wants light or dark pages."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, target: Path) -> bytes:
        """The whole page as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        target.write_bytes(base64.b64decode(data))
        return target.read_bytes()

    def problems(self) -> list[Any]:
        """What the page threw, what was logged as an error, what it wanted to load."""
        self.ask("new Promise(requestAnimationFrame)")
        return [
            e["params"]
            for e in self.events
            if e["method"] == "Runtime.exceptionThrown"
            or (e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error")
            or (e["method"] == "Network.requestWillBeSent" and "file:" not in str(e)[:2000])
        ]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = self._answers.read(1 << 20)
            assert chunk, "Chromium ended"
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def browser() -> Iterator[Browser]:
    """Starts Chromium in a profile of its own, and ends it."""
    pipes = [os.pipe(), os.pipe()]
    high = [[fcntl.fcntl(fd, fcntl.F_DUPFD, _HIGH) for fd in pipe] for pipe in pipes]
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)
    (reads, commands), (answers, writes) = high

    def at_3_and_4() -> None:
        os.dup2(reads, 3)
        os.dup2(writes, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [str(CHROMIUM), *_QUIET, f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=at_3_and_4,  # noqa: PLW1509 - there are no threads
        )  # fmt: skip
        os.close(reads)
        os.close(writes)
        try:
            yield Browser(commands, answers)
        finally:
            process.terminate()
            process.wait(timeout=60)
            os.close(commands)
