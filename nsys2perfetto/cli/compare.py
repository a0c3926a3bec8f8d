"""`nsys2perfetto compare BEFORE AFTER`: what changed, and why it is slower or faster."""

from __future__ import annotations

import math
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsys2perfetto import outputs
from nsys2perfetto.cli import completing, failures, inputs, terminal
from nsys2perfetto.cli.annotations import OF_STEPS, STEPS_AND_GAPS, build, check, step_options
from nsys2perfetto.cli.help import Command
from nsys2perfetto.cli.options import one
from nsys2perfetto.cli.progress import Progress
from nsys2perfetto.errors import Nsys2PerfettoError, UsageError
from nsys2perfetto.nsys.source import printable

if TYPE_CHECKING:
    from nsys2perfetto.report.comparison import Comparison

EXIT_SLOWER = 3
"""Exit status where `--fail-above` says so."""

FORMATS = ("table", "csv", "json", "markdown")
_EXTENSIONS = {".csv": "csv", ".json": "json", ".md": "markdown"}
_SECTIONS = ("summary", "parts", "kernels", "families", "gaps", "api")
_TOP = 20


def _parse_percent(text: str) -> float:
    """Reads `5`, `2.5` or `5%`.

    Raises:
        ValueError: It is no percentage, or below 0; the text says so.
    """
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{text!r} is not a percentage such as 5 or 2.5")
    return number


_HELP = {
    "Output": ("format_", "section", "top", "full_names", "fail_above", "output", "force"),
    STEPS_AND_GAPS: OF_STEPS,
}
_EXAMPLES = """\
nsys2perfetto compare before.sqlite after.sqlite
nsys2perfetto compare before.sqlite after.sqlite --section kernels --top 5
nsys2perfetto compare before.sqlite after.sqlite --fail-above 5
nsys2perfetto compare before.sqlite after.sqlite -o changes.md
"""


@click.command("compare", cls=Command, sections=_HELP, examples=_EXAMPLES)
@click.argument("before", metavar="BEFORE", type=click.Path(path_type=Path))
@click.argument("after", metavar="AFTER", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="How to write it. Default: what the name of the output says, or else table.",
)
@click.option(
    "--section",
    type=click.Choice(_SECTIONS),
    help="Only this table.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=_TOP,
    show_default=True,
    metavar="N",
    help="Rows of each ranking, what changed most first; csv and json have all.",
)
@click.option("--full-names", is_flag=True, help="Kernels by demangled instead of short names.")
@click.option(
    "--kernel-families",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="More families of kernels: lines such as `gemm: ^my_matmul`.",
)
@click.option(
    "--fail-above",
    callback=one(_parse_percent),
    metavar="PERCENT",
    help="Exit with status 3 if the median steady step (without steps: the kernel time) grew by "
    "more than this.",
)
@step_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=completing.files,
    help="Write to a file instead of standard output.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite an output that exists.")
@click.option(
    "--engine",
    metavar="PATH",
    shell_complete=completing.files,
    help="The trace_processor_shell for traces, v55 or later; captures need none. Default: "
    "$NSYS2PERFETTO_ENGINE, one on the PATH, or else one that is downloaded once.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    before: Path,
    after: Path,
    format_: str | None,
    section: str | None,
    top: int,
    full_names: bool,
    kernel_families: Path | None,
    fail_above: float | None,
    output: str | None,
    force: bool,
    engine: str | None,
    **steps: Any,
) -> None:
    """Tell what changed between two captures or traces, and why it is slower or faster.

    Numbers are those of an average steady decode step; if one of the two has none, of the whole
    captures. What changed most comes first.
    """
    target = None if output is None else Path(output)
    chosen = format_ or (_EXTENSIONS.get(target.suffix.lower()) if target else None) or "table"
    check(steps)
    if target is not None:
        outputs.check(target, force)
        for file in (before, after):
            if outputs.same(file, target):
                raise UsageError(f"{printable(str(file))} is compared: name another output with -o")
    inputs.announce(before, after)
    comparison = _compare(before, after, engine, steps, full_names, kernel_families)
    _write(_shown(comparison, before, after, chosen, section, top, target), target)
    if fail_above is not None:
        too_slow = _too_slow(comparison, fail_above)
        if too_slow:
            failures.complain(too_slow)
            ctx.exit(EXIT_SLOWER)


def _compare(
    before: Path,
    after: Path,
    engine: str | None,
    steps: dict[str, Any],
    full_names: bool,
    kernel_families: Path | None,
) -> Comparison:
    from nsys2perfetto.report import comparison, kernel_groups, opening  # noqa: PLC0415 - polars

    families = kernel_groups.load(kernel_families)
    visible = terminal.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    with ExitStack() as stack:
        sources = []
        for path in (before, after):
            with Progress(path.name, visible) as progress:
                opened = opening.open_source(
                    path, engine=engine, annotate=build(steps), progress=progress
                )
                sources.append(stack.enter_context(opened))
        return comparison.compare(*sources, families=families, full_names=full_names)


def _shown(
    comparison: Comparison,
    before: Path,
    after: Path,
    chosen: str,
    section: str | None,
    top: int,
    target: Path | None,
) -> str:
    from nsys2perfetto.report import comparison_text as written  # noqa: PLC0415 - polars

    names = written.Names(str(before), str(after))
    if chosen == "json":
        return written.as_json(comparison, names, section=section)
    if chosen == "markdown":
        return written.markdown(comparison, names, top=top, section=section)
    if chosen == "csv":
        text = written.csv(comparison, section=section)
        return terminal.data(text) if target is None else text
    width = None
    if target is None and terminal.is_terminal(sys.stdout):
        width = shutil.get_terminal_size().columns
    return written.text(comparison, names, top=top, width=width, section=section)


def _write(text: str, target: Path | None) -> None:
    if target is None:
        click.echo(text)
    else:
        outputs.write(target, f"{text}\n".encode())


def _too_slow(comparison: Comparison, percent: float) -> str | None:
    """What to say if it got slower than allowed.

    Raises:
        Nsys2PerfettoError: That cannot be told: a check that checks nothing must not pass.
    """
    from nsys2perfetto.report.formats import time  # noqa: PLC0415 - polars

    if bool(comparison.before.steady) != bool(comparison.after.steady):
        without = "AFTER" if comparison.before.steady else "BEFORE"
        raise Nsys2PerfettoError(
            f"--fail-above cannot be checked: {without} has no steady decode steps, the other has; "
            f"name what ends a step (--step-kernel), or compare captures without steps (--no-steps)"
        )
    slower = comparison.slowdown_pct
    was, now = (value or 0 for value in comparison.value(comparison.measure))
    if slower is None or not now:
        without = "BEFORE" if slower is None else "AFTER"
        raise Nsys2PerfettoError(
            f"--fail-above cannot be checked: {without} has neither steady decode steps nor kernels"
        )
    if slower <= percent:
        return None
    what = "the median steady step takes" if comparison.per_step else "the kernels take"
    return (
        f"{what} {slower:.4g} % longer ({time(now)} instead of {time(was)}): "
        f"--fail-above allows {percent:g} %"
    )
