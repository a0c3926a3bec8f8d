"""Kernels: launch configuration, what follows from it, and the names by which tools know them.

Argument names are the ones that Perfetto's GPU tables and its GpuCompute plugin read
(`registers_per_thread`, `shared_mem_dynamic`, `workgroup_size`, ...). Whatever repeats lies in the
interned kernel, one for each configuration: also grid and block, which the engine reads there under
the names that it gives to the fields of `launch`. An argument that differs from launch to launch
would cost the engine a whole argument set a kernel.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import occupancy
from nsys2perfetto.nsys.enums import CACHE_CONFIG, LAUNCH_TYPE
from nsys2perfetto.nsys.events import Events
from nsys2perfetto.nsys.gpus import Gpus
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.tracks.compute_args import ComputeArgs
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.gpu_family import GpuFamily, is_set, uint32
from nsys2perfetto.tracks.gpu_queues import Queues
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.strings import StringPool
from nsys2perfetto.wire import ragged
from nsys2perfetto.wire.ragged import Ragged
from nsys2perfetto.wire.template import Placeholders

_DIMENSIONS = {
    "gridX": "launch.grid_size.x", "gridY": "launch.grid_size.y", "gridZ": "launch.grid_size.z",
    "blockX": "launch.workgroup_size.x", "blockY": "launch.workgroup_size.y",
    "blockZ": "launch.workgroup_size.z",
}  # fmt: skip
"""Column to the engine's name for the field of `GpuRenderStageEvent.launch`.

As fields they would take 21 bytes of each packet; the engine stores the same rows either way
(gpu_event_parser.cc, ParseComputeKernelLaunch and ParseExtraComputeArg)."""
_LIMITS = {
    "occupancy_limit_warps": "warps",
    "occupancy_limit_registers": "registers",
    "occupancy_limit_shared_mem": "shared_memory",
    "occupancy_limit_blocks": "blocks",
}
"""The names by which Perfetto's GPU tools know `occupancy.BlockLimits`."""
_INTERNED_KERNELS = 1000
"""GpuInternedData.compute_kernels."""
_NAMES = {"kernel_name": 2, "kernel_demangled_name": 3, "arch": 4}
"""The engine's names for fields of InternedComputeKernel, and their numbers."""
_UNNAMED = "[unnamed kernel]"
_SELDOM_NEEDED = {
    "thread_count", "shared_mem_config_size", "func_cache_config", "process_id", "process_name",
    *_DIMENSIONS.values(),
}  # fmt: skip
"""Arguments that `Detail.launch` is about, beside the architecture and the mangled name."""


def family(
    events: Events,
    strings: StringTable,
    queues: Queues,
    gpus: Gpus,
    tracks: Tracks,
    names: StringPool,
    args: ComputeArgs,
    detail: Detail = FULL,
) -> GpuFamily:
    """Prepares kernels for writing.

    Args:
        events: From `nsys.gpu_work.kernels`, its config after `Queues.with_gpu`.
        strings: The capture's string table.
        queues: With the kernels' queues defined.
        gpus: For multiprocessor counts and limits.
        tracks: For process names.
        names: The GPU sequence's event names; the short names are added.
        args: The GPU sequence's argument names; the kernels' are added.
        detail: How much is said of each.
    """
    kernels = _described(events.config, strings, gpus)
    config = queues.place(kernels).with_columns(
        queues.stage_iids(pl.repeat("kernel", len(kernels), eager=True), kernels["name"]),
        names.iids(kernels["name"]).alias("name_iid"),
        pl.Series("kernel_iid", np.arange(1, len(kernels) + 1), dtype=pl.Int64),
    )
    interned = _interned(_arguments(kernels, gpus, tracks, detail), args)
    return GpuFamily(
        "kernel",
        events,
        config,
        _fill,
        interned=lambda: [interned],
        # Made again when asked for, rather than kept for the many traces that need it once.
        arguments=lambda: _arguments(
            _described(events.config, strings, gpus), gpus, tracks, detail
        ),
    )


def _described(config: pl.DataFrame, strings: StringTable, gpus: Gpus) -> pl.DataFrame:
    """Configurations with their names and what follows from the launch."""
    kernels = with_names(config, strings).with_columns(uint32(c) for c in _DIMENSIONS)
    return kernels.with_columns(_launch(kernels, gpus))


def with_names(config: pl.DataFrame, strings: StringTable) -> pl.DataFrame:
    """Adds `name` (short, else demangled, else mangled), `demangled` and `mangled`.

    `nsys stats` falls back the same way (NSYS_SCHEMA section 7).
    """
    short, demangled, mangled = (
        strings.look_up(config[column]) for column in ("shortName", "demangledName", "mangledName")
    )
    return config.with_columns(
        demangled.alias("demangled"),
        mangled.alias("mangled"),
        pl.coalesce(
            pl.lit(short).replace("", None),
            pl.lit(demangled).replace("", None),
            pl.lit(mangled).replace("", None),
            pl.lit(_UNNAMED),
        ).alias("name"),
    )


