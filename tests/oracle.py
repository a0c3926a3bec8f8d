"""What a capture holds, by plain SQL with the `sqlite3` module: the oracle that traces are held to.

Nothing here uses the tool's own reading code. Every rule names where it comes from; times are ns.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

Row = dict[str, Any]

FOREVER = 1 << 62
PROCESS = ~0xFFFFFF
MIGRATIONS = (11, 12, 13)
INVALID = 0xFFFFFFFF

GPU_TABLES = {
    "kernel": "CUPTI_ACTIVITY_KIND_KERNEL",
    "memcpy": "CUPTI_ACTIVITY_KIND_MEMCPY",
    "memset": "CUPTI_ACTIVITY_KIND_MEMSET",
    "graph": "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
}
RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"
WAITS = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"
RECORDS = "CUPTI_ACTIVITY_KIND_CUDA_EVENT"
NVTX = "NVTX_EVENTS"
MEMORY = {
    "memory": "CUDA_GPU_MEMORY_USAGE_EVENTS",
    "memory_pool": "CUDA_GPU_MEMORY_POOL_EVENTS",
}
SCHED = "SCHED_EVENTS"
METRICS, METRIC_NAMES = "GPU_METRICS", "TARGET_INFO_GPU_METRICS"

CALL_TABLES = {  # table: (family, category, column of the name)
    "CUBLAS_EVENTS": ("cublas", "cublas", "nameId"),
    "CUDNN_EVENTS": ("cudnn", "cudnn", "nameId"),
    "OSRT_API": ("osrt", "osrt", "nameId"),
    "MPI_P2P_EVENTS": ("mpi", "mpi", "textId"),
    "MPI_COLLECTIVES_EVENTS": ("mpi", "mpi", "textId"),
    "MPI_START_WAIT_EVENTS": ("mpi", "mpi", "textId"),
    "MPI_OTHER_EVENTS": ("mpi", "mpi", "textId"),
    "UCP_EVENTS": ("ucx", "ucx", "textId"),
    "UCP_SUBMIT_EVENTS": ("ucx", "ucx", "textId"),
    "UCP_PROGRESS_EVENTS": ("ucx", "ucx", "textId"),
    "CUPTI_ACTIVITY_KIND_OPENACC_DATA": ("openacc", "openacc", "nameId"),
    "CUPTI_ACTIVITY_KIND_OPENACC_LAUNCH": ("openacc", "openacc", "nameId"),
    "CUPTI_ACTIVITY_KIND_OPENACC_OTHER": ("openacc", "openacc", "nameId"),
    "CUDA_GRAPH_NODE_EVENTS": ("cuda_graph", "cuda_graph", "nameId"),
    "CUDA_GRAPH_EVENTS": ("cuda_graph", "cuda_graph", "nameId"),
    "CUPTI_ACTIVITY_KIND_OVERHEAD": ("overhead", "cuda_overhead", "nameId"),
    "PROFILER_OVERHEAD": ("overhead", "profiler_overhead", "nameId"),
}

COPY_KINDS = {
    0: "Unknown", 1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 5: "AtoA", 6: "AtoD", 7: "DtoA",
    8: "DtoD", 9: "HtoH", 10: "PtoP", 11: "Unified HtoD", 12: "Unified DtoH", 13: "Unified DtoD",
}  # fmt: skip
MEMORY_KINDS = {
    0: "Pageable", 1: "Pinned", 2: "Device", 3: "Array", 4: "Managed", 5: "Device Static",
    6: "Managed Static", 7: "Unknown",
}  # fmt: skip
CAUSES = {
    0: "Unknown", 1: "Prefetch", 2: "Page fault", 3: "Speculative prefetch", 4: "Eviction",
    5: "Access counters",
}  # fmt: skip
THREAD_STATES = {1: "Running", 2: "Interruptible", 3: "Uninterruptible", 5: "Terminated"}

PUSH_POP, START_END, MARK = (59, 70), (60, 71), 34
PAYLOADS = ("uint64Value", "int64Value", "doubleValue", "uint32Value", "int32Value", "floatValue")


def pid(global_id: int | None) -> int:
    """The operating system's process id (NSYS_SCHEMA section 2)."""
    return (global_id or 0) >> 24 & 0xFFFFFF


def tid(global_id: int | None) -> int:
    """The operating system's thread id."""
    return (global_id or 0) & 0xFFFFFF


