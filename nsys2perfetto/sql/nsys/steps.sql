-- Decode steps: what happened in each, its kernels and calls, and the steady
-- steps taken apart. How steps are found is in docs/steps.md.

INCLUDE PERFETTO MODULE nsys._gpu_work;

-- Process ids: what annotations name a process by.
CREATE PERFETTO TABLE _nsys_pid(
  -- Process id; unique in a trace of nsys2perfetto.
  pid LONG,
  -- The process.
  upid JOINID(process.id)
)
AS
SELECT pid, min(upid) AS upid
FROM process
WHERE pid IS NOT NULL
GROUP BY pid
ORDER BY pid;

-- Decode steps: one for each token of a sequence, from the end of one marker
-- kernel to the end of the next. Each process has steps of its own on each
-- GPU. Slices of category `nsys.step` and their arguments `decode_step.*`.
CREATE PERFETTO TABLE nsys_step(
  -- Id of the slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Name of the slice: `step 12`, `step 2 (warm-up)`, `prefill`.
  name STRING,
  -- Number among all steps of the process on the GPU, from 1: the number of
  -- the marker that ends the step, as the nsys manual counts them.
  step LONG,
  -- Run (pass of the program), from 1.
  run LONG,
  -- Number of the step in its run, from 1; a prefill is 1.
  step_in_run LONG,
  -- `prefill`, `warmup`, `steady` or `outlier`.
  phase STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- Kernels of the process that start and end in the step. One without
  -- duration at the border of two steps counts in both, as in the manual.
  kernel_count LONG,
  -- Sum of their durations, ns.
  kernel_ns LONG,
  -- Time in which the process did anything on the GPU, ns.
  busy_ns LONG,
  -- Time in which it did nothing there, ns: `wall_ns - busy_ns`.
  idle_ns LONG,
  -- Duration of the step, ns: `dur`.
  wall_ns LONG,
  -- `100 * kernel_ns / wall_ns`, the manual's utilization; over 100 where
  -- kernels overlap.
  kernel_util_pct DOUBLE,
  -- `100 * busy_ns / wall_ns`.
  busy_util_pct DOUBLE,
  -- The longest time in the step in which the process did nothing on the
  -- GPU, ns.
  largest_gap_ns LONG,
  -- Copies and migrations that start and end in the step.
  copy_count LONG,
  -- Bytes of these copies.
  copy_bytes LONG,
  -- CUDA calls of the process that submitted work and began in the step.
  launch_count LONG,
  -- Calls of the process that wait for a GPU and began in the step.
  sync_count LONG,
  -- How much of the step such calls cover, summed over threads, ns.
  sync_ns LONG,
  -- Calls of the process that allocate or free memory and began in the step.
  allocation_count LONG,
  -- Steps at this rate in a second: tokens per second of one sequence.
  steps_per_second DOUBLE
)
AS
WITH
  step AS MATERIALIZED (
    SELECT
      id,
      ts,
      dur,
      name,
      arg_set_id AS args,
      extract_arg(arg_set_id, 'decode_step.process_id') AS pid
    FROM slice
    WHERE category = 'nsys.step'
  )
SELECT
  step.id,
  step.ts,
  step.dur,
  step.name,
  extract_arg(args, 'decode_step.number') AS step,
  extract_arg(args, 'decode_step.run') AS run,
  extract_arg(args, 'decode_step.index') AS step_in_run,
  lower(extract_arg(args, 'decode_step.phase')) AS phase,
  owner.upid,
  step.pid,
  extract_arg(args, 'decode_step.gpu') AS gpu,
  extract_arg(args, 'decode_step.kernel_count') AS kernel_count,
  extract_arg(args, 'decode_step.kernel_ns') AS kernel_ns,
  extract_arg(args, 'decode_step.busy_ns') AS busy_ns,
  extract_arg(args, 'decode_step.idle_ns') AS idle_ns,
  extract_arg(args, 'decode_step.wall_ns') AS wall_ns,
  extract_arg(args, 'decode_step.kernel_util_pct') AS kernel_util_pct,
  extract_arg(args, 'decode_step.busy_util_pct') AS busy_util_pct,
  extract_arg(args, 'decode_step.largest_gap_ns') AS largest_gap_ns,
  extract_arg(args, 'decode_step.copy_count') AS copy_count,
  extract_arg(args, 'decode_step.copy_bytes') AS copy_bytes,
  extract_arg(args, 'decode_step.launch_count') AS launch_count,
  extract_arg(args, 'decode_step.sync_count') AS sync_count,
  extract_arg(args, 'decode_step.sync_ns') AS sync_ns,
  extract_arg(args, 'decode_step.allocation_count') AS allocation_count,
  extract_arg(args, 'decode_step.steps_per_second') AS steps_per_second
