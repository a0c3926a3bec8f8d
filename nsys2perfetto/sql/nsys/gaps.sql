-- Gaps, by two definitions. `idle`: times in which a GPU did nothing, with
-- their causes. `consecutive`: from each kernel to the next, the nsys
-- manual's; negative where kernels overlap, and copies count as gap.

INCLUDE PERFETTO MODULE nsys._gaps;

-- Times in which a GPU did nothing, for any process: no kernel, copy, memory
-- set, migration or graph. Slices of category `nsys.gap`; shorter ones than
-- `--min-gap` have none and are not here, see `nsys_gap_bucket`.
CREATE PERFETTO VIEW nsys_gap(
  -- Id of the slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- The process whose work ended the gap.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Its run in which the gap begins; null where it begins in no step.
  run LONG,
  -- Number of its step in which the gap begins: `nsys_step.step`; null
  -- likewise.
  step LONG,
  -- Number of that step in the run; null likewise.
  step_in_run LONG,
  -- Id of that step: `nsys_step.id`; null likewise.
  step_id JOINID(slice.id),
  -- Size class: `<1us`, `1-5us`, `5-10us`, `10-50us`, `50-100us`, `0.1-1ms`,
  -- `>1ms`; the lower bound is included.
  bucket STRING,
  -- Name of the operation before.
  prev_name STRING,
  -- Name of the operation after.
  next_name STRING,
  -- Why: `launch_bound`, `synchronization`, `allocation`, `copy`,
  -- `launch_latency`, `stream_dependency`, `graph_internal`,
  -- `profiler_overhead` or `unknown` (docs/causes.md).
  cause STRING,
  -- What the launching thread did for the largest part of the gap:
  -- `in_sync`, `in_launch`, `in_memory`, `in_copy`, `in_other_cuda`,
  -- `outside_cuda`; null where the launch is not in the capture.
  mostly STRING,
  -- `host`: an earlier launch would have made the gap shorter; `device`: it
  -- would not. Null likewise.
  pace STRING,
  -- Start of the launching call less start of the gap, ns; negative: it had
  -- begun before the GPU fell idle. Null likewise.
  launch_lateness_ns LONG,
  -- What the launching thread did during the gap, ns. These six add up to
  -- `dur`. Here: waited for a GPU.
  sync_ns LONG,
  -- Launched work, ns.
  launch_ns LONG,
  -- Allocated or freed memory, ns.
  memory_ns LONG,
  -- Copied, ns.
  copy_ns LONG,
  -- Was in other CUDA calls, ns.
  other_cuda_ns LONG,
  -- Was in no CUDA call, ns.
  outside_cuda_ns LONG,
  -- The operation before: of several that end then, the one of that name
  -- that started last.
  prev_slice_id JOINID(slice.id),
  -- The operation after: of several of that name that start then, the first.
  next_slice_id JOINID(slice.id)
)
AS
SELECT
  id,
  ts,
  dur,
  gpu,
  upid,
  pid,
  run,
  step,
  step_in_run,
  step_id,
  _nsys_bucket!(dur) AS bucket,
  prev_name,
  next_name,
  cause,
  mostly,
  pace,
  launch_lateness_ns,
  sync_ns,
  launch_ns,
  memory_ns,
  copy_ns,
  other_cuda_ns,
  outside_cuda_ns,
  (
    SELECT max(work.id)
    FROM _nsys_gpu_work AS work
    WHERE
      work.ts_end = gap.ts
      AND +work.gpu = gap.gpu
      AND +work.name = gap.prev_name
  ) AS prev_slice_id,
  (
    SELECT min(work.id)
    FROM _nsys_gpu_work AS work
    WHERE
      work.ts = gap.ts + gap.dur
      AND +work.gpu = gap.gpu
      AND +work.upid = gap.upid
      AND +work.name = gap.next_name
  ) AS next_slice_id
FROM _nsys_gap AS gap
WHERE of_process = 0;

