-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.steps;

SELECT pid, gpu, step, name, count, total_ns
FROM nsys_step_call
WHERE step = 11
ORDER BY total_ns DESC;
