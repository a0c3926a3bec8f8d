"""Bring a browser here, by the name of its package: `python -m tests.ui.fetch`.

It is Debian's `chromium`, installed where we may (root, apt-get) and none is there. The UI comes
with the engine of its version (`tests.engine.fetch`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tests.ui import place
from tests.ui.place import UiMissingError

MINUTES = 10


def main() -> int:
    """Exit status 1 with one line if something is missing and cannot be had."""
    try:
        print(f"browser: {_with_browser()}")
        print(f"Perfetto UI: v{place.version()}, {place.folder()}")
    except UiMissingError as error:
        print(f"cannot test in the browser: {error}", file=sys.stderr)
        return 1
    return 0


def _with_browser() -> str:
    try:
        return place.browser()
    except UiMissingError:
        if os.geteuid() or not shutil.which("apt-get"):
            raise
    print("installing Debian's chromium", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "-qq", "update"], environment)
    _run(["apt-get", "-qq", "install", "--no-install-recommends", "chromium"], environment)
    return place.browser()


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    said = " ".join(command[:4])
    try:
        run = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60 * MINUTES,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UiMissingError(f"`{said} ...` took more than {MINUTES} minutes") from None
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.strip()]
        raise UiMissingError(f"`{said} ...` failed: {lines[-1] if lines else 'no output'}")


if __name__ == "__main__":
    raise SystemExit(main())
