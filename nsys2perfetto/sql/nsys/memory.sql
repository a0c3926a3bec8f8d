-- Memory in use, over time.

-- The counters of memory in use.
CREATE PERFETTO TABLE _nsys_memory_track(
  -- The track.
  track_id JOINID(track.id),
  -- Name of the counter.
  name STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU; null for memory of the host.
  gpu LONG,
  -- Whether this is about a memory pool.
  is_pool BOOL
)
AS
SELECT
  track.id AS track_id,
  track.name,
  track.upid,
  process.pid,
  iif(
    track.name GLOB 'GPU [0-9]*',
    cast_int!(substr(track.name, 5)),
    NULL
  ) AS gpu,
  track.name GLOB '* memory pool *' AS is_pool
FROM process_counter_track AS track
LEFT JOIN process
  USING (upid)
WHERE
  track.name GLOB '* memory'
  OR track.name GLOB 'GPU * memory pool *'
ORDER BY track.id;

-- Memory that processes have in use, of GPUs (`GPU 0 device memory`) and of
-- the host (`pinned host memory`), and memory pools (`GPU 0 memory pool 1
-- size`): a row for each change.
CREATE PERFETTO VIEW nsys_memory(
  -- Id of the counter's row.
  id JOINID(counter.id),
  -- When the value begins to hold.
  ts TIMESTAMP,
  -- How long it holds: until the next one, or the end of the trace.
  dur DURATION,
  -- Name of the counter.
  name STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU; null for memory of the host.
  gpu LONG,
  -- Bytes in use.
  bytes LONG,
  -- Whether this is about a memory pool. What is allocated from a pool is
  -- also in the memory of its GPU.
  is_pool BOOL,
  -- The counter's track.
  track_id JOINID(track.id)
)
AS
SELECT
  counter.id,
  counter.ts,
  coalesce(
    lead(counter.ts) OVER (
      PARTITION BY counter.track_id
      ORDER BY counter.ts, counter.id
    ),
    trace_end()
  ) - counter.ts AS dur,
  track.name,
  track.upid,
  track.pid,
  track.gpu,
  cast_int!(counter.value) AS bytes,
  track.is_pool,
  counter.track_id
FROM _nsys_memory_track AS track
JOIN counter
  USING (track_id);

-- The most that was in use, of each counter of `nsys_memory`.
CREATE PERFETTO VIEW nsys_memory_peak(
  -- Name of the counter.
  name STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU; null for memory of the host.
  gpu LONG,
  -- The most bytes in use.
  peak_bytes LONG,
  -- When that was first reached.
  ts TIMESTAMP,
  -- How long so much was in use, ns.
  peak_ns LONG,
  -- Bytes in use at the end.
  last_bytes LONG,
  -- Whether this is about a memory pool.
  is_pool BOOL,
  -- The counter's track.
  track_id JOINID(track.id)
)
AS
WITH
  level AS (
    SELECT
      *,
      max(bytes) OVER counter AS peak_bytes,
      first_value(bytes) OVER (counter ORDER BY ts DESC, id DESC)
        AS last_bytes
    FROM nsys_memory
    WINDOW counter AS (PARTITION BY track_id)
  )
SELECT
  name,
  upid,
  pid,
  gpu,
  peak_bytes,
  min(ts) AS ts,
  sum(dur) AS peak_ns,
  last_bytes,
  is_pool,
  track_id
FROM level
WHERE bytes = peak_bytes
GROUP BY track_id
ORDER BY
  peak_bytes DESC, upid, name;
