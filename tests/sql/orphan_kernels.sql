-- trace: orphans
INCLUDE PERFETTO MODULE nsys.kernels;

SELECT ts, dur, name, launch_ts, launch_dur, queue_ns, launch_slice_id IS NULL AS orphan
FROM nsys_kernel
ORDER BY ts;
