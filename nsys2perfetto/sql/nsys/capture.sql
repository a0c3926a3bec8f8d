-- What the trace says of the capture that it was made from.

INCLUDE PERFETTO MODULE nsys._gpu_work;

-- Facts, by name: versions (`nsys2perfetto_version`, `nsys_version`,
-- `nsys_schema_version`), `session_start_utc_ns`, `time_shift_ns` (what was
-- added to all times), `gpus`, `min_gap_ns` (the shortest idle gap that has a
-- slice), `decode_steps` (where the steps come from, or why there are none).
CREATE PERFETTO VIEW nsys_capture(
  -- Name of the fact, without `trace_attribute.`.
  name STRING,
  -- What it is; numbers as text.
  value STRING
)
AS
SELECT
  substr(name, length('trace_attribute.') + 1) AS name,
  coalesce(str_value, cast_string!(int_value)) AS value
FROM metadata
WHERE name GLOB 'trace_attribute.*'
ORDER BY name;

-- Processes that used a GPU, or called CUDA.
CREATE PERFETTO VIEW nsys_process(
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Its name; null where the capture does not tell.
  name STRING,
  -- Number of its operations on GPUs: kernels, copies, memory sets,
  -- migrations, graphs.
  operation_count LONG,
  -- Number of its CUDA calls.
  call_count LONG
)
AS
WITH
  activity AS (
    SELECT upid, count() AS operations, 0 AS calls
    FROM _nsys_gpu_work
    GROUP BY upid
    UNION ALL
    SELECT thread.upid, 0 AS operations, count() AS calls
    FROM slice
    JOIN thread_track
      ON thread_track.id = slice.track_id
    JOIN thread
      USING (utid)
    WHERE slice.category IN ('cuda_runtime', 'cuda_driver')
    GROUP BY thread.upid
  )
SELECT
  upid,
  process.pid,
  process.name,
  sum(activity.operations) AS operation_count,
  sum(activity.calls) AS call_count
FROM activity
JOIN process
  USING (upid)
GROUP BY upid
ORDER BY process.pid;
