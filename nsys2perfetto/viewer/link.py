"""The link that opens a trace in Perfetto's UI and arranges the first screen.

The form is that of Perfetto's docs/visualization/deep-linking-to-perfetto-ui.md; what the UI does
with it is in its ui/src/frontend/index.ts, trace_url_handler.ts and core/load_trace.ts.

| part | since | in an older UI |
|---|---|---|
| `url` | 2021 | |
| `enablePlugins` | v49 or earlier | no plugins |
| `dev.perfetto.GpuByProcess` | v49 or earlier | |
| `com.meta.GpuCompute` | v55 | unknown names are passed over |
| `startupCommands` and both commands | v52 | nothing is pinned or expanded |

A command that finds no track does nothing. One that does not exist would be a dialog from v58 on,
so there is none but those two, which Perfetto's documentation promises to keep.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote, urlencode

UI = "https://ui.perfetto.dev"
PORT = 9001
"""The only port of 127.0.0.1 that the UI's content security policy lets it fetch from."""

EXPAND = "^GPU$|^Hardware Queues$|^Render Stage$"
"""Groups to open: the kernels of a GPU. The last is what UIs before v55 call the second."""
PIN = "^(Decode steps|GPU idle gaps|GPU utilization)( · .*)?$"
"""Tracks to keep at the top, by the names of `annotation_tracks` and `first_screen`; they may go on
with GPU and process."""

_BY_NAME = "name"
"""What the expressions fit: names, not paths. Left out, the UI asks its user (seen in v52)."""

BY_PROCESS = "dev.perfetto.GpuByProcess"
"""Plugin: GPU work by process, context and stream."""
BY_PROCESS_LIMIT = 1_000_000
"""Kernels; so many take it 9 seconds (measured with the UI v58.2)."""
COMPUTE = "com.meta.GpuCompute"
"""Plugin: table of kernels, details of one, comparison of two."""
COMPUTE_LIMIT = 100_000
"""Kernels; a million takes it three minutes (measured with the UI v58.2)."""


def link(ui: str, trace_url: str, kernels: int | None) -> str:
    """The link to the UI with a trace.

    Args:
        ui: Where the UI is: a URL without query and fragment.
        trace_url: Where the UI fetches the trace.
        kernels: How many the trace has, which decides on plugins; None if that is not known.
    """
    commands = [
        {"id": "dev.perfetto.ExpandTracksByRegex", "args": [EXPAND, _BY_NAME]},
        {"id": "dev.perfetto.PinTracksByRegex", "args": [PIN, _BY_NAME]},
    ]
    arguments = {"url": trace_url}
    if chosen := plugins(kernels):
        arguments["enablePlugins"] = ",".join(chosen)
    arguments["startupCommands"] = json.dumps(commands, separators=(",", ":"))
    # The UI takes + for a blank only in some versions: everything is percent-encoded.
    return f"{ui.rstrip('/')}/#!/?{urlencode(arguments, quote_via=quote, safe='')}"


def served_name(name: str) -> str:
    """The name of a trace in the URL that it is served at, which no one needs to encode."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_") or "trace.pftrace"


def plugins(kernels: int | None) -> list[str]:
    """The plugins to switch on for so many kernels; None is not known, maybe many."""
    chosen = []
    if kernels is None or kernels <= BY_PROCESS_LIMIT:
        chosen.append(BY_PROCESS)
    if kernels is not None and kernels <= COMPUTE_LIMIT:
        chosen.append(COMPUTE)
    return chosen
