-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.steps;

SELECT
  ts, dur, name, step, run, step_in_run, phase, pid, gpu, kernel_count,
  kernel_ns, busy_ns, idle_ns, wall_ns, kernel_util_pct, busy_util_pct,
  largest_gap_ns, copy_count, copy_bytes, launch_count, sync_count, sync_ns,
  allocation_count, steps_per_second
FROM nsys_step
WHERE step = 11;
