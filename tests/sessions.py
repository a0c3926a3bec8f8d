"""Sessions with traces (`nsys2perfetto.open_trace`) on the test engine, inside this process."""

from __future__ import annotations

import contextlib
from unittest import mock

from perfetto.trace_processor import TraceProcessorConfig

from nsys2perfetto.query import locate, session
from nsys2perfetto.sql import PACKAGE
from tests.engine.locate import NODE_SHELL, installed_shell


def engine_program():
    """A program with the official engine's command line: the official one, or that of the tests."""
    return installed_shell() or str(NODE_SHELL)


@contextlib.contextmanager
def in_process():
    """Makes `open_trace` take the test engine, in this process where there is no installed one."""
    shell = installed_shell()
    if shell:
        with mock.patch.dict("os.environ", {locate.VARIABLE: shell}):
            yield
        return
    # On use: a shell serves also those whose `perfetto` is too old for this.
    from tests.engine.wasm import TraceProcessor  # noqa: PLC0415

    def launch(_shell, trace, _folder=None):
        config = TraceProcessorConfig(add_sql_packages=[str(PACKAGE)])
        return TraceProcessor(trace=str(trace), config=config), None

    with (
        mock.patch.object(session, "launch", launch),
        mock.patch.object(locate, "find", lambda engine=None: NODE_SHELL),
    ):
        yield
