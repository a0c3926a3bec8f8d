"""What each field of a trace costs the trace processor: `python -m bench.fields`.

The default trace of a generated capture is loaded once as it is and once without each group of
fields; the difference is what they cost. The fields are taken out of the finished trace, with the
official message classes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.protos.extensions_pb2 import GpuGap, TrackEventExtensions

from . import report
from .capture.shape import PRESETS, preset
from .measure import run

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
LIMIT_S = 1200

Edit = Callable[[list[pb.TracePacket]], Iterator[pb.TracePacket]]
_PARTS = [f.name for f in GpuGap.DESCRIPTOR.fields if 10 <= f.number <= 15]


def _of_events(change: Callable[[TrackEventExtensions], bool]) -> Edit:
    """Changes what Perfetto's own TrackEvent has no field for; `change` says whether it did."""

    def edit(packets: list[pb.TracePacket]) -> Iterator[pb.TracePacket]:
        for packet in packets:
            if packet.HasField("track_event"):
                event = TrackEventExtensions.FromString(packet.track_event.SerializeToString())
                if change(event):
                    packet.track_event.ParseFromString(event.SerializeToString())
            yield packet

    return edit


def _without(field: str) -> Edit:
    def change(event: TrackEventExtensions) -> bool:
        there = event.HasField(field)
        event.ClearField(field)
        return there

    return _of_events(change)


def _without_of_gaps(*fields: str) -> Edit:
    def change(event: TrackEventExtensions) -> bool:
        if not event.HasField("gpu_gap"):
            return False
        for field in fields:
            event.gpu_gap.ClearField(field)
        return True

    return _of_events(change)


def _is_gap(packet: pb.TracePacket) -> bool:
    if not packet.HasField("track_event"):
        return False
    event = TrackEventExtensions.FromString(packet.track_event.SerializeToString())
    return bool(event.HasField("gpu_gap"))


def _without_names(packets: list[pb.TracePacket]) -> Iterator[pb.TracePacket]:
    for packet in packets:
        if _is_gap(packet):
            packet.track_event.ClearField("debug_annotations")
        yield packet


def _without_arguments_of_gaps(packets: list[pb.TracePacket]) -> Iterator[pb.TracePacket]:
    return _without("gpu_gap")(list(_without_names(packets)))


def _without_gaps(packets: list[pb.TracePacket]) -> Iterator[pb.TracePacket]:
    after_gap = False
    for packet in packets:
        gap = _is_gap(packet)
        if not gap and not after_gap:  # what follows a gap's begin is its end
            yield packet
        after_gap = gap


def _without_kernel_arguments(packets: list[pb.TracePacket]) -> Iterator[pb.TracePacket]:
    for packet in packets:
        if packet.HasField("gpu_render_stage_event"):
            packet.gpu_render_stage_event.ClearField("kernel_iid")
        yield packet


def _without_counters(packets: list[pb.TracePacket]) -> Iterator[pb.TracePacket]:
    return (p for p in packets if not p.HasField("gpu_counter_event"))


EDITS: dict[str, Edit] = {
    "arrows from calls": _without("gpu_correlation"),
    "`gpu_api` of calls": _without("gpu_api"),
    "arguments of kernels": _without_kernel_arguments,
    "counters of GPUs": _without_counters,
    "idle gaps": _without_gaps,
    "of gaps: all arguments": _without_arguments_of_gaps,
    "of gaps: `launch_lateness_ns`": _without_of_gaps("launch_lateness_ns"),
    "of gaps: the six parts": _without_of_gaps(*_PARTS),
    "of gaps: `next_event_id`": _without_of_gaps("next_event_id"),
    "of gaps: names before and after": _without_names,
    "of gaps: `run`, `step`": _without_of_gaps("run", "step"),
    "of gaps: `gpu`, `process_id`": _without_of_gaps("gpu", "process_id"),
    "of gaps: `bucket`, `cause`, `mostly`, `pace`": _without_of_gaps(
        "bucket", "cause", "mostly", "pace"
    ),
}
"""By what they leave out."""


@dataclass(frozen=True)
class Cost:
    """One trace, loaded: CPU time (s), bytes."""

    cpu: float
    engine: int
    trace: int
    slices: int

    @classmethod
    def of(cls, trace: Path, rounds: int) -> Cost:
        """Loads a trace in processes of their own; the medians."""
        found = []
        for _ in range(rounds):
            loaded = run([sys.executable, "-m", "bench.load", str(trace)], LIMIT_S)
            if not loaded.ok:
                sys.exit(f"loading {trace.name} failed: {loaded.message}")
            found.append(json.loads(loaded.stdout))
        return cls(
            statistics.median(f["cpu_s"] for f in found),
            int(statistics.median(f["engine_bytes"] for f in found)),
            trace.stat().st_size,
            found[0]["slices"],
        )


def table(whole: Cost, others: dict[str, Cost]) -> str:
    """What each adds for a million slices of the whole trace, as Markdown."""
    millions = whole.slices / 1e6

    def row(name: str, cpu: float, engine: float, trace: float) -> str:
        cells = (cpu / millions, engine / 1e6 / millions, trace / 1e6 / millions)
        return f"| {name} | {cells[0]:.2f} | {cells[1]:.0f} | {cells[2]:.1f} |"

    lines = ["| per million slices | load CPU s | engine MB | trace MB |", "|---|---:|---:|---:|"]
    lines.append(row("**the whole trace**", whole.cpu, whole.engine, whole.trace))
    for name, less in others.items():
        saved = (whole.cpu - less.cpu, whole.engine - less.engine, whole.trace - less.trace)
        lines.append(row(name, *saved))
    return "\n".join(lines)


def _convert(kind: str, kernels: int, target: Path) -> None:
    for module in (
        ["bench.generate", "--preset", kind, "--kernels", str(kernels)],
        ["nsys2perfetto", str(preset(kind, kernels).path()), "-o", str(target), "-q", "--force"],
    ):
        made = run([sys.executable, "-m", *module], LIMIT_S)
        if not made.ok:
            sys.exit(f"{shlex.join(module)} failed: {made.message}")


def main() -> None:
    """Prints the table, or puts it into the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.fields", description=__doc__)
    parser.add_argument("--capture", choices=PRESETS, default="plain", help="kind of capture")
    parser.add_argument("--size", type=lambda t: int(float(t)), default=300_000, help="kernels")
    parser.add_argument("--rounds", type=int, default=1, help="loads of each trace (default: 1)")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        original, edited = Path(folder, "whole.pftrace"), Path(folder, "edited.pftrace")
        _convert(arguments.capture, arguments.size, original)
        whole = Cost.of(original, arguments.rounds)
        costs = {}
        for name, edit in EDITS.items():
            packets = edit(list(pb.Trace.FromString(original.read_bytes()).packet))
            with edited.open("wb") as file:
                for packet in packets:
                    file.write(pb.Trace(packet=[packet]).SerializeToString())
            del packets
            costs[name] = Cost.of(edited, arguments.rounds)
            print(f"without {name}: {costs[name].cpu:.2f} CPU s", file=sys.stderr)
    command = shlex.join(["python", "-m", "bench.fields", *sys.argv[1:]])
    block = (
        f"`{arguments.capture}` with {arguments.size:,} kernels: {whole.slices:,} slices. "
        f"Made by `{command}`.\n\n{table(whole, costs)}"
    )
    print(block)
    if arguments.write:
        report.write_block(DOCUMENT, "fields", block)


if __name__ == "__main__":
    main()
