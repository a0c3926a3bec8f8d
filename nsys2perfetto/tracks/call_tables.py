"""Tables of calls on threads that need nothing special: one entry each.

To add a table of nsys, add an entry to TABLES. Its rows become slices on the threads that did them,
nested with everything else there; `text`, `number` and `label` columns become arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.nsys import events as nsys_events
from nsys2perfetto.nsys.capture import Capture, Columns
from nsys2perfetto.nsys.enums import OVERHEAD_TYPE
from nsys2perfetto.nsys.events import Events, Selection
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.tracks.thread_pools import AnnotationKind, Pools, annotate
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire.template import Placeholders


@dataclass(frozen=True)
class CallTable:
    """How a table becomes slices.

    Attributes:
        table: Its name in the export.
        family: The name in the summary and in the user's filters; several tables may share one.
        category: The slices' category.
        name: Column with the id of the name in StringIds.
        priority: Between slices of equal time the smaller is outside.
        numbers: Argument to column, for integers.
        strings: Argument to column, for ids of StringIds.
        labels: Argument to (column, number to word).
        where: SQL condition for the rows that are events.
    """

    table: str
    family: str
    category: str
    name: str = "nameId"
    priority: int = 10
    numbers: Mapping[str, str] = field(default_factory=dict)
    strings: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, Mapping[int, str]]] = field(default_factory=dict)
    where: str = ""

    @property
    def config(self) -> Columns:
        """The columns to read."""
        columns = [self.name, *self.numbers.values(), *self.strings.values()]
        columns += [column for column, _ in self.labels.values()]
        return {"globalTid": "int", **dict.fromkeys(columns, "int")}


_OPENACC_NUMBERS = {"line": "lineNo", "stream": "cuStreamId"}
_OPENACC_STRINGS = {"function": "funcName", "file": "srcFile"}


def _mpi(table: str, numbers: Mapping[str, str] | None = None) -> CallTable:
    return CallTable(table, "mpi", "mpi", name="textId", priority=8, numbers=numbers or {})


def _ucx(table: str, numbers: Mapping[str, str] | None = None) -> CallTable:
    return CallTable(table, "ucx", "ucx", name="textId", priority=8, numbers=numbers or {})


TABLES = (
    CallTable("CUBLAS_EVENTS", "cublas", "cublas"),
    CallTable("CUDNN_EVENTS", "cudnn", "cudnn"),
    # Event classes 31 and 32 are nsys' own markers of start and end, not calls (NSYS_SCHEMA 4).
    CallTable("OSRT_API", "osrt", "osrt", priority=40, where="eventClass NOT IN (31, 32)",
              numbers={"return_value": "returnValue"}),
    _mpi("MPI_P2P_EVENTS", {"bytes": "size", "remote_rank": "remoteRank", "tag": "tag"}),
    _mpi("MPI_COLLECTIVES_EVENTS",
         {"bytes": "size", "received_bytes": "recvSize", "root_rank": "rootRank"}),
    _mpi("MPI_START_WAIT_EVENTS"),
    _mpi("MPI_OTHER_EVENTS"),
    _ucx("UCP_EVENTS"),
    _ucx("UCP_SUBMIT_EVENTS", {"bytes": "packedSize", "tag": "tag"}),
    _ucx("UCP_PROGRESS_EVENTS", {"bytes": "packedSize", "tag": "tag"}),
    CallTable("CUPTI_ACTIVITY_KIND_OPENACC_DATA", "openacc", "openacc",
              numbers={**_OPENACC_NUMBERS, "bytes": "bytes"},
              strings={**_OPENACC_STRINGS, "variable": "varName"}),
    CallTable("CUPTI_ACTIVITY_KIND_OPENACC_LAUNCH", "openacc", "openacc",
              numbers={**_OPENACC_NUMBERS, "gangs": "numGangs", "workers": "numWorkers",
                       "vector_length": "vectorLength"},
              strings={**_OPENACC_STRINGS, "kernel": "kernelName"}),
    CallTable("CUPTI_ACTIVITY_KIND_OPENACC_OTHER", "openacc", "openacc",
              numbers=_OPENACC_NUMBERS, strings=_OPENACC_STRINGS),
    CallTable("CUDA_GRAPH_NODE_EVENTS", "cuda_graph", "cuda_graph", priority=30,
              numbers={"graph_node_id": "graphNodeId",
                       "original_graph_node_id": "originalGraphNodeId"}),
    # Nodes in 2022.4 to 2023.4, graphs from 2024.2 on: the columns tell (NSYS_SCHEMA section 3).
    CallTable("CUDA_GRAPH_EVENTS", "cuda_graph", "cuda_graph", priority=30,
              numbers={"graph_node_id": "graphNodeId",
                       "original_graph_node_id": "originalGraphNodeId", "graph_id": "graphId",
                       "original_graph_id": "originalGraphId", "graph_exec_id": "graphExecId"}),
    CallTable("CUPTI_ACTIVITY_KIND_OVERHEAD", "overhead", "cuda_overhead", priority=50,
              labels={"overhead": ("overheadType", OVERHEAD_TYPE)}),
    CallTable("PROFILER_OVERHEAD", "overhead", "profiler_overhead", priority=50,
              labels={"overhead": ("overheadType", OVERHEAD_TYPE)}),
)  # fmt: skip


def read(table: CallTable, capture: Capture, selection: Selection) -> Events:
    """The table's events; an absent table has none."""
    where = [table.where] if table.where and capture.has(table.table, "eventClass") else []
    return nsys_events.read(
        capture, table.table, table.config, owner="globalTid", selection=selection, where=where
    )


def family(table: CallTable, events: Events, strings: StringTable, pools: Pools) -> SliceFamily:
    """The table's events as slices."""
    config = events.config
    name = strings.look_up(config[table.name]).fill_null(f"[unnamed {table.category} call]")
    slots: dict[str, pl.Series] = {
        "thread": config["globalTid"].fill_null(0),
        "name_iid": pools.names.iids(name),
    }
    kinds: dict[str, AnnotationKind] = {}
    for argument, column in table.numbers.items():
        slots[argument], kinds[argument] = config[column], "int"
    for argument, column in table.strings.items():
        text = strings.look_up(config[column])
        slots[argument], kinds[argument] = pools.texts.iids(text), "text"
    for argument, (column, words) in table.labels.items():
        number = config[column]
        text = number.replace_strict(words, default=number.cast(pl.String), return_dtype=pl.String)
        slots[argument], kinds[argument] = pools.texts.iids(text), "text"
    category = pools.categories.iid(table.category)
    iids = pools.annotations.lookup(kinds)

    def fill(p: Placeholders, event: pb.TrackEvent) -> None:
        annotate(p, event, kinds, iids)

    return SliceFamily(
        table.family,
        pl.DataFrame(slots).with_columns(pl.lit(category).alias("category_iid")),
        events.start,
        events.end,
        events.code,
        fill,
        table.priority,
    )
