"""Families of kernels that users add: a file of lines `family: regular expression`."""

from __future__ import annotations

import re
from pathlib import Path

from nsys2perfetto.analysis.kernel_families import FAMILIES
from nsys2perfetto.errors import UsageError
from nsys2perfetto.nsys.source import printable

Families = tuple[tuple[str, str], ...]


def load(path: Path | None) -> Families:
    """The families of a file, in its order, and after them the built-in ones.

    Each line is `family: regular expression`, which is searched for in a kernel's names, small and
    capital letters alike; the first that fits decides. A family may have several lines. Empty lines
    and those that begin with `#` say nothing.

    Args:
        path: None for the built-in families alone.

    Returns:
        Family and expression, by priority, for `kernel_families.classify`.

    Raises:
        UsageError: The file cannot be read, or a line is wrong.
    """
    if path is None:
        return FAMILIES
    shown = printable(str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(
            f"{shown} is no text in UTF-8: it needs lines such as `gemm: ^my_mm`"
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{shown}: cannot read the families of kernels: {why}") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(_family(line, f"{shown}, line {number}"))
    return (*found, *FAMILIES)


def _family(line: str, where: str) -> tuple[str, str]:
    name, colon, expression = (part.strip() for part in line.partition(":"))
    if not (name and colon and expression):
        raise UsageError(f"{where}: not `family: regular expression`, such as `gemm: ^my_mm`")
    try:
        re.compile(expression, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            f"{where}: not a regular expression: {printable(expression)} ({error})"
        ) from None
    return printable(name), expression
