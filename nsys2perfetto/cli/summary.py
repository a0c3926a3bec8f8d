"""What a conversion prints at its end: the capture, what went in and out, where the trace is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nsys2perfetto.cli.terminal import colour
from nsys2perfetto.cli.text import duration, fit, size, table, utc, wrap
from nsys2perfetto.nsys.source import printable
from nsys2perfetto.result import CaptureInfo, Conversion, FamilyCount, StepPart

UI = "https://ui.perfetto.dev"

_MARK = "! "


@dataclass(frozen=True)
class Request:
    """Which part of a capture the user asked for; see `nsys2perfetto.convert`."""

    start: int | None = None
    end: int | None = None
    pids: tuple[int, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    lean: bool = False
    steps: tuple[int | None, int | None] | None = None
    compat: bool = False


def lines(
    result: Conversion, request: Request, timings: Mapping[str, float] | None = None
) -> list[str]:
    """The summary of one conversion, at most 80 columns wide but for paths.

    Args:
        result: What `convert` returned.
        request: What was asked for.
        timings: Seconds of each stage. With them, the summary also has the names of tables and
            total durations (`--verbose`).
    """
    details = timings is not None
    output = printable(str(result.output))
    return [
        *heading(result.capture),
        *_selection(request, result.part),
        *(line for text in result.decode_steps for line in fact("steps", printable(text))),
        "",
        *_families(result.families, details),
        *_more(result, details),
        *notes([*_nothing_selected(result, request), *result.capture.notes]),
        *(_tables(result.families) if details else []),
        *_timings(timings or {}),
        "",
        colour("Wrote ", fg="green") + f"{output} ({size(result.output_size)})",
        f"Open it: nsys2perfetto open {output}",
        f"      or drag it into {UI}",
    ]


def heading(capture: CaptureInfo, gpus: bool = True) -> list[str]:
    """What the capture is: file, versions, GPUs (unless they are listed elsewhere), time."""
    result = [colour(printable(str(capture.path)), bold=True)]
    kind = "folder" if capture.path.is_dir() else "file"
    result += fact("nsys", f"{versions(capture)}, {kind} of {size(capture.size)}")
    if gpus and not capture.gpus:
        result += fact("GPU", "none listed in the capture")
    for gpu in capture.gpus if gpus else []:
        count = f"{gpu.kernels:,} kernels" if gpu.kernels != 1 else "1 kernel"
        result += fact(f"GPU {gpu.id}", f"{fit(gpu.name, 48)}, {count}")
    began = utc(capture.session_start_utc_ns)
    result += fact("session", f"began {began}" if began else "start time not in the capture")
    result += fact(
        "events",
        f"from {duration(capture.first_event_ns)} to "
        f"{duration(capture.first_event_ns + capture.duration_ns)} "
        f"({duration(capture.duration_ns)})",
    )
    return result


def versions(capture: CaptureInfo) -> str:
    """`2024.6.2.225 (schema 3.16.1)`: of the nsys that exported the file."""
    if not capture.nsys_version and not capture.schema_version:
        return "older than 2022 (the export does not tell)"
    version = capture.nsys_version or "version unknown"
    return f"{version} (schema {capture.schema_version or 'unknown'})"


def fact(name: str, value: str) -> list[str]:
    """One line of a list of facts, wrapped where it is long."""
    return wrap(value, f"  {name:<9} ")


def notes(texts: list[str]) -> list[str]:
    """The things worth knowing, marked."""
    if not texts:
        return []
    result = [""]
    for text in texts:
        first, *rest = wrap(text, f"  {_MARK}")
        result += [first.replace(_MARK, colour(_MARK, fg="yellow", bold=True), 1), *rest]
    return result


def _selection(request: Request, part: StepPart | None) -> list[str]:
    result = []
    if part is not None:
        steps = (
            f"steps {part.first:,} to {part.last:,}"
            if part.last > part.first
            else (f"step {part.first:,}")
        )
        result += fact(
            "range",
            f"only events that overlap {steps}, {duration(part.start)} to {duration(part.end)}, "
            "and the calls that launched them",
        )
    if request.start is not None or request.end is not None:
        start = "the beginning" if request.start is None else duration(request.start)
        end = "the end" if request.end is None else duration(request.end)
        result += fact("range", f"only events that overlap {start} to {end}")
    if request.pids:
        result += fact("process", "only " + ", ".join(str(p) for p in request.pids))
    if request.lean:
        result += fact("lean", "no arrows from CUDA calls, fewer arguments")
    return result


def _nothing_selected(result: Conversion, request: Request) -> list[str]:
    """Says so where the user's own choice left nothing, which looks like a failure otherwise."""
    counts = [c for c in result.families if c.family != "message"]
    if any(c.read for c in counts) or not (total := sum(c.filtered for c in counts)):
        return []
    chosen = {
        "--range": request.start is not None or request.end is not None,
        "--pid": bool(request.pids),
        "--only": bool(request.only),
        "--skip": bool(request.skip),
    }
    options = " and ".join(option for option, used in chosen.items() if used)
    return [f"nothing is in the trace: {options} left out all {total:,} events"]


