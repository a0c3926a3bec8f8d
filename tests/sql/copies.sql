-- trace: every_copy_kind
INCLUDE PERFETTO MODULE nsys.copies;

SELECT
  ts, dur, name, kind, gpu, stream, bytes, gb_per_s, source, destination,
  source_device, destination_device, migration_cause, queue_ns
FROM nsys_copy
ORDER BY ts;
