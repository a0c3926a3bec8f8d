"""`nsys2perfetto [convert] CAPTURE...`: writes a trace of each capture."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from nsys2perfetto import outputs
from nsys2perfetto.cli import completing, failures, inputs, memory, summary, terminal
from nsys2perfetto.cli.annotations import OF_STEPS, STEPS_AND_GAPS, annotation_options, build, check
from nsys2perfetto.cli.help import Command
from nsys2perfetto.cli.options import (
    many,
    one,
    parse_families,
    parse_pids,
    parse_range,
    parse_steps,
    parse_time,
)
from nsys2perfetto.cli.progress import Progress
from nsys2perfetto.cli.summary import Request
from nsys2perfetto.errors import EXIT_FAILURE, UsageError
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.nsys import exporting

SECTIONS = {
    "Output": ("output", "force", "quiet", "verbose"),
    "What to take": ("start", "end", "span", "steps", "pids", "only", "skip", "lean", "compat"),
    STEPS_AND_GAPS: (*OF_STEPS, "no_gaps", "util_window", "no_counters"),
}
_EXAMPLES = """\
nsys2perfetto trace.sqlite                  writes trace.pftrace
nsys2perfetto trace.sqlite -o out.pftrace.gz --force
nsys2perfetto trace.sqlite --range 1.5s:2s --skip osrt
nsys2perfetto trace.sqlite --steps 10..30   only these decode steps
nsys2perfetto trace.sqlite --lean           smaller, for millions of kernels
nsys2perfetto trace.sqlite --step-kernel 'argmax*' --warmup 3
nsys2perfetto run1.sqlite run2.sqlite -o traces/
"""


@click.command("convert", cls=Command, sections=SECTIONS, examples=_EXAMPLES)
@click.argument(
    "captures", metavar="CAPTURE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=completing.files,
    help="Where the trace goes: a file, compressed if its name ends in .gz, or a directory that "
    "exists (of several captures it must be one). Default: beside each capture, as "
    "CAPTURE.pftrace.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite a trace that exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Add table names, total durations and timings.")
@click.option(
    "--start",
    callback=one(parse_time),
    metavar="TIME",
    help="Only events that end at or after this time of the capture: 1.5s, 200ms, 3us; "
    "a plain number is ns, as in nsys' own tables.",
)
@click.option(
    "--end",
    callback=one(parse_time),
    metavar="TIME",
    help="Only events that start at or before this time.",
)
@click.option(
    "--range",
    "span",
    callback=one(parse_range),
    metavar="START:END",
    help="The same as --start and --end: 1.5s:2s; either side may be empty.",
)
@click.option(
    "--steps",
    callback=one(parse_steps),
    metavar="A..B",
    help="Only what overlaps decode steps number A to B, and the calls that launched it; A.. and A "
    "alone are possible too. They keep their numbers.",
)
@click.option(
    "--pid",
    "pids",
    callback=many(parse_pids),
    multiple=True,
    metavar="PID",
    help="Only events of this process; several with commas, or by repeating the option.",
)
@click.option(
    "--only",
    callback=many(parse_families),
    multiple=True,
    metavar="FAMILY",
    shell_complete=completing.families,
    help="Only these kinds of events, several with commas: " + ", ".join(FAMILIES) + ".",
)
@click.option(
    "--skip",
    callback=many(parse_families),
    multiple=True,
    metavar="FAMILY",
    shell_complete=completing.families,
    help="All kinds of events but these, such as osrt.",
)
@click.option(
    "--lean",
    is_flag=True,
    help="For very large captures: every event, but no arrows from calls, fewer arguments, and no "
    "idle gaps below 10us unless --min-gap says so. Halves what the browser needs.",
)
@click.option(
    "--compat",
    is_flag=True,
    help="For old UIs, offline viewers and tools that do not know Perfetto's GPU model: kernels, "
    "copies and GPU counters as ordinary tracks, arrows as flows.",
)
@annotation_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    captures: tuple[Path, ...],
    output: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
    **given: Any,
) -> None:
    """Convert Nsight Systems captures to native Perfetto traces.

    CAPTURE is what `nsys export --type=sqlite REPORT.nsys-rep` writes (or parquetdir, or
    arrowdir), or the report itself where nsys is on the PATH. Captures are only ever read. See
    the trace with `nsys2perfetto open`, or drag it into https://ui.perfetto.dev.
    """
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other: choose one")
    request = requested(given)
    failed = False
    jobs = outputs.plan(captures, output)
    for number, (capture, target) in enumerate(jobs):
        try:
            text = _convert(
                capture,
                target,
                request,
                given,
                force=force,
                quiet=quiet,
                verbose=verbose,
            )
        except Exception as error:
            if len(jobs) == 1:
                raise
            failures.report(error)
            failed = True
            continue
        if not quiet:
            _print([""] * (number > 0) + text)
    if failed:
        ctx.exit(EXIT_FAILURE)


def shaping_options() -> list[click.Parameter]:
    """The options that shape a trace, for other commands that convert captures."""
    own = ("captures", "output", "force", "quiet", "verbose")
    return [option for option in command.params if option.name not in own]


def requested(given: dict[str, Any]) -> Request:
    """The part of a capture that the options ask for.

    Raises:
        UsageError: They contradict each other.
    """
    steps, span = given["steps"], given["span"]
    if steps is not None:
        others = {"--range": span, "--start": given["start"], "--end": given["end"]}
        used = [name for name, value in others.items() if value is not None]
        used += ["--no-steps"] * given["no_steps"]
        if used:
            raise UsageError(f"--steps and {used[0]} contradict each other: choose one")
    start, end = _time_range(given["start"], given["end"], span)
    check(given)
    return Request(
        start,
        end,
        given["pids"],
        given["only"],
        given["skip"],
        given["lean"],
        steps,
        given["compat"],
    )


def arguments(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """The same options, checked by `requested`, as `nsys2perfetto.convert` takes them."""
    return {
        "start": request.start,
        "end": request.end,
        "pids": request.pids,
        "only": request.only,
        "skip": request.skip,
        "annotate": build(given, request.lean),
        "lean": request.lean,
        "steps": request.steps,
        "compat": request.compat,
    }


def _time_range(
    start: int | None, end: int | None, span: tuple[int | None, int | None] | None
) -> tuple[int | None, int | None]:
    if span is not None:
        if start is not None or end is not None:
            raise UsageError("--range replaces --start and --end: use one or the other")
        start, end = span
    if start is not None and end is not None and end < start:
        raise UsageError(f"the time range ends before it starts ({start} to {end} ns)")
    return start, end


def _convert(
    capture: Path,
    target: Path,
    request: Request,
    given: dict[str, Any],
    *,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> list[str]:
    """Converts one capture; returns the lines of its summary."""
    exporting.check(capture)  # before what is wrong with the output, and before the heavy imports
    outputs.check(target, force)
    if not quiet:
        inputs.announce(capture)
    memory.keep_freed_memory()
    import nsys2perfetto  # noqa: PLC0415 - numpy, polars and perfetto come with its `convert`

    visible = not quiet and terminal.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    with Progress(capture.name, visible) as progress:
        result = nsys2perfetto.convert(
            capture,
            target,
            force=force,
            progress=progress,
            **arguments(request, given),
        )
    return summary.lines(result, request, progress.seconds if verbose else None)


def _print(lines: list[str]) -> None:
    """Prints a summary. That nobody reads it any more is no reason to leave captures undone."""
    with contextlib.suppress(AttributeError):  # a closed standard output is None
        try:
            click.echo("\n".join(lines))
        except BrokenPipeError:
            terminal.discard_output()
