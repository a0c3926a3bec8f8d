-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.gaps;

SELECT * FROM nsys_gap_bucket;
