-- CUDA calls, and the time for which they made the CPU wait for a GPU.
--
-- Which calls wait: those whose name is like `cu*Synchronize*`
-- (`cudaDeviceSynchronize`, `cuStreamSynchronize`, `cudaEventSynchronize`;
-- no queries, and not `cudaStreamWaitEvent`, which makes a stream wait). Each
-- counts with its whole duration, as in `nsys stats -r cuda_api_sum`; where a
-- runtime call contains a driver call, both count. `is_outermost` tells them
-- apart.

INCLUDE PERFETTO MODULE nsys._summary;

-- Tracks of threads: each has one, and more where slices overlap.
CREATE PERFETTO TABLE _nsys_call_track(
  -- The track.
  track_id JOINID(track.id),
  -- The thread.
  utid JOINID(thread.id),
  -- Its thread id.
  tid LONG,
  -- Its name.
  thread_name STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG
)
AS
SELECT
  track.id AS track_id,
  utid,
  thread.tid,
  thread.name AS thread_name,
  upid,
  process.pid
FROM thread_track AS track
JOIN thread
  USING (utid)
LEFT JOIN process
  USING (upid)
ORDER BY track.id;

-- CUDA calls, of the runtime and of the driver.
CREATE PERFETTO VIEW nsys_api_call(
  -- Id of the slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Name, without the suffix of the ABI version.
  name STRING,
  -- `cuda_runtime` or `cuda_driver`.
  category STRING,
  -- The thread.
  utid JOINID(thread.id),
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- The thread's id.
  tid LONG,
  -- The thread's name.
  thread_name STRING,
  -- What the call returned: `2 (OUT_OF_MEMORY)`; null for success.
  result STRING,
  -- Whether no other CUDA call contains it (on its track): a driver call
  -- inside a runtime call is not outermost.
  is_outermost BOOL
)
AS
SELECT
  call.id,
  call.ts,
  call.dur,
  call.name,
  call.category,
  track.utid,
  track.upid,
  track.pid,
  track.tid,
  track.thread_name,
  extract_arg(call.arg_set_id, 'debug.result') AS result,
  NOT EXISTS (
    SELECT 1
    FROM ancestor_slice(call.id)
    WHERE category IN ('cuda_runtime', 'cuda_driver')
  ) AS is_outermost
FROM slice AS call
LEFT JOIN _nsys_call_track AS track
  USING (track_id)
WHERE call.category IN ('cuda_runtime', 'cuda_driver');

-- CUDA calls by name, the most expensive first: what
-- `nsys stats -r cuda_api_sum` prints, and two percentiles.
CREATE PERFETTO VIEW nsys_api_summary(
  -- Name, without the suffix of the ABI version.
  name STRING,
  -- Percent of the time of all CUDA calls.
  time_pct DOUBLE,
  -- Sum of durations, ns.
  total_ns LONG,
  -- Number of calls.
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
  SELECT name, dur
  FROM slice
  WHERE category IN ('cuda_runtime', 'cuda_driver')
))
ORDER BY
  total_ns DESC, name;

