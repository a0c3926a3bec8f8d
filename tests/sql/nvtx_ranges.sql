-- trace: nvtx_zoo
INCLUDE PERFETTO MODULE nsys.nvtx;

SELECT
  ts, dur, name, domain, style, pid, tid, thread_name, cpu_ts, cpu_dur, gpu_op_count
FROM nsys_nvtx_range
ORDER BY cpu_ts, name;
