"""All GPU work as one table of columns, as the analyses want it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.analysis import columns
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
    gpu: I64
    name: npt.NDArray[np.int32]
    """Id of the operation's name in `texts`."""
    graph_node: Bools
    graph: I64
    """Number of the CUDA graph: of a launch traced as a whole its exec id; 0 where not known."""
    size: I64
    """Bytes of a copy or memory set; 0 for others."""
    copy_kind: npt.NDArray[np.int8]
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
    units, gpus, node, graphs, kinds = [], [], [], [], []
    # Zeros take no memory until something is written to them.
    name = np.zeros(len(operations.start), np.int32)
    size = np.zeros(len(operations.start), np.int64)
    places: dict[str, slice] = {}
    first = 0
    for family in families:
        events, code = family.events, family.events.code
        config = events.config.with_columns(pl.col("globalPid").fill_null(0))
        rows = slice(first, first + len(events))
        units.append(columns.spread(numbers.of(config, "globalPid", "gpu"), code))
        gpus.append(columns.spread(config["gpu"].to_numpy(), code))
        name[rows] = texts.iids(names.texts(family.config["name_iid"])).to_numpy()[code]
        node.append(columns.spread(_column(config, "graphNodeId", 0) > 0, code))
        graph = np.maximum(_column(config, "graphExecId", 0), _column(config, "graphId", 0))
        graphs.append(columns.spread(graph, code))
        kind = _column(config, "copyKind", -1).clip(-1, 127).astype(np.int8)
        kinds.append(columns.spread(kind, code))
        if "bytes" in events.values:
            size[rows] = np.maximum(events.values["bytes"], 0)
        places[family.name] = rows
        first = rows.stop
    return GpuTable(
        operations=operations,
        units=[Unit(*key) for key in numbers.known],
        unit=columns.joined(units),
        gpu=columns.joined(gpus),
        name=name,
        graph_node=columns.joined(node),
        graph=columns.joined(graphs),
        size=size,
        copy_kind=columns.joined(kinds),
        families=places,
    )


def _column(config: pl.DataFrame, name: str, null: int) -> I64:
    if name not in config.columns:
        return np.full(len(config), null, np.int64)
    return config[name].fill_null(null).to_numpy()
