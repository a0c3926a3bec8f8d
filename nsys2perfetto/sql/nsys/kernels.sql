-- Kernels: how each was launched, and which of them take the time.

INCLUDE PERFETTO MODULE nsys._gpu_work;

INCLUDE PERFETTO MODULE nsys._launches;

INCLUDE PERFETTO MODULE nsys._summary;

INCLUDE PERFETTO MODULE nsys.steps;

-- The shapes in which kernels were launched: arguments, read once a set.
CREATE PERFETTO TABLE _nsys_kernel_shape(
  -- The set of arguments.
  shape_id LONG,
  -- Blocks: `128x1x1`.
  grid STRING,
  -- Threads a block: `256x1x1`.
  block STRING,
  -- Blocks.
  grid_size LONG,
  -- Threads a block.
  block_size LONG,
  -- Threads.
  thread_count LONG,
  -- Registers a thread.
  registers_per_thread LONG,
  -- Static shared memory of a block, bytes.
  shared_mem_static LONG,
  -- Dynamic shared memory of a block, bytes.
  shared_mem_dynamic LONG,
  -- Shared memory set aside on a multiprocessor, bytes.
  shared_mem_config_size LONG,
  -- Local memory of a thread, bytes.
  local_mem_per_thread LONG,
  -- Share of a multiprocessor's warps that fit on it at once, percent.
  theoretical_occupancy_pct DOUBLE,
  -- Blocks over how many fit on the GPU at once.
  waves_per_multiprocessor DOUBLE,
  -- Mangled name.
  mangled_name STRING,
  -- CUDA graph.
  graph_id LONG,
  -- Node of a CUDA graph.
  graph_node_id LONG
)
AS
SELECT
  shape_id,
  _nsys_work_arg!(shape_id, 'launch.grid_size.x')
    || 'x'
    || _nsys_work_arg!(shape_id, 'launch.grid_size.y')
    || 'x'
    || _nsys_work_arg!(shape_id, 'launch.grid_size.z') AS grid,
  _nsys_work_arg!(shape_id, 'launch.workgroup_size.x')
    || 'x'
    || _nsys_work_arg!(shape_id, 'launch.workgroup_size.y')
    || 'x'
    || _nsys_work_arg!(shape_id, 'launch.workgroup_size.z') AS block,
  _nsys_work_arg!(shape_id, 'grid_size') AS grid_size,
  _nsys_work_arg!(shape_id, 'workgroup_size') AS block_size,
  _nsys_work_arg!(shape_id, 'thread_count') AS thread_count,
  _nsys_work_arg!(shape_id, 'registers_per_thread') AS registers_per_thread,
  _nsys_work_arg!(shape_id, 'shared_mem_static') AS shared_mem_static,
  _nsys_work_arg!(shape_id, 'shared_mem_dynamic') AS shared_mem_dynamic,
  _nsys_work_arg!(shape_id, 'shared_mem_config_size')
    AS shared_mem_config_size,
  _nsys_work_arg!(shape_id, 'local_mem_per_thread') AS local_mem_per_thread,
  _nsys_work_arg!(shape_id, 'theoretical_occupancy_pct')
    AS theoretical_occupancy_pct,
  _nsys_work_arg!(shape_id, 'waves_per_multiprocessor')
    AS waves_per_multiprocessor,
  _nsys_work_arg!(shape_id, 'kernel_name') AS mangled_name,
  _nsys_work_arg!(shape_id, 'graph_id') AS graph_id,
  _nsys_work_arg!(shape_id, 'graph_node_id') AS graph_node_id
FROM _nsys_work_args
WHERE kind = 'kernel'
ORDER BY shape_id;

