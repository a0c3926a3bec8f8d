-- trace: nested_calls
INCLUDE PERFETTO MODULE nsys.api;

SELECT ts, dur, name, category, pid, tid, thread_name, result, is_outermost
FROM nsys_api_call
ORDER BY ts;
