-- trace: two_processes_two_gpus
INCLUDE PERFETTO MODULE nsys.kernels;

SELECT gpu, device, pid, stream, name, count() AS kernels, sum(queue_ns) AS queue_ns
FROM nsys_kernel
GROUP BY gpu, device, pid, stream, name
ORDER BY gpu, device, pid, stream, name;
