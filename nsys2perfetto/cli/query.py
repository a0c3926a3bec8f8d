"""`nsys2perfetto query TRACE|CAPTURE SQL`: asks with SQL and prints the rows."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsys2perfetto import outputs
from nsys2perfetto.cli import completing, failures, inputs, memory, terminal, text
from nsys2perfetto.cli.help import Command
from nsys2perfetto.cli.progress import Progress
from nsys2perfetto.errors import EXIT_FAILURE, QueryError, UsageError
from nsys2perfetto.nsys.source import printable

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("table", "csv", "json", "markdown", "parquet")
_EXTENSIONS = {".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet"}
_STDIN = "-"
_AROUND = 60
"""Columns of SQL to show on each side of a mistake."""
_EXAMPLES = """\
nsys2perfetto query trace.pftrace "SELECT * FROM nsys_step"
nsys2perfetto query trace.sqlite "SELECT cause, total_ns FROM nsys_gap_cause"
nsys2perfetto query trace.pftrace --file steps.sql -o steps.parquet
nsys2perfetto query --schema                the views and their columns
"""


@click.command("query", cls=Command, examples=_EXAMPLES)
@click.argument("trace", metavar="TRACE|CAPTURE", required=False, type=click.Path(path_type=Path))
@click.argument("sql", metavar="[SQL]", required=False)
@click.option(
    "--file",
    "sql_file",
    metavar="FILE",
    shell_complete=completing.files,
    help="Read the SQL from a file; - is standard input, as it is instead of SQL.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="How to write the rows. Default: what the name of the output says, or else table.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=completing.files,
    help="Write the rows to a file instead of standard output; compressed if it ends in .gz.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite an output that exists.")
@click.option(
    "--engine",
    metavar="PATH",
    shell_complete=completing.files,
    help="The trace_processor_shell to use, v55 or later. Default: $NSYS2PERFETTO_ENGINE, one on "
    "the PATH, or else one that is downloaded once.",
)
@click.option(
    "--schema",
    "--list",
    is_flag=True,
    help="List the views of the package nsys and their columns; needs neither trace nor engine.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    trace: Path | None,
    sql: str | None,
    sql_file: str | None,
    format_: str | None,
    output: str | None,
    force: bool,
    engine: str | None,
    schema: bool,
) -> None:
    """Ask a trace, or a capture, with SQL and print the rows of the last statement.

    All views of the package nsys are there: nsys_step, nsys_gap, nsys_kernel_summary, ...; --schema
    lists them. A capture is converted to a temporary file first.
    """
    chosen = _format(format_, output)
    target = None if output is None else Path(output)
    if target is not None:
        outputs.check(target, force)
    if schema:
        _put(_schema(chosen, target is not None), target)
        return
    if trace is None:
        raise UsageError("name a trace or a capture, and SQL (see nsys2perfetto query --help)")
    if target is not None and outputs.same(trace, target):
        raise UsageError(f"{printable(str(trace))} is what is asked: name another output with -o")
    statements = _sql(sql, sql_file)
    inputs.announce(trace)
    try:
        frame = _ask(trace, statements, engine)
    except QueryError as error:
        failures.report(error)
        click.echo(_around(error.excerpt), err=True, nl=bool(error.excerpt))
        ctx.exit(EXIT_FAILURE)
    _put(_made(frame, chosen, target is not None), target)


def _format(given: str | None, output: str | None) -> str:
    chosen = given
    if chosen is None and output is not None:
        chosen = _EXTENSIONS.get(Path(output.removesuffix(".gz")).suffix.lower())
    if chosen == "parquet" and output is None:
        raise UsageError("parquet is not for reading: name a file with -o")
    return chosen or "table"


def _sql(given: str | None, file: str | None) -> str:
    """The SQL, wherever it is."""
    if given is not None and file is not None:
        raise UsageError("SQL and --file contradict each other: give one")
    if given is None and file is None:
        raise UsageError("no SQL: give it as an argument, in a file with --file, or - for stdin")
    if given is not None and given != _STDIN:
        return given
    try:
        if _STDIN in (given, file):
            if sys.stdin is None:
                raise UsageError("standard input is closed: give the SQL as an argument")
            data, name = sys.stdin.buffer.read(), "standard input"
        else:
            assert file is not None
            data, name = Path(file).read_bytes(), printable(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise UsageError(f"{printable(str(file))}: cannot read the SQL: {reason}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{name}: the SQL is not UTF-8") from None


def _ask(trace: Path, sql: str, engine: str | None) -> pl.DataFrame:
    memory.keep_freed_memory()
    import nsys2perfetto  # noqa: PLC0415 - numpy, polars and perfetto come with its `open_trace`

    visible = terminal.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    with Progress(trace.name, visible) as progress:
        session = nsys2perfetto.open_trace(trace, engine, progress=progress)
    with session:
        return session.query(sql).to_polars()


def _made(frame: pl.DataFrame, chosen: str, to_file: bool) -> str | bytes:
    """The rows in a format."""
    if chosen == "parquet":
        import io  # noqa: PLC0415 - seldom needed

        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()
    from nsys2perfetto.report import formats  # noqa: PLC0415 - imports polars

    if chosen == "table":
        is_read = not to_file and terminal.is_terminal(sys.stdout)
        width = shutil.get_terminal_size().columns if is_read else None
        return formats.table(frame, max_width=width)
    if chosen == "markdown":
        return formats.markdown(frame)
    if chosen == "json":
        return formats.json(frame)
    made = formats.csv(frame)
    return made if to_file else terminal.data(made)


def _put(made: str | bytes, target: Path | None) -> None:
    """Prints a text, or writes it, or bytes, to a file."""
    if target is not None:
        outputs.write(target, made if isinstance(made, bytes) else f"{made}\n".encode())
    else:
        click.echo(made)


def _around(excerpt: str) -> str:
    """The lines around a mistake, cut on both sides where they are long."""
    caret = len(excerpt.rpartition("\n")[2]) - 1
    first = max(0, caret - _AROUND)
    return "\n".join(f"  {line[first : caret + _AROUND]}" for line in excerpt.splitlines())


def _schema(chosen: str, to_file: bool) -> str | bytes:
    """The views and their columns, from the package's files."""
    from nsys2perfetto.query import package  # noqa: PLC0415 - reads files

    views = package.views().values()
    if chosen != "table":
        import polars as pl  # noqa: PLC0415 - a list for people needs none

        head = ("view", "module", "column", "type", "description")
        cells = [(v.name, v.module, c.name, c.type, c.comment) for v in views for c in v.columns]
        frame = pl.DataFrame(cells, schema=dict.fromkeys(head, pl.String), orient="row")
        return _made(frame, chosen, to_file)
    lines: list[str] = []
    for view in views:
        lines += [f"{view.name} ({view.module})", *text.wrap(view.comment, "  "), ""]
        widest = max(len(column.name) for column in view.columns)
        for column in view.columns:
            label = f"  {column.name:<{widest}}  {column.type.lower():<9}  "
            lines += text.wrap(column.comment, label)
        lines.append("")
    return "\n".join(lines).rstrip()
