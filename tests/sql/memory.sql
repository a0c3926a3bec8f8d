-- trace: device_memory
INCLUDE PERFETTO MODULE nsys.memory;

SELECT name, ts, dur, pid, gpu, bytes, is_pool
FROM nsys_memory
ORDER BY name, ts, id;
