-- NVTX ranges on the GPU: what was launched inside of each.
--
-- The rule is Nsight's: an operation belongs to a range if the call that
-- submitted it lies inside the range, on the same thread. Ranges without
-- operations are not here; they are in `slice` (category `nvtx`).

INCLUDE PERFETTO MODULE nsys._gpu_work;

INCLUDE PERFETTO MODULE nsys._nvtx;

INCLUDE PERFETTO MODULE nsys._summary;

-- NVTX ranges that have operations on a GPU: push/pop and start/end ranges of
-- one thread. Slices of category `nvtx_gpu`.
CREATE PERFETTO TABLE nsys_nvtx_range(
  -- Id of the projection's slice.
  id JOINID(slice.id),
  -- Start of the first operation.
  ts TIMESTAMP,
  -- From there to the end of the last operation.
  dur DURATION,
  -- Name of the range.
  name STRING,
  -- Domain of the range; null for the default one.
  domain STRING,
  -- `push_pop` or `start_end`.
  style STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- The thread.
  utid JOINID(thread.id),
  -- The thread's id.
  tid LONG,
  -- The thread's name.
  thread_name STRING,
  -- Id of the slice of the range itself.
  cpu_slice_id JOINID(slice.id),
  -- Start of the range itself.
  cpu_ts TIMESTAMP,
  -- Duration of the range itself.
  cpu_dur DURATION,
  -- Operations: kernels, copies, memory sets, graphs.
  gpu_op_count LONG
)
AS
SELECT
  projection.id,
  projection.ts,
  projection.dur,
  projection.name,
  extract_arg(range.arg_set_id, 'debug.domain') AS domain,
  range.style,
  track.upid,
  process.pid,
  range.utid,
  thread.tid,
  thread.name AS thread_name,
  range.id AS cpu_slice_id,
  extract_arg(projection.arg_set_id, 'gpu_projection.range_start') AS cpu_ts,
  extract_arg(projection.arg_set_id, 'gpu_projection.range_duration')
    AS cpu_dur,
  extract_arg(projection.arg_set_id, 'gpu_projection.gpu_op_count')
    AS gpu_op_count
FROM slice AS projection
JOIN process_track AS track
  ON track.id = projection.track_id
JOIN process
  USING (upid)
LEFT JOIN _nsys_nvtx_projection AS range_of
  ON range_of.id = projection.id
LEFT JOIN _nsys_nvtx_cpu_range AS range
  ON range.id = range_of.cpu_slice_id
LEFT JOIN thread
  ON thread.utid = range.utid
WHERE projection.category = 'nvtx_gpu'
ORDER BY projection.id;

-- Which kernels belong to which NVTX range; one that lies in several ranges
-- belongs to each.
CREATE PERFETTO VIEW nsys_nvtx_kernel(
  -- The range: `nsys_nvtx_range.id`.
  range_id JOINID(slice.id),
  -- The kernel: `nsys_kernel.id`.
  kernel_id JOINID(slice.id),
  -- Name of the range.
  range_name STRING,
  -- Short name of the kernel.
  kernel_name STRING,
  -- Start of the kernel.
  ts TIMESTAMP,
  -- Duration of the kernel.
  dur DURATION
)
AS
-- CROSS keeps the order of the tables: the calls that begin in a range are
-- found by bisection, since they are in order of `launch_ts`.
SELECT
  range.id AS range_id,
  kernel.id AS kernel_id,
  range.name AS range_name,
  kernel.name AS kernel_name,
  kernel.ts,
  kernel.dur
FROM nsys_nvtx_range AS range
CROSS JOIN _nsys_nvtx_operation AS work
JOIN _nsys_kernel AS kernel
  ON kernel.id = work.id
WHERE
  work.launch_ts >= range.cpu_ts
  AND work.launch_ts <= range.cpu_ts + range.cpu_dur
  AND work.launch_end <= range.cpu_ts + range.cpu_dur
  AND work.utid = range.utid;

