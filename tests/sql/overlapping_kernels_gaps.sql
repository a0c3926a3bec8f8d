-- trace: overlapping_kernels
INCLUDE PERFETTO MODULE nsys.gaps;

SELECT ts, gap_ns, gpu, bucket, prev_demangled_name, next_demangled_name
FROM nsys_consecutive_gap
ORDER BY ts;
