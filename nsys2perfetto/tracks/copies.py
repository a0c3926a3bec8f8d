"""Memory copies, memory sets and unified-memory migrations; bytes, and GB/s where time passed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.nsys.enums import MEMCPY_KIND, MEMORY_KIND, MIGRATION_CAUSE
from nsys2perfetto.nsys.events import Events
from nsys2perfetto.tracks.compute_args import ComputeArgs
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.gpu_family import GpuFamily, is_set
from nsys2perfetto.tracks.gpu_queues import Queues
from nsys2perfetto.tracks.strings import StringPool
from nsys2perfetto.wire.stamp import RowSlot
from nsys2perfetto.wire.template import DOUBLE, Placeholders

_PEER = 10
"""Copy kind PtoP: between two GPUs, so both of them are named."""


def copies(
    events: Events,
    queues: Queues,
    names: StringPool,
    args: ComputeArgs,
    kinds: Mapping[int, str] = MEMCPY_KIND,
    detail: Detail = FULL,
) -> GpuFamily:
    """Copies and migrations, named `Memcpy HtoD`; see `kernels.family` for the arguments."""
    config = events.config
    migration = config["migration"]
    label = _labels(config["copyKind"], kinds)
    peer = pl.col("copyKind") == _PEER
    columns = config.select(
        device="deviceId",
        stream=pl.when(~pl.col("migration")).then("streamId"),
        source=_labels(config["srcKind"], MEMORY_KIND),
        destination=_labels(config["dstKind"], MEMORY_KIND),
        source_device=pl.when(peer).then("srcDeviceId"),
        destination_device=pl.when(peer).then("dstDeviceId"),
        migration_cause=pl.when("migration").then(
            _labels(config["migrationCause"], MIGRATION_CAUSE)
        ),
        graph_node_id=is_set("graphNodeId"),
    )
    kind = pl.select(
        pl.when(migration).then(pl.lit("migration")).otherwise(pl.lit("memcpy"))
    ).to_series()
    name = "Memcpy " + label
    return _family("memcpy", events, queues, names, args, name, kind, columns, detail)


def memory_sets(
    events: Events,
    queues: Queues,
    names: StringPool,
    args: ComputeArgs,
    detail: Detail = FULL,
) -> GpuFamily:
    """Memory sets, named `Memset`."""
    columns = events.config.select(
        device="deviceId",
        stream="streamId",
        memory_kind=_labels(events.config["memKind"], MEMORY_KIND),
        value="value",
        graph_node_id=is_set("graphNodeId"),
    )
    name = pl.Series(["Memset"] * len(columns), dtype=pl.String)
    kind = pl.repeat("memset", len(columns), eager=True)
    return _family("memset", events, queues, names, args, name, kind, columns, detail)


def graph_launches(
    events: Events, queues: Queues, names: StringPool, args: ComputeArgs
) -> GpuFamily:
    """One slice a launch of a whole CUDA graph, named `CUDA graph 5`."""
    columns = events.config.select(
        device="deviceId",
        stream="streamId",
        graph_id=is_set("graphId"),
        graph_exec_id=is_set("graphExecId"),
    )
    number = pl.coalesce(columns["graph_id"], columns["graph_exec_id"]).cast(pl.String)
    name = events.config.select(pl.concat_str(pl.lit("CUDA graph "), number.fill_null("?")))
    kind = pl.repeat("graph", len(columns), eager=True)
    return _family("graph", events, queues, names, args, name.to_series(), kind, columns)


def _labels(numbers: pl.Series, labels: Mapping[int, str]) -> pl.Series:
    """Numbers as words; a number without a word stays a number."""
    return numbers.replace_strict(labels, default=numbers.cast(pl.String), return_dtype=pl.String)


def _family(
    family: str,
    events: Events,
    queues: Queues,
    names: StringPool,
    args: ComputeArgs,
    name: pl.Series,
    kind: pl.Series,
    columns: pl.DataFrame,
    detail: Detail = FULL,
) -> GpuFamily:
    """A family whose arguments lie in the packet, since most have bytes of their own anyway."""
    name = name.fill_null("?")
    config = queues.place(events.config).with_columns(
        queues.stage_iids(kind, name), names.iids(name).alias("name_iid")
    )
    iids = args.names.lookup([*columns.columns, "bytes", "throughput_gb_s"])
    texts = {c.name for c in columns if c.dtype == pl.String}
    config = config.hstack(
        [args.texts.iids(c).alias(c.name) if c.name in texts else c for c in columns]
    )

    def fill(p: Placeholders, event: pb.GpuRenderStageEvent) -> None:
        event.name_iid = p["name_iid"]
        for column, iid in iids.items():
            if column not in p:
                continue
            arg = event.launch.args.add(name_iid=iid)
            if column == "throughput_gb_s":
                arg.double_value = p.double(column)
            elif column in texts:
                arg.string_value_iid = p[column]
            else:
                arg.uint_value = p[column]

    result = GpuFamily(family, events, config, fill, arguments=lambda: columns)
    if "bytes" in events.values:
        size: npt.NDArray[np.int64] = events.values["bytes"]  # type: ignore[assignment]
        duration = events.end - events.start
        known = size >= 0
        result.rows = {
            "bytes": RowSlot.fitting(np.maximum(size, 0), optional=True),
            "throughput_gb_s": RowSlot(DOUBLE, optional=True),
        }
        # bytes a ns are GB a second.
        result.values = {"bytes": size, "throughput_gb_s": size / np.maximum(duration, 1)}
        result.present = {"bytes": known, "throughput_gb_s": known & (duration > 0)}
        if not detail.throughput:
            for column in (result.rows, result.values, result.present):
                del column["throughput_gb_s"]
    return result
