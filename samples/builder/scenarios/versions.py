"""The same run in the schema of each nsys."""

from __future__ import annotations

from pathlib import Path

from samples.builder.capture import Capture
from samples.builder.decode import decode_run
from samples.builder.scenarios.registry import Scenario


def same_run(directory: Path, schema: str, *, graph: bool = False) -> Scenario:
    """A short decode run with some of everything, as nsys of that schema version exports it.

    Facts: truth (the DecodeTruth of the run).
    """
    capture = Capture(schema)
    truth = decode_run(capture, steps=4, warmup_steps=3, layers=2, graph=graph)
    name = f"run_{schema}{'_graph' if graph else ''}"
    path = capture.save(directory, name)
    return Scenario(path, capture.schema, capture.row_counts(), {"truth": truth})