-- How each wait ended: a wake-up ends with its call, on the same thread. (It
-- is the call's child unless it crosses another slice.)
CREATE PERFETTO TABLE _nsys_wake_up(
  -- The waiting call.
  call_id JOINID(slice.id),
  -- The wake-up.
  id JOINID(slice.id),
  -- Duration.
  dur DURATION,
  -- The operation that the call waited for.
  awaited_slice_id JOINID(slice.id)
)
AS
WITH
  -- Should several of a thread end at once, the innermost belong together.
  waiting AS MATERIALIZED (
    SELECT
      call.id,
      call.ts + call.dur AS ts_end,
      track.utid,
      row_number() OVER (
        PARTITION BY track.utid, call.ts + call.dur
        ORDER BY call.ts DESC, call.id DESC
      ) AS number
    FROM slice AS call
    JOIN _nsys_call_track AS track
      USING (track_id)
    WHERE
      call.category IN ('cuda_runtime', 'cuda_driver')
      AND extract_arg(call.arg_set_id, 'debug.waited_for')
        IN ('stream', 'event', 'context')
  ),
  wake_up AS MATERIALIZED (
    SELECT
      woken.id,
      woken.dur,
      woken.ts + woken.dur AS ts_end,
      track.utid,
      row_number() OVER (
        PARTITION BY track.utid, woken.ts + woken.dur
        ORDER BY woken.ts DESC, woken.id DESC
      ) AS number
    FROM slice AS woken
    JOIN _nsys_call_track AS track
      USING (track_id)
    WHERE woken.category = 'cuda_wake_up'
  ),
  -- CROSS: each arrow is looked at once, since arrows have no index.
  arrow AS MATERIALIZED (
    SELECT flow.slice_in AS id, max(flow.slice_out) AS awaited_slice_id
    FROM flow
    CROSS JOIN slice AS woken
    WHERE
      woken.id = flow.slice_in
      AND woken.category = 'cuda_wake_up'
    GROUP BY flow.slice_in
  )
SELECT
  waiting.id AS call_id,
  wake_up.id,
  wake_up.dur,
  arrow.awaited_slice_id
FROM wake_up
JOIN waiting
  USING (utid, ts_end, number)
LEFT JOIN arrow
  ON arrow.id = wake_up.id
ORDER BY waiting.id;

-- CUDA calls that made a thread wait for a GPU, those named `cu*Synchronize*`.
CREATE PERFETTO VIEW nsys_sync(
  -- Id of the call's slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Name, without the suffix of the ABI version.
  name STRING,
  -- `cuda_runtime` or `cuda_driver`.
  category STRING,
  -- The thread.
  utid JOINID(thread.id),
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- The thread's id.
  tid LONG,
  -- The thread's name.
  thread_name STRING,
  -- What it waited for: `stream`, `event` or `context`; null where the
  -- capture does not tell.
  waited_for STRING,
  -- The stream, where it waited for one.
  stream LONG,
  -- The event, where it waited for one.
  event LONG,
  -- The operation that it waited for; null where that had ended before the
  -- call, or is not in the trace.
  awaited_slice_id JOINID(slice.id),
  -- The slice `wake-up`: from the end of that operation to the call's return.
  wake_up_slice_id JOINID(slice.id),
  -- Its duration, ns.
  wake_up_ns LONG,
  -- Whether no other CUDA call contains it (on its track).
  is_outermost BOOL
)
AS
SELECT
  call.id,
  call.ts,
  call.dur,
  call.name,
  call.category,
  track.utid,
  track.upid,
  track.pid,
  track.tid,
  track.thread_name,
  extract_arg(call.arg_set_id, 'debug.waited_for') AS waited_for,
  extract_arg(call.arg_set_id, 'debug.stream') AS stream,
  extract_arg(call.arg_set_id, 'debug.event') AS event,
  wake_up.awaited_slice_id,
  wake_up.id AS wake_up_slice_id,
  wake_up.dur AS wake_up_ns,
  NOT EXISTS (
    SELECT 1
    FROM ancestor_slice(call.id)
    WHERE category IN ('cuda_runtime', 'cuda_driver')
  ) AS is_outermost
FROM slice AS call
LEFT JOIN _nsys_call_track AS track
  USING (track_id)
LEFT JOIN _nsys_wake_up AS wake_up
  ON wake_up.call_id = call.id
WHERE
  call.category IN ('cuda_runtime', 'cuda_driver')
  AND call.name GLOB 'cu*Synchronize*';

-- The same by name and by what was waited for, the longest first.
CREATE PERFETTO VIEW nsys_sync_summary(
  -- Name, without the suffix of the ABI version.
  name STRING,
  -- `stream`, `event` or `context`; null where the capture does not tell.
  waited_for STRING,
  -- Number of calls.
  instances LONG,
  -- Sum of their durations, ns.
  total_ns LONG,
  -- The longest, ns.
  max_ns LONG,
  -- How many were still waiting when the awaited work ended.
  wake_up_count LONG,
  -- How long those took from there to their return, ns.
  wake_up_ns LONG
)
AS
SELECT
  name,
  waited_for,
  count() AS instances,
  sum(dur) AS total_ns,
  max(dur) AS max_ns,
  count(wake_up_ns) AS wake_up_count,
  coalesce(sum(wake_up_ns), 0) AS wake_up_ns
FROM nsys_sync
GROUP BY
  name, waited_for
ORDER BY
  total_ns DESC, name, waited_for;
