-- What the summaries have in common. Nothing here is meant for users.

-- Durations by name: the columns of `nsys stats -r cuda_gpu_kern_sum` without
-- the share of time, and two percentiles.
--
-- `stddev_ns` is the sample's (divided by n - 1), 0 for a single duration, as
-- in `nsys stats`. It takes a second pass: the difference of two large sums
-- of squares would lose digits.
CREATE PERFETTO MACRO _nsys_durations_by_name(
  -- Table with columns `name` and `dur`.
  events TableOrSubquery
)
RETURNS TableOrSubquery
AS
(
  WITH
    total AS MATERIALIZED (
      SELECT
        name,
        sum(dur) AS total_ns,
        count() AS instances,
        1.0 * sum(dur) / count() AS avg_ns,
        percentile(dur, 50) AS med_ns,
        min(dur) AS min_ns,
        max(dur) AS max_ns,
        percentile(dur, 95) AS p95_ns,
        percentile(dur, 99) AS p99_ns
      FROM $events
      GROUP BY name
    ),
    deviation AS (
      SELECT
        event.name,
        sum((event.dur - total.avg_ns) * (event.dur - total.avg_ns)) AS square
      FROM $events AS event
      JOIN total
        USING (name)
      GROUP BY event.name
    )
  SELECT
    name,
    total_ns,
    instances,
    avg_ns,
    med_ns,
    min_ns,
    max_ns,
    sqrt(square / max(instances - 1, 1)) AS stddev_ns,
    p95_ns,
    p99_ns
  FROM total
  JOIN deviation
    USING (name)
);
