-- trace: overlapping_kernels
INCLUDE PERFETTO MODULE nsys.kernels;

SELECT * FROM nsys_kernel_summary_full;
