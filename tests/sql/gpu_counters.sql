-- trace: gpu_metrics
INCLUDE PERFETTO MODULE nsys.utilization;

SELECT gpu, name, unit, ts, dur, value
FROM nsys_gpu_counter
ORDER BY gpu, name, ts, dur;