FROM step
LEFT JOIN _nsys_pid AS owner
  USING (pid)
ORDER BY
  step.ts, step.id;

-- Steps as spans: what kernels and calls are joined with.
CREATE PERFETTO TABLE _nsys_step_span(
  -- The step.
  step_id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- End.
  ts_end TIMESTAMP,
  -- The process.
  upid JOINID(process.id),
  -- Number of the GPU.
  gpu LONG,
  -- Whether a step of the same process and GPU ends where this one begins.
  follows BOOL
)
AS
SELECT
  id AS step_id,
  ts,
  ts + dur AS ts_end,
  upid,
  gpu,
  coalesce(
    lag(ts + dur) OVER (PARTITION BY upid, gpu ORDER BY step) = ts,
    FALSE
  ) AS follows
FROM nsys_step
ORDER BY
  ts, step_id;

-- The step to which each kernel belongs: the one of its process and GPU in
-- which it starts and ends. A kernel without duration at the border of two
-- steps belongs to the first.
CREATE PERFETTO TABLE _nsys_kernel_step(
  -- The kernel.
  kernel_id JOINID(slice.id),
  -- The step.
  step_id JOINID(slice.id)
)
AS
-- CROSS keeps the order of the tables: for each step the kernels that start
-- in it are found by bisection, since they are in order of `ts`. The plus
-- keeps the engine from looking for the GPU first, which would be a scan.
SELECT kernel.id AS kernel_id, step.step_id
FROM _nsys_step_span AS step
CROSS JOIN _nsys_kernel AS kernel
WHERE
  kernel.ts >= step.ts
  AND kernel.ts <= step.ts_end
  AND kernel.ts_end <= step.ts_end
  AND +kernel.gpu = step.gpu
  AND kernel.upid = step.upid
  AND NOT (step.follows AND kernel.dur = 0 AND kernel.ts = step.ts)
ORDER BY
  kernel.id;

-- Kernels of each step by name.
CREATE PERFETTO VIEW nsys_step_kernel(
  -- The step: `nsys_step.id`.
  step_id JOINID(slice.id),
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU.
  gpu LONG,
  -- Number of the step: `nsys_step.step`.
  step LONG,
  -- Short name of the kernels.
  name STRING,
  -- Their full name.
  demangled_name STRING,
  -- How many belong to the step. One without duration at the border of two
  -- steps belongs to the first only.
  count LONG,
  -- Sum of their durations, ns.
  total_ns LONG
)
AS
WITH
  by_name AS (
    SELECT
      step_of.step_id,
      kernel.name,
      kernel.demangled_name,
      count() AS count,
      sum(kernel.dur) AS total_ns
    FROM _nsys_kernel_step AS step_of
    JOIN _nsys_kernel AS kernel
      ON kernel.id = step_of.kernel_id
    GROUP BY
      step_of.step_id, kernel.name, kernel.demangled_name
  )
SELECT
  step_id,
  step.upid,
  step.pid,
  step.gpu,
  step.step,
  by_name.name,
  by_name.demangled_name,
  by_name.count,
  by_name.total_ns
FROM by_name
JOIN nsys_step AS step
  ON step.id = by_name.step_id;

-- CUDA calls, runtime and driver, in order of start.
CREATE PERFETTO TABLE _nsys_call(
  -- The slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Name.
  name STRING,
  -- The process.
  upid JOINID(process.id)
)
AS
SELECT call.id, call.ts, call.dur, call.name, thread.upid
FROM slice AS call
JOIN thread_track
  ON thread_track.id = call.track_id
JOIN thread
  USING (utid)
WHERE call.category IN ('cuda_runtime', 'cuda_driver')
ORDER BY
  call.ts, call.id;

