"""nsys2perfetto: NVIDIA Nsight Systems captures as native, annotated Perfetto traces.

    import nsys2perfetto

    result = nsys2perfetto.convert("trace.sqlite")
    print(result.output, result.events_written)

    with nsys2perfetto.open_trace("trace.pftrace") as trace:
        print(trace.steps())

Everything heavy is imported on first use, so `import nsys2perfetto` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Nsys2PerfettoError",
    "Trace",
    "__version__",
    "convert",
    "inspect",
    "open_in_ui",
    "open_trace",
]

if TYPE_CHECKING:
    from nsys2perfetto.conversion import convert
    from nsys2perfetto.errors import Nsys2PerfettoError
    from nsys2perfetto.inspection import inspect
    from nsys2perfetto.query.session import Trace, open_trace
    from nsys2perfetto.viewer.viewing import open_in_ui


def __getattr__(name: str) -> object:
    """Imports the public functions on first use (PEP 562)."""
    import importlib  # noqa: PLC0415 - keeps `import nsys2perfetto` free

    homes = {"convert": "conversion", "inspect": "inspection", "Nsys2PerfettoError": "errors"}
    homes |= {"open_trace": "query.session", "Trace": "query.session"}
    homes |= {"open_in_ui": "viewer.viewing"}
    if name in homes:
        return getattr(importlib.import_module(f"nsys2perfetto.{homes[name]}"), name)
    raise AttributeError(f"module 'nsys2perfetto' has no attribute {name!r}")
