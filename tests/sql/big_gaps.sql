-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.gaps;

SELECT ts, gap_ns, gpu, bucket, prev_name, next_name
FROM nsys_consecutive_gap
WHERE gap_ns > 1000000
ORDER BY gap_ns DESC;
