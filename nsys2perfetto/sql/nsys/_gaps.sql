-- What the public module on gaps is made of. Nothing here is meant for users.

INCLUDE PERFETTO MODULE nsys._idle;

INCLUDE PERFETTO MODULE nsys.steps;

-- Size class of a gap, the manual's; a negative gap is `<1us`.
CREATE PERFETTO MACRO _nsys_bucket(
  -- Length of the gap, ns.
  gap_ns Expr
)
RETURNS Expr
AS
CASE
  WHEN $gap_ns < 1000 THEN '<1us'
  WHEN $gap_ns < 5000 THEN '1-5us'
  WHEN $gap_ns < 10000 THEN '5-10us'
  WHEN $gap_ns < 50000 THEN '10-50us'
  WHEN $gap_ns < 100000 THEN '50-100us'
  WHEN $gap_ns < 1000000 THEN '0.1-1ms'
  ELSE '>1ms'
END;

-- Idle gaps that have a slice, of GPUs and of processes, with all arguments
-- read once.
CREATE PERFETTO TABLE _nsys_gap(
  -- Id of the slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Whether only one process did nothing.
  of_process BOOL,
  -- Number of the GPU.
  gpu LONG,
  -- Process whose work ended the gap.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Its run in which the gap begins.
  run LONG,
  -- Its step in which the gap begins: number.
  step LONG,
  -- Likewise: slice.
  step_id JOINID(slice.id),
  -- Number of that step in the run.
  step_in_run LONG,
  -- Name of the operation before.
  prev_name STRING,
  -- Name of the operation after.
  next_name STRING,
  -- Why.
  cause STRING,
  -- What the launching thread mostly did.
  mostly STRING,
  -- Who set the pace.
  pace STRING,
  -- Start of the launching call less start of the gap.
  launch_lateness_ns LONG,
  -- Time that the launching thread waited.
  sync_ns LONG,
  -- Time that it launched.
  launch_ns LONG,
  -- Time that it managed memory.
  memory_ns LONG,
  -- Time that it copied.
  copy_ns LONG,
  -- Time in other CUDA calls.
  other_cuda_ns LONG,
  -- Time outside CUDA.
  outside_cuda_ns LONG
)
AS
WITH
  gap AS MATERIALIZED (
    SELECT
      id,
      ts,
      dur,
      category,
      arg_set_id AS args,
      extract_arg(arg_set_id, 'gpu_gap.gpu') AS gpu,
      extract_arg(arg_set_id, 'gpu_gap.process_id') AS pid,
      extract_arg(arg_set_id, 'gpu_gap.run') AS run,
      extract_arg(arg_set_id, 'gpu_gap.step') AS step_in_run,
      -- Parts that are 0 are left out; lean traces have none of them.
      iif(
        extract_arg(arg_set_id, 'gpu_gap.next_event_id') IS NULL,
        NULL,
        0
      ) AS zero
    FROM slice
    WHERE category IN ('nsys.gap', 'nsys.process_gap')
  ),
  step AS MATERIALIZED (
    SELECT pid, gpu, run, step_in_run, step, id AS step_id
    FROM nsys_step
  )
SELECT
  gap.id,
  gap.ts,
  gap.dur,
  gap.category = 'nsys.process_gap' AS of_process,
  gap.gpu,
  owner.upid,
  gap.pid,
  gap.run,
  step.step,
  step.step_id,
  gap.step_in_run,
  extract_arg(args, 'debug.previous') AS prev_name,
  extract_arg(args, 'debug.next') AS next_name,
  lower(replace(extract_arg(args, 'gpu_gap.cause'), 'CAUSE_', '')) AS cause,
  lower(extract_arg(args, 'gpu_gap.mostly')) AS mostly,
  lower(extract_arg(args, 'gpu_gap.pace')) AS pace,
  extract_arg(args, 'gpu_gap.launch_lateness_ns') AS launch_lateness_ns,
  coalesce(extract_arg(args, 'gpu_gap.sync_ns'), zero) AS sync_ns,
  coalesce(extract_arg(args, 'gpu_gap.launch_ns'), zero) AS launch_ns,
  coalesce(extract_arg(args, 'gpu_gap.memory_ns'), zero) AS memory_ns,
  coalesce(extract_arg(args, 'gpu_gap.copy_ns'), zero) AS copy_ns,
  coalesce(extract_arg(args, 'gpu_gap.other_cuda_ns'), zero) AS other_cuda_ns,
  coalesce(extract_arg(args, 'gpu_gap.outside_cuda_ns'), zero)
    AS outside_cuda_ns
