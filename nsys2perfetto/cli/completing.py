"""What a shell may complete, beyond what click knows: file names, families, names of reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from nsys2perfetto.families import FAMILIES
from nsys2perfetto.report import names

_CAPTURES = (".sqlite", ".pftrace", ".pftrace.gz")


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A file, which the shell completes by itself."""
    return [CompletionItem(incomplete, type="file")]


def words_or_files(words: dict[str, str], incomplete: str) -> list[CompletionItem]:
    """Words with their help, or a file.

    Bash completes files by itself only where no word fits; so captures and traces are among these.
    """
    folder = Path(f"{incomplete}x").parent
    prefix = incomplete[: incomplete.rfind("/") + 1]
    try:
        listed = sorted(path.name for path in folder.iterdir())
    except OSError:
        listed = []
    known = [f"{prefix}{name}" for name in listed if name.endswith(_CAPTURES)]
    return [
        CompletionItem(incomplete, type="file"),
        *(CompletionItem(w, help=t) for w, t in words.items() if w.startswith(incomplete)),
        *(CompletionItem(name) for name in known if name.startswith(incomplete)),
    ]


def families(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Families of events, behind those that are there already and a comma."""
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{name}")
        for name in FAMILIES
        if name.startswith(last) and name not in taken
    ]


def report_words(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The words of `report`: the name of a report or a file, then a file."""
    given: tuple[Any, ...] = ctx.params.get("words") or ()
    if given:
        return files(ctx, param, incomplete)
    words = {name.split()[0]: text for name, text in names.NAMES.items()}
    return words_or_files(words, incomplete)
