"""Opens a link in the user's browser, where there is one that shows pages with graphics."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser

_PATIENCE = 6.0
"""Seconds for a browser to take the link; `webbrowser` waits 5 for some to end."""
_FOR_TEXT = ("www-browser", "links", "elinks", "lynx", "w3m", "links2")
"""Browsers that `webbrowser` may choose, and that would take the terminal."""
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def open_link(link: str) -> bool:
    """Opens a link in a new tab; False if there is no browser, or nowhere to show it."""
    if not _has_display():
        return False
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if os.path.basename(getattr(browser, "name", "")) in _FOR_TEXT:  # noqa: PTH119 - a command
        return False
    opened: list[bool] = []
    # In a thread: a browser that was not running yet may keep us until it ends.
    thread = threading.Thread(target=lambda: opened.append(browser.open(link, new=2)), daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return not opened or opened[0]


def _has_display() -> bool:
    if any(os.environ.get(name) for name in _DISPLAYS):
        return True
    return sys.platform in ("darwin", "win32", "cygwin") and "SSH_CONNECTION" not in os.environ
