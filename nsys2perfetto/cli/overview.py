"""What `info` prints: everything that is inside a capture, as text or as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nsys2perfetto.cli.summary import fact, heading, notes
from nsys2perfetto.cli.text import fit, table, utc, wrap
from nsys2perfetto.nsys.source import printable

if TYPE_CHECKING:
    from nsys2perfetto.inspection import Inspection, Process
    from nsys2perfetto.nsys.metadata import Message

THREADS_SHOWN = 8
"""Threads listed for each process, the busiest first; `--verbose` lists all."""

_GRAPH_MODES = {
    "Graph": "as a whole: kernels inside graphs are not in the capture",
    "Node": "node by node",
}


def lines(found: Inspection, details: bool = False) -> list[str]:
    """The text, at most 80 columns wide but for paths.

    Args:
        found: What `inspect` returned.
        details: Show every thread and every message (`--verbose`).
    """
    chosen = [m for m in found.messages if details or m.severity not in ("Info", "Unknown")]
    said = {" ".join(m.text.split()) for m in chosen}
    return [
        *heading(found.capture, gpus=not found.gpu_details),
        *(fact("graphs", f"traced {_graph_mode(found)}") if found.graph_trace_mode else []),
        *_gpus(found),
        *_processes(found.processes, details),
        *_events(found),
        *_messages(chosen, len(found.messages) - len(chosen)),
        *notes([n for n in found.capture.notes if not any(text in n for text in said if text)]),
    ]


def _graph_mode(found: Inspection) -> str:
    mode = found.graph_trace_mode or ""
    return _GRAPH_MODES.get(mode, mode)


def _gpus(found: Inspection) -> list[str]:
    kernels = {gpu.id: gpu.kernels for gpu in found.capture.gpus}
    rows = [
        [
            str(gpu.id),
            fit(gpu.name, 32),
            "{}.{}".format(*gpu.compute_capability) if gpu.compute_capability else "-",
            str(gpu.sm_count or "-"),
            f"{gpu.total_memory / 2**30:.1f} GiB" if gpu.total_memory else "-",
            f"{kernels.get(gpu.id, 0):,}",
        ]
        for gpu in found.gpu_details
    ]
    head = ["GPU", "name", "compute", "SMs", "memory", "kernels"]
    return ["", *table(head, rows, left=(1,))] if rows else []


def _processes(processes: Iterable[Process], details: bool) -> list[str]:
    result = []
    for process in processes:
        name = fit(process.name or "(no name)", 40)
        gpus = ", ".join(str(g) for g in dict.fromkeys(process.gpus))
        result += ["", f"  process {process.pid}: {name}{f' (GPU {gpus})' if gpus else ''}"]
        shown = process.threads if details else process.threads[:THREADS_SHOWN]
        rows = [[f"thread {t}", fit(n, 32), _events_of(e)] for t, n, e in shown]
        result += table(["", "", ""], rows, left=(0, 1), indent=4)
        if rest := process.threads[len(shown) :]:
            events = sum(e for _, _, e in rest)
            more = f"and {len(rest):,} more with {_events_of(events).strip()}"
            result.append(f"    {more} (-v lists them)")
    return result


def _events_of(count: int) -> str:
    return "1 event " if count == 1 else f"{count:,} events"


def _events(found: Inspection) -> list[str]:
    rows = [[f.family, f"{f.read:,}", f.table] for f in found.families]
    rows += [["(not shown)", f"{n:,}", name] for name, n in found.other_tables.items()]
    if not rows:
        return ["", "  no events in this capture"]
    return ["", *table(["events", "rows", "table"], rows, left=(0, 2))]


def _messages(messages: Iterable[Message], hidden: int) -> list[str]:
    result = []
    for message in messages:
        result += wrap(message.text, f"    {printable(message.severity).lower():<8} ")
    if hidden:
        more = "more " if result else ""
        result.append(f"    {hidden} {more}without a warning (-v lists them)")
    return ["", "  messages of nsys", *result] if result else []


def as_json(found: Inspection) -> dict[str, Any]:
    """The same as plain data for `json.dumps`; names carry their units."""
    capture = found.capture
    kernels = {gpu.id: gpu.kernels for gpu in capture.gpus}
    return {
        "capture": printable(str(capture.path)),
        "size_bytes": capture.size,
        "nsys_version": capture.nsys_version,
        "schema_version": capture.schema_version,
        "session_start_utc_ns": capture.session_start_utc_ns,
        "session_start_utc": utc(capture.session_start_utc_ns),
        "first_event_ns": capture.first_event_ns,
        "duration_ns": capture.duration_ns,
        "cuda_graph_trace": found.graph_trace_mode,
        "gpus": [
            {
                "id": gpu.id,
                "name": gpu.name,
                "chip": gpu.chip,
                "compute_capability": list(gpu.compute_capability or ()) or None,
                "multiprocessors": gpu.sm_count,
                "memory_bytes": gpu.total_memory,
                "memory_bandwidth_bytes_per_s": gpu.memory_bandwidth,
                "clock_hz": gpu.clock_rate,
                "l2_cache_bytes": gpu.l2_cache_size,
                "cuda_device": gpu.cuda_device,
                "kernels": kernels.get(gpu.id, 0),
            }
            for gpu in found.gpu_details
        ],
        "processes": [
            {
                "pid": process.pid,
                "name": process.name,
                "gpus": process.gpus,
                "threads": [
                    {"tid": tid, "name": name, "events": events}
                    for tid, name, events in process.threads
                ],
            }
            for process in found.processes
        ],
        "events": [{"family": f.family, "table": f.table, "rows": f.read} for f in found.families],
        "other_tables": found.other_tables,
        "notes": capture.notes,
        "messages": [
            {"time_ns": m.time, "severity": m.severity, "text": m.text} for m in found.messages
        ],
    }