class Oracle:
    """One capture."""

    def __init__(self, path: Path) -> None:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        self.sql = sqlite3.connect(uri, uri=True)
        self.sql.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self.sql.row_factory = lambda cursor, row: {
            name[0]: value for name, value in zip(cursor.description, row, strict=True)
        }
        self.columns: dict[str, list[str]] = {}
        for table in self.sql.execute("select name from sqlite_master where type='table'"):
            found = self.sql.execute(f'pragma table_info("{table["name"]}")')
            self.columns[table["name"]] = [c["name"] for c in found]

    def select(self, table: str, *columns: str, where: str = "1") -> list[Row]:
        """Rows of a table; a column that it lacks is None, a table that is absent has no rows."""
        if table not in self.columns:
            return []
        listed = ", ".join(
            f'"{c}"' if c in self.columns[table] else f'null as "{c}"' for c in columns
        )
        return list(self.sql.execute(f"select {listed} from {table} where {where}"))

    @cached_property
    def strings(self) -> dict[int, str]:
        """StringIds."""
        return {r["id"]: r["value"] for r in self.select("StringIds", "id", "value")}

    @cached_property
    def export(self) -> dict[str, str]:
        """What the export says of itself; the table was once called the other way round."""
        tables = ("EXPORT_META_DATA", "META_DATA_EXPORT")
        rows = [r for t in tables for r in self.select(t, "name", "value")]
        return {r["name"]: r["value"] for r in rows}

    # GPU work

    @cached_property
    def gpu_work(self) -> list[Row]:
        """Kernels, copies, memory sets and graph launches, with every column that a test asks."""
        return [row for family in GPU_TABLES for row in self._gpu_family(family)]

    def _gpu_family(self, family: str) -> list[Row]:
        rows = self.select(
            GPU_TABLES[family],
            *("start", "end", "deviceId", "contextId", "streamId", "correlationId", "globalPid"),
            *("graphNodeId", "graphId", "graphExecId", "shortName", "demangledName", "mangledName"),
            *("gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ", "registersPerThread"),
            *("staticSharedMemory", "dynamicSharedMemory", "sharedMemoryExecuted", "bytes"),
            *("copyKind", "srcKind", "dstKind", "migrationCause", "memKind", "value"),
        )
        for row in rows:
            row["family"] = family
            row["migration"] = row["copyKind"] in MIGRATIONS
            row["name"] = self._gpu_name(family, row)
            row["gpu"] = self.gpu_of(row["globalPid"], row["deviceId"])
        return rows

    def _gpu_name(self, family: str, row: Row) -> str | None:
        if family == "kernel":
            # coalesce(shortName, demangledName, mangledName), NSYS_SCHEMA section 7.
            names = (row[c] for c in ("shortName", "demangledName", "mangledName"))
            return next((n for n in map(self.strings.get, names) if n), None)
        if family == "memcpy":
            return f"Memcpy {COPY_KINDS.get(row['copyKind'], row['copyKind'])}"
        if family == "graph":
            return f"CUDA graph {row['graphId'] or row['graphExecId']}"
        return "Memset"

    def gpu_of(self, global_pid: int | None, device: int | None) -> int:
        """(process, CUDA device) to TARGET_INFO_GPU.id (NSYS_SCHEMA section 5)."""
        number = device or 0
        return self._pairs.get((pid(global_pid), number), self._ordinals.get(number, number))

    @cached_property
    def _pairs(self) -> dict[tuple[int, int], int]:
        rows = self.select("TARGET_INFO_CUDA_DEVICE", "gpuId", "cudaId", "pid")
        return {(r["pid"], r["cudaId"]): r["gpuId"] for r in rows}

    @cached_property
    def _ordinals(self) -> dict[int, int]:
        rows = sorted(self.gpus, key=lambda g: g["id"], reverse=True)
        return {g["cuDevice"]: g["id"] for g in rows if g["cuDevice"] is not None and g["smCount"]}

    @cached_property
    def gpus(self) -> list[Row]:
        """TARGET_INFO_GPU; its `id` was called `deviceId` early in 2021."""
        columns = (
            "id", "deviceId", "name", "busLocation", "uuid", "cuDevice", "smCount", "computeMajor",
            "computeMinor", "maxWarpsPerSm", "maxBlocksPerSm", "maxShmemPerSm", "maxRegistersPerSm",
        )  # fmt: skip
        rows = self.select("TARGET_INFO_GPU", *columns)
        for row in rows:
            row["id"] = row["id"] if row["id"] is not None else row["deviceId"]
        return rows

    # CPU work

    @cached_property
    def calls(self) -> list[Row]:
        """CUDA calls: name, category, start, end, globalTid, correlationId, returnValue."""
        rows = self.select(
            RUNTIME,
            *("start", "end", "eventClass", "globalTid", "correlationId", "nameId", "returnValue"),
        )
        for row in rows:
            name = self.strings.get(row["nameId"])
            if name and name[-6:-4] == "_v":  # as `nsys stats` does, NSYS_SCHEMA section 4
                name = name[:-6]
            row["name"], row["family"] = name, "cuda_api"
            row["category"] = "cuda_driver" if row["eventClass"] == 1 else "cuda_runtime"
        return rows

    @cached_property
    def library_calls(self) -> list[Row]:
        """Calls of the table-driven families: name, family, category, start, end, globalTid."""
        found = []
        for table, (family, category, name) in CALL_TABLES.items():
            # Event classes 31 and 32 of OSRT are markers (NSYS_SCHEMA section 4).
            where = "eventClass not in (31, 32)" if table == "OSRT_API" else "1"
            for row in self.select(table, "start", "end", "globalTid", name, where=where):
                row |= {
                    "family": family,
                    "category": category,
                    "table": table,
                    "name": self.strings.get(row[name]),
                }
                found.append(row)
        return found

    @cached_property
    def nvtx(self) -> list[Row]:
        """Ranges and marks: type, name, start, end, globalTid, domain, category, payload, ..."""
        types = f"eventType in {(*PUSH_POP, *START_END, MARK)}"
        rows = self.select(
            NVTX,
            *("start", "end", "eventType", "category", "color", "text", "globalTid", "textId"),
            *("endGlobalTid", "domainId", "jsonText", "jsonTextId", *PAYLOADS),
            where=types,
        )
        last = max((r["end"] or r["start"] for r in rows), default=0)
        for row in rows:
            registered = self.strings.get(row["textId"])
            row["name"] = next((t for t in (registered, row["text"]) if t is not None), "")
            row["mark"] = row["eventType"] == MARK
            if row["end"] is None:
                row["end"] = row["start"] if row["mark"] else last
            row["family"] = row["nsys"] = "nvtx"
        return rows

    @cached_property
    def _nvtx_names(self) -> dict[tuple[int, int, int, int | None], str]:
        rows = self.select(
            NVTX, "globalTid", "eventType", "domainId", "category", "text", "textId",
            where="eventType in (33, 75)",
        ) if NVTX in self.columns else []  # fmt: skip
        names: dict[tuple[int, int, int, int | None], str] = {}
        for r in rows:
            text = self.strings.get(r["textId"], r["text"])
            number = r["category"] if r["eventType"] == 33 else None
            if text is not None:
                key = (r["globalTid"] & PROCESS, r["eventType"], r["domainId"] or 0, number)
                names.setdefault(key, text)
        return names

    def domain(self, row: Row) -> str | None:
        """The name of a range's domain; None for the default domain."""
        number = row["domainId"] or 0
        key = (row["globalTid"] & PROCESS, 75, number, None)
        return self._nvtx_names.get(key, f"domain {number}") if number else None

    def category(self, row: Row) -> str | None:
        """The name of a range's category, or its number; None for none."""
        number = row["category"]
        key = (row["globalTid"] & PROCESS, 33, row["domainId"] or 0, number)
        return self._nvtx_names.get(key, str(number)) if number else None

    @cached_property
    def counter_events(self) -> list[Row]:
        """What becomes samples of counters: family, start, end, globalPid (of metrics: None)."""
        found = [
            r | {"family": family, "end": r["start"]}
            for family, table in MEMORY.items()
            for r in self.select(table, "start", "globalPid")
        ]
        kind = ("typeId", "metricId")
        names = self.select(METRIC_NAMES, *kind, where="metricName = 'EndTimestamp'")
        helpers = {tuple(r.values()) for r in names}
        found += [
            {"family": "gpu_metrics", "start": at, "end": at, "globalPid": None}
            for at, *key in (r.values() for r in self.select(METRICS, "timestamp", *kind))
            if tuple(key) not in helpers
        ]
        return found

    # What threads did

    @cached_property
    def stays(self) -> list[Row]:
        """Times of threads on a CPU: globalTid, cpu, start, end, state; each with its two rows."""
        if SCHED not in self.columns:
            return []
        state = "threadState" if "threadState" in self.columns[SCHED] else "null"
        query = f"""
            select globalTid, cpu, isSchedIn as comes, start, {state} as state,
              lead(start) over of_thread as until, lead(isSchedIn) over of_thread as next_comes,
              lead({state}) over of_thread as next_state, lag(start) over of_thread as before,
              (select max(start) from {SCHED}) as last, (select min(start) from {SCHED}) as first
            from {SCHED} window of_thread as (partition by globalTid order by start, rowid)"""
        found = []
        for r in self.sql.execute(query):
            if r["comes"]:
                ended = r["next_comes"] == 0
                found.append(r | {"end": r["last"] if r["until"] is None else r["until"],
                                  "state": r["next_state"] if ended else None,
                                  "rows": 1 + ended})  # fmt: skip
            elif r["before"] is None:
                found.append(r | {"start": r["first"], "end": r["start"], "rows": 1})
        return found

    @cached_property
    def samples(self) -> list[Row]:
        """CPU samples: globalTid, cpu, start, chain (function and module, outermost first)."""
        chains: dict[int, list[tuple[int, str, str]]] = defaultdict(list)
        for r in self.select("SAMPLING_CALLCHAINS", "id", "symbol", "module", "stackDepth"):
            names = (self.strings[r["symbol"]], self.strings[r["module"]].split("/")[-1])
            chains[r["id"]].append((-r["stackDepth"], *names))
        rows = self.select("COMPOSITE_EVENTS", "id", "start", "cpu", "globalTid")
        return [
            r | {"end": r["start"], "chain": [f[1:] for f in sorted(chains[r["id"]])]} for r in rows
        ]

    # Joins

    @cached_property
    def operations_of(self) -> dict[tuple[int, int], list[Row]]:
        """(globalPid, correlation id) to the GPU work with it; 0 means none (NSYS_SCHEMA 3)."""
        found = defaultdict(list)
        for row in self.gpu_work:
            if row["correlationId"]:
                found[row["globalPid"], row["correlationId"]].append(row)
        return found

    @cached_property
    def arrows(self) -> list[tuple[Row, Row]]:
        """(call, operation) for all GPU work whose launching call is in the capture."""
        return [(call, op) for call in self.calls for op in self.submitted_by(call)]

    def submitted_by(self, call: Row) -> list[Row]:
        """The GPU work that a call submitted."""
        return self.operations_of.get((call["globalTid"] & PROCESS, call["correlationId"]), [])

    @cached_property
    def call_of(self) -> dict[tuple[int, int], Row]:
        """(globalPid, correlation id) to the call."""
        return {
            (c["globalTid"] & PROCESS, c["correlationId"]): c
            for c in self.calls
            if c["correlationId"]
        }

    @cached_property
    def projections(self) -> list[Row]:
        """Ranges that hold the launching call of GPU work, on the same thread (section 7)."""
        memory = sqlite3.connect(":memory:")
        memory.execute("create table launch (tid, start, end, first, last, ops)")
        launches = [
            (c["globalTid"], c["start"], c["end"], min(o["start"] for o in ops),
             max(o["end"] for o in ops), len(ops))
            for c in self.calls if (ops := self.submitted_by(c))
        ]  # fmt: skip
        memory.executemany("insert into launch values (?, ?, ?, ?, ?, ?)", launches)
        memory.execute("create index by_start on launch (tid, start)")
        query = (
            "select min(first), max(last), sum(ops) from launch "
            "where tid = ? and start >= ? and start <= ? and end <= ?"
        )
        found = []
        for row in self.nvtx:
            if row["mark"] or row["endGlobalTid"] not in (None, row["globalTid"]):
                continue
            span = (row["globalTid"], row["start"], row["end"], row["end"])
            [(first, last, ops)] = memory.execute(query, span)
            if ops:
                found.append(row | {"first": first, "last": last, "ops": ops})
        return found

    @cached_property
    def shift(self) -> int:
        """ns that must be added so that no event is negative."""
        waits = self.select(WAITS, "start")
        rows = [*self.gpu_work, *self.calls, *self.library_calls, *self.nvtx, *waits]
        rows += [*self.counter_events, *self.stays, *self.samples]
        return max(0, -min((r["start"] for r in rows), default=0))

    # Names

    @cached_property
    def thread_names(self) -> dict[int, str]:
        """globalTid to name: the lowest priority wins, NVTX names count as 0 (section 4)."""
        ranked: dict[int, tuple[int, str]] = {}
        rows = self.select("ThreadNames", "globalTid", "nameId", "priority")
        named = [(r["globalTid"], r["priority"], self.strings.get(r["nameId"])) for r in rows]
        if NVTX in self.columns:
            nvtx = self.select(NVTX, "globalTid", "text", "textId", where="eventType = 39")
            named += [(r["globalTid"], 0, self.strings.get(r["textId"], r["text"])) for r in nvtx]
        for thread, priority, name in named:
            if name and (thread not in ranked or priority < ranked[thread][0]):
                ranked[thread] = (priority, name)
        return {thread: name for thread, (_, name) in ranked.items()}
