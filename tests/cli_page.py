"""The tables of options in docs/cli.md: made from the commands, by `python -m tests.documents`.

A table stands between `<!-- options of NAME -->` and `<!-- end -->`; everything else is by hand.
"""

from __future__ import annotations

import re

import click

from nsys2perfetto.cli import help as help_
from nsys2perfetto.cli.main import COMMANDS, commands
from tests.engine.locate import REPOSITORY

PAGE = REPOSITORY / "docs" / "cli.md"

_TABLE = re.compile(r"(<!-- options of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_CODE = re.compile(r"(?<![\w`-])(--?[a-z][\w-]*|\$[A-Z_\d]+)")


def row(option, ctx):
    """One line of a table."""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    meaning = " ".join((option.help or "").split())
    if isinstance(option.type, click.Choice):
        names = f"{names[:-1]} {option.opts[-1].removeprefix('--').upper()}`"
        *first, last = [f"`{choice}`" for choice in option.type.choices]
        meaning += f" One of {', '.join(first)} and {last}."
    elif takes_value(option):
        names = f"{names[:-1]} {option.make_metavar(ctx)}`"
    if option.show_default:
        meaning += f" Default: {option.default}."
    if isinstance(option.type, click.IntRange) and option.type.min:
        meaning += f" At least {option.type.min}."
    meaning = _CODE.sub(r"`\1`", meaning.replace("*", r"\*").replace("|", r"\|"))
    return f"| {names.replace('|', chr(92) + '|')} | {meaning} |"


def takes_value(option):
    """Whether something follows the option."""
    return not option.is_flag and not option.count


def table(name):
    """The options of a command by section."""
    command = commands.get_command(None, name)
    lines = []
    with click.Context(command, info_name=name, **command.context_settings) as ctx:
        for title, options in command.sorted_options(ctx).items():
            lines += ["", f"| option | {title.lower() if title != help_.OTHER else 'meaning'} |"]
            lines += ["|---|---|", *(row(option, ctx) for option in options)]
    return "\n".join(lines[1:]) + "\n"


def page():
    """The page with the tables as they should be."""
    return _TABLE.sub(lambda m: m[1] + table(m[2]) + m[3], PAGE.read_text(encoding="utf-8"))


def has_all():
    """Whether the page has a table of every command."""
    named = [match[2] for match in _TABLE.finditer(PAGE.read_text(encoding="utf-8"))]
    return sorted(named) == sorted(COMMANDS)
