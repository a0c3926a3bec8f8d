"""The tables that most people want of a trace: a method for each view of the SQL package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from nsys2perfetto.errors import UsageError
from nsys2perfetto.query import package

if TYPE_CHECKING:
    import polars as pl

    from nsys2perfetto.query.result import Result


class Tables(ABC):
    """Views of the SQL package `nsys` as Polars frames.

    Times (`ts`) are ns on the trace's clock, which is the capture's unless the converter had to
    shift it. `dur` and all that ends in `_ns` are ns, `_bytes` bytes, `_pct` percent, `gb_per_s`
    and `_gb_s` 10^9 bytes a second. `id`, `step_id` and `_slice_id` are ids of slices, `upid` and
    `utid` Perfetto's ids of processes and threads, `pid` and `tid` the operating system's. `gpu` is
    nsys' number of the GPU. Null means that there is no such value. The types of columns are those
    that the package declares, also where there are no rows.

    What the columns are in detail: `nsys2perfetto query --schema`.
    """

    @abstractmethod
    def query(self, sql: str) -> Result:
        """Runs SQL."""

    def table(self, view: str) -> pl.DataFrame:
        """Any view of the package by its name, such as `nsys_step`.

        Raises:
            UsageError: There is no such view.
        """
        return self._rows(view)

    def steps(self) -> pl.DataFrame:
        """Decode steps: one for each token; each process has its own on each GPU.

        Columns: `id`, `ts`, `dur`, `name`, `step`, `run`, `step_in_run`, `phase`, `upid`,
        `pid`, `gpu`, `kernel_count`, `kernel_ns`, `busy_ns`, `idle_ns`, `wall_ns`,
        `kernel_util_pct`, `busy_util_pct`, `largest_gap_ns`, `copy_count`, `copy_bytes`,
        `launch_count`, `sync_count`, `sync_ns`, `allocation_count`, `steps_per_second`.
        """
        return self._rows("nsys_step")

    def step_kernels(self) -> pl.DataFrame:
        """Kernels of each step by name.

        Columns: `step_id`, `upid`, `pid`, `gpu`, `step`, `name`, `demangled_name`, `count`,
        `total_ns`.
        """
        return self._rows("nsys_step_kernel")

    def step_calls(self) -> pl.DataFrame:
        """CUDA calls of each step by name: those of the step's process that began in it.

        Columns: `step_id`, `upid`, `pid`, `gpu`, `step`, `name`, `count`, `total_ns`.
        """
        return self._rows("nsys_step_call")

    def steady_step(self) -> pl.DataFrame:
        """The usual step: kernels of the steady steps by name, count and time for each step.

        Columns: `upid`, `pid`, `gpu`, `name`, `steps`, `med_count`, `med_ns`, `p5_ns`,
        `p95_ns`, `avg_ns`, `pct`.
        """
        return self._rows("nsys_steady_step")

    def gaps(self) -> pl.DataFrame:
        """Times in which a GPU did nothing, with their causes; not those below `--min-gap`.

        Columns: `id`, `ts`, `dur`, `gpu`, `upid`, `pid`, `run`, `step`, `step_in_run`,
        `step_id`, `bucket`, `prev_name`, `next_name`, `cause`, `mostly`, `pace`,
        `launch_lateness_ns`, `sync_ns`, `launch_ns`, `memory_ns`, `copy_ns`,
        `other_cuda_ns`, `outside_cuda_ns`, `prev_slice_id`, `next_slice_id`.
        """
        return self._rows("nsys_gap")

    def process_gaps(self) -> pl.DataFrame:
        """Times in which a GPU that several processes share did nothing for one of them.

        Columns: `id`, `ts`, `dur`, `gpu`, `upid`, `pid`, `run`, `step`, `step_in_run`,
        `step_id`, `bucket`, `prev_name`, `next_name`, `cause`, `mostly`, `pace`,
        `launch_lateness_ns`, `sync_ns`, `launch_ns`, `memory_ns`, `copy_ns`,
        `other_cuda_ns`, `outside_cuda_ns`, `prev_slice_id`, `next_slice_id`.
        """
        return self._rows("nsys_process_gap")

    def gap_causes(self) -> pl.DataFrame:
        """The gaps of `gaps` by cause.

        Columns: `gpu`, `cause`, `count`, `total_ns`, `pct`, `avg_ns`, `max_ns`,
        `host_paced_ns`, `sync_ns`, `launch_ns`, `memory_ns`, `copy_ns`, `other_cuda_ns`,
        `outside_cuda_ns`.
        """
        return self._rows("nsys_gap_cause")

    def consecutive_gaps(
        self, longer_than: int | None = None, all_gpus: bool = False
    ) -> pl.DataFrame:
        """Times from each kernel to the next in order of start, the manual's gaps.

        Args:
            longer_than: ns: only gaps longer than that.
            all_gpus: Take the work of all GPUs as that of one, as the manual's SQL does; `gpu` is
                null then.

        Columns: `ts`, `gap_ns`, `gpu`, `bucket`, `prev_name`, `next_name`,
        `prev_demangled_name`, `next_demangled_name`, `prev_slice_id`, `next_slice_id`.
        """
        condition = "" if longer_than is None else f"WHERE gap_ns > {int(longer_than)}"
        return self._rows("nsys_consecutive_gap" + "_all_gpus" * all_gpus, condition)

    def gap_buckets(self, all_gpus: bool = False) -> pl.DataFrame:
        """All gaps by size, by both definitions (`consecutive`, `idle`).

        Args:
            all_gpus: Take the work of all GPUs as that of one, as the manual's SQL does; `gpu` is
                null then.

        Columns: `definition`, `gpu`, `bucket`, `count`, `total_ns`, `pct`, `min_ns`,
        `max_ns`.
        """
        return self._rows("nsys_gap_bucket" + "_all_gpus" * all_gpus)

    def gap_total(self, all_gpus: bool = False) -> pl.DataFrame:
        """The sum of all gaps, by both definitions (`consecutive`, `idle`).

        Args:
            all_gpus: Take the work of all GPUs as that of one, as the manual's SQL does; `gpu` is
                null then.

        Columns: `definition`, `gpu`, `total_gap_ns`, `total_kernel_ns`, `wall_ns`, `count`.
        """
        return self._rows("nsys_gap_total" + "_all_gpus" * all_gpus)

    def kernels(self) -> pl.DataFrame:
        """Kernels, with launch configuration, launch and step.

        Columns: `id`, `ts`, `dur`, `name`, `demangled_name`, `mangled_name`, `upid`, `pid`,
        `gpu`, `device`, `stream`, `grid`, `block`, `grid_size`, `block_size`,
        `thread_count`, `registers_per_thread`, `shared_mem_static`, `shared_mem_dynamic`,
        `shared_mem_config_size`, `local_mem_per_thread`, `theoretical_occupancy_pct`,
        `waves_per_multiprocessor`, `graph_id`, `graph_node_id`, `launch_slice_id`,
        `launch_ts`, `launch_dur`, `queue_ns`, `step`, `run`, `step_id`.
        """
        return self._rows("nsys_kernel")

    def kernel_summary(self, full_names: bool = False) -> pl.DataFrame:
        """Kernels by name, the most expensive first: `nsys stats -r cuda_gpu_kern_sum`.

        Args:
            full_names: Group by demangled names instead of short ones.

        Columns: `name`, `time_pct`, `total_ns`, `instances`, `avg_ns`, `med_ns`, `min_ns`,
        `max_ns`, `stddev_ns`, `p95_ns`, `p99_ns`.
        """
        return self._rows("nsys_kernel_summary" + "_full" * full_names)

    def api_calls(self) -> pl.DataFrame:
        """CUDA calls, of the runtime and of the driver.

        Columns: `id`, `ts`, `dur`, `name`, `category`, `utid`, `upid`, `pid`, `tid`,
        `thread_name`, `result`, `is_outermost`.
        """
        return self._rows("nsys_api_call")

    def api_summary(self) -> pl.DataFrame:
        """CUDA calls by name, the most expensive first: `nsys stats -r cuda_api_sum`.

        Columns: `name`, `time_pct`, `total_ns`, `instances`, `avg_ns`, `med_ns`, `min_ns`,
        `max_ns`, `stddev_ns`, `p95_ns`, `p99_ns`.
        """
        return self._rows("nsys_api_summary")

    def syncs(self) -> pl.DataFrame:
        """CUDA calls that made a thread wait for a GPU.

        Columns: `id`, `ts`, `dur`, `name`, `category`, `utid`, `upid`, `pid`, `tid`,
        `thread_name`, `waited_for`, `stream`, `event`, `awaited_slice_id`,
        `wake_up_slice_id`, `wake_up_ns`, `is_outermost`.
        """
        return self._rows("nsys_sync")

    def sync_summary(self) -> pl.DataFrame:
        """The waiting calls by name and by what was waited for.

        Columns: `name`, `waited_for`, `instances`, `total_ns`, `max_ns`, `wake_up_count`,
        `wake_up_ns`.
        """
        return self._rows("nsys_sync_summary")

    def copies(self) -> pl.DataFrame:
        """Copies, memory sets and migrations.

        Columns: `id`, `ts`, `dur`, `name`, `kind`, `upid`, `pid`, `gpu`, `device`,
        `stream`, `bytes`, `gb_per_s`, `source`, `destination`, `source_device`,
        `destination_device`, `migration_cause`, `graph_node_id`, `launch_slice_id`,
        `launch_ts`, `queue_ns`.
        """
        return self._rows("nsys_copy")

    def copy_summary(self) -> pl.DataFrame:
        """Copies, memory sets and migrations by name: `nsys stats -r cuda_gpu_mem_time_sum`.

        Columns: `name`, `time_pct`, `total_ns`, `instances`, `avg_ns`, `med_ns`, `min_ns`,
        `max_ns`, `stddev_ns`, `p95_ns`, `p99_ns`, `total_bytes`, `gb_per_s`.
        """
        return self._rows("nsys_copy_summary")

    def memory(self) -> pl.DataFrame:
        """Memory in use over time: a row for each change of each counter.

        Columns: `id`, `ts`, `dur`, `name`, `upid`, `pid`, `gpu`, `bytes`, `is_pool`,
        `track_id`.
        """
        return self._rows("nsys_memory")

    def memory_peak(self) -> pl.DataFrame:
        """The most memory that was in use, of each counter of `memory`.

        Columns: `name`, `upid`, `pid`, `gpu`, `peak_bytes`, `ts`, `peak_ns`, `last_bytes`,
        `is_pool`, `track_id`.
        """
        return self._rows("nsys_memory_peak")

    def utilization(self) -> pl.DataFrame:
        """What each GPU did over time, in windows that follow each other.

        Columns: `gpu`, `ts`, `dur`, `busy_pct`, `kernels_in_flight`, `launch_queue_depth`,
        `copy_htod_gb_s`, `copy_dtoh_gb_s`, `copy_dtod_gb_s`, `copy_ptop_gb_s`.
        """
        return self._rows("nsys_utilization")

    def gpu_counters(self) -> pl.DataFrame:
        """What the GPUs' counters measured, metrics sampled by nsys included.

        Columns: `gpu`, `name`, `unit`, `ts`, `dur`, `value`, `track_id`.
        """
        return self._rows("nsys_gpu_counter")

    def gpu_balance(self) -> pl.DataFrame:
        """How each GPU's time was spent: `busy_ns + idle_ns = wall_ns`.

        Columns: `gpu`, `name`, `kernel_count`, `kernel_ns`, `operation_count`, `wall_ns`,
        `busy_ns`, `idle_ns`, `busy_util_pct`.
        """
        return self._rows("nsys_gpu_balance")

    def nvtx_ranges(self) -> pl.DataFrame:
        """NVTX ranges that have work on a GPU, projected onto it.

        Columns: `id`, `ts`, `dur`, `name`, `domain`, `style`, `upid`, `pid`, `utid`, `tid`,
        `thread_name`, `cpu_slice_id`, `cpu_ts`, `cpu_dur`, `gpu_op_count`.
        """
        return self._rows("nsys_nvtx_range")

    def nvtx_kernels(self) -> pl.DataFrame:
        """Which kernels belong to which NVTX range.

        Columns: `range_id`, `kernel_id`, `range_name`, `kernel_name`, `ts`, `dur`.
        """
        return self._rows("nsys_nvtx_kernel")

    def nvtx_summary(self) -> pl.DataFrame:
        """NVTX ranges by name: `nsys stats -r nvtx_gpu_proj_sum`.

        Columns: `name`, `domain`, `style`, `total_ns`, `total_cpu_ns`, `instances`,
        `avg_ns`, `med_ns`, `min_ns`, `max_ns`, `stddev_ns`, `p95_ns`, `p99_ns`,
        `gpu_op_count`, `avg_gpu_ops`, `avg_level`, `avg_children`.
        """
        return self._rows("nsys_nvtx_summary")

    def capture(self) -> pl.DataFrame:
        """Facts of the capture by name: versions, time shift, where the steps come from.

        Columns: `name`, `value`.
        """
        return self._rows("nsys_capture")

    def processes(self) -> pl.DataFrame:
        """Processes that used a GPU or called CUDA.

        Columns: `upid`, `pid`, `name`, `operation_count`, `call_count`.
        """
        return self._rows("nsys_process")

    def _rows(self, view: str, condition: str = "") -> pl.DataFrame:
        known = package.views()
        if view not in known:
            raise UsageError(f"no view {view!r} in the package nsys: there are {', '.join(known)}")
        answer = self.query(f"SELECT * FROM {view} {condition}")
        return answer.to_polars(known[view].schema())
