"""The entry point: finds the subcommand, and gives whatever goes wrong a line and a status."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from nsys2perfetto import __version__
from nsys2perfetto.cli import completing, failures, terminal
from nsys2perfetto.cli.help import Command, write_examples, write_options
from nsys2perfetto.errors import EXIT_USAGE, UsageError
from nsys2perfetto.nsys.source import printable

PROGRAM = "nsys2perfetto"
DEFAULT = "convert"

COMMANDS = {
    "convert": "Write a Perfetto trace of each capture (the default command).",
    "info": "Tell what is inside a capture, without converting it.",
    "open": "Show a trace, or a capture, in Perfetto's UI.",
    "report": "Tell where the time goes: one page, or a single table.",
    "query": "Ask a trace or a capture with SQL.",
    "compare": "Tell what changed between two captures or traces.",
    "completion": "Print the script that completes words in bash, zsh or fish.",
}
"""Name to one line of help. Each is the object `command` of the module `cli/NAME.py`."""

EXAMPLES = """\
nsys2perfetto trace.sqlite                  writes trace.pftrace
nsys2perfetto trace.sqlite -o out.pftrace.gz --force
nsys2perfetto trace.sqlite --range 1.5s:2s --skip osrt
nsys2perfetto open trace.sqlite             shows it in the browser
nsys2perfetto run1.sqlite run2.sqlite -o traces/
nsys2perfetto info trace.sqlite             tells what is inside
nsys2perfetto report trace.sqlite           where the time goes
nsys2perfetto report gap_total trace.sqlite --format json
nsys2perfetto query trace.pftrace "SELECT * FROM nsys_step"
nsys2perfetto compare before.sqlite after.sqlite --fail-above 5
"""


class Commands(click.Group):
    """Loads a subcommand when it is asked for; without one, arguments are captures to convert."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Command | None:
        """Imports the file of a command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"{__package__}.{cmd_name}").command
        assert isinstance(command, Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the default command's name before arguments that name none."""
        completes = ctx.resilient_parsing
        if not args and not completes:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(EXIT_USAGE)
        own = [*ctx.help_option_names, "--version"]
        if args and args[0] not in COMMANDS and args[0] not in own:
            if not completes:
                _check_for_typo(args[0])
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The first word: a command, a capture, or an option of the default command."""
        if not incomplete.startswith("-"):
            return completing.words_or_files(COMMANDS, incomplete)
        convert = self.get_command(ctx, DEFAULT)
        assert convert is not None
        found = [*super().shell_complete(ctx, incomplete), *convert.shell_complete(ctx, incomplete)]
        return list({item.value: item for item in found}.values())

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help for newcomers: the default command's, the other commands, examples."""
        convert = self.get_command(ctx, DEFAULT)
        assert convert is not None
        pieces = ["CAPTURE... [OPTIONS]", "COMMAND CAPTURE... [OPTIONS]"]
        formatter.write_usage(ctx.command_path, pieces[0])
        formatter.write_usage(ctx.command_path, pieces[1], prefix="       ")
        convert.format_help_text(ctx, formatter)
        write_options(convert, ctx, formatter, [("--version", "Show the version and exit.")])
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        write_examples(EXAMPLES, formatter)


def _check_for_typo(word: str) -> None:
    """A first word that is no file but almost a command is a mistyped command."""
    close = difflib.get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.7)
    if close and not Path(word).exists():
        raise UsageError(
            f"{printable(word)}: no such file or command; did you mean `{PROGRAM} {close[0]}`?"
        )


@click.group(
    cls=Commands,
    name=PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def commands() -> None:
    """Convert NVIDIA Nsight Systems captures to native Perfetto traces."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status; prints every failure.

    Args:
        arguments: Without the program's name; None for the process's own.
    """
    terminal.prepare_streams()
    with failures.stop_signals():
        try:
            status = commands.main(
                None if arguments is None else list(arguments), PROGRAM, standalone_mode=False
            )
            terminal.flush()
        except BaseException as error:  # every failure ends here
            return failures.report(error)
    return status if isinstance(status, int) else 0


def main() -> None:
    """The console script; ends the process."""
    raise SystemExit(run())