FROM gap
LEFT JOIN _nsys_pid AS owner
  USING (pid)
LEFT JOIN step
  USING (pid, gpu, run, step_in_run)
ORDER BY
  gap.ts, gap.id;

-- From each kernel to the next in order of start, on each GPU of its own.
CREATE PERFETTO TABLE _nsys_consecutive(
  -- End of the kernel before.
  ts TIMESTAMP,
  -- Start of the next less that; negative where they overlap.
  gap_ns LONG,
  -- Number of the GPU.
  gpu LONG,
  -- The kernel before.
  prev_slice_id JOINID(slice.id),
  -- The kernel after.
  next_slice_id JOINID(slice.id)
)
AS
WITH
  kernel AS (
    SELECT
      ts_end AS ts,
      lead(ts) OVER (PARTITION BY gpu ORDER BY ts, id) - ts_end AS gap_ns,
      gpu,
      id AS prev_slice_id,
      lead(id) OVER (PARTITION BY gpu ORDER BY ts, id) AS next_slice_id
    FROM _nsys_kernel
  )
SELECT *
FROM kernel
WHERE next_slice_id IS NOT NULL;

-- The same with the kernels of all GPUs as those of one.
CREATE PERFETTO VIEW _nsys_consecutive_all_gpus(
  -- End of the kernel before.
  ts TIMESTAMP,
  -- Start of the next less that; negative where they overlap.
  gap_ns LONG,
  -- Null.
  gpu LONG,
  -- The kernel before.
  prev_slice_id JOINID(slice.id),
  -- The kernel after.
  next_slice_id JOINID(slice.id)
)
AS
WITH
  kernel AS (
    SELECT
      ts_end AS ts,
      lead(ts) OVER (ORDER BY ts, id) - ts_end AS gap_ns,
      NULL AS gpu,
      id AS prev_slice_id,
      lead(id) OVER (ORDER BY ts, id) AS next_slice_id
    FROM _nsys_kernel
  )
SELECT *
FROM kernel
WHERE next_slice_id IS NOT NULL;

-- The columns of `nsys_consecutive_gap`.
CREATE PERFETTO MACRO _nsys_with_kernels(
  -- Table like `_nsys_consecutive`.
  gaps TableOrSubquery
)
RETURNS TableOrSubquery
AS
(
  SELECT
    gap.ts,
    gap.gap_ns,
    gap.gpu,
    _nsys_bucket!(gap.gap_ns) AS bucket,
    previous.name AS prev_name,
    following.name AS next_name,
    previous.demangled_name AS prev_demangled_name,
    following.demangled_name AS next_demangled_name,
    gap.prev_slice_id,
    gap.next_slice_id
  FROM $gaps AS gap
  CROSS JOIN _nsys_kernel AS previous
  CROSS JOIN _nsys_kernel AS following
  WHERE
    previous.id = gap.prev_slice_id
    AND following.id = gap.next_slice_id
);

-- Idle time with the work of all GPUs as that of one: when none did anything.
CREATE PERFETTO VIEW _nsys_idle_all_gpus(
  -- Duration; never 0.
  gap_ns LONG,
  -- Null.
  gpu LONG
)
AS
WITH
  reached AS (
    SELECT
      ts,
      max(ts_end) OVER (
        ORDER BY ts, id
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      ) AS before
    FROM _nsys_gpu_work
  )
SELECT ts - before AS gap_ns, NULL AS gpu
FROM reached
WHERE ts > before;

-- Gaps by size: the columns of `nsys_gap_bucket`.
CREATE PERFETTO MACRO _nsys_by_size(
  -- Text: which gaps these are.
  definition Expr,
  -- Table with columns `gpu` and `gap_ns`.
  gaps TableOrSubquery
)
RETURNS TableOrSubquery
AS
(
  SELECT
    $definition AS definition,
    gpu,
    bucket,
    count() AS count,
    sum(gap_ns) AS total_ns,
    100.0 * count() / sum(count()) OVER (PARTITION BY gpu) AS pct,
    min(gap_ns) AS min_ns,
    max(gap_ns) AS max_ns
  FROM (
    SELECT gpu, gap_ns, _nsys_bucket!(gap_ns) AS bucket
    FROM $gaps
  )
  GROUP BY
    gpu, bucket
);
