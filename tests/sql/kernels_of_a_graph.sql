-- trace: graph_nodes_with_graph_id
INCLUDE PERFETTO MODULE nsys.kernels;

SELECT
  call.name AS launch, kernel.graph_id, kernel.name,
  count() AS kernels, min(queue_ns) AS min_queue_ns, max(queue_ns) AS max_queue_ns
FROM nsys_kernel AS kernel
LEFT JOIN slice AS call ON call.id = kernel.launch_slice_id
GROUP BY launch, graph_id, kernel.name
ORDER BY launch, graph_id, kernel.name;
