-- trace: gpu_order_differs
INCLUDE PERFETTO MODULE nsys.gaps;

SELECT ts, gap_ns, gpu, bucket, prev_demangled_name, next_demangled_name
FROM nsys_consecutive_gap
UNION ALL
SELECT ts, gap_ns, gpu, bucket, prev_demangled_name, next_demangled_name
FROM nsys_consecutive_gap_all_gpus;
