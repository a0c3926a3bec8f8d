"""The PerfettoSQL package `nsys`: views of the traces that this project writes.

Each file in the folder `nsys` is a module: `kernels.sql` is `nsys.kernels`. Files whose name begins
with `_` are what the others share. A trace processor gets the package with its option
`--add-sql-package`; on a query page that knows no packages, `script` is pasted.
"""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parent / "nsys"
"""The folder of the package; its name is the package's."""

_INCLUDE = re.compile(r"^INCLUDE PERFETTO MODULE (nsys\.\w+);\n", re.MULTILINE)
_CREATE = re.compile(r"^CREATE PERFETTO ", re.MULTILINE)


def modules() -> dict[str, str]:
    """SQL text of each module by its name (`nsys.kernels`), in order of names."""
    files = sorted(PACKAGE.glob("*.sql"))
    return {f"{PACKAGE.name}.{file.stem}": file.read_text(encoding="utf-8") for file in files}


def script(*names: str) -> str:
    """One SQL text that needs no package: modules after all that they include.

    It can be run again: what it creates, it replaces.

    Args:
        names: Modules such as `nsys.kernels`; none for all public ones.

    Raises:
        KeyError: There is no such module.
    """
    texts = modules()
    placed: dict[str, str] = {}

    def place(name: str) -> None:
        if name in placed:
            return
        for included in _INCLUDE.findall(texts[name]):
            place(included)
        placed[name] = _CREATE.sub("CREATE OR REPLACE PERFETTO ", _INCLUDE.sub("", texts[name]))

    for name in names or [name for name in texts if "._" not in name]:
        place(name)
    return "\n".join(placed.values())
