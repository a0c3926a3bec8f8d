"""What the user is told about the files that a command reads."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from nsys2perfetto.nsys import exporting
from nsys2perfetto.nsys.source import printable


def announce(*paths: Path) -> None:
    """Says which SQLite export stands in for a report: on stderr, since stdout is for results."""
    for path in paths:
        if exporting.is_report(path) and (export := exporting.current_export(path)) is not None:
            with contextlib.suppress(OSError):
                text = f"Reading {export}, the export beside {path}"
                click.echo(printable(text), err=True)
