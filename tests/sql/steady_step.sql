-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.steps;

SELECT
  pid, gpu, name, steps, med_count, med_ns, p5_ns, p95_ns, avg_ns, pct
FROM nsys_steady_step;
