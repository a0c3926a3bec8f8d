-- trace: decode_graph
INCLUDE PERFETTO MODULE nsys.gaps;

SELECT cause, mostly, pace, count() AS gaps, sum(gap.dur) AS total_ns
FROM nsys_gap AS gap
JOIN nsys_step AS step
  ON step.id = gap.step_id
WHERE step.phase = 'steady'
GROUP BY cause, mostly, pace
ORDER BY total_ns DESC;