-- Times in which a GPU that several processes use did nothing for one of
-- them, though it may have been busy for others. Slices of category
-- `nsys.process_gap`; a GPU that one process has for itself has none.
CREATE PERFETTO VIEW nsys_process_gap(
  -- Id of the slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- The process whose work ended the gap.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Its run in which the gap begins; null where it begins in no step.
  run LONG,
  -- Number of its step in which the gap begins: `nsys_step.step`; null
  -- likewise.
  step LONG,
  -- Number of that step in the run; null likewise.
  step_in_run LONG,
  -- Id of that step: `nsys_step.id`; null likewise.
  step_id JOINID(slice.id),
  -- Size class: `<1us`, `1-5us`, `5-10us`, `10-50us`, `50-100us`, `0.1-1ms`,
  -- `>1ms`; the lower bound is included.
  bucket STRING,
  -- Name of the operation before.
  prev_name STRING,
  -- Name of the operation after.
  next_name STRING,
  -- Why: `launch_bound`, `synchronization`, `allocation`, `copy`,
  -- `launch_latency`, `stream_dependency`, `graph_internal`,
  -- `profiler_overhead` or `unknown` (docs/causes.md).
  cause STRING,
  -- What the launching thread did for the largest part of the gap:
  -- `in_sync`, `in_launch`, `in_memory`, `in_copy`, `in_other_cuda`,
  -- `outside_cuda`; null where the launch is not in the capture.
  mostly STRING,
  -- `host`: an earlier launch would have made the gap shorter; `device`: it
  -- would not. Null likewise.
  pace STRING,
  -- Start of the launching call less start of the gap, ns; negative: it had
  -- begun before the GPU fell idle. Null likewise.
  launch_lateness_ns LONG,
  -- What the launching thread did during the gap, ns. These six add up to
  -- `dur`. Here: waited for a GPU.
  sync_ns LONG,
  -- Launched work, ns.
  launch_ns LONG,
  -- Allocated or freed memory, ns.
  memory_ns LONG,
  -- Copied, ns.
  copy_ns LONG,
  -- Was in other CUDA calls, ns.
  other_cuda_ns LONG,
  -- Was in no CUDA call, ns.
  outside_cuda_ns LONG,
  -- The operation before: of several that end then, the one of that name
  -- that started last.
  prev_slice_id JOINID(slice.id),
  -- The operation after: of several of that name that start then, the first.
  next_slice_id JOINID(slice.id)
)
AS
SELECT
  id,
  ts,
  dur,
  gpu,
  upid,
  pid,
  run,
  step,
  step_in_run,
  step_id,
  _nsys_bucket!(dur) AS bucket,
  prev_name,
  next_name,
  cause,
  mostly,
  pace,
  launch_lateness_ns,
  sync_ns,
  launch_ns,
  memory_ns,
  copy_ns,
  other_cuda_ns,
  outside_cuda_ns,
  (
    SELECT max(work.id)
    FROM _nsys_gpu_work AS work
    WHERE
      work.ts_end = gap.ts
      AND +work.gpu = gap.gpu
      AND +work.upid = gap.upid
      AND +work.name = gap.prev_name
  ) AS prev_slice_id,
  (
    SELECT min(work.id)
    FROM _nsys_gpu_work AS work
    WHERE
      work.ts = gap.ts + gap.dur
      AND +work.gpu = gap.gpu
      AND +work.upid = gap.upid
      AND +work.name = gap.next_name
  ) AS next_slice_id
FROM _nsys_gap AS gap
WHERE of_process = 1;

-- Idle gaps of each GPU by cause: those of `nsys_gap`.
CREATE PERFETTO VIEW nsys_gap_cause(
  -- Number of the GPU.
  gpu LONG,
  -- Why, see `nsys_gap.cause`.
  cause STRING,
  -- Number of gaps.
  count LONG,
  -- Sum of their durations, ns.
  total_ns LONG,
  -- Percent of the durations of all gaps of the GPU.
  pct DOUBLE,
  -- Mean duration, ns.
  avg_ns DOUBLE,
  -- The longest, ns.
  max_ns LONG,
  -- The part of `total_ns` in gaps that an earlier launch would have made
  -- shorter, ns.
  host_paced_ns LONG,
  -- What the launching threads did meanwhile, ns. These six add up to
  -- `total_ns`. Here: waited for a GPU.
  sync_ns LONG,
  -- Launched work, ns.
  launch_ns LONG,
  -- Allocated or freed memory, ns.
  memory_ns LONG,
  -- Copied, ns.
  copy_ns LONG,
  -- Were in other CUDA calls, ns.
  other_cuda_ns LONG,
  -- Were in no CUDA call, ns.
  outside_cuda_ns LONG
)
AS
SELECT
  gpu,
  cause,
  count() AS count,
  sum(dur) AS total_ns,
  100.0 * sum(dur) / sum(sum(dur)) OVER (PARTITION BY gpu) AS pct,
  1.0 * sum(dur) / count() AS avg_ns,
  max(dur) AS max_ns,
  sum(iif(pace = 'host', dur, 0)) AS host_paced_ns,
  sum(sync_ns) AS sync_ns,
  sum(launch_ns) AS launch_ns,
  sum(memory_ns) AS memory_ns,
  sum(copy_ns) AS copy_ns,
  sum(other_cuda_ns) AS other_cuda_ns,
  sum(outside_cuda_ns) AS outside_cuda_ns
