"""Where GPU work is shown: a hardware queue for each stream, and its kind as a render stage.

The engine keys queue tracks by number and name, so every (GPU, process, context, stream) has an iid
of its own in the whole trace; queues and stages share one number space (`gpu_specifications`).

There is a stage for each name of an operation, called like it: engines before v55 know no names of
their own for operations and show the stage's.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.nsys.enums import UNIFIED_KINDS
from nsys2perfetto.nsys.gpus import Gpus
from nsys2perfetto.tracks import sequences
from nsys2perfetto.tracks.processes import Tracks

COMPUTE = pb.InternedGpuRenderStageSpecification.COMPUTE
OTHER = pb.InternedGpuRenderStageSpecification.OTHER

STAGES = {
    "kernel": ("CUDA kernel", COMPUTE),
    "memcpy": ("CUDA memory copy", OTHER),
    "memset": ("CUDA memory set", OTHER),
    "migration": ("Unified-memory migration", OTHER),
    "graph": ("CUDA graph launch, all its nodes", OTHER),
}
"""Kind of work to (description, category); the description is an argument of every slice."""

_STAGE_KEY = {"kind": pl.String, "stage": pl.String}

QUEUE_KEY = ["gpu", "globalPid", "contextId", "streamId", "migration"]


class Queues:
    """Queues, contexts and stages of all GPU work in a trace."""

    def __init__(
        self, gpus: Gpus, tracks: Tracks, stream_names: dict[tuple[int, int, int], str]
    ) -> None:
        """See `gpu_queues`.

        Args:
            gpus: Maps each process's devices to GPUs.
            tracks: Gives each process its number.
            stream_names: (pid, context, stream) to the name that the program gave by NVTX.
        """
        self._gpus = gpus
        self._tracks = tracks
        self._stream_names = stream_names
        self._queues = pl.DataFrame(schema={"queue_iid": pl.Int64, "name": pl.String})
        self._contexts: dict[tuple[int, int], int] = {}
        self._stages = pl.DataFrame(
            schema={"kind": pl.String, "stage": pl.String, "stage_iid": pl.Int64}
        )

    def with_gpu(self, config: pl.DataFrame) -> pl.DataFrame:
        """Adds the columns `gpu` and `migration` to the configurations of GPU work."""
        migration = (
            pl.col("copyKind").is_in(UNIFIED_KINDS).fill_null(False)
            if "copyKind" in config.columns
            else pl.lit(False)
        )
        devices = config.select("globalPid", "deviceId").unique()
        gpu = [_sane(self._gpus.gpu_id(*row)) for row in devices.iter_rows()]
        devices = devices.with_columns(pl.Series("gpu", gpu, dtype=pl.Int64))
        return config.join(
            devices, on=["globalPid", "deviceId"], how="left", nulls_equal=True,
            maintain_order="left",
        ).with_columns(migration.alias("migration"))  # fmt: skip

    def define(self, configs: Iterable[pl.DataFrame]) -> None:
        """Numbers the queues that occur in these configurations (each after `with_gpu`)."""
        found = [self._key(c) for c in configs if len(c)]
        if not found:
            return
        queues = pl.concat(found).unique().sort(QUEUE_KEY)
        self._queues = queues.with_columns(
            pl.Series("queue_iid", range(1, len(queues) + 1), dtype=pl.Int64),
            pl.Series("name", self._names(queues), dtype=pl.String),
        )
        for process, context in self._queues.select("globalPid", "contextId").iter_rows():
            self._contexts.setdefault((process, context), len(self._contexts) + 1)

    @staticmethod
    def _key(config: pl.DataFrame) -> pl.DataFrame:
        """Queue keys of configurations: a migration belongs to no stream and no context."""
        own = ~pl.col("migration")
        return config.select(
            "gpu",
            pl.col("globalPid").fill_null(0),
            pl.when(own).then("contextId").otherwise(0).fill_null(0).alias("contextId"),
            pl.when(own).then("streamId").otherwise(0).fill_null(-1).alias("streamId"),
            "migration",
        )

    def stage_iids(self, kind: pl.Series, name: pl.Series) -> pl.Series:
        """The stage of each configuration, after `define`.

        Args:
            kind: A key of STAGES.
            name: Of the operation.
        """
        frame = pl.DataFrame({"kind": kind, "stage": name}, schema_overrides=_STAGE_KEY)
        known = self._stages
        fresh = frame.unique(maintain_order=True).join(
            known, on=list(_STAGE_KEY), how="anti", maintain_order="left"
        )
        first = len(self._queues) + len(known) + 1
        numbers = pl.Series("stage_iid", range(first, first + len(fresh)), dtype=pl.Int64)
        self._stages = pl.concat([known, fresh.with_columns(numbers)])
        return frame.join(self._stages, on=list(_STAGE_KEY), how="left", maintain_order="left")[
            "stage_iid"
        ]

    def kinds(self, stage_iids: pl.Series) -> pl.Series:
        """The kinds of stages: keys of STAGES."""
        return stage_iids.replace_strict(
            self._stages["stage_iid"], self._stages["kind"], return_dtype=pl.String
        )

    def place(self, config: pl.DataFrame) -> pl.DataFrame:
        """Queue, context and GPU of each configuration: columns queue_iid, context_iid, gpu."""
        key = self._key(config)
        placed = key.join(self._queues, on=QUEUE_KEY, how="left", maintain_order="left")
        contexts = pl.DataFrame(
            [(p, c, i) for (p, c), i in self._contexts.items()],
            schema={"globalPid": pl.Int64, "contextId": pl.Int64, "context_iid": pl.Int64},
            orient="row",
        )
        return placed.join(
            contexts, on=["globalPid", "contextId"], how="left", maintain_order="left"
        ).select("queue_iid", "context_iid", "gpu")

    def _names(self, queues: pl.DataFrame) -> list[str]:
        """`Stream   7`: padded, since the UI sorts by text. What is ambiguous says more."""
        streams = queues.filter(~pl.col("migration"))
        width = max((len(str(s)) for s in streams["streamId"]), default=1)
        processes = dict(queues.group_by("gpu").agg(pl.col("globalPid").n_unique()).iter_rows())
        contexts = {
            (gpu, process): number
            for gpu, process, number in streams.group_by("gpu", "globalPid")
            .agg(pl.col("contextId").n_unique())
            .iter_rows()
        }
        names = []
        for gpu, process, context, stream, migration in queues.select(QUEUE_KEY).iter_rows():
            name = "Unified memory" if migration else f"Stream {stream:>{width}}"
            if stream == -1:
                name = "Stream ?"
            given = self._stream_names.get((process >> 24 & 0xFFFFFF, context, stream))
            if given and not migration:
                name += f" {given}"
            if not migration and contexts[gpu, process] > 1:
                name += f" · context {context}"
            if processes[gpu] > 1:
                name += f" · {self._tracks.name_of_process(process)} {self._tracks.pid(process)}"
            names.append(name)
        return names

    def listed(self) -> pl.DataFrame:
        """A row a queue: `queue_iid`, `name`, and the columns of QUEUE_KEY."""
        return self._queues

    def interned(self) -> pb.TracePacket:
        """The first packet of the GPU sequence: stages, queues and contexts."""
        packet = sequences.start(sequences.GPU)
        data = packet.interned_data
        for kind, name, iid in self._stages.iter_rows():
            description, category = STAGES[kind]
            data.gpu_specifications.add(
                iid=iid, name=name, description=description, category=category
            )
        for iid, name in self._queues.select("queue_iid", "name").iter_rows():
            data.gpu_specifications.add(iid=iid, name=name, category=COMPUTE)
        for (process, _), iid in self._contexts.items():
            data.graphics_contexts.add(
                iid=iid, pid=self._tracks.pid(process), api=sequences.PACKET_TAG_CUDA
            )
        return packet


def _sane(gpu_id: int) -> int:
    """A GPU's number as the trace can hold it (int32); damage becomes 0."""
    return gpu_id if 0 <= gpu_id < 1 << 31 else 0
