"""Rows about the machine, the processes and the capture itself."""

from __future__ import annotations

import uuid

from samples.builder.model import RTX_5070_TI, VM_ID, GpuModel, Process, Thread, global_pid
from samples.builder.store import Store
from samples.builder.versions import PRODUCTS, parse

SECRET = "do-not-leak-me"
"""The value of the profiled program's SECRET_TOKEN, and one of its command line arguments."""

HOST = "host-name-not-for-traces"
"""The machine's made-up name."""

USER = "user-name-not-for-traces"
"""The made-up name of the user who exported the report."""

PROGRAM_OUTPUT = "program-output-not-for-traces"
"""What the profiled program printed."""

OTHER_PROCESS = "unrelated-process-not-for-traces"
"""A process and thread of the machine that has no events."""

SECRETS = (SECRET, HOST, USER, PROGRAM_OUTPUT, OTHER_PROCESS)
"""Texts that must never appear in a trace or a summary."""


class Targets(Store):
    """A store that knows how nsys describes GPUs, processes, threads and the capture."""

    def __init__(self, schema: str = "3.16.1", *, lazy: bool = True) -> None:
        super().__init__(schema, lazy=lazy)
        self._named_threads: set[tuple[int, int]] = set()

    def gpu(
        self,
        gpu_id: int = 0,
        model: GpuModel = RTX_5070_TI,
        *,
        cu_device: int | None = None,
        bus: str | None = None,
        hw: int = 0,
    ) -> int:
        """Describes a physical GPU.

        Args:
            gpu_id: TARGET_INFO_GPU.id, nsys' own order.
            model: What kind of GPU it is.
            cu_device: Its ordinal in an unrestricted CUDA process; `gpu_id` by default.
            bus: PCI address; made up by default.
            hw: The machine's byte in global ids.

        Returns:
            gpu_id
        """
        cu_device = gpu_id if cu_device is None else cu_device
        bus = bus or f"0000:{gpu_id + 1:02x}:00.0"
        major, minor = model.compute
        if self.has_table("TARGET_INFO_GPU"):
            self.row(
                "TARGET_INFO_GPU",
                **{"id" if self.has_column("TARGET_INFO_GPU", "id") else "deviceId": gpu_id},
                vmId=global_pid(0, hw),
                name=model.name,
                busLocation=bus,
                isDiscrete=1,
                l2CacheSize=model.l2_cache,
                totalMemory=model.memory,
                memoryBandwidth=model.bandwidth,
                clockRate=model.clock,
                smCount=model.sms,
                pwGpuId=gpu_id,
                uuid=gpu_uuid(gpu_id),
                luid=0,
                chipName=model.chip,
                cuDevice=cu_device,
                ctxswDevPath="",
                ctrlDevPath="",
                revision=161,
                nodeMask=0,
                constantMemory=65536,
                maxIPC=4,
                maxRegistersPerBlock=65536,
                maxShmemPerBlock=49152,
                maxShmemPerBlockOptin=model.shared_per_block_optin,
                maxShmemPerSm=model.shared_per_sm,
                maxRegistersPerSm=65536,
                threadsPerWarp=32,
                asyncEngines=2,
                maxWarpsPerSm=model.warps_per_sm,
                maxBlocksPerSm=model.blocks_per_sm,
                maxThreadsPerBlock=1024,
                maxBlockDimX=1024,
                maxBlockDimY=1024,
                maxBlockDimZ=64,
                maxGridDimX=2147483647,
                maxGridDimY=65535,
                maxGridDimZ=65535,
                computeMajor=major,
                computeMinor=minor,
                smMajor=major,
                smMinor=minor,
            )
        if self.has_table("TARGET_INFO_CUDA_GPU"):
            self.row(
                "TARGET_INFO_CUDA_GPU",
                vmId=VM_ID,
                name=model.name,
                pciBusId=bus,
                globalMemoryBandwidth=model.bandwidth,
                globalMemorySize=model.memory,
                constantMemorySize=65536,
                l2CacheSize=model.l2_cache,
                numThreadsPerWarp=32,
                coreClockRate=model.clock,
                numMemcpyEngines=2,
                numMultiprocessors=model.sms,
                maxIPC=4,
                maxWarpsPerMultiprocessor=model.warps_per_sm,
                maxBlocksPerMultiprocessor=model.blocks_per_sm,
                maxRegistersPerBlock=65536,
                maxSharedMemoryPerBlock=49152,
                maxThreadsPerBlock=1024,
                computeCapabilityMajor=major,
                computeCapabilityMinor=minor,
                deviceId=cu_device,
                maxSharedMemoryPerMultiprocessor=model.shared_per_sm,
                maxRegistersPerMultiprocessor=65536,
            )
        return gpu_id

    def process(
        self,
        pid: int,
        name: str,
        *,
        gpus: tuple[int, ...] = (0,),
        hw: int = 0,
        null_stream: int = 7,
        main_thread: bool = True,
    ) -> Process:
        """Describes a profiled process with one CUDA context for each of its devices.

        Args:
            pid: Process id.
            name: Name of the executable.
            gpus: TARGET_INFO_GPU.id by CUDA ordinal: (3, 1) as with CUDA_VISIBLE_DEVICES=3,1.
                The context of ordinal n is n + 1.
            hw: Top byte of the global id; 128 and more make it negative.
            null_stream: Stream id of the default stream.
            main_thread: Whether the thread pid is named after the process.
        """
        process = Process(pid, name, global_pid(pid, hw), gpus)
        if self.has_table("PROCESSES"):
            self.row("PROCESSES", globalPid=process.global_pid, pid=pid, name=name)
        for ordinal, gpu_id in enumerate(gpus):
            if self.has_table("TARGET_INFO_CUDA_DEVICE"):
                self.row(
                    "TARGET_INFO_CUDA_DEVICE",
                    gpuId=gpu_id,
                    cudaId=ordinal,
                    pid=pid,
                    uuid=gpu_uuid(gpu_id),
                )
            self._context(process, ordinal, null_stream)
        if main_thread:
            self.thread(process, pid, name)
        return process

    def _context(self, process: Process, ordinal: int, null_stream: int) -> None:
        shared = {
            "hwId": 0,
            "vmId": 1,
            "processId": process.pid,
            "deviceId": ordinal,
            "contextId": ordinal + 1,
        }
        if self.has_table("TARGET_INFO_CUDA_CONTEXT_INFO"):
            self.row(
                "TARGET_INFO_CUDA_CONTEXT_INFO",
                nullStreamId=null_stream,
                parentContextId=0,
                isGreenContext=0,
                **shared,
            )
        elif self.has_table("TARGET_INFO_CUDA_NULL_STREAM"):
            self.row("TARGET_INFO_CUDA_NULL_STREAM", streamId=null_stream, **shared)

    def thread(self, process: Process, tid: int, name: str, *, priority: int = 20) -> Thread:
        """Describes a thread; priority 20 is the OS' name, 10 nsys' own threads, 0 NVTX' name."""
        thread = Thread(process, tid, name)
        key = (thread.global_tid, priority)
        if key not in self._named_threads:  # nsys names a thread once
            self._named_threads.add(key)
            self.row(
                "ThreadNames",
                nameId=self.string(name),
                priority=priority,
                globalTid=thread.global_tid,
            )
        return thread

    def stream(
        self,
        process: Process,
        stream: int,
        *,
        context: int = 1,
        priority: int = 0,
        flag: int = 2,
        name: str = "",
    ) -> None:
        """Describes a stream; flag 1 is a default, 2 a non-blocking, 3 the null stream.

        A name is the one that the program gave it through NVTX.
        """
        target = {"hwId": 0, "vmId": 1, "processId": process.pid, "contextId": context}
        self.row(
            "TARGET_INFO_CUDA_STREAM",
            streamId=stream,
            priority=priority & 0xFFFFFFFF,
            flag=flag,
            **target,
        )
        if name and self.has_table("TARGET_INFO_NVTX_CUDA_STREAM"):
            self.row(
                "TARGET_INFO_NVTX_CUDA_STREAM",
                name=name,
                streamId=stream,
                deviceId=context - 1,
                **target,
            )

    def describe_export(self, utc_start_ns: int, *, ts_normalize: bool) -> None:
        """Says which nsys exported this, and when the session started (UTC, ns)."""
        rows = {
            "EXPORT_PRODUCT_NAME": "NVIDIA Nsight Systems",
            "EXPORT_PRODUCT_VERSION": PRODUCTS[self.schema],
            "EXPORT_SCHEMA_VERSION": self.schema,
            **dict(
                zip(
                    (f"EXPORT_SCHEMA_VERSION_{part}" for part in ("MAJOR", "MINOR", "MICRO")),
                    map(str, parse(self.schema)),
                    strict=True,
                )
            ),
            "EXPORT_PLATFORM": "linux-desktop",
            "EXPORT_ARCH": "x64",
            "EXPORT_HOST": HOST,
            "EXPORT_USER": USER,
            "EXPORT_PARAM_INPUT_PATH_ABS": f"/srv/{USER}/decode_trace.nsys-rep",
            "EXPORT_PARAM_LAZY": str(self.lazy).lower(),
            "EXPORT_PARAM_TIME_NORMALIZE": str(ts_normalize).lower(),
            "EXPORT_PARAM_TIME_SHIFT": "0",
            "EXPORT_CONFIG_TIME_SHIFT": str(utc_start_ns if ts_normalize else 0),
        }
        for table in ("META_DATA_EXPORT", "EXPORT_META_DATA"):
            if self.has_table(table):
                for name, value in rows.items():
                    self.row(table, name=name, value=value)
        if self.has_table("TARGET_INFO_SESSION_START_TIME"):
            self.row(
                "TARGET_INFO_SESSION_START_TIME",
                utcEpochNs=utc_start_ns,
                utcTime="2025-02-20T09:30:00",
                localTime="2025-02-20T17:30:00",
            )

    def describe_capture(self, command: list[str], *, trace: tuple[str, ...], node: bool) -> None:
        """What nsys was told, with made-up secrets where real captures have real ones.

        Args:
            command: Program and arguments.
            trace: What was traced, e.g. ("Cuda", "CuBLAS").
            node: Whether CUDA graphs were traced node by node.
        """
        if self.has_table("META_DATA_CAPTURE"):
            rows = [("DEVICE_DISPLAY_NAME", HOST)]
            rows += [("CAPTURE_EVENT_TYPE", kind) for kind in trace]
            rows += [("PROCESS_0:COMMAND", command[0])]
            rows += [(f"PROCESS_0:ARGUMENT_{n}", arg) for n, arg in enumerate(command[1:])]
            rows += [
                ("PROCESS_0:ENVIRONMENT_VARIABLE", f"SECRET_TOKEN={SECRET}"),
                ("PROCESS_0:ENVIRONMENT_VARIABLE", f"HOME=/srv/{USER}"),
                ("PROCESS_0:CUDA_GRAPH_TRACE_OPTIONS:MODE", "Node" if node else "Graph"),
                ("PROCESS_0:COLLECT_GPU_MEMORY_USAGE", "true"),
            ]
            for name, value in rows:
                self.row("META_DATA_CAPTURE", name=name, value=value)
        if self.has_table("TARGET_INFO_SYSTEM_ENV"):
            version = ".".join(PRODUCTS[self.schema].split(".")[:3])
            for number, name, value in (
                (1, "CpuCores", "16"),
                (170, "TargetInstallDir", f"/opt/nvidia/nsight-systems/{version}/target-linux-x64"),
                (205, "NvDriverVersion", "570.86.10"),
                (605, "OsDescription", "Ubuntu 24.04.2 LTS"),
                (610, "DeviceEnvironment", f"SECRET_TOKEN={SECRET};USER={USER}"),
                (611, "CudaDriverVersion", "12080"),
                (619, "Hostname", HOST),
            ):
                self.row(
                    "TARGET_INFO_SYSTEM_ENV",
                    globalVid=VM_ID,
                    devStateName="Local (CLI)",
                    name=name,
                    nameEnum=number,
                    value=value,
                )

    def describe_neighbours(self, process: Process) -> None:
        """What else nsys records: program output, its own threads, processes without events."""
        output = self.string(f"{PROGRAM_OUTPUT}: 25 tokens\n")
        name = self.string(f"/tmp/nvidia/streams/pid_{process.pid}_stdout.log")
        self.row("ProcessStreams", globalPid=process.global_pid, filenameId=name, contentId=output)
        self.thread(process, process.pid + 4, "[NSys]", priority=10)
        other = Process(77, OTHER_PROCESS, global_pid(77))
        if self.has_table("PROCESSES"):
            self.row("PROCESSES", globalPid=other.global_pid, pid=77, name=OTHER_PROCESS)
        self.thread(other, 77, OTHER_PROCESS)

    def describe_duration(self, duration: int) -> None:
        """ANALYSIS_DETAILS: how long the capture was, in ns."""
        if self.has_table("ANALYSIS_DETAILS"):
            uptime = 476_676_225
            self.row(
                "ANALYSIS_DETAILS",
                globalVid=VM_ID,
                duration=duration,
                startTime=uptime,
                stopTime=uptime + duration,
            )


def gpu_uuid(gpu_id: int) -> str:
    """A made-up uuid for a GPU, as nsys prints it (no "GPU-" in front)."""
    return str(uuid.UUID(int=0x5070_0000_4000_8000_0000_0000_0000_0000 + gpu_id))