-- CUDA calls of each step by name: those of the step's process that began in
-- it. A host that runs ahead launches a step's kernels during the step before.
CREATE PERFETTO VIEW nsys_step_call(
  -- The step: `nsys_step.id`.
  step_id JOINID(slice.id),
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU.
  gpu LONG,
  -- Number of the step: `nsys_step.step`.
  step LONG,
  -- Name of the calls.
  name STRING,
  -- How many began in the step. Where a runtime call contains a driver call,
  -- both count.
  count LONG,
  -- Sum of their whole durations, also of calls that return after the step,
  -- ns.
  total_ns LONG
)
AS
WITH
  by_name AS (
    SELECT
      step.step_id,
      call.name,
      count() AS count,
      sum(call.dur) AS total_ns
    FROM _nsys_step_span AS step
    CROSS JOIN _nsys_call AS call
    WHERE
      call.ts >= step.ts
      AND call.ts < step.ts_end
      AND call.upid = step.upid
    GROUP BY
      step.step_id, call.name
  )
SELECT
  step_id,
  step.upid,
  step.pid,
  step.gpu,
  step.step,
  by_name.name,
  by_name.count,
  by_name.total_ns
FROM by_name
JOIN nsys_step AS step
  ON step.id = by_name.step_id;

-- Kernels of the usual step: the steady steps of a process on a GPU, of all
-- runs, taken apart by kernel. A step in which a kernel does not occur counts
-- as one in which it took no time.
CREATE PERFETTO VIEW nsys_steady_step(
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU.
  gpu LONG,
  -- Short name of the kernels.
  name STRING,
  -- Number of steady steps of the process on the GPU.
  steps LONG,
  -- Median of how many of these kernels a step has.
  med_count DOUBLE,
  -- Median of their time in a step, ns. This and the other percentiles lie
  -- between neighbours linearly.
  med_ns DOUBLE,
  -- 5th percentile of their time in a step, ns.
  p5_ns DOUBLE,
  -- 95th percentile of their time in a step, ns.
  p95_ns DOUBLE,
  -- Mean of their time in a step, ns.
  avg_ns DOUBLE,
  -- Percent of the time of all kernels in the steady steps.
  pct DOUBLE
)
AS
WITH
  unit AS (
    SELECT upid, pid, gpu, count() AS steps
    FROM nsys_step
    WHERE phase = 'steady'
    GROUP BY upid, pid, gpu
  ),
  in_step AS (
    SELECT
      step.upid,
      step.gpu,
      kernel.name,
      count() AS count,
      sum(kernel.dur) AS ns
    FROM _nsys_kernel_step AS step_of
    JOIN _nsys_kernel AS kernel
      ON kernel.id = step_of.kernel_id
    JOIN nsys_step AS step
      ON step.id = step_of.step_id
    WHERE step.phase = 'steady'
    GROUP BY step.id, kernel.name
  ),
  -- Rank of each step's value among those of all steps. Steps without the
  -- kernel have no row here; their zeros come first.
  ranked AS (
    SELECT
      unit.*,
      in_step.name,
      in_step.count,
      in_step.ns,
      unit.steps - count() OVER kernel
        + row_number() OVER (kernel ORDER BY in_step.count) - 1
        AS count_rank,
      unit.steps - count() OVER kernel
        + row_number() OVER (kernel ORDER BY in_step.ns) - 1
        AS ns_rank
    FROM in_step
    JOIN unit
      USING (upid, gpu)
    WINDOW kernel AS (
      PARTITION BY in_step.upid, in_step.gpu, in_step.name
    )
  )
-- A percentile that falls between two ranks takes of each value what the
-- other's distance is; all other values have no weight.
SELECT
  upid,
  pid,
  gpu,
  name,
  steps,
  sum(count * max(0.0, 1 - abs(count_rank - 0.5 * (steps - 1))))
    AS med_count,
  sum(ns * max(0.0, 1 - abs(ns_rank - 0.5 * (steps - 1)))) AS med_ns,
  sum(ns * max(0.0, 1 - abs(ns_rank - 0.05 * (steps - 1)))) AS p5_ns,
  sum(ns * max(0.0, 1 - abs(ns_rank - 0.95 * (steps - 1)))) AS p95_ns,
  1.0 * sum(ns) / steps AS avg_ns,
  100.0 * sum(ns) / nullif(sum(sum(ns)) OVER (PARTITION BY upid, gpu), 0)
    AS pct
FROM ranked
GROUP BY
  upid, pid, gpu, name, steps
ORDER BY
  upid, gpu, sum(ns) DESC, name;
