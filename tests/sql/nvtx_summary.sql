-- trace: nvtx_zoo
INCLUDE PERFETTO MODULE nsys.nvtx;

SELECT * FROM nsys_nvtx_summary;