FROM _nsys_gap
WHERE of_process = 0
GROUP BY
  gpu, cause
ORDER BY
  gpu, total_ns DESC, cause;

-- Gaps between the kernels of each GPU in order of start, on all its streams:
-- from the end of each to the start of the next. Copies count as gap. Kernels
-- that start together are in order of their ids.
CREATE PERFETTO VIEW nsys_consecutive_gap(
  -- End of the kernel before.
  ts TIMESTAMP,
  -- Start of the kernel after less `ts`, ns; negative where they overlap.
  gap_ns LONG,
  -- Number of the GPU.
  gpu LONG,
  -- Size class, as in `nsys_gap`; that of negative ones is `<1us`.
  bucket STRING,
  -- Short name of the kernel before.
  prev_name STRING,
  -- Short name of the kernel after.
  next_name STRING,
  -- Full name of the kernel before.
  prev_demangled_name STRING,
  -- Full name of the kernel after.
  next_demangled_name STRING,
  -- The kernel before.
  prev_slice_id JOINID(slice.id),
  -- The kernel after.
  next_slice_id JOINID(slice.id)
)
AS
SELECT *
FROM _nsys_with_kernels!(_nsys_consecutive);

-- The same with the kernels of all GPUs as those of one: the nsys manual's
-- queries as they stand.
CREATE PERFETTO VIEW nsys_consecutive_gap_all_gpus(
  -- End of the kernel before.
  ts TIMESTAMP,
  -- Start of the kernel after less `ts`, ns; negative where they overlap.
  gap_ns LONG,
  -- Null: all GPUs.
  gpu LONG,
  -- Size class, as in `nsys_gap`; that of negative ones is `<1us`.
  bucket STRING,
  -- Short name of the kernel before.
  prev_name STRING,
  -- Short name of the kernel after.
  next_name STRING,
  -- Full name of the kernel before.
  prev_demangled_name STRING,
  -- Full name of the kernel after.
  next_demangled_name STRING,
  -- The kernel before.
  prev_slice_id JOINID(slice.id),
  -- The kernel after.
  next_slice_id JOINID(slice.id)
)
AS
SELECT *
FROM _nsys_with_kernels!(_nsys_consecutive_all_gpus);

-- Gaps of each GPU by size, by both definitions. All gaps count, also those
-- that are too short for a slice.
CREATE PERFETTO VIEW nsys_gap_bucket(
  -- `consecutive`: from each kernel to the next in order of start, the
  -- manual's. `idle`: nothing ran, no kernel, copy or memory set.
  definition STRING,
  -- Number of the GPU.
  gpu LONG,
  -- Size class; only those that occur.
  bucket STRING,
  -- Number of gaps.
  count LONG,
  -- Sum of them, ns.
  total_ns LONG,
  -- Percent of the number of gaps.
  pct DOUBLE,
  -- The smallest, ns; sorts the sizes.
  min_ns LONG,
  -- The largest, ns.
  max_ns LONG
)
AS
SELECT *
FROM _nsys_by_size!('consecutive', _nsys_consecutive)
UNION ALL
SELECT *
FROM _nsys_by_size!('idle', (
  SELECT gpu, dur AS gap_ns FROM _nsys_idle
))
ORDER BY
  definition, gpu, min_ns;

-- The same with the work of all GPUs as that of one: the nsys manual's query
-- as it stands.
CREATE PERFETTO VIEW nsys_gap_bucket_all_gpus(
  -- `consecutive`: from each kernel to the next in order of start, the
  -- manual's. `idle`: nothing ran, no kernel, copy or memory set.
  definition STRING,
  -- Null: all GPUs.
  gpu LONG,
  -- Size class; only those that occur.
  bucket STRING,
  -- Number of gaps.
  count LONG,
  -- Sum of them, ns.
  total_ns LONG,
  -- Percent of the number of gaps.
  pct DOUBLE,
  -- The smallest, ns; sorts the sizes.
  min_ns LONG,
  -- The largest, ns.
  max_ns LONG
)
AS
SELECT *
FROM _nsys_by_size!('consecutive', _nsys_consecutive_all_gpus)
UNION ALL
SELECT *
FROM _nsys_by_size!('idle', _nsys_idle_all_gpus)
ORDER BY
  definition, gpu, min_ns;

