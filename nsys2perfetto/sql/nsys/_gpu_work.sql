-- What the public modules of this package share: the work of GPUs, and the
-- calls that submitted it. Nothing here is meant for users.

-- The GPU of each hardware queue.
CREATE PERFETTO TABLE _nsys_queue(
  -- The queue.
  track_id JOINID(track.id),
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG
)
AS
SELECT track.id AS track_id, gpu.gpu
FROM gpu_track AS track
LEFT JOIN gpu
  ON gpu.ugpu = extract_arg(track.dimension_arg_set_id, 'ugpu')
WHERE track.type = 'gpu_render_stage';

-- An argument of GPU work. In traces that were written with --compat the work
-- is in ordinary slices, whose arguments have the same names behind `debug.`.
CREATE PERFETTO MACRO _nsys_work_arg(
  -- The set of arguments.
  shape_id Expr,
  -- Its name.
  name Expr
)
RETURNS Expr
AS
coalesce(
  extract_arg($shape_id, $name),
  extract_arg($shape_id, 'debug.' || $name)
);

-- What work of one set of arguments has in common: thousands of kernels
-- share a set, so arguments are read once a set and not once a kernel.
CREATE PERFETTO TABLE _nsys_work_args(
  -- The set; null (no arguments) is not here.
  shape_id LONG,
  -- `kernel`, `memcpy`, `memset`, `migration` or `graph`.
  kind STRING,
  -- Full name of a kernel, else its mangled one; null where the capture has
  -- neither.
  full_name STRING,
  -- The process's own number of the GPU (CUDA ordinal).
  device LONG,
  -- CUDA stream; null for migrations, and where it is not known.
  stream LONG
)
AS
WITH
  shape AS (
    SELECT DISTINCT arg_set_id AS id
    FROM gpu_slice
    WHERE arg_set_id IS NOT NULL
    UNION
    SELECT DISTINCT arg_set_id AS id
    FROM slice
    WHERE
      category IN (
        'gpu.kernel',
        'gpu.memcpy',
        'gpu.memset',
        'gpu.migration',
        'gpu.graph'
      )
  )
SELECT
  id AS shape_id,
  CASE _nsys_work_arg!(id, 'description')
    WHEN 'CUDA kernel' THEN 'kernel'
    WHEN 'CUDA memory copy' THEN 'memcpy'
    WHEN 'CUDA memory set' THEN 'memset'
    WHEN 'Unified-memory migration' THEN 'migration'
    WHEN 'CUDA graph launch, all its nodes' THEN 'graph'
  END AS kind,
  coalesce(
    nullif(_nsys_work_arg!(id, 'kernel_demangled_name'), ''),
    nullif(_nsys_work_arg!(id, 'kernel_name'), '')
  ) AS full_name,
  _nsys_work_arg!(id, 'device') AS device,
  _nsys_work_arg!(id, 'stream') AS stream
FROM shape
ORDER BY id;

-- All work of GPUs: kernels, copies, memory sets, migrations, whole graphs.
CREATE PERFETTO TABLE _nsys_gpu_work(
  -- The slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- End.
  ts_end TIMESTAMP,
  -- Short name.
  name STRING,
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Whether this is a kernel.
  is_kernel BOOL,
  -- `kernel`, `memcpy`, `memset`, `migration` or `graph`.
  kind STRING,
  -- Key of `_nsys_work_args`.
  shape_id LONG
)
AS
WITH
  native AS (
    SELECT
      work.id,
      work.ts,
      work.dur,
      work.name,
      queue.gpu,
      work.upid,
      work.render_stage_category IS 2 AS is_kernel,
      work.arg_set_id AS shape_id
    FROM gpu_slice AS work
    JOIN _nsys_queue AS queue
      USING (track_id)
  ),
  -- Of traces that were written with --compat.
  compat_shape AS (
    SELECT
      args.shape_id,
      extract_arg(args.shape_id, 'debug.gpu') AS gpu,
      process.upid
    FROM _nsys_work_args AS args
    LEFT JOIN process
      ON process.pid = extract_arg(args.shape_id, 'debug.process_id')
    WHERE extract_arg(args.shape_id, 'debug.description') IS NOT NULL
  ),
  compat AS (
    SELECT
      work.id,
      work.ts,
      work.dur,
      work.name,
      shape.gpu,
      shape.upid,
      work.category = 'gpu.kernel' AS is_kernel,
      shape.shape_id
    FROM compat_shape AS shape
    JOIN slice AS work
      ON work.arg_set_id = shape.shape_id
  ),
  work AS (
    SELECT * FROM native
    UNION ALL
    SELECT * FROM compat
  )
SELECT
  work.id,
  work.ts,
  work.dur,
  work.ts + work.dur AS ts_end,
  work.name,
  work.gpu,
  work.upid,
  process.pid,
  work.is_kernel,
  args.kind,
  work.shape_id
FROM work
LEFT JOIN _nsys_work_args AS args
  USING (shape_id)
LEFT JOIN process
  USING (upid)
ORDER BY
  work.ts, work.id;

-- Kernels, without what the public `nsys_kernel` adds: launch shape, launch,
-- step.
CREATE PERFETTO TABLE _nsys_kernel(
  -- The slice.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- End.
  ts_end TIMESTAMP,
  -- Short name.
  name STRING,
  -- Full name, else the mangled one, else the short one.
  demangled_name STRING,
  -- The process.
  upid JOINID(process.id),
  -- Its process id.
  pid LONG,
  -- Number of the GPU, as in the table `gpu`.
  gpu LONG,
  -- The process's own number of the GPU (CUDA ordinal).
  device LONG,
  -- CUDA stream.
  stream LONG,
  -- Key of `_nsys_work_args`.
  shape_id LONG
)
AS
SELECT
  work.id,
  work.ts,
  work.dur,
  work.ts_end,
  work.name,
  coalesce(args.full_name, work.name) AS demangled_name,
  work.upid,
  work.pid,
  work.gpu,
  args.device,
  args.stream,
  work.shape_id
FROM _nsys_gpu_work AS work
LEFT JOIN _nsys_work_args AS args
  USING (shape_id)
WHERE work.is_kernel
ORDER BY
  work.ts, work.id;
