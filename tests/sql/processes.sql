-- trace: two_processes_two_gpus
INCLUDE PERFETTO MODULE nsys.capture;

SELECT pid, name, operation_count, call_count FROM nsys_process;
