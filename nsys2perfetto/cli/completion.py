"""`nsys2perfetto completion SHELL`: prints the script with which a shell completes words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nsys2perfetto.cli.help import Command

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_NSYS2PERFETTO_COMPLETE"
"""With it in the environment, click answers what fits instead of running a command."""

_EXAMPLES = """\
eval "$(nsys2perfetto completion bash)"     in ~/.bashrc
eval "$(nsys2perfetto completion zsh)"      in ~/.zshrc, after compinit
nsys2perfetto completion fish | source      in ~/.config/fish/config.fish
"""


@click.command("completion", cls=Command, examples=_EXAMPLES)
@click.argument("shell", metavar="SHELL", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print a script that makes a shell complete commands, options and files.

    SHELL is bash (4.4 or later), zsh or fish.
    """
    from nsys2perfetto.cli.main import PROGRAM, commands  # noqa: PLC0415 - imports this module

    found = get_completion_class(shell)
    assert found is not None
    complete = found(commands, {}, PROGRAM, VARIABLE)
    click.echo(complete.source_template % complete.source_vars())