def _families(counts: list[FamilyCount], details: bool) -> list[str]:
    if not counts:
        return ["  no events in this capture"]
    filtered = any(c.filtered for c in counts)
    left_out = any(c.left_out for c in counts)
    head = ["events", "read", "written"]
    head += ["filtered"] * filtered + ["left out"] * left_out
    head += ["total time"] * details
    rows = [_row(c, filtered, left_out, details) for c in counts]
    if len(counts) > 1:
        total = FamilyCount(
            "total",
            "",
            sum(c.read for c in counts),
            sum(c.written for c in counts),
            sum(c.filtered for c in counts),
            sum(c.joined for c in counts),
            {"": sum(sum(c.left_out.values()) for c in counts)},
        )
        rows.append(_row(total, filtered, left_out, False) + [""] * details)
    return table(head, rows)


def _row(count: FamilyCount, filtered: bool, left_out: bool, details: bool) -> list[str]:
    row = [count.family, f"{count.read:,}", f"{count.written + count.joined:,}"]
    row += [f"{count.filtered:,}"] * filtered
    row += [f"{sum(count.left_out.values()):,}"] * left_out
    if details:
        row.append(duration(count.total_ns) if count.total_ns else "-")
    return row


def _more(result: Conversion, details: bool) -> list[str]:
    added = [f"{n:,} {name} slices" for name, n in result.derived.items() if n]
    if result.arrows:
        added.insert(0, f"{result.arrows:,} arrows from CUDA calls to the GPU work they submitted")
    texts = [f"added: {', '.join(added)}"] if added else []
    joined = [f"{c.joined:,} {c.family}" for c in result.families if c.joined]
    if joined and details:
        texts.append(f"written as part of other events: {', '.join(joined)}")
    texts += [f"left out: {n:,} {reason}" for reason, n in result.left_out.items()]
    if result.time_shift_ns:
        texts.append(
            f"every time was shifted by {duration(result.time_shift_ns)} "
            f"({result.time_shift_ns:,} ns), since the capture has events before 0"
        )
    return [line for text in texts for line in wrap(text, "  ", "    ")]


def _tables(counts: list[FamilyCount]) -> list[str]:
    """Where each family comes from."""
    width = max((len(c.family) for c in counts), default=0)
    found = [wrap(c.table, f"  {printable(c.family):<{width}}  ") for c in counts]
    return ["", *(line for lines in found for line in lines)] if found else []


def _timings(timings: Mapping[str, float]) -> list[str]:
    if not timings:
        return []
    rows = [[stage, f"{seconds:.2f} s"] for stage, seconds in timings.items()]
    return ["", *table(["", ""], rows)]
