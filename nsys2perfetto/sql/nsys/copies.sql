-- Copies, memory sets and unified-memory migrations.

INCLUDE PERFETTO MODULE nsys._gpu_work;

INCLUDE PERFETTO MODULE nsys._launches;

INCLUDE PERFETTO MODULE nsys._summary;

-- Copies, memory sets and migrations.
CREATE PERFETTO VIEW nsys_copy(
  -- Id of the slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- `Memcpy HtoD`, `Memcpy Unified DtoH`, `Memset` and so on.
  name STRING,
  -- `memcpy`, `memset` or `migration`.
  kind STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- The process's own number of the GPU (CUDA ordinal).
  device LONG,
  -- CUDA stream; null for migrations.
  stream LONG,
  -- Bytes.
  bytes LONG,
  -- Bytes a ns: 10^9 bytes a second. Null where the duration is 0.
  gb_per_s DOUBLE,
  -- Copies: the memory it is read from, such as `Pageable`, `Pinned`,
  -- `Device`.
  source STRING,
  -- Copies: the memory it is written to; memory sets: the memory set.
  destination STRING,
  -- Copies between GPUs: device that it comes from.
  source_device LONG,
  -- Copies between GPUs: device that it goes to.
  destination_device LONG,
  -- Migrations: why, such as `Page fault`.
  migration_cause STRING,
  -- Node of a CUDA graph; null for none.
  graph_node_id LONG,
  -- The CUDA call that submitted it; null where that is not in the trace.
  launch_slice_id JOINID(slice.id),
  -- Start of that call.
  launch_ts TIMESTAMP,
  -- The time from the end of that call to the start of the copy, ns; null
  -- where the copy started before the end.
  queue_ns LONG
)
AS
SELECT
  work.id,
  work.ts,
  work.dur,
  work.name,
  work.kind,
  work.upid,
  work.pid,
  work.gpu,
  args.device,
  args.stream,
  _nsys_work_arg!(work.shape_id, 'bytes') AS bytes,
  _nsys_work_arg!(work.shape_id, 'throughput_gb_s') AS gb_per_s,
  _nsys_work_arg!(work.shape_id, 'source') AS source,
  coalesce(
    _nsys_work_arg!(work.shape_id, 'destination'),
    _nsys_work_arg!(work.shape_id, 'memory_kind')
  ) AS destination,
  _nsys_work_arg!(work.shape_id, 'source_device') AS source_device,
  _nsys_work_arg!(work.shape_id, 'destination_device') AS destination_device,
  _nsys_work_arg!(work.shape_id, 'migration_cause') AS migration_cause,
  _nsys_work_arg!(work.shape_id, 'graph_node_id') AS graph_node_id,
  launch.launch_slice_id,
  launch.launch_ts,
  iif(
    work.ts >= launch.launch_ts + launch.launch_dur,
    work.ts - launch.launch_ts - launch.launch_dur,
    NULL
  ) AS queue_ns
FROM _nsys_gpu_work AS work
LEFT JOIN _nsys_work_args AS args
  USING (shape_id)
LEFT JOIN _nsys_launch AS launch
  ON launch.id = work.id
WHERE work.kind IN ('memcpy', 'memset', 'migration');

-- Copies, memory sets and migrations by name, the most expensive first: what
-- `nsys stats -r cuda_gpu_mem_time_sum` prints (there `Memcpy HtoD` is called
-- `[CUDA memcpy Host-to-Device]`), two percentiles, and sizes.
CREATE PERFETTO VIEW nsys_copy_summary(
  -- `Memcpy HtoD`, `Memcpy Unified DtoH`, `Memset` and so on.
  name STRING,
  -- Percent of the time of all of them.
  time_pct DOUBLE,
  -- Sum of durations, ns.
  total_ns LONG,
  -- Number.
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
  p99_ns DOUBLE,
  -- Sum of bytes.
  total_bytes LONG,
  -- `total_bytes / total_ns`: 10^9 bytes a second. Null where that is 0 ns.
  gb_per_s DOUBLE
)
AS
WITH
  size AS MATERIALIZED (
    SELECT
      name,
      coalesce(sum(_nsys_work_arg!(shape_id, 'bytes')), 0) AS total_bytes
    FROM _nsys_gpu_work
    WHERE kind IN ('memcpy', 'memset', 'migration')
    GROUP BY name
  )
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
  p99_ns,
  total_bytes,
  1.0 * total_bytes / nullif(total_ns, 0) AS gb_per_s
FROM _nsys_durations_by_name!((
  SELECT name, dur
  FROM _nsys_gpu_work
  WHERE kind IN ('memcpy', 'memset', 'migration')
))
JOIN size
  USING (name)
ORDER BY
  total_ns DESC, name;
