-- trace: sync_zoo
INCLUDE PERFETTO MODULE nsys.api;

SELECT * FROM nsys_sync_summary;
