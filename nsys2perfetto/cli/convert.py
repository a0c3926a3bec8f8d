"""`nsys2perfetto [convert] CAPTURE...`: writes a trace of each capture."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from nsys2perfetto import outputs
from nsys2perfetto.cli import failures, memory, summary, terminal
from nsys2perfetto.cli.annotations import annotation_options, build, check
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
from nsys2perfetto.nsys import source


@click.command(
    "convert",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument(
    "captures", metavar="CAPTURE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where the trace goes: a file, compressed if its name ends in .gz, or a directory that "
    "exists. Default: beside each capture, as CAPTURE.pftrace.",
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
    help="Only these kinds of events, several with commas: " + ", ".join(FAMILIES) + ".",
)
@click.option(
    "--skip",
    callback=many(parse_families),
    multiple=True,
    metavar="FAMILY",
    help="All kinds of events but these, for example --skip osrt.",
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
    start: int | None,
    end: int | None,
    span: tuple[int | None, int | None] | None,
    steps: tuple[int | None, int | None] | None,
    pids: tuple[int, ...],
    only: tuple[str, ...],
    skip: tuple[str, ...],
    lean: bool,
    compat: bool,
    **annotations: Any,
) -> None:
    """Convert Nsight Systems captures (SQLite exports) to native Perfetto traces.

    Get CAPTURE with `nsys export --type=sqlite REPORT.nsys-rep`; open the trace by dragging it
    into https://ui.perfetto.dev. Captures are only ever read.
    """
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other: choose one")
    if steps is not None:
        others = {"--range": span, "--start": start, "--end": end}
        given = [name for name, value in others.items() if value is not None]
        given += ["--no-steps"] * annotations["no_steps"]
        if given:
            raise UsageError(f"--steps and {given[0]} contradict each other: choose one")
    start, end = _time_range(start, end, span)
    check(annotations)
    request = Request(start, end, pids, only, skip, lean, steps, compat)
    failed = False
    jobs = outputs.plan(captures, output)
    for number, (capture, target) in enumerate(jobs):
        try:
            text = _convert(
                capture,
                target,
                request,
                annotations,
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
    annotations: dict[str, Any],
    *,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> list[str]:
    """Converts one capture; returns the lines of its summary."""
    source.check(capture)  # before what is wrong with the output, and before the heavy imports
    outputs.check(target, force)
    memory.keep_freed_memory()
    import nsys2perfetto  # noqa: PLC0415 - numpy, polars and perfetto come with its `convert`

    visible = not quiet and terminal.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    with Progress(capture.name, visible) as progress:
        result = nsys2perfetto.convert(
            capture,
            target,
            force=force,
            start=request.start,
            end=request.end,
            pids=request.pids,
            only=request.only,
            skip=request.skip,
            annotate=build(annotations, request.lean),
            lean=request.lean,
            steps=request.steps,
            compat=request.compat,
            progress=progress,
        )
    return summary.lines(result, request, progress.seconds if verbose else None)


def _print(lines: list[str]) -> None:
    """Prints a summary. That nobody reads it any more is no reason to leave captures undone."""
    with contextlib.suppress(AttributeError):  # a closed standard output is None
        try:
            click.echo("\n".join(lines))
        except BrokenPipeError:
            terminal.discard_output()
