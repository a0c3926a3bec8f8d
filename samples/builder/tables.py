"""The tables of nsys' SQLite export, with the columns they had in each schema version.

To add a table, add one entry to `TABLES`. The columns are in nsys' order, one word each:

    name[:T|:R][!][*][~][@since][<until]

`:T` TEXT, `:R` REAL (else INTEGER) · `!` NOT NULL · `*` part of the primary key · `~` a
timestamp in ns, shifted in exports with `--ts-normalize` · `@3.7.2` present from that schema
version on · `<3.4.0` present before that version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from samples.builder.versions import Version, parse

_TYPES = {"": "INTEGER", "T": "TEXT", "R": "REAL"}
_WORD = re.compile(
    r"(?P<name>\w+?)(:(?P<type>[TR]))?(?P<flags>[!*~]*)(@(?P<since>[\d.]+))?(<(?P<until>[\d.]+))?"
)


@dataclass(frozen=True)
class Column:
    """One column of one table."""

    name: str
    type: str
    not_null: bool
    key: bool
    time: bool
    since: Version
    until: Version

    @property
    def default(self) -> int | float | str | None:
        """What a row gets that does not name this column: NULL, or zero or '' where NOT NULL."""
        if not self.not_null:
            return None
        return "" if self.type == "TEXT" else 0


_EVER: Version = (0, 0, 0)
_NEVER: Version = (9999, 0, 0)


@dataclass(frozen=True)
class Table:
    """One table; a name may have several entries whose versions do not overlap."""

    name: str
    words: str
    since: str = ""
    until: str = ""

    def exists_in(self, version: Version) -> bool:
        """Whether exports of that schema version can hold this table."""
        since = parse(self.since) if self.since else _EVER
        until = parse(self.until) if self.until else _NEVER
        return since <= version < until

    def all_columns(self) -> tuple[Column, ...]:
        """The columns of every version, in order."""
        return _columns(self.words)

    def columns_in(self, version: Version) -> tuple[Column, ...]:
        """The columns in that schema version, in order."""
        return tuple(c for c in self.all_columns() if c.since <= version < c.until)


@cache
def _columns(words: str) -> tuple[Column, ...]:
    columns = []
    for word in words.split():
        match = _WORD.fullmatch(word)
        if match is None:
            raise ValueError(f"not a column: {word!r}")
        flags = match["flags"]
        columns.append(
            Column(
                name=match["name"],
                type=_TYPES[match["type"] or ""],
                not_null="!" in flags,
                key="*" in flags,
                time="~" in flags,
                since=parse(match["since"]) if match["since"] else _EVER,
                until=parse(match["until"]) if match["until"] else _NEVER,
            )
        )
    return tuple(columns)


_GPU_OP = (
    "start!~ end!~ deviceId! contextId! greenContextId@3.7.2 streamId! correlationId globalPid "
)
_CALL = "start!~ end!~ eventClass! globalTid correlationId nameId! "
_LIBRARY_CALL = "start!~ end!~ eventClass! globalTid nameId!"
_GRAPH_NODES = "start!~ end!~ eventClass! globalTid nameId! graphNodeId! originalGraphNodeId"
_CALLCHAIN = (
    "id!* symbol! module! kernelMode thumbCode unresolved specialEntry originalIP unwindMethod "
    "stackDepth!*"
)
_OPENACC = (
    "start!~ end!~ nameId! globalTid eventKind! DeviceType! lineNo! cuDeviceId! cuContextId! "
    "cuStreamId! srcFile funcName "
)
_MPI = "start!~ end~ globalTid textId "
_POOL = "localMemoryPoolReleaseThreshold localMemoryPoolSize localMemoryPoolUtilizedSize "

TABLES: tuple[Table, ...] = (
    Table("StringIds", "id!* value:T!"),
    # GPU work
    Table(
        "CUPTI_ACTIVITY_KIND_KERNEL",
        _GPU_OP + "demangledName! shortName! mangledName@2.9.1 launchType cacheConfig "
        "registersPerThread! gridX! gridY! gridZ! blockX! blockY! blockZ! staticSharedMemory! "
        "dynamicSharedMemory! localMemoryPerThread! localMemoryTotal! gridId! "
        "sharedMemoryExecuted graphNodeId sharedMemoryLimitConfig@2021.3 "
        "qmdBulkReleaseDone@3.24.0 qmdPreexitDone@3.24.0 qmdLastCtaDone@3.24.0 graphId@3.24.0 "
        "clusterX@3.24.0 clusterY@3.24.0 clusterZ@3.24.0 clusterSchedulingPolicy@3.24.0 "
        "maxPotentialClusterSize@3.24.0 maxActiveClusters@3.24.0 "
        "sharedMemoryRequestedPercentage@3.24.8 tensorSizeMinusOneElements:T!@3.25.0",
    ),
    Table(
        "CUPTI_ACTIVITY_KIND_MEMCPY",
        _GPU_OP + "bytes! copyKind! deprecatedSrcId srcKind dstKind srcDeviceId srcContextId "
        "dstDeviceId dstContextId migrationCause@2021.3 graphNodeId virtualAddress@2.9.1 "
        "copyCount@3.17.2",
    ),
    Table("CUPTI_ACTIVITY_KIND_MEMSET", _GPU_OP + "value! bytes! graphNodeId memKind"),
    Table(
        "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
        _GPU_OP + "deprecatedSyncType@3.17.1 syncType! eventId! eventSyncId@3.17.1",
    ),
    Table(
        "CUPTI_ACTIVITY_KIND_CUDA_EVENT",
        "timestamp@3.24.0 deviceId! contextId! greenContextId@3.7.2 streamId! correlationId "
        "globalPid eventId! eventSyncId@3.24.0",
    ),
    Table("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", _GPU_OP + "graphId! graphExecId!", since="3.11.1"),
    # From 2022.1 to 2023.4 CUDA_GRAPH_EVENTS held the nodes; since 2024.2 it holds the graphs.
    Table("CUDA_GRAPH_EVENTS", _GRAPH_NODES, since="2.9.1", until="3.11.1"),
    Table("CUDA_GRAPH_NODE_EVENTS", _GRAPH_NODES, since="3.11.1"),
    Table(
        "CUDA_GRAPH_EVENTS",
        _LIBRARY_CALL + " graphId originalGraphId graphExecId",
        since="3.11.1",
    ),
    Table(
        "CUDA_GPU_MEMORY_USAGE_EVENTS",
        "start!~ globalPid! deviceId! contextId! address! pc! bytes! memKind! "
        "memoryOperationType! name:T correlationId localMemoryPoolAddress "
        + _POOL
        + "importedMemoryPoolAddress importedMemoryPoolProcessId",
        since="2.9.1",
    ),
    Table(
        "CUDA_GPU_MEMORY_POOL_EVENTS",
        "start!~ globalPid! deviceId! address! operationType! poolType! correlationId "
        "minBytesToKeep " + _POOL,
        since="2.9.1",
    ),
    Table(
        "CUDA_UM_CPU_PAGE_FAULT_EVENTS",
        "start!~ globalPid! address! originalFaultPc CpuInstruction! module! unresolvedFaultPc",
        since="2.9.1",
    ),
    Table(
        "CUDA_UM_GPU_PAGE_FAULT_EVENTS",
        "start!~ end!~ globalPid! deviceId! address! numberOfPageFaults! faultAccessType!",
        since="2.9.1",
    ),
    # CPU side
    Table("CUPTI_ACTIVITY_KIND_RUNTIME", _CALL + "returnValue! callchainId"),
    Table(
        "CUPTI_ACTIVITY_KIND_OVERHEAD",
        "start!~ end!~ eventClass! globalTid correlationId nameId overheadType!",
        since="3.24.0",
    ),
    Table(
        "PROFILER_OVERHEAD",
        "start!~ end!~ globalTid correlationId<2.9.1 nameId! overheadType!@3.24.0 "
        "returnValue!<3.24.0",
    ),
    Table("CUDA_CALLCHAINS", "id!* symbol! module! unresolved originalIP stackDepth!*"),
    Table(
        "NVTX_EVENTS",
        "start!~ end~ eventType! rangeId category color text:T globalTid endGlobalTid textId "
        "domainId uint64Value int64Value doubleValue:R uint32Value int32Value floatValue:R "
        "jsonTextId jsonText:T binaryData:T@3.16.1",
    ),
    Table(
        "NVTX_PAYLOAD_SCHEMAS",
        "domainId schemaId name:T type flags numEntries payloadSize alignTo",
        since="3.16.1",
    ),
    Table(
        "NVTX_PAYLOAD_SCHEMA_ENTRIES",
        "domainId! schemaId! idx! flags type name:T description:T arrayOrUnionDetail offset",
        since="3.16.1",
    ),
    Table(
        "OSRT_API",
        "start!~ end!~ eventClass! globalTid correlationId<2.9.1 nameId! returnValue! "
        "nestingLevel callchainId! argumentsId!@3.23.3",
    ),
    Table("OSRT_CALLCHAINS", _CALLCHAIN),
    Table(
        "OSRT_FILE_ACCESS_EVENTS",
        "fileAccessId! threadId! startedAt!~ endedAt!~ eventType! apiCallId! bytesProcessed! "
        "context:T!@3.24.8",
        since="3.23.3",
    ),
    Table(
        "OSRT_FILE_ACCESS_DESCRIPTORS",
        "fileAccessId! processId! openedAt!~ closedAt! filePath:T!",
        since="3.23.3",
    ),
    Table("CUBLAS_EVENTS", _LIBRARY_CALL),
    Table("CUDNN_EVENTS", _LIBRARY_CALL),
    Table("MPI_P2P_EVENTS", _MPI + "commHandle tag remoteRank size requestHandle"),
    Table("MPI_COLLECTIVES_EVENTS", _MPI + "commHandle rootRank size recvSize requestHandle"),
    Table("MPI_START_WAIT_EVENTS", _MPI + "requestHandle"),
    Table("MPI_OTHER_EVENTS", _MPI),
    Table(
        "MPI_COMMUNICATORS",
        "rank timestamp~ commHandle parentHandle localRank size groupRoot groupRootUid members:T",
    ),
    Table("MPI_RANKS", "globalTid! rank!"),
    Table("UCP_EVENTS", _MPI, since="3.0.0"),
    Table("CUPTI_ACTIVITY_KIND_OPENACC_DATA", _OPENACC + "bytes varName"),
    Table(
        "CUPTI_ACTIVITY_KIND_OPENACC_LAUNCH",
        _OPENACC + "numGangs numWorkers vectorLength kernelName",
    ),
    Table("CUPTI_ACTIVITY_KIND_OPENACC_OTHER", _OPENACC),
    Table(
        "SCHED_EVENTS",
        "start!~ cpu! isSchedIn! globalTid threadState@3.13.2 threadBlock@3.13.2",
    ),
    Table("COMPOSITE_EVENTS", "id!* start!~ cpu threadState globalTid cpuCycles!"),
    Table("SAMPLING_CALLCHAINS", _CALLCHAIN),
    Table(
        "DIAGNOSTIC_EVENT",
        "timestamp!~ timestampType! source! severity! text:T! globalPid",
        since="3.11.1",
    ),
    # Samples
    Table("GENERIC_EVENT_SOURCES", "sourceId!* data:T!", since="3.0.0"),
    Table("GENERIC_EVENT_TYPES", "typeId!* sourceId! data:T!", since="3.0.0"),
    Table("GENERIC_EVENTS", "rawTimestamp!~ timestamp~ typeId! data:T!", since="3.0.0"),
    Table(
        "TARGET_INFO_GPU_METRICS",
        "typeId! sourceId! typeName:T! metricId! metricName:T!",
        since="3.7.2",
    ),
    Table("GPU_METRICS", "timestamp~ typeId! metricId! value!", since="3.7.2"),
    # Names and targets
    Table("ThreadNames", "nameId! priority globalTid"),
    Table("PROCESSES", "globalPid pid name:T", since="2.9.1"),
    Table("ProcessStreams", "globalPid! filenameId! contentId!"),
    Table("ANALYSIS_FILE", "id!* filename:T! content:T! globalPid!", "3.11.1", "3.16.1"),
    Table("ANALYSIS_FILE", "id!* filename:T contentId globalPid!", "3.16.1"),
    Table("ANALYSIS_DETAILS", "globalVid! duration! startTime! stopTime!", since="2.9.1"),
    Table(
        "TARGET_INFO_SESSION_START_TIME",
        "utcEpochNs utcTime:T localTime:T systemClockNs@3.24.8",
        since="2021.3",
    ),
    Table(
        "TARGET_INFO_SYSTEM_ENV",
        "globalVid! devStateName:T! name:T! nameEnum! value:T!",
        since="2021.1",
        until="3.1.2",
    ),
    Table(
        "TARGET_INFO_SYSTEM_ENV",
        "globalVid devStateName:T! name:T! nameEnum! value:T!",
        since="3.1.2",
    ),
    Table(
        "TARGET_INFO_GPU",
        "vmId! deviceId! name:T busLocation:T isDiscrete",
        since="2021.1",
        until="2021.3",
    ),
    Table(
        "TARGET_INFO_GPU",
        "vmId! id! name:T busLocation:T isDiscrete l2CacheSize totalMemory memoryBandwidth "
        "clockRate smCount pwGpuId uuid:T luid chipName:T cuDevice ctxswDevPath:T ctrlDevPath:T "
        "revision nodeMask constantMemory maxIPC maxRegistersPerBlock maxShmemPerBlock "
        "maxShmemPerBlockOptin maxShmemPerSm maxRegistersPerSm threadsPerWarp asyncEngines "
        "maxWarpsPerSm maxBlocksPerSm maxThreadsPerBlock maxBlockDimX maxBlockDimY maxBlockDimZ "
        "maxGridDimX maxGridDimY maxGridDimZ computeMajor computeMinor smMajor smMinor",
        since="2021.3",
    ),
    Table(
        "TARGET_INFO_CUDA_GPU",
        "vmId! name:T! pciBusId:T globalMemoryBandwidth! globalMemorySize! constantMemorySize! "
        "l2CacheSize! numThreadsPerWarp! coreClockRate! numMemcpyEngines! numMultiprocessors! "
        "maxIPC! maxWarpsPerMultiprocessor! maxBlocksPerMultiprocessor! maxRegistersPerBlock! "
        "maxSharedMemoryPerBlock! maxThreadsPerBlock! maxBlockDimX! maxBlockDimY! maxBlockDimZ! "
        "maxGridDimX! maxGridDimY! maxGridDimZ! computeCapabilityMajor! computeCapabilityMinor! "
        "deviceId! pid maxSharedMemoryPerMultiprocessor maxRegistersPerMultiprocessor",
        until="2.9.1",
    ),
    Table(
        "TARGET_INFO_CUDA_DEVICE",
        "gpuId cudaId! pid! uuid:T@3.24.8 numMultiprocessors@3.24.8",
        since="3.17.1",
    ),
    Table("TARGET_INFO_CUDA_STREAM", "streamId! hwId! vmId! processId! contextId! priority! flag!"),
    Table(
        "TARGET_INFO_CUDA_NULL_STREAM",
        "streamId! hwId! vmId! processId! deviceId! contextId!",
        until="3.6.0",
    ),
    Table(
        "TARGET_INFO_CUDA_CONTEXT_INFO",
        "nullStreamId! hwId! vmId! processId! deviceId! contextId! parentContextId "
        "isGreenContext numMultiprocessors@3.24.8 numTpcs@3.24.18 tpcMask:T@3.24.18 "
        "workqueueResourceId@3.24.18 workqueueConcurrencyLimit@3.24.18 "
        "workqueueSharingScope@3.24.18",
        since="3.6.0",
    ),
    Table(
        "TARGET_INFO_NVTX_CUDA_STREAM",
        "name:T! hwId! vmId! processId! deviceId! contextId! streamId!",
        since="2.9.1",
    ),
    # About the capture and the export. META_DATA_EXPORT was called EXPORT_META_DATA at first.
    Table("EXPORT_META_DATA", "name:T! value:T", since="2.9.1", until="3.4.0"),
    Table("META_DATA_EXPORT", "name:T! value:T", since="3.4.0"),
    Table("META_DATA_CAPTURE", "name:T! value:T", since="3.4.0"),
)


def tables_in(schema: str) -> dict[str, tuple[Column, ...]]:
    """Every table that an export of that schema version can hold, with its columns in order."""
    version = parse(schema)
    return {t.name: t.columns_in(version) for t in TABLES if t.exists_in(version)}


def known_columns(name: str) -> frozenset[str]:
    """The columns that the table of that name had in any version; empty for an unknown table."""
    return frozenset(c.name for t in TABLES if t.name == name for c in t.all_columns())


def create_statement(name: str, columns: tuple[Column, ...]) -> str:
    """The CREATE TABLE statement, with keys and NOT NULL as nsys declares them."""
    keys = [c.name for c in columns if c.key]
    lines = []
    for column in columns:
        line = f'"{column.name}" {column.type}'
        line += " NOT NULL" if column.not_null else ""
        line += " PRIMARY KEY" if keys == [column.name] else ""
        lines.append(line)
    if len(keys) > 1:
        lines.append(f"PRIMARY KEY ({', '.join(keys)})")
    body = ",\n    ".join(lines)
    return f"CREATE TABLE {name} (\n    {body}\n)"
