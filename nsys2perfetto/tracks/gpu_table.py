"""All GPU work as one table of columns, as the analyses want it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.tracks.cuda_api import Numbers, Operations
from nsys2perfetto.tracks.gpu_family import GpuFamily
from nsys2perfetto.tracks.strings import StringPool

I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DEVICE_TO_HOST = 2
"""copyKind DtoH (NSYS_SCHEMA section 3)."""


@dataclass(frozen=True)
class Unit:
    """A process on a GPU."""

    process: int
    """globalPid."""
    gpu: int


@dataclass(frozen=True)
class GpuTable:
    """GPU work in the numbering of `Operations`; arrays of shape (n,)."""

    operations: Operations
    units: list[Unit]
    unit: I64
    """Row of `units`."""
    process: I64
    """globalPid."""
    gpu: I64
    name: I64
    """Id of the operation's name in `texts`."""
    graph_node: Bools
    graph: I64
    """Number of the CUDA graph: of a launch traced as a whole its exec id; 0 where not known."""
    size: I64
    """Bytes of a copy or memory set; 0 for others."""
    copy_kind: I64
    """-1 for what is no copy."""
    families: dict[str, slice]
    """Where each family's operations are."""

    def rows(self, family: str) -> slice:
        """The operations of a family; empty where it has none."""
        return self.families.get(family, slice(0, 0))


def of(
    families: list[GpuFamily], operations: Operations, names: StringPool, texts: StringPool
) -> GpuTable:
    """Builds the table.

    Args:
        families: With their event ids.
        operations: Of the same families.
        names: The GPU sequence's names, to which the families' `name_iid` belong.
        texts: Where the names go for arguments of TrackEvents.
    """
    numbers = Numbers()
    units: list[Unit] = []
    columns: dict[str, list[I64]] = {}
    places: dict[str, slice] = {}
    first = 0
    for family in families:
        events, code = family.events, family.events.code
        config = events.config.with_columns(pl.col("globalPid").fill_null(0))
        spread = {
            "unit": numbers.of(config, "globalPid", "gpu"),
            "process": config["globalPid"].to_numpy(),
            "gpu": config["gpu"].to_numpy(),
            "name": texts.iids(names.texts(family.config["name_iid"])).to_numpy(),
            "graph_node": (_column(config, "graphNodeId", 0) > 0).astype(np.int64),
            "graph": np.maximum(_column(config, "graphExecId", 0), _column(config, "graphId", 0)),
            "copy_kind": _column(config, "copyKind", -1),
        }
        for name, values in spread.items():
            columns.setdefault(name, []).append(values[code])
        size: I64 = events.values.get("bytes", np.zeros(len(events), np.int64))  # type: ignore[assignment]
        columns.setdefault("size", []).append(np.maximum(size, 0))
        units = [Unit(*row) for row in numbers.known]
        places[family.name] = slice(first, first + len(events))
        first += len(events)

    def joined(name: str) -> I64:
        return np.concatenate([np.empty(0, np.int64), *columns.get(name, [])])

    return GpuTable(
        operations=operations,
        units=units,
        unit=joined("unit"),
        process=joined("process"),
        gpu=joined("gpu"),
        name=joined("name"),
        graph_node=joined("graph_node") > 0,
        graph=joined("graph"),
        size=joined("size"),
        copy_kind=joined("copy_kind"),
        families=places,
    )


def _column(config: pl.DataFrame, name: str, null: int) -> I64:
    if name not in config.columns:
        return np.full(len(config), null, np.int64)
    return config[name].fill_null(null).to_numpy()
