"""Licences of what nsys2perfetto needs at run time: `python -m tests.licences` lists them.

They come from the metadata of the installed distributions. Only licences that ask for no more than
their own text to be kept are accepted: a copyleft or unknown one fails, and a person has to look.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement

PROGRAM = "nsys2perfetto"

PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0",
    "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""SPDX identifiers that may be combined with ours without further thought."""

_WORDS = {
    "apache 2.0", "apache license 2.0", "apache license, version 2.0", "apache software license",
    "bsd license", "bsd 2-clause license", "3-clause bsd license", "isc license (iscl)",
    "mit license", "python software foundation license", "the unlicense (unlicense)",
}  # fmt: skip
"""What older metadata say in free words or as a classifier."""


def needed(name: str = PROGRAM) -> dict[str, Distribution]:
    """What an installation without extras brings, by name; the program itself is not in it.

    Raises:
        importlib.metadata.PackageNotFoundError: Something that is needed is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = [name]
    while waiting:
        one = distribution(waiting.pop())
        for text in one.requires or ():
            requirement = Requirement(text)
            key = re.sub(r"[-_.]+", "-", requirement.name.lower())
            is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if is_needed and key not in found:
                found[key] = distribution(requirement.name)
                waiting.append(requirement.name)
    return dict(sorted(found.items()))


def licence(one: Distribution) -> str:
    """What the metadata say: an SPDX expression, or words; empty where they say nothing."""
    metadata = one.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [
        text.split(" :: ")[-1]
        for text in metadata.get_all("Classifier") or ()
        if text.startswith("License :: ") and text != "License :: OSI Approved"
    ]
    words = str(metadata.get("License") or "").strip()
    if classifiers:
        return " AND ".join(classifiers)
    return words.splitlines()[0] if words else ""


def is_permissive(said: str) -> bool:
    """Whether every part of what the metadata say is known and permissive."""
    parts = [part.strip() for part in re.split(r"\bAND\b|\bOR\b|[()]", said) if part.strip()]
    known = {name.lower() for name in PERMISSIVE} | set(_WORDS)
    return bool(parts) and all(part.lower() in known for part in parts)


def main() -> int:
    """Prints one line a distribution; 1 if a licence is none that is accepted."""
    bad = []
    for name, one in needed().items():
        said = licence(one)
        print(f"{name:<22} {one.version:<12} {said or '(none)'}")
        bad += [name] * (not is_permissive(said))
    if bad:
        print(f"not permissive, or not known: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
