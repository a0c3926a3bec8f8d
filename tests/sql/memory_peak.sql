-- trace: device_memory
INCLUDE PERFETTO MODULE nsys.memory;

SELECT name, pid, gpu, peak_bytes, ts, peak_ns, last_bytes, is_pool
FROM nsys_memory_peak;
