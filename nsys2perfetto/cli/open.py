"""`nsys2perfetto open TRACE|CAPTURE`: shows it in Perfetto's UI."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsys2perfetto.cli import convert, inputs, memory, summary, terminal, text
from nsys2perfetto.cli.help import Command
from nsys2perfetto.cli.options import one, parse_time
from nsys2perfetto.cli.progress import Progress
from nsys2perfetto.nsys.source import printable

if TYPE_CHECKING:
    from nsys2perfetto.result import Conversion
    from nsys2perfetto.viewer.viewing import Serving

_NS = 10**9
_SECTIONS = {
    "The UI": ("no_browser", "ui", "port", "timeout", "stay"),
    **{title: names for title, names in convert.SECTIONS.items() if title != "Output"},
}
_EXAMPLES = """\
nsys2perfetto open trace.sqlite             converts it, opens a tab with it
nsys2perfetto open trace.pftrace --no-browser
nsys2perfetto open trace.sqlite --steps 10..30
nsys2perfetto open trace.pftrace --ui ui/    a UI of your own, no network
"""


@click.command("open", cls=Command, sections=_SECTIONS, examples=_EXAMPLES)
@click.argument("path", metavar="TRACE|CAPTURE", type=click.Path(path_type=Path))
@click.option("--no-browser", is_flag=True, help="Print the link, open nothing.")
@click.option(
    "--ui",
    default="https://ui.perfetto.dev",
    show_default=True,
    metavar="URL|DIR",
    help="Another UI: the URL of a site, or a folder with a build of it, which is then served, "
    "too, until Ctrl-C, and needs no network.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Of 127.0.0.1, 0 for any that is free; only with --ui. Default: 9001, from which alone "
    "ui.perfetto.dev may fetch.",
)
@click.option(
    "--timeout",
    callback=one(parse_time),
    default="10m",
    show_default=True,
    metavar="TIME",
    help="Give up if no browser has fetched the trace until then.",
)
@click.option(
    "--stay",
    is_flag=True,
    help="Serve until Ctrl-C, so that the link works again, and so do those of `report --html`.",
)
def command(
    *,
    path: Path,
    no_browser: bool,
    ui: str,
    port: int | None,
    timeout: int,
    stay: bool,
    **given: Any,
) -> None:
    """Show a trace, or a capture, in Perfetto's UI.

    Serves the file on 127.0.0.1 to https://ui.perfetto.dev and opens a tab there, with the GPU
    plugins switched on, the GPU's queues open, and decode steps and gaps pinned to the top. Ends
    when the tab has the trace: it keeps a copy. Nothing of it leaves this machine.

    A capture is converted to a temporary file first; the options that shape a trace are those of
    `convert`.
    """
    request = convert.requested(given)
    inputs.announce(path)
    memory.keep_freed_memory()
    from nsys2perfetto.viewer import viewing  # noqa: PLC0415 - imports protobuf

    options = convert.arguments(request, given)
    visible = terminal.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    with ExitStack() as stack:
        with Progress(path.name, visible) as progress:
            served = viewing.serve(
                path, ui=ui, port=port, lasting=stay, progress=progress, **options
            )
            serving = stack.enter_context(served)
        if serving.conversion is not None:
            _print(_of_conversion(serving.conversion))
        _print(_of_link(serving, ui))
        opened = not no_browser and serving.open_browser()
        _print(_what_to_do(serving, opened, is_asked=not no_browser))
        if not serving.wait(None if stay else timeout / _NS):
            raise viewing.not_fetched(timeout / _NS)
        if stay or serving.serves_ui:
            click.echo("The tab has the trace. Serving until Ctrl-C.")
            serving.wait_for_ever()
        click.echo("The tab has the trace; nothing is served any more.")


def _print(lines: list[str]) -> None:
    click.echo("\n".join(lines))


def _of_conversion(result: Conversion) -> list[str]:
    """The capture, its steps, and what to know about it."""
    steps = [line for t in result.decode_steps for line in summary.fact("steps", printable(t))]
    return [*summary.heading(result.capture), *steps, *summary.notes(result.capture.notes), ""]


def _of_link(serving: Serving, ui: str) -> list[str]:
    from nsys2perfetto.viewer.link import COMPUTE_LIMIT  # noqa: PLC0415 - only where needed

    size = text.size(serving.trace.stat().st_size)
    name = printable(serving.trace.name)
    lines = [f"Serving {name} ({size}) on 127.0.0.1:{serving.port} to {printable(ui)}"]
    if (serving.kernels or 0) > COMPUTE_LIMIT:
        lines += text.wrap(
            f"The table of kernels (plugin GPU Compute) is left off: with {serving.kernels:,} "
            f"kernels it would take minutes.",
            "  ",
        )
    return [*lines, "", serving.link, ""]


def _what_to_do(serving: Serving, opened: bool, is_asked: bool) -> list[str]:
    """What the user has to do for the trace to be shown."""
    lines: list[str] = []
    if opened:
        lines += text.wrap("Opened this link in the browser.", "")
    elif is_asked:
        lines += text.wrap("There is no browser to open here: open the link yourself.", "")
    if not opened or "SSH_CONNECTION" in os.environ:
        tunnel = f"ssh -L {serving.port}:127.0.0.1:{serving.port} HOST"
        lines += text.wrap(
            "If your browser is on another machine, run this there first, with this machine as "
            "HOST:",
            "",
        )
        lines.append(f"  {tunnel}")
    return lines + text.wrap(
        "If the browser asks whether the page may reach devices on your local network, allow it: "
        "the trace is there.",
        "",
    )


command.params += convert.shaping_options()
