-- trace: unified_memory
INCLUDE PERFETTO MODULE nsys.copies;

SELECT * FROM nsys_copy_summary;
