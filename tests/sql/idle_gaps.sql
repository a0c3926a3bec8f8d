-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.gaps;

SELECT
  gap.ts, gap.dur, gap.gpu, pid, run, step, step_in_run, bucket,
  before.name AS prev_name, after.name AS next_name, cause, mostly, pace,
  launch_lateness_ns, sync_ns, launch_ns, memory_ns, copy_ns, other_cuda_ns,
  outside_cuda_ns
FROM nsys_gap AS gap
JOIN gpu_slice AS before
  ON before.id = gap.prev_slice_id
JOIN gpu_slice AS after
  ON after.id = gap.next_slice_id
WHERE step = 11
ORDER BY gap.ts;