def _launch(kernels: pl.DataFrame, gpus: Gpus) -> list[pl.Series]:
    """What follows from a launch: totals, waves, occupancy and its limits; null where not known."""
    threads = _product("workgroup_size", *(kernels[f"block{axis}"] for axis in "XYZ"))
    blocks = _product("grid_size", *(kernels[f"grid{axis}"] for axis in "XYZ"))
    launch = kernels.select(
        "gpu",
        threads.fill_null(0),
        blocks.fill_null(0),
        registers=pl.col("registersPerThread").fill_null(0),
        shared=pl.col("staticSharedMemory").fill_null(0)
        + pl.col("dynamicSharedMemory").fill_null(0),
        executed=pl.col("sharedMemoryExecuted").fill_null(0),
    )
    waves, percent, *fit = (np.full(len(kernels), np.nan) for _ in range(2 + len(_LIMITS)))
    for gpu in gpus.by_id.values():
        limits = occupancy.limits_of(*gpu.compute_capability) if gpu.compute_capability else None
        row = np.nonzero(launch["gpu"].to_numpy() == gpu.id)[0]
        if limits is None or not len(row):
            continue
        _, size, grid, *resources = (column.to_numpy() for column in launch[row])
        resident, _ = occupancy.blocks_per_sm(limits, size, *resources)
        percent[row] = occupancy.theoretical_occupancy_pct(limits, size, resident)
        alone = occupancy.block_limits(limits, size, *resources)
        for column, resource in zip(fit, _LIMITS.values(), strict=True):
            column[row] = getattr(alone, resource)
        if gpu.sm_count:
            waves[row] = occupancy.waves_per_multiprocessor(grid, gpu.sm_count, resident)
    return [
        threads,
        blocks,
        _product("thread_count", threads, blocks),
        pl.Series("waves", waves).fill_nan(None),
        pl.Series("occupancy", percent).fill_nan(None),
        *(
            pl.Series(name, np.where(column < occupancy.NO_LIMIT, column, np.nan))
            .fill_nan(None)
            .cast(pl.Int64)
            for name, column in zip(_LIMITS, fit, strict=True)
        ),
    ]


def _product(name: str, *factors: pl.Series) -> pl.Series:
    """The product of columns; null where it does not fit into 63 bits (damage)."""
    exact, about = factors[0], factors[0].cast(pl.Float64)
    for factor in factors[1:]:
        exact, about = exact * factor, about * factor.cast(pl.Float64)
    fits = pl.select(pl.when(about < 2.0**63).then(exact)).to_series()
    return fits.alias(name)


def _arguments(kernels: pl.DataFrame, gpus: Gpus, tracks: Tracks, detail: Detail) -> pl.DataFrame:
    """A row a configuration, a column an argument; the names first."""

    def named(labels: dict[int, str], column: str) -> pl.Series:
        return kernels[column].replace_strict(
            labels, default=kernels[column].cast(pl.String), return_dtype=pl.String
        )

    arch = {
        g.id: "sm_{}{}".format(*g.compute_capability)
        for g in gpus.by_id.values()
        if g.compute_capability
    }
    processes = kernels["globalPid"].fill_null(0)
    distinct = processes.unique().to_list()
    optional = kernels.select(
        graph_id=is_set("graphId"),
        graph_node_id=is_set("graphNodeId"),
        green_context=is_set("greenContextId"),
        cluster_x=is_set("clusterX"),
        cluster_y=is_set("clusterY"),
        cluster_z=is_set("clusterZ"),
        local_mem_per_thread=is_set("localMemoryPerThread"),
        # 1 is the ordinary launch; saying so each time would drown what is special.
        launch_type=pl.when(pl.col("launchType") > 1).then(named(LAUNCH_TYPE, "launchType")),
    )
    columns: dict[str, pl.Series] = {
        "device": kernels["deviceId"],
        "stream": kernels["streamId"],
        "registers_per_thread": kernels["registersPerThread"],
        "shared_mem_static": kernels["staticSharedMemory"],
        "shared_mem_dynamic": kernels["dynamicSharedMemory"],
        "shared_mem_config_size": kernels["sharedMemoryExecuted"],
        "func_cache_config": named(CACHE_CONFIG, "cacheConfig"),
        "workgroup_size": kernels["workgroup_size"],
        "grid_size": kernels["grid_size"],
        "thread_count": kernels["thread_count"],
        **{name: kernels[column] for column, name in _DIMENSIONS.items()},
        "waves_per_multiprocessor": kernels["waves"],
        "theoretical_occupancy_pct": kernels["occupancy"],
        "sm__maximum_warps_per_active_cycle_pct": kernels["occupancy"],
        **{name: kernels[name] for name in _LIMITS},
        **{name: optional[name] for name in optional.columns},
        "process_id": processes.replace_strict(
            distinct, [tracks.pid(p) for p in distinct], return_dtype=pl.Int64
        ),
        "process_name": processes.replace_strict(
            distinct, [tracks.name_of_process(p) for p in distinct], return_dtype=pl.String
        ),
    }
    mangled = kernels["mangled"]
    if not detail.launch:
        arch = {}
        columns = {name: c for name, c in columns.items() if name not in _SELDOM_NEEDED}
        # The full name is one of the two.
        mangled = kernels.select(pl.when(pl.col("demangled").is_null()).then("mangled"))["mangled"]
    names = (
        mangled,
        kernels["demangled"],
        kernels["gpu"].replace_strict(arch, default=None, return_dtype=pl.String),
    )
    named_columns = dict(zip(_NAMES, names, strict=True)) | columns
    return pl.DataFrame([column.alias(name) for name, column in named_columns.items()])


def _interned(columns: pl.DataFrame, args: ComputeArgs) -> Ragged:
    """An InternedComputeKernel for each configuration."""
    body = ragged.concat(
        ragged.encode_varint(1, np.arange(1, len(columns) + 1)),
        *(ragged.encode_string(field, columns[name]) for name, field in _NAMES.items()),
        args.encode(5, {c.name: c for c in columns if c.name not in _NAMES}),
    )
    return ragged.length_delimited(_INTERNED_KERNELS, body)


def _fill(p: Placeholders, event: pb.GpuRenderStageEvent) -> None:
    event.name_iid = p["name_iid"]
    event.kernel_iid = p["kernel_iid"]
