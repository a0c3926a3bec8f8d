-- How busy GPUs were: over time, and as a whole.

INCLUDE PERFETTO MODULE nsys._idle;

-- The counters of GPUs.
CREATE PERFETTO VIEW _nsys_gpu_counter_track(
  -- The track.
  id JOINID(track.id),
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- Name of the counter.
  name STRING,
  -- Its unit.
  unit STRING,
  -- Whether nsys2perfetto computed it from the GPU's work, in windows.
  is_computed BOOL
)
AS
WITH
  -- In traces that were written with --compat they are ordinary tracks: below
  -- the GPU's, which is the counter `Utilization` itself, and metrics in
  -- groups below that.
  root AS (
    SELECT id, CAST(substr(name, length('GPU ')) AS INT) AS gpu
    FROM track
    WHERE
      parent_id IS NULL
      AND type GLOB 'global_*track_event'
      AND name GLOB 'GPU [ 0-9]*'
      AND EXISTS(SELECT 1 FROM metadata WHERE name = 'trace_attribute.compat')
  ),
  place AS (
    SELECT id, id AS root_id
    FROM root
    UNION ALL
    SELECT track.id, root.id AS root_id
    FROM track
    JOIN root
      ON root.id = track.parent_id
    UNION ALL
    SELECT track.id, root.id AS root_id
    FROM track
    JOIN track AS parent
      ON parent.id = track.parent_id
    JOIN root
      ON root.id = parent.parent_id
  )
SELECT
  id,
  gpu_id AS gpu,
  name,
  unit,
  description GLOB '*, over windows of * ns' AS is_computed
FROM gpu_counter_track
UNION ALL
SELECT
  track.id,
  root.gpu,
  iif(place.id = root.id, 'Utilization', track.name) AS name,
  track.unit,
  place.id = root.id
  OR extract_arg(track.source_arg_set_id, 'description')
  GLOB '*, over windows of * ns' AS is_computed
FROM place
JOIN root
  ON root.id = place.root_id
JOIN counter_track AS track
  ON track.id = place.id;

-- What the GPUs' own counters measured, metrics sampled by nsys included: a
-- row for each interval. (The engine has a value at the beginning of the
-- interval that it was measured over; the last one only ends the last
-- interval.)
CREATE PERFETTO VIEW nsys_gpu_counter(
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- Name of the counter.
  name STRING,
  -- Its unit: `%`, `GB/s`, `Hz`; null for none.
  unit STRING,
  -- Start of the interval.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION,
  -- The value in the interval.
  value DOUBLE,
  -- The counter's track.
  track_id JOINID(track.id)
)
AS
WITH
  sample AS (
    SELECT
      track.gpu,
      track.name,
      track.unit,
      counter.ts,
      lead(counter.ts) OVER (
        PARTITION BY counter.track_id
        ORDER BY counter.ts, counter.id
      ) - counter.ts AS dur,
      counter.value,
      counter.track_id
    FROM _nsys_gpu_counter_track AS track
    JOIN counter
      ON counter.track_id = track.id
  )
SELECT *
FROM sample
WHERE dur IS NOT NULL;

-- What each GPU did over time, in windows that follow each other from the
-- start of its first operation to the end of its last. Exact means over the
-- window; all processes count.
CREATE PERFETTO VIEW nsys_utilization(
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- Start of the window.
  ts TIMESTAMP,
  -- Duration of the window.
  dur DURATION,
  -- Percent of the window in which the GPU did any work.
  busy_pct DOUBLE,
  -- How many kernels ran at once.
  kernels_in_flight DOUBLE,
  -- Operations whose call had begun and which had not started.
  launch_queue_depth DOUBLE,
  -- Bytes a ns copied from host to device; null where the GPU has no such
  -- copies.
  copy_htod_gb_s DOUBLE,
  -- Likewise from device to host.
  copy_dtoh_gb_s DOUBLE,
  -- Likewise within the device.
  copy_dtod_gb_s DOUBLE,
  -- Likewise between GPUs.
  copy_ptop_gb_s DOUBLE
)
AS
WITH
  sample AS (
    SELECT counter.gpu, counter.name, counter.ts, counter.dur, counter.value
    FROM nsys_gpu_counter AS counter
    JOIN _nsys_gpu_counter_track AS track
      ON track.id = counter.track_id
    WHERE track.is_computed
  )
SELECT
  gpu,
  ts,
  dur,
  max(iif(name = 'Utilization', value, NULL)) AS busy_pct,
  max(iif(name = 'Kernels in flight', value, NULL)) AS kernels_in_flight,
  max(iif(name = 'Launch queue depth', value, NULL)) AS launch_queue_depth,
  max(iif(name = 'Copy throughput HtoD', value, NULL)) AS copy_htod_gb_s,
  max(iif(name = 'Copy throughput DtoH', value, NULL)) AS copy_dtoh_gb_s,
  max(iif(name = 'Copy throughput DtoD', value, NULL)) AS copy_dtod_gb_s,
  max(iif(name = 'Copy throughput PtoP', value, NULL)) AS copy_ptop_gb_s
FROM sample
GROUP BY
  gpu, ts, dur
ORDER BY
  gpu, ts;

-- How each GPU's time from its first operation to its last was spent:
-- `busy_ns + idle_ns = wall_ns`. All processes count.
CREATE PERFETTO VIEW nsys_gpu_balance(
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- Its full name.
  name STRING,
  -- Number of kernels.
  kernel_count LONG,
  -- Sum of their durations, ns; more than `busy_ns` where they overlap.
  kernel_ns LONG,
  -- Number of operations: kernels, copies, memory sets, migrations, graphs.
  operation_count LONG,
  -- From the start of the first operation to the end of the last, ns.
  wall_ns LONG,
  -- Time in which at least one operation ran, ns.
  busy_ns LONG,
  -- Time in which none ran, ns.
  idle_ns LONG,
  -- `100 * busy_ns / wall_ns`; 0 where that is 0 ns.
  busy_util_pct DOUBLE
)
AS
WITH
  idle AS (
    SELECT gpu, sum(dur) AS ns
    FROM _nsys_idle
    GROUP BY gpu
  ),
  spent AS (
    SELECT
      span.*,
      span.ts_end - span.ts AS wall_ns,
      coalesce(idle.ns, 0) AS idle_ns
    FROM _nsys_gpu_span AS span
    LEFT JOIN idle
      USING (gpu)
  )
SELECT
  gpu,
  coalesce(gpu.model, gpu.name, 'GPU') AS name,
  kernel_count,
  kernel_ns,
  operation_count,
  wall_ns,
  wall_ns - idle_ns AS busy_ns,
  idle_ns,
  100.0 * (wall_ns - idle_ns) / max(wall_ns, 1) AS busy_util_pct
FROM spent
LEFT JOIN gpu
  USING (gpu)
ORDER BY gpu;
