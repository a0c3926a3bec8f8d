-- trace: sync_zoo
INCLUDE PERFETTO MODULE nsys.api;

SELECT
  sync.ts, sync.dur, sync.name, waited_for, stream, event, wake_up_ns,
  work.name AS awaited, work.ts + work.dur AS awaited_end, is_outermost
FROM nsys_sync AS sync
LEFT JOIN slice AS work ON work.id = awaited_slice_id
ORDER BY sync.ts;
