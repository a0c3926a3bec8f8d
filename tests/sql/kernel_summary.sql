-- trace: decode_eager
INCLUDE PERFETTO MODULE nsys.kernels;

SELECT * FROM nsys_kernel_summary;
