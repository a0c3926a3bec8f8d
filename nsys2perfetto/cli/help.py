"""How a command's help looks: options by what they are for, examples at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

OTHER = "Options"
"""Section of what is named in none."""


class Command(click.Command):
    """A command whose help has sections and examples.

    Args:
        sections: Title to the names of the parameters in it; what is in none comes last.
        examples: Lines of commands, each with what it does after at least three blanks, or without.
    """

    def __init__(
        self,
        *arguments: Any,
        sections: Mapping[str, Sequence[str]] | None = None,
        examples: str = "",
        **named: Any,
    ) -> None:
        named["context_settings"] = {
            "help_option_names": ["-h", "--help"],
            "max_content_width": 100,
        } | named.get("context_settings", {})
        super().__init__(*arguments, **named)
        self.sections = dict(sections or {})
        self.examples = examples

    def sorted_options(self, ctx: click.Context) -> dict[str, list[click.Option]]:
        """Options by section, as they are declared; a section without any is absent."""
        home = {name: title for title, names in self.sections.items() for name in names}
        found: dict[str, list[click.Option]] = {title: [] for title in (*self.sections, OTHER)}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and not option.hidden:
                found[home.get(option.name or "", OTHER)].append(option)
        return {title: options for title, options in found.items() if options}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes each section."""
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes what else there is to say, then the examples."""
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)


def write_options(
    command: Command,
    ctx: click.Context,
    formatter: click.HelpFormatter,
    more: Sequence[tuple[str, str]] = (),
) -> None:
    """Writes the options of a command by section.

    Args:
        command: Whose options.
        ctx: Its context, or its group's.
        formatter: Where to.
        more: Rows that are put before the last one, which is `--help`.
    """
    for title, options in command.sorted_options(ctx).items():
        rows = [row for option in options if (row := option.get_help_record(ctx))]
        if title == OTHER:
            rows[-1:-1] = more
        with formatter.section(title):
            formatter.write_dl(rows)


def write_examples(examples: str, formatter: click.HelpFormatter) -> None:
    """Writes the lines as they are."""
    if examples:
        with formatter.section("Examples"):
            formatter.write("".join(f"  {line}\n" for line in examples.splitlines()))
