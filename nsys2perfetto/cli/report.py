"""`nsys2perfetto report [NAME] CAPTURE|TRACE`: the page, or one of the named reports."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsys2perfetto import outputs
from nsys2perfetto.cli import completing, inputs, memory, terminal
from nsys2perfetto.cli.annotations import OF_STEPS, STEPS_AND_GAPS, build, check, step_options
from nsys2perfetto.cli.help import Command
from nsys2perfetto.cli.options import many, one, parse_pids, parse_range, parse_time
from nsys2perfetto.cli.progress import Progress
from nsys2perfetto.cli.text import size
from nsys2perfetto.errors import UsageError
from nsys2perfetto.nsys.source import printable
from nsys2perfetto.report import names

if TYPE_CHECKING:
    from nsys2perfetto.report.render import Document
    from nsys2perfetto.report.reports import Options
    from nsys2perfetto.report.source import Source

FORMATS = ("table", "csv", "json", "markdown")
_EXTENSIONS = {".csv": "csv", ".json": "json", ".md": "markdown"}
_MORE = "Reports:\n\n\b\n" + "\n".join(f"{name:<22} {text}" for name, text in names.NAMES.items())
_HELP = {
    "Output": ("format_", "output", "force", "top", "full_names"),
    "What to take": ("span", "pids", "all_gpus", "longer_than", "families"),
    STEPS_AND_GAPS: OF_STEPS,
}
_EXAMPLES = """\
nsys2perfetto report trace.sqlite           the page, the verdict first
nsys2perfetto report step_parts trace.sqlite
nsys2perfetto report big_gaps trace.sqlite --longer-than 100us
nsys2perfetto report decode_step 11 trace.sqlite
nsys2perfetto report gap_total trace.sqlite --format json
nsys2perfetto report trace.sqlite -o report.md
"""


@click.command("report", cls=Command, sections=_HELP, examples=_EXAMPLES, epilog=_MORE)
@click.argument(
    "words",
    metavar="[NAME] CAPTURE|TRACE",
    nargs=-1,
    required=True,
    shell_complete=completing.report_words,
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Default: what the name of the output says, or else table.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=completing.files,
    help="Write to a file instead of standard output; compressed if it ends in .gz.",
)
@click.option(
    "--html",
    metavar="FILE",
    help="Write the page as one HTML file: charts, sortable tables, links into the trace.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite an output that exists.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most N rows of each ranking. Default: 10 on the page, 100 as HTML, else all.",
)
@click.option("--full-names", is_flag=True, help="Kernels by their demangled names.")
@click.option(
    "--all-gpus",
    is_flag=True,
    help="gap_total, gap_buckets, big_gaps: take all GPUs as one, as the nsys manual's SQL does.",
)
@click.option(
    "--longer-than",
    callback=one(parse_time),
    default="1ms",
    metavar="TIME",
    help="big_gaps: only gaps longer than this. Default: 1ms.",
)
@click.option(
    "--kernel-families",
    "families",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="More families of kernels: lines `family: regular expression`, tried before the own ones.",
)
@click.option(
    "--range",
    "span",
    callback=one(parse_range),
    metavar="START:END",
    help="Only events of a capture that overlap this time: 1.5s:2s; either side may be empty.",
)
@click.option(
    "--pid",
    "pids",
    callback=many(parse_pids),
    multiple=True,
    metavar="PID",
    help="Only events of this process of a capture; several with commas.",
)
@step_options
@click.option(
    "--engine",
    metavar="PATH",
    shell_complete=completing.files,
    help="For a trace: the trace_processor_shell to use, v55 or later. Default: "
    "$NSYS2PERFETTO_ENGINE, one on the PATH, or else one that is downloaded once.",
)
def command(
    *,
    words: tuple[str, ...],
    format_: str | None,
    output: str | None,
    html: str | None,
    force: bool,
    families: Path | None,
    **given: Any,
) -> None:
    """Tell where the time goes: one page, or a single table by name.

    The page has the verdict first, then what it is made of: kernels, gaps and their causes, the
    steady decode step taken apart, step times, CUDA calls. A capture is read directly; a trace is
    asked with SQL, which needs a trace processor.
    """
    name, number, path = _arguments(words)
    check(given)
    if html is not None:
        _check_html(html, name, format_, output)
    wanted = output if html is None else html
    target = None if wanted is None else Path(wanted)
    if target is not None:
        outputs.check(target, force)
        if outputs.same(path, target):
            raise UsageError(f"{printable(str(path))} is what is reported on: name another output")
    chosen = _format(format_, output)
    inputs.announce(path)
    memory.keep_freed_memory()
    if html is not None:
        _write_page(Path(html), _html(path, families, given))
        return
    document = _report(name, number, path, families, given)
    made = _text(document, chosen, path, is_file=target is not None)
    if target is not None:
        outputs.write(target, f"{made}\n".encode())
    else:
        click.echo(made)


def _arguments(words: tuple[str, ...]) -> tuple[str | None, int | None, Path]:
    """Name of the report (None for the page), number of the step, and the file.

    The file is last. A single word is a file, also where a report is called so, if there is one.
    """
    *first, last = words
    if not first:
        if names.find(last) and not Path(last).exists():
            raise UsageError(f"{last} of what? Name a capture or a trace: report {last} CAPTURE")
        return None, None, Path(last)
    name = names.find(first[0])
    if name is None:
        if names.find(last):
            shown = printable(f"report {last} {first[0]}")
            raise UsageError(f"the name of the report comes first: {shown}")
        raise names.unknown(first[0])
    wanted = f"report {name}{' N' * (name == names.STEP)} CAPTURE"
    if len(first) != 1 + (name == names.STEP):
        raise UsageError(f"not so many words, or too few: {wanted}")
    if name != names.STEP:
        return name, None, Path(last)
    if not first[1].isascii() or not first[1].isdecimal():
        raise UsageError(f"{printable(first[1])} is no number of a step: {wanted}")
    return name, int(first[1]), Path(last)


def _format(given: str | None, output: str | None) -> str:
    if given is None and output is not None:
        given = _EXTENSIONS.get(Path(output.removesuffix(".gz")).suffix.lower())
    return given or "table"


def _check_html(html: str, name: str | None, format_: str | None, output: str | None) -> None:
    """Refuses what contradicts `--html`."""
    if html in ("", "-"):
        raise UsageError("--html needs the name of a file, such as report.html")
    if name is not None:
        raise UsageError(f"--html is for the whole page: leave out {name}")
    if format_ is not None or output is not None:
        other = "--format" if format_ is not None else "--output"
        raise UsageError(f"--html and {other} contradict each other: choose one")


def _report(
    name: str | None, number: int | None, path: Path, families: Path | None, given: dict[str, Any]
) -> Document:
    from nsys2perfetto.report import page, reports  # noqa: PLC0415 - import polars

    options = _options(number, families, given)
    with _source(path, given) as tables:
        if name is None:
            return page.build(tables, options)
        return reports.REPORTS[name](tables, options)


def _html(path: Path, families: Path | None, given: dict[str, Any]) -> str:
    from nsys2perfetto.report.html import page  # noqa: PLC0415 - imports polars

    with _source(path, given) as tables:
        return page.build(tables, _options(None, families, given), path)


def _write_page(target: Path, made: str) -> None:
    outputs.write(target, made.encode())
    click.echo(f"Wrote {printable(str(target))} ({size(target.stat().st_size)})")


def _options(number: int | None, families: Path | None, given: dict[str, Any]) -> Options:
    from nsys2perfetto.report import kernel_groups, reports  # noqa: PLC0415 - import polars

    return reports.Options(
        full_names=given["full_names"],
        all_gpus=given["all_gpus"],
        top=given["top"],
        longer_than=given["longer_than"],
        families=kernel_groups.load(families),
        step=number,
    )


@contextmanager
def _source(path: Path, given: dict[str, Any]) -> Iterator[Source]:
    """The file as tables, with a progress bar while it is read."""
    from nsys2perfetto.report.opening import open_source  # noqa: PLC0415 - imports polars

    start, end = given["span"] or (None, None)
    visible = terminal.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    with (
        Progress(path.name, visible) as progress,
        open_source(
            path,
            engine=given["engine"],
            start=start,
            end=end,
            pids=given["pids"],
            annotate=build(given),
            progress=progress,
        ) as tables,
    ):
        yield tables


def _text(document: Document, chosen: str, path: Path, is_file: bool) -> str:
    from nsys2perfetto.cli import report_text  # noqa: PLC0415 - imports polars
    from nsys2perfetto.report import render  # noqa: PLC0415

    is_read = not is_file and terminal.is_terminal(sys.stdout)
    if chosen == "json":
        return render.as_json(document)
    if chosen == "markdown":
        return render.as_markdown(document, path.name)
    if chosen == "csv":
        text = render.as_csv(document)
        return text if is_file else terminal.data(text)
    width = max(terminal.WIDTH, shutil.get_terminal_size().columns) if is_read else None
    return "\n".join(report_text.lines(document, path, width))
