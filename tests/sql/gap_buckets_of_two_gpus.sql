-- trace: two_processes_two_gpus
INCLUDE PERFETTO MODULE nsys.gaps;

SELECT * FROM nsys_gap_bucket
UNION ALL
SELECT * FROM nsys_gap_bucket_all_gpus;
