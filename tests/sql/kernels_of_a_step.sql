-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.kernels;

SELECT
  ts, dur, name, gpu, stream, grid, block, registers_per_thread,
  shared_mem_static, shared_mem_dynamic, queue_ns, run, step
FROM nsys_kernel
WHERE step = 11
ORDER BY ts
LIMIT 12;
