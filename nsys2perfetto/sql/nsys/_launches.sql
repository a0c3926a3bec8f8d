-- Which call submitted what. Nothing here is meant for users.

-- The CUDA call that submitted each operation of a GPU, by the trace's
-- arrows. Operations whose call is not in the trace are not here. Of several
-- calls (an id that the capture uses twice) the last one counts, as it does
-- in the trace's annotations.
CREATE PERFETTO TABLE _nsys_launch(
  -- The operation: a kernel, copy, memory set or whole graph.
  id JOINID(slice.id),
  -- The call.
  launch_slice_id JOINID(slice.id),
  -- Start of the call.
  launch_ts TIMESTAMP,
  -- Duration of the call.
  launch_dur DURATION,
  -- Track of the call.
  launch_track_id JOINID(track.id)
)
AS
WITH
  -- Arrows that lead to other slices come from no call.
  arrow AS MATERIALIZED (
    SELECT slice_in AS id, max(slice_out) AS launch_slice_id
    FROM flow
    GROUP BY slice_in
  )
SELECT
  arrow.id,
  arrow.launch_slice_id,
  call.ts AS launch_ts,
  call.dur AS launch_dur,
  call.track_id AS launch_track_id
FROM arrow
JOIN slice AS call
  ON call.id = arrow.launch_slice_id
WHERE call.category IN ('cuda_runtime', 'cuda_driver')
ORDER BY arrow.id;
