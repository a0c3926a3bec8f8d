-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.api;

SELECT * FROM nsys_api_summary;
