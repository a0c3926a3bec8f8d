-- trace: gpu_order_differs
INCLUDE PERFETTO MODULE nsys.utilization;

SELECT * FROM nsys_gpu_balance;
