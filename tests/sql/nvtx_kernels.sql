-- trace: nvtx_zoo
INCLUDE PERFETTO MODULE nsys.nvtx;

SELECT range.cpu_ts, range_name, kernel_name, kernel.ts, kernel.dur
FROM nsys_nvtx_kernel AS kernel
JOIN nsys_nvtx_range AS range ON range.id = kernel.range_id
ORDER BY range.cpu_ts, range_name, kernel.ts;
