-- trace: negative_times
INCLUDE PERFETTO MODULE nsys.capture;

SELECT * FROM nsys_capture WHERE name != 'nsys2perfetto_version';
