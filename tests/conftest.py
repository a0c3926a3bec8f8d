"""Fixtures that every test may use: a real trace processor, and real captures where they are."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import settings
from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

from tests.engine.locate import (
    REPOSITORY,
    EngineMissingError,
    installed_shell,
    old_wasm_path,
    wasm_path,
)
from tests.engine.wasm import OldTraceProcessor
from tests.engine.wasm import TraceProcessor as WasmTraceProcessor

# The machine may be busy: a slow example is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

OpenTrace = Callable[..., AbstractContextManager[TraceProcessor]]
"""``open_trace(path_or_bytes, sql_packages=())``, for use in a ``with`` statement."""

CAPTURES = Path(os.environ.get("NSYS2PERFETTO_CAPTURES", REPOSITORY / ".." / "shared" / "captures"))
"""Real nsys exports, where this machine has some; the project's own tests do without."""


@pytest.fixture(scope="session")
def engine_shell() -> str | None:
    """Path of the installed trace processor to use, None for the WebAssembly build."""
    try:
        shell = installed_shell()
        if shell is None:
            wasm_path()
        return shell
    except EngineMissingError as error:
        problem = str(error)
    pytest.fail(problem, pytrace=False)


@pytest.fixture(scope="session")
def open_trace(engine_shell: str | None) -> OpenTrace:
    """Load a trace (a path, or its bytes) into a real trace processor.

    ``with open_trace(path) as tp: ...``; each open one holds 28 MB and up.
    """

    def opened(trace: Path | str | bytes, sql_packages: Sequence[str] = ()) -> TraceProcessor:
        source = io.BytesIO(trace) if isinstance(trace, bytes) else str(trace)
        config = TraceProcessorConfig(
            bin_path=engine_shell, add_sql_packages=[str(package) for package in sql_packages]
        )
        if engine_shell is None:
            return WasmTraceProcessor(trace=source, config=config)
        return TraceProcessor(trace=source, config=config)

    return opened


@pytest.fixture(scope="session")
def open_in_v52() -> OpenTrace:
    """Load a trace into the engine of v52, which knows no GPU compute model."""
    try:
        old_wasm_path()
    except EngineMissingError as error:
        pytest.fail(str(error), pytrace=False)

    def opened(trace: Path | str | bytes) -> TraceProcessor:
        return OldTraceProcessor(
            trace=io.BytesIO(trace) if isinstance(trace, bytes) else str(trace)
        )

    return opened


def _captures() -> list[object]:
    found = sorted(CAPTURES.glob("*.sqlite"))
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no captures in {CAPTURES}"))]
    return [pytest.param(path, id=path.stem) for path in found]


@pytest.fixture(scope="session", params=_captures())
def capture(request: pytest.FixtureRequest) -> Path:
    """Each real nsys export in turn; skipped where there are none."""
    path: Path = request.param
    return path
