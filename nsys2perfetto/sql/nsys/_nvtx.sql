-- What the public module on NVTX is made of. Nothing here is meant for users.

INCLUDE PERFETTO MODULE nsys._launches;

-- Operations with the calls that submitted them, in order of the calls.
CREATE PERFETTO TABLE _nsys_nvtx_operation(
  -- The operation.
  id JOINID(slice.id),
  -- Start of the call.
  launch_ts TIMESTAMP,
  -- End of the call.
  launch_end TIMESTAMP,
  -- Thread of the call.
  utid JOINID(thread.id)
)
AS
SELECT
  launch.id,
  launch.launch_ts,
  launch.launch_ts + launch.launch_dur AS launch_end,
  track.utid
FROM _nsys_launch AS launch
JOIN thread_track AS track
  ON track.id = launch.launch_track_id
ORDER BY launch.launch_ts;

-- NVTX ranges where the program made them, of threads that launch something.
-- (Ids of threads that occur twice in a capture are raised by 2^24 in a trace,
-- but not in arguments.)
CREATE PERFETTO TABLE _nsys_nvtx_cpu_range(
  -- The slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Name.
  name STRING,
  -- `push_pop` or `start_end`.
  style STRING,
  -- Arguments.
  arg_set_id ARGSETID,
  -- The thread.
  utid JOINID(thread.id)
)
AS
WITH
  range AS (
    SELECT slice.*, 'push_pop' AS style, track.utid
    FROM slice
    JOIN thread_track AS track
      ON track.id = slice.track_id
    WHERE slice.category = 'nvtx'
    UNION ALL
    SELECT slice.*, 'start_end' AS style, thread.utid
    FROM slice
    JOIN process_track AS track
      ON track.id = slice.track_id
    JOIN thread
      ON thread.upid = track.upid
      AND thread.tid & 0xffffff
        = extract_arg(slice.arg_set_id, 'debug.thread_id')
    WHERE slice.category = 'nvtx'
  )
SELECT
  range.id,
  range.ts,
  range.dur,
  range.name,
  range.style,
  range.arg_set_id,
  thread.utid
FROM range
JOIN thread
  USING (utid)
WHERE
  thread.utid IN (SELECT DISTINCT utid FROM _nsys_nvtx_operation)
  -- Ranges that another thread ended are not projected.
  AND coalesce(
    extract_arg(range.arg_set_id, 'debug.end_thread') = thread.tid & 0xffffff,
    TRUE
  )
ORDER BY range.id;

-- The range of each projection.
CREATE PERFETTO TABLE _nsys_nvtx_projection(
  -- The projection's slice.
  id JOINID(slice.id),
  -- The range's slice.
  cpu_slice_id JOINID(slice.id)
)
AS
-- A projection tells name, start and duration of its range. Each track of
-- projections is of one thread, whose id ends its name where there are
-- several; it is the thread that has all the ranges.
WITH
  projection AS MATERIALIZED (
    SELECT
      slice.id,
      slice.track_id,
      track.upid,
      coalesce(parent.name, track.name) AS track_name,
      coalesce(slice.name, '') AS name,
      extract_arg(slice.arg_set_id, 'gpu_projection.range_start') AS ts,
      extract_arg(slice.arg_set_id, 'gpu_projection.range_duration') AS dur
    FROM slice
    JOIN process_track AS track
      ON track.id = slice.track_id
    LEFT JOIN track AS parent
      ON parent.id = track.parent_id
    WHERE slice.category = 'nvtx_gpu'
  ),
  cpu_range AS MATERIALIZED (
    SELECT
      range.id,
      range.ts,
      range.dur,
      coalesce(range.name, '') AS name,
      range.utid,
      thread.upid,
      thread.tid
    FROM _nsys_nvtx_cpu_range AS range
    JOIN thread
      USING (utid)
  ),
  pair AS MATERIALIZED (
    SELECT
      projection.id,
      projection.track_id,
      cpu_range.id AS cpu_slice_id,
      cpu_range.utid,
      ts,
      dur,
      name
    FROM projection
    JOIN cpu_range
      USING (upid, ts, dur, name)
    WHERE
      track_name = 'NVTX on GPU'
      OR track_name GLOB '* ' || cpu_range.tid
  ),
  thread_of_track AS MATERIALIZED (
    SELECT track_id, utid, max(pairs)
    FROM (
      SELECT track_id, utid, count() AS pairs
      FROM pair
      GROUP BY
        track_id, utid
    )
    GROUP BY track_id
  ),
  -- Ranges that have all this in common are told apart by their order.
  ranked AS (
    SELECT
      id,
      cpu_slice_id,
      dense_rank() OVER (alike ORDER BY id) AS projection_number,
      dense_rank() OVER (alike ORDER BY cpu_slice_id) AS range_number
    FROM pair
    JOIN thread_of_track
      USING (track_id, utid)
    WINDOW alike AS (PARTITION BY utid, ts, dur, name)
  )
SELECT id, cpu_slice_id
FROM ranked
WHERE projection_number = range_number
ORDER BY id;
