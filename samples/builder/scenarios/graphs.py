"""Scenarios with CUDA graphs."""

from __future__ import annotations

from samples.builder.capture import Capture
from samples.builder.model import Kernel
from samples.builder.scenarios.registry import Facts, scenario

_NODES = [Kernel("rms_norm_kernel"), Kernel("attention_kernel", grid=(16, 1, 1)), Kernel("argmax")]


def _graph_of_nodes(capture: Capture) -> Facts:
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    capture.graph_created(thread, 900_000, 1)
    first = 2 << 32
    capture.graph_nodes(thread, 900_000, [((1 << 32) + n, None) for n in range(5)])
    capture.graph_created(thread, 950_000, 1, 2)
    capture.graph_nodes(thread, 950_000, [(first + n, (1 << 32) + n) for n in range(5)])
    launches = []
    for replay in range(4):
        at = 1_000_000 + 200_000 * replay
        nodes: list[tuple[Kernel | str, int, int, int]] = [
            (kernel, at + 9_000 + 20_000 * n, at + 27_000 + 20_000 * n, first + n)
            for n, kernel in enumerate(_NODES)
        ]
        correlation = capture.graph_launch(thread, at, 8_000, nodes, graph=2, stream=13)
        capture.memcpy(
            process,
            "DtoH",
            4,
            at + 70_000,
            at + 71_000,
            correlation=correlation,
            stream=13,
            graphNodeId=first + 3,
        )
        capture.memset(
            process,
            4,
            at + 72_000,
            at + 73_000,
            correlation=correlation,
            stream=13,
            graphNodeId=first + 4,
        )
        launches.append(correlation)
    capture.launch(thread, "eager", at=2_000_000, call=2_000, start=2_005_000, duration=3_000)
    return {"launches": launches, "nodes_of_launch": 5}


@scenario("3.16.1")
def graph_nodes(capture: Capture) -> Facts:
    """One graph launched four times, traced by node: three kernels, a copy and a memset each.

    Facts: launches (correlation ids), nodes_of_launch.
    """
    return _graph_of_nodes(capture)


@scenario("3.24.0")
def graph_nodes_with_graph_id(capture: Capture) -> Facts:
    """The same in a version whose kernels carry their graph's id."""
    return _graph_of_nodes(capture)


@scenario("3.7.2")
def graph_nodes_old_name(capture: Capture) -> Facts:
    """The same in a version whose CUDA_GRAPH_EVENTS holds the nodes."""
    return _graph_of_nodes(capture)


@scenario("3.16.1", graph_nodes=False)
def graph_level(capture: Capture) -> Facts:
    """A capture with nsys' default --cuda-graph-trace=graph: GRAPH_TRACE rows and no kernel.

    Facts: launches (correlation ids), graph_ns (sum of durations).
    """
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    capture.graph_created(thread, 900_000, 1)
    launches = []
    for replay in range(20):
        at = 1_000_000 + 900_000 * replay
        correlation = capture.api(thread, "cudaGraphLaunch_v10000", at, at + 9_000)
        capture.graph_trace(
            process,
            at + 12_000,
            at + 712_000,
            correlation=correlation,
            graph=1,
            graph_exec=2,
            stream=13,
        )
        capture.sync(thread, "stream", at + 20_000, at + 716_000, stream=13)
        launches.append(correlation)
    capture.diagnostic(
        "CUDA graphs are traced as a whole. Use --cuda-graph-trace=node to trace their nodes.",
        500_000,
        severity=2,
        process=process,
    )
    return {"launches": launches, "graph_ns": 20 * 700_000}
