-- trace: decode_graph
INCLUDE PERFETTO MODULE nsys.steps;

SELECT step, run, step_in_run, phase, name, wall_ns, kernel_count, kernel_ns, idle_ns
FROM nsys_step
ORDER BY step;