-- Sum of the gaps of each GPU, by both definitions; all gaps count, also
-- those that are too short for a slice.
CREATE PERFETTO VIEW nsys_gap_total(
  -- `consecutive` or `idle`, as in `nsys_gap_bucket`.
  definition STRING,
  -- Number of the GPU.
  gpu LONG,
  -- Sum of the gaps, ns; of consecutive ones it may be negative.
  total_gap_ns LONG,
  -- Sum of the durations of kernels, ns.
  total_kernel_ns LONG,
  -- From the first start to the last end, ns: of kernels (`consecutive`), of
  -- all work (`idle`).
  wall_ns LONG,
  -- Number of gaps.
  count LONG
)
AS
WITH
  consecutive AS (
    SELECT gpu, sum(gap_ns) AS ns, count() AS count
    FROM _nsys_consecutive
    GROUP BY gpu
  ),
  idle AS (
    SELECT gpu, sum(dur) AS ns, count() AS count
    FROM _nsys_idle
    GROUP BY gpu
  )
SELECT
  'consecutive' AS definition,
  gpu,
  coalesce(consecutive.ns, 0) AS total_gap_ns,
  span.kernel_ns AS total_kernel_ns,
  span.kernel_ts_end - span.kernel_ts AS wall_ns,
  coalesce(consecutive.count, 0) AS count
FROM _nsys_gpu_span AS span
LEFT JOIN consecutive
  USING (gpu)
WHERE span.kernel_count > 0
UNION ALL
SELECT
  'idle' AS definition,
  gpu,
  coalesce(idle.ns, 0) AS total_gap_ns,
  span.kernel_ns AS total_kernel_ns,
  span.ts_end - span.ts AS wall_ns,
  coalesce(idle.count, 0) AS count
FROM _nsys_gpu_span AS span
LEFT JOIN idle
  USING (gpu)
ORDER BY
  definition, gpu;

-- The same with the work of all GPUs as that of one: the nsys manual's query
-- as it stands.
CREATE PERFETTO VIEW nsys_gap_total_all_gpus(
  -- `consecutive` or `idle`, as in `nsys_gap_bucket`.
  definition STRING,
  -- Null: all GPUs.
  gpu LONG,
  -- Sum of the gaps, ns; of consecutive ones it may be negative.
  total_gap_ns LONG,
  -- Sum of the durations of kernels, ns.
  total_kernel_ns LONG,
  -- From the first start to the last end, ns: of kernels (`consecutive`), of
  -- all work (`idle`).
  wall_ns LONG,
  -- Number of gaps.
  count LONG
)
AS
WITH
  consecutive AS (
    SELECT coalesce(sum(gap_ns), 0) AS ns, count() AS count
    FROM _nsys_consecutive_all_gpus
  ),
  idle AS (
    SELECT coalesce(sum(gap_ns), 0) AS ns, count() AS count
    FROM _nsys_idle_all_gpus
  ),
  span AS (
    SELECT
      min(ts) AS ts,
      max(ts_end) AS ts_end,
      sum(kernel_count) AS kernel_count,
      sum(kernel_ns) AS kernel_ns,
      min(kernel_ts) AS kernel_ts,
      max(kernel_ts_end) AS kernel_ts_end
    FROM _nsys_gpu_span
  )
SELECT
  'consecutive' AS definition,
  NULL AS gpu,
  consecutive.ns AS total_gap_ns,
  span.kernel_ns AS total_kernel_ns,
  span.kernel_ts_end - span.kernel_ts AS wall_ns,
  consecutive.count
FROM span
JOIN consecutive
WHERE span.kernel_count > 0
UNION ALL
SELECT
  'idle' AS definition,
  NULL AS gpu,
  idle.ns AS total_gap_ns,
  span.kernel_ns AS total_kernel_ns,
  span.ts_end - span.ts AS wall_ns,
  idle.count
FROM span
JOIN idle
WHERE span.ts IS NOT NULL
ORDER BY definition;
