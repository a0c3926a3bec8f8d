-- When GPUs did nothing: what the public modules on gaps and on utilization
-- share. Nothing here is meant for users.

INCLUDE PERFETTO MODULE nsys._gpu_work;

-- Every time in which nothing ran on a GPU, of any process, however short.
-- An operation without duration is no work, yet it parts a gap in two.
CREATE PERFETTO TABLE _nsys_idle(
  -- Start: the end of the work before.
  ts TIMESTAMP,
  -- Duration; never 0.
  dur DURATION,
  -- Number of the GPU.
  gpu LONG
)
AS
WITH
  reached AS (
    SELECT
      gpu,
      ts,
      max(ts_end) OVER (
        PARTITION BY gpu
        ORDER BY ts, id
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      ) AS before
    FROM _nsys_gpu_work
  )
SELECT before AS ts, ts - before AS dur, gpu
FROM reached
WHERE ts > before
ORDER BY
  gpu, ts;

-- Finds what ended when a gap began. (What began when it ended is found
-- without: the table is in order of start.)
CREATE PERFETTO INDEX _nsys_gpu_work_end ON _nsys_gpu_work(ts_end);

-- From the first to the last work of each GPU.
CREATE PERFETTO TABLE _nsys_gpu_span(
  -- Number of the GPU.
  gpu LONG,
  -- Start of its first operation.
  ts TIMESTAMP,
  -- End of its last operation.
  ts_end TIMESTAMP,
  -- How many operations it has.
  operation_count LONG,
  -- How many of them are kernels.
  kernel_count LONG,
  -- Sum of the kernels' durations, ns.
  kernel_ns LONG,
  -- Start of its first kernel; null for none.
  kernel_ts TIMESTAMP,
  -- End of its last kernel; null for none.
  kernel_ts_end TIMESTAMP
)
AS
SELECT
  gpu,
  min(ts) AS ts,
  max(ts_end) AS ts_end,
  count() AS operation_count,
  sum(is_kernel) AS kernel_count,
  sum(iif(is_kernel, dur, 0)) AS kernel_ns,
  min(iif(is_kernel, ts, NULL)) AS kernel_ts,
  max(iif(is_kernel, ts_end, NULL)) AS kernel_ts_end
FROM _nsys_gpu_work
GROUP BY gpu
ORDER BY gpu;
