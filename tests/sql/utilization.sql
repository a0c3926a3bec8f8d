-- trace: decode_graph
INCLUDE PERFETTO MODULE nsys.steps;

INCLUDE PERFETTO MODULE nsys.utilization;

SELECT window.*
FROM nsys_step AS step
JOIN nsys_utilization AS window
  ON window.ts >= step.ts AND window.ts < step.ts + step.dur
WHERE step.step = 11;
