"""`nsys2perfetto info CAPTURE...`: tells what is inside, without converting."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from nsys2perfetto.cli import failures, inputs, overview, terminal
from nsys2perfetto.cli.help import Command
from nsys2perfetto.cli.progress import Progress
from nsys2perfetto.errors import EXIT_FAILURE
from nsys2perfetto.nsys import exporting

_EXAMPLES = """\
nsys2perfetto info trace.sqlite             GPUs, processes, tables, messages
nsys2perfetto info trace.sqlite -v          every thread, every message
nsys2perfetto info run1.sqlite run2.sqlite --json
"""


@click.command("info", cls=Command, examples=_EXAMPLES)
@click.argument(
    "captures", metavar="CAPTURE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object a capture.")
@click.option("-v", "--verbose", is_flag=True, help="List every thread and every message of nsys.")
@click.pass_context
def command(ctx: click.Context, captures: tuple[Path, ...], as_json: bool, verbose: bool) -> None:
    """Tell what is inside a capture, without converting it.

    Versions, GPUs, processes and threads, how many events of each kind there are and under which
    name `--only` and `--skip` know them, the messages of nsys, and what looks suspicious.
    """
    objects = []
    failed = False
    for number, capture in enumerate(captures):
        try:
            exporting.check(capture)  # before the heavy imports
            import nsys2perfetto  # noqa: PLC0415 - numpy and polars come with its `inspect`

            inputs.announce(capture)
            visible = terminal.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
            with Progress(capture.name, visible) as progress:
                found = nsys2perfetto.inspect(capture, progress)
            text = [""] * (number > 0) + overview.lines(found, verbose)
            objects.append(overview.as_json(found))
        except Exception as error:
            if len(captures) == 1:
                raise
            failures.report(error)
            failed = True
            continue
        if not as_json:
            click.echo("\n".join(text))
    if as_json:
        click.echo(json.dumps(objects, indent=2))
    if failed:
        ctx.exit(EXIT_FAILURE)
