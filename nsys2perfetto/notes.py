"""What a user should know about a capture: what it hides, what looks wrong, and what to do."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nsys2perfetto.nsys import cuda_calls, gpu_work
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.events import Events, Selection
from nsys2perfetto.nsys.metadata import Metadata
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.tables import not_shown
from nsys2perfetto.tracks.cuda_api import Calls

_NODE_LEVEL = "capture again with --cuda-graph-trace=node to see them"
_SHOWN_MESSAGES = 5
_GRAPH_LAUNCH = "GraphLaunch"


def kernels_by_gpu(kernels: Events) -> dict[int, int]:
    """How many kernels ran on each GPU."""
    if not len(kernels):
        return {}
    count = np.bincount(kernels.code, minlength=len(kernels.config))
    result: dict[int, int] = {}
    for gpu, number in zip(kernels.config["gpu"].to_list(), count.tolist(), strict=True):
        result[gpu] = result.get(gpu, 0) + number
    return result


def collect(
    capture: Capture,
    metadata: Metadata,
    work: dict[str, Events],
    everything: list[Events],
    calls: Calls,
) -> list[str]:
    """One sentence for each thing worth knowing about a conversion, the most important first."""
    launches = np.nonzero(calls.name.str.contains(_GRAPH_LAUNCH).fill_null(False).to_numpy())[0]
    nodes = work["kernel"].config["graphNodeId"] if len(work["kernel"]) else None
    notes = _graphs(
        metadata,
        graphs=len(work["graph"]),
        launches=int(np.isin(calls.events.code, launches).sum()),
        has_nodes=nodes is not None and nodes.fill_null(0).max() != 0,
    )
    kernels = len(work["kernel"])
    if not capture.count(gpu_work.KERNEL) and not capture.count(gpu_work.GRAPH_TRACE):
        notes += ["no kernels in this capture", *_messages(metadata)]
    lonely = int((calls.submitting_call[:kernels] < 0).sum())
    if lonely and len(calls.events):
        notes.append(
            f"{lonely:,} of {kernels:,} kernels have no launching call in the capture "
            "(a trimmed export, or a capture that began late): no arrow leads to them"
        )
    still_open = sum(e.open_ended for e in everything)
    if still_open:
        notes.append(f"{still_open:,} events had no end: they end with the last of their table")
    return notes + _other_tables(capture)


def partial(families: Collection[str], selection: Selection) -> list[str]:
    """What a selection by the user does to gaps, causes and utilization."""
    missing = [f for f in ("kernel", "memcpy", "memset", "graph", "cuda_api") if f not in families]
    if not missing and not selection.pids:
        return []
    what = [f"without {', '.join(missing)}"] * bool(missing)
    what += ["of the chosen processes only"] * bool(selection.pids)
    return [
        f"gaps, their causes and utilization are computed from what was converted: "
        f"{' and '.join(what)}"
    ]


def before_reading(capture: Capture, strings: StringTable, metadata: Metadata) -> list[str]:
    """The same, as far as it can be told without reading the events."""
    notes: list[str] = []
    if capture.has(cuda_calls.CALLS, "nameId") and (ids := strings.ids_of(_GRAPH_LAUNCH)):
        ids_sql = ", ".join(str(i) for i in ids)
        notes = _graphs(
            metadata,
            graphs=capture.count(gpu_work.GRAPH_TRACE),
            launches=capture.count(cuda_calls.CALLS, f"nameId IN ({ids_sql})"),
            has_nodes=capture.has(gpu_work.KERNEL, "graphNodeId")
            and capture.count(gpu_work.KERNEL, "graphNodeId > 0") > 0,
        )
    if not capture.count(gpu_work.KERNEL) and not capture.count(gpu_work.GRAPH_TRACE):
        notes += ["no kernels in this capture", *_messages(metadata)]
    return notes + _other_tables(capture)


def _graphs(metadata: Metadata, graphs: int, launches: int, has_nodes: bool) -> list[str]:
    if graphs:
        return [
            f"{graphs:,} CUDA graph executions are one slice each, since the capture has no "
            f"kernels inside graphs: {_NODE_LEVEL}"
        ]
    if launches and not has_nodes:
        mode = metadata.graph_trace_mode
        how = f" (it was captured with --cuda-graph-trace={mode.lower()})" if mode else ""
        return [
            f"{launches:,} CUDA graph launches, but no kernels inside graphs{how}: {_NODE_LEVEL}"
        ]
    return []


def _other_tables(capture: Capture) -> list[str]:
    notes = []
    if tables := not_shown(capture):
        listed = ", ".join(f"{table} ({rows:,} rows)" for table, rows in tables.items())
        notes.append(f"not shown in this version: {listed}")
    if views := capture.views():
        notes.append(f"not read, since they are views and no tables: {', '.join(views)}")
    return notes


def _messages(metadata: Metadata) -> list[str]:
    serious = [m for m in metadata.messages if m.severity in ("Warning", "Error", "Fatal")]
    return [
        f"nsys says ({m.severity.lower()}): {' '.join(m.text.split())}"
        for m in serious[:_SHOWN_MESSAGES]
    ]
