"""Names and texts of others, made safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The text without anything that a terminal would obey: such characters become `\xNN`.

    They are control characters, those of Unicode that change the direction or the look of what
    follows, and the bytes of file names that are not text.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, see PEP 383
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
