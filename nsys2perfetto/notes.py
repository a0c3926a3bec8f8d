"""What a user should know about a capture: what it hides, what looks wrong, and what to do."""

from __future__ import annotations

import numpy as np

from nsys2perfetto.nsys.events import Events
from nsys2perfetto.nsys.metadata import Metadata
from nsys2perfetto.tracks.cuda_api import Calls, Operations

_NODE_LEVEL = "capture again with --cuda-graph-trace=node to see them"
_SHOWN_MESSAGES = 5


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
    metadata: Metadata,
    work: dict[str, Events],
    everything: list[Events],
    calls: Calls,
    operations: Operations,
) -> list[str]:
    """One sentence for each thing worth knowing, the most important first."""
    notes = [*_graphs(metadata, work, calls)]
    if not len(work["kernel"]) and not len(work["graph"]):
        notes.append("no kernels in this capture")
        notes += _messages(metadata)
    if len(work["kernel"]):
        first = operations.stream[: len(work["kernel"])]
        launched = calls.submitting_call[: len(first)] >= 0
        lonely = int((~launched).sum())
        if lonely and len(calls.events):
            notes.append(
                f"{lonely:,} of {len(first):,} kernels have no launching call in the capture "
                "(a trimmed export, or a capture that began late): no arrow leads to them"
            )
    still_open = sum(e.open_ended for e in everything)
    if still_open:
        notes.append(f"{still_open:,} events had no end: they end with the last of their table")
    return notes


def _graphs(metadata: Metadata, work: dict[str, Events], calls: Calls) -> list[str]:
    launches = int(
        np.isin(
            calls.events.code,
            np.nonzero(calls.name.str.contains("GraphLaunch").fill_null(False).to_numpy())[0],
        ).sum()
    )
    if len(work["graph"]):
        return [
            f"{len(work['graph']):,} CUDA graphs are shown as one slice each, since the capture "
            f"has no kernels inside graphs: {_NODE_LEVEL}"
        ]
    nodes = work["kernel"].config["graphNodeId"] if len(work["kernel"]) else None
    if launches and (nodes is None or nodes.fill_null(0).max() == 0):
        mode = f" (captured with graph-level tracing: {metadata.graph_trace_mode})" if (
            metadata.graph_trace_mode
        ) else ""
        return [
            f"{launches:,} CUDA graph launches, but no kernels inside graphs{mode}: {_NODE_LEVEL}"
        ]
    return []


def _messages(metadata: Metadata) -> list[str]:
    serious = [m for m in metadata.messages if m.severity in ("Warning", "Error", "Fatal")]
    return [
        f"nsys says ({m.severity.lower()}): {' '.join(m.text.split())}"
        for m in serious[:_SHOWN_MESSAGES]
    ]