-- Place of each projected push/pop range among those of its track.
CREATE PERFETTO TABLE _nsys_nvtx_level(
  -- The range: `nsys_nvtx_range.id`.
  id JOINID(slice.id),
  -- The projected range directly around it; null for none.
  parent_id JOINID(slice.id),
  -- How many projected ranges are around it.
  level LONG
)
AS
WITH
  range AS MATERIALIZED (
    SELECT id, cpu_slice_id
    FROM nsys_nvtx_range
    WHERE style = 'push_pop'
  ),
  around AS (
    SELECT
      range.id,
      outer_range.id AS parent_id,
      max(outer_slice.depth),
      count() AS level
    FROM range
    CROSS JOIN ancestor_slice(range.cpu_slice_id) AS outer_slice
    JOIN range AS outer_range
      ON outer_range.cpu_slice_id = outer_slice.id
    GROUP BY range.id
  )
SELECT
  range.id,
  around.parent_id,
  coalesce(around.level, 0) AS level
FROM range
LEFT JOIN around
  USING (id)
ORDER BY range.id;

-- Ranges with what is summed up by name, domain and style.
CREATE PERFETTO TABLE _nsys_nvtx_measure(
  -- The first range of the same name, domain and style: `nsys_nvtx_range.id`.
  first_id JOINID(slice.id),
  -- Duration on the GPU.
  dur DURATION,
  -- Duration of the range itself.
  cpu_dur DURATION,
  -- Operations.
  gpu_op_count LONG,
  -- How many projected ranges are around it; null for start/end ranges.
  level LONG,
  -- How many are directly inside; null for start/end ranges.
  children LONG
)
AS
WITH
  child AS MATERIALIZED (
    SELECT parent_id AS id, count() AS children
    FROM _nsys_nvtx_level
    WHERE parent_id IS NOT NULL
    GROUP BY parent_id
  )
SELECT
  min(range.id) OVER (
    PARTITION BY range.name, range.domain, range.style
  ) AS first_id,
  range.dur,
  range.cpu_dur,
  range.gpu_op_count,
  place.level,
  iif(place.id IS NULL, NULL, coalesce(child.children, 0)) AS children
FROM nsys_nvtx_range AS range
LEFT JOIN _nsys_nvtx_level AS place
  ON place.id = range.id
LEFT JOIN child
  ON child.id = range.id;

-- NVTX ranges by name, domain and style, the longest on the GPU first: what
-- `nsys stats -r nvtx_gpu_proj_sum` prints, and two percentiles.
CREATE PERFETTO VIEW nsys_nvtx_summary(
  -- Name of the ranges.
  name STRING,
  -- Domain of the ranges; null for the default one.
  domain STRING,
  -- `push_pop` or `start_end`.
  style STRING,
  -- Sum of durations on the GPU, ns. A time counts for each range that
  -- contains it.
  total_ns LONG,
  -- Sum of durations of the ranges themselves, ns.
  total_cpu_ns LONG,
  -- Number of ranges.
  instances LONG,
  -- Mean duration on the GPU, ns.
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
  p99_ns DOUBLE,
  -- Operations of all ranges.
  gpu_op_count LONG,
  -- Operations of a range, on average.
  avg_gpu_ops DOUBLE,
  -- How many ranges with operations are around a range on its track, on
  -- average; null for start/end ranges.
  avg_level DOUBLE,
  -- How many ranges with operations are directly inside a range on its track,
  -- on average; null for start/end ranges.
  avg_children DOUBLE
)
AS
WITH
  total AS MATERIALIZED (
    SELECT
      first_id,
      sum(cpu_dur) AS total_cpu_ns,
      sum(gpu_op_count) AS gpu_op_count,
      avg(gpu_op_count) AS avg_gpu_ops,
      avg(level) AS avg_level,
      avg(children) AS avg_children
    FROM _nsys_nvtx_measure
    GROUP BY first_id
  )
SELECT
  first.name,
  first.domain,
  first.style,
  duration.total_ns,
  total.total_cpu_ns,
  duration.instances,
  duration.avg_ns,
  duration.med_ns,
  duration.min_ns,
  duration.max_ns,
  duration.stddev_ns,
  duration.p95_ns,
  duration.p99_ns,
  total.gpu_op_count,
  total.avg_gpu_ops,
  total.avg_level,
  total.avg_children
FROM _nsys_durations_by_name!((
  SELECT first_id AS name, dur FROM _nsys_nvtx_measure
)) AS duration
JOIN total
  ON total.first_id = duration.name
JOIN nsys_nvtx_range AS first
  ON first.id = duration.name
ORDER BY
  duration.total_ns DESC, first.name, first.domain;
