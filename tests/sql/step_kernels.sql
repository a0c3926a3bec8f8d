-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.steps;

SELECT pid, gpu, step, name, demangled_name, count, total_ns
FROM nsys_step_kernel
WHERE step = 11
ORDER BY total_ns DESC;