-- All kernels, those of CUDA graphs included. (Where the capture has a graph
-- launch as a whole, its kernels are not in it.)
CREATE PERFETTO VIEW nsys_kernel(
  -- Id of the slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Short name.
  name STRING,
  -- Full name; the mangled or the short one where the capture has no other.
  demangled_name STRING,
  -- Mangled name, where the capture has it.
  mangled_name STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- The process's own number of the GPU (CUDA ordinal).
  device LONG,
  -- CUDA stream.
  stream LONG,
  -- Blocks: `128x1x1`.
  grid STRING,
  -- Threads a block: `256x1x1`.
  block STRING,
  -- Blocks.
  grid_size LONG,
  -- Threads a block.
  block_size LONG,
  -- Threads.
  thread_count LONG,
  -- Registers a thread.
  registers_per_thread LONG,
  -- Static shared memory of a block, bytes.
  shared_mem_static LONG,
  -- Dynamic shared memory of a block, bytes.
  shared_mem_dynamic LONG,
  -- Shared memory set aside on a multiprocessor, bytes.
  shared_mem_config_size LONG,
  -- Local memory of a thread, bytes; null for none.
  local_mem_per_thread LONG,
  -- Share of a multiprocessor's warps that fit on it at once, percent; null
  -- where the GPU is not known.
  theoretical_occupancy_pct DOUBLE,
  -- Blocks over how many fit on the GPU at once; null where the GPU is not
  -- known.
  waves_per_multiprocessor DOUBLE,
  -- CUDA graph of the kernel; null for none, and before nsys 2025.5.
  graph_id LONG,
  -- Node of the CUDA graph; null for none.
  graph_node_id LONG,
  -- The CUDA call that submitted it; null where that is not in the trace.
  -- A launch of a CUDA graph submits many.
  launch_slice_id JOINID(slice.id),
  -- Start of that call.
  launch_ts TIMESTAMP,
  -- Duration of that call.
  launch_dur DURATION,
  -- The time from the end of that call to the start of the kernel, ns; null
  -- where the kernel started before the end (as in
  -- `nsys stats -r cuda_kern_exec_sum`).
  queue_ns LONG,
  -- Number of its decode step: `nsys_step.step`. Null outside of steps.
  step LONG,
  -- Run of that step.
  run LONG,
  -- Id of that step: `nsys_step.id`.
  step_id JOINID(slice.id)
)
AS
SELECT
  kernel.id,
  kernel.ts,
  kernel.dur,
  kernel.name,
  kernel.demangled_name,
  shape.mangled_name,
  kernel.upid,
  kernel.pid,
  kernel.gpu,
  kernel.device,
  kernel.stream,
  shape.grid,
  shape.block,
  shape.grid_size,
  shape.block_size,
  shape.thread_count,
  shape.registers_per_thread,
  shape.shared_mem_static,
  shape.shared_mem_dynamic,
  shape.shared_mem_config_size,
  shape.local_mem_per_thread,
  shape.theoretical_occupancy_pct,
  shape.waves_per_multiprocessor,
  shape.graph_id,
  shape.graph_node_id,
  launch.launch_slice_id,
  launch.launch_ts,
  launch.launch_dur,
  iif(
    kernel.ts >= launch.launch_ts + launch.launch_dur,
    kernel.ts - launch.launch_ts - launch.launch_dur,
    NULL
  ) AS queue_ns,
  step.step,
  step.run,
  step_of.step_id
FROM _nsys_kernel AS kernel
LEFT JOIN _nsys_kernel_shape AS shape
  USING (shape_id)
LEFT JOIN _nsys_launch AS launch
  ON launch.id = kernel.id
LEFT JOIN _nsys_kernel_step AS step_of
  ON step_of.kernel_id = kernel.id
LEFT JOIN nsys_step AS step
  ON step.id = step_of.step_id;

-- Kernels by short name, the most expensive first: what
-- `nsys stats -r cuda_gpu_kern_sum:base` prints, and two percentiles.
CREATE PERFETTO VIEW nsys_kernel_summary(
  -- Short name.
  name STRING,
  -- Percent of the time of all kernels.
  time_pct DOUBLE,
  -- Sum of durations, ns.
  total_ns LONG,
  -- Number of kernels.
  instances LONG,
  -- Mean duration, ns.
  avg_ns DOUBLE,
  -- Median, ns; between the two middle values of an even number.
  med_ns DOUBLE,
  -- Shortest, ns.
  min_ns LONG,
  -- Longest, ns.
  max_ns LONG,
  -- Standard deviation of a sample, ns; 0 for one instance.
  stddev_ns DOUBLE,
  -- 95th percentile, ns; between neighbours linearly.
  p95_ns DOUBLE,
  -- 99th percentile, ns; likewise.
  p99_ns DOUBLE
)
AS
SELECT
  name,
  100.0 * total_ns / max(sum(total_ns) OVER (), 1) AS time_pct,
  total_ns,
  instances,
  avg_ns,
  med_ns,
  min_ns,
  max_ns,
  stddev_ns,
  p95_ns,
  p99_ns
FROM _nsys_durations_by_name!(_nsys_kernel)
ORDER BY
  total_ns DESC, name;

-- Kernels by full name, the most expensive first: what
-- `nsys stats -r cuda_gpu_kern_sum` prints, and two percentiles.
CREATE PERFETTO VIEW nsys_kernel_summary_full(
  -- Full name; the mangled or the short one where the capture has no other.
  name STRING,
  -- Percent of the time of all kernels.
  time_pct DOUBLE,
  -- Sum of durations, ns.
  total_ns LONG,
  -- Number of kernels.
  instances LONG,
  -- Mean duration, ns.
  avg_ns DOUBLE,
  -- Median, ns; between the two middle values of an even number.
  med_ns DOUBLE,
  -- Shortest, ns.
  min_ns LONG,
  -- Longest, ns.
  max_ns LONG,
  -- Standard deviation of a sample, ns; 0 for one instance.
  stddev_ns DOUBLE,
  -- 95th percentile, ns; between neighbours linearly.
  p95_ns DOUBLE,
  -- 99th percentile, ns; likewise.
  p99_ns DOUBLE
)
AS
SELECT
  name,
  100.0 * total_ns / max(sum(total_ns) OVER (), 1) AS time_pct,
  total_ns,
  instances,
  avg_ns,
  med_ns,
  min_ns,
  max_ns,
  stddev_ns,
  p95_ns,
  p99_ns
FROM _nsys_durations_by_name!((
  SELECT demangled_name AS name, dur FROM _nsys_kernel
))
ORDER BY
  total_ns DESC, name;
