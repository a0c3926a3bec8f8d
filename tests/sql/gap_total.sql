-- trace: two_processes_two_gpus
INCLUDE PERFETTO MODULE nsys.gaps;

SELECT * FROM nsys_gap_total
UNION ALL
SELECT * FROM nsys_gap_total_all_gpus;
