"""What a scenario is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samples.builder.capture import Capture

Facts = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """A capture on disk and what is known about it.

    Attributes:
        path: The SQLite file.
        schema: Its schema version.
        rows: Number of rows of each table that has any.
        facts: What else is known; each scenario's docstring says what its facts are.
    """

    path: Path
    schema: str
    rows: dict[str, int]
    facts: Facts = field(default_factory=dict)


SCENARIOS: dict[str, Callable[[Path], Scenario]] = {}
"""Name → function that writes `<directory>/<name>.sqlite` and returns the truth."""


def scenario(
    schema: str = "3.16.1", **options: Any
) -> Callable[[Callable[[Capture], Facts | None]], Callable[[Path], Scenario]]:
    """Registers a function that fills a capture; its name is the scenario's name.

    Args:
        schema: Schema version of the capture.
        options: Further arguments of `Capture`.
    """

    def register(build: Callable[[Capture], Facts | None]) -> Callable[[Path], Scenario]:
        def write(directory: Path) -> Scenario:
            capture = Capture(schema, **options)
            facts = build(capture) or {}
            path = capture.save(directory, build.__name__)
            return Scenario(path, capture.schema, capture.row_counts(), facts)

        write.__name__, write.__doc__ = build.__name__, build.__doc__
        SCENARIOS[build.__name__] = write
        return write

    return register
