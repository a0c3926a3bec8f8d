"""What the program's threads were doing, sampled (`nsys profile --sample=process-tree`).

`COMPOSITE_EVENTS` has a row a sample, `SAMPLING_CALLCHAINS` a row a frame of its call chain,
innermost first (NSYS_SCHEMA section 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from nsys2perfetto.nsys import events
from nsys2perfetto.nsys.capture import Capture, Columns
from nsys2perfetto.nsys.events import Events, Selection

TABLE = "COMPOSITE_EVENTS"
CHAINS = "SAMPLING_CALLCHAINS"

_FRAMES: Columns = {
    "id": "int", "symbol": "int", "module": "int", "kernelMode": "int", "stackDepth": "int",
}  # fmt: skip


@dataclass
class Samples(Events):
    """Samples; configuration: globalTid, cpu; value: id, the key of their frames.

    Attributes:
        frames: Of all samples of the capture, selected or not: id, symbol and module (ids of
            StringIds), kernelMode, stackDepth.
    """

    frames: pl.DataFrame = field(default_factory=pl.DataFrame)


def read(capture: Capture, selection: Selection) -> Samples:
    """Reads samples and their call chains."""
    found = events.read(
        capture, TABLE, {"globalTid": "int", "cpu": "int"}, {"id": "int"}, end=None,
        owner="globalTid", selection=selection,
    )  # fmt: skip
    result = Samples(**vars(found))
    wanted = CHAINS if len(found) else ""
    result.frames = capture.read(wanted, _FRAMES).drop_nulls(["id", "stackDepth"])
    return result
