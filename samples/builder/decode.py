"""`decode_run`: the decode benchmark of a small transformer on a Rust engine.

The engine and the way it is profiled (`nsys profile -t cuda,cublas --cuda-memory-usage=true`)
are those of the manual that this project was born from: one process, one thread, one stream;
kernels of its own launched through the driver API, matrix products through cuBLAS; after each
token the 4 bytes of the argmax are copied to the host and the stream is waited for.

    load the weights
    warm-up:  prefill + 5 decode steps   (the first cuBLAS call loads its kernels)
    measured: prefill + 25 decode steps
"""

from __future__ import annotations

from dataclasses import dataclass

from samples.builder.capture import Capture
from samples.builder.engine import STREAM, Engine
from samples.builder.kernels import Shape, forward
from samples.builder.truth import DecodeTruth, Step, busy_ns

PID = 41250
"""Process id of the benchmark."""

_GRAPH, _GRAPH_EXEC = 1, 2


@dataclass(frozen=True)
class Disturbance:
    """A gap made on purpose in one decode step of the measured run.

    Attributes:
        step: Which decode step, counted from 1.
        before: Before which of the step's pieces of work; 0 is before all of them.
        nanoseconds: How long the host is held up.
        reason: "host_pause", "host_stall" or "allocation".
    """

    step: int
    before: int
    nanoseconds: int
    reason: str


DISTURBANCES = (
    Disturbance(step=8, before=22, nanoseconds=380_000, reason="host_pause"),
    Disturbance(step=12, before=0, nanoseconds=420_000, reason="allocation"),
    Disturbance(step=17, before=0, nanoseconds=1_600_000, reason="host_stall"),
)
"""In a graph run all of them come before the graph launch."""

BETWEEN_RUNS_NS = 2_300_000
"""How long the host does other things between the warm-up and the measured run."""

MODULE_LOAD_NS = 38_000_000
"""How long the first cuBLAS call loads kernels."""


def decode_run(
    capture: Capture,
    *,
    steps: int = 25,
    warmup_steps: int = 5,
    layers: int = 4,
    prompt: int = 64,
    graph: bool = False,
    seed: int = 1,
) -> DecodeTruth:
    """Fills the capture with a decode run and says what is in it.

    Args:
        capture: An empty capture.
        steps: Decode steps of the measured run, after its prefill.
        warmup_steps: Decode steps of the warm-up run, after its prefill.
        layers: Layers of the transformer.
        prompt: Tokens of the prompt.
        graph: Whether decode steps from the third of the warm-up on are launches of one CUDA
            graph, traced node by node.
        seed: Of the small variations in all durations.
    """
    capture.gpu()
    process = capture.process(PID, "bench_decode")
    thread = capture.thread(process, PID + 9, "decode_greedy")
    capture.stream(process, STREAM, priority=0)
    capture.stream(process, 7, flag=3)
    run = _Run(Engine(capture, thread, 412_000_000, seed), Shape(layers=layers), graph=graph)
    run.load()
    run.generate("warmup", prompt, warmup_steps)
    run.engine.host(BETWEEN_RUNS_NS, "between_runs")
    run.generate("measured", prompt, steps)

    capture.describe_neighbours(process)
    capture.profiler_overhead(thread, "CUDA profiling initialization", 401_000_000, 409_500_000)
    capture.diagnostic("Profiling has started.", 0, source=3, process=None)
    capture.diagnostic(
        "Common injection library initialized successfully.", 47_978_129, process=process
    )
    capture.describe_duration(run.engine.now + 62_000_000)
    return run.truth()


class _Run:
    """The engine's main loop."""

    def __init__(self, engine: Engine, shape: Shape, *, graph: bool) -> None:
        self.engine = engine
        self.shape = shape
        self.graph = graph
        self.spans: list[tuple[str, str]] = []
        self.first_node: int | None = None

    def load(self) -> None:
        """Initialises CUDA and copies the weights to the GPU."""
        engine = self.engine
        engine.call("cuInit", 61_000_000)
        engine.call("cuDevicePrimaryCtxRetain", 74_000_000)
        engine.call("cuStreamCreate", 9_000)
        pool = engine.call("cuDeviceGetDefaultMemPool", 1_500)
        engine.capture.memory_pool_event(
            engine.thread.process,
            engine.now,
            0x5581_0200_0000,
            operation=1,
            size=2 << 30,
            correlation=pool,
        )
        engine.call("cuModuleLoadData", 3_100_000)
        for nbytes in self.shape.weights():
            engine.host(engine.between((220_000, 480_000)), "model_load")
            engine.allocate(nbytes, call=engine.between((9_000, 14_000)))
            engine.copy("HtoD", nbytes, nbytes * 10 // 235, pageable=True)  # 23.5 GB/s
            engine.wait()
        engine.allocate(self.shape.cache_bytes)
        engine.clear(self.shape.cache_bytes, self.shape.cache_bytes // 700)
        engine.wait()
        engine.keep()
        engine.host(850_000, "model_load")
        start = engine.now
        engine.call("cudaStreamCreateWithFlags_v5000", 12_000)
        engine.host(1_900_000)
        engine.capture.cublas(engine.thread, "cublasCreate_v2", start, engine.now)
        engine.cublas_calls += 1

    def generate(self, run: str, prompt: int, steps: int) -> None:
        """One prefill and then one decode step a token."""
        self.spans.append((run, "prefill"))
        self._token_in(4 * prompt)
        for work in forward(self.shape, tokens=prompt, position=prompt):
            if work.library and self.engine.cublas_calls == 1:
                self._load_cublas_kernels()
            self.engine.run(work)
        self._token_out()
        for step in range(1, steps + 1):
            if self.graph and run == "warmup" and step == 3:
                self._capture_graph(prompt + step)
            self.spans.append((run, "decode"))
            self._decode(step, prompt + step, disturbed=run == "measured")

    def _decode(self, step: int, position: int, *, disturbed: bool) -> None:
        held_up = {d.before: d for d in DISTURBANCES if disturbed and d.step == step}
        works = forward(self.shape, tokens=1, position=position)
        if self.first_node is not None:
            for disturbance in held_up.values():
                self._hold_up(disturbance)
            self._token_in(4)
            self.engine.replay(works, _GRAPH_EXEC, self.first_node)
        else:
            if 0 in held_up:
                self._hold_up(held_up[0])
            self._token_in(4)
            for number, work in enumerate(works):
                if number and number in held_up:
                    self._hold_up(held_up[number])
                self.engine.run(work)
        self._token_out()

    def _hold_up(self, disturbance: Disturbance) -> None:
        if disturbance.reason == "allocation":
            # The pool has to grow: the driver maps more memory before the call returns.
            self.engine.allocate(64 << 20, call=disturbance.nanoseconds, reason=disturbance.reason)
            self.engine.keep()
        else:
            self.engine.host(disturbance.nanoseconds, disturbance.reason)

    def _token_in(self, nbytes: int) -> None:
        self.engine.copy("HtoD", nbytes, 700)

    def _token_out(self) -> None:
        self.engine.copy("DtoH", 4, 1_050)
        self.engine.wait()
        self.engine.host(self.engine.between((14_000, 22_000)))  # detokenise, print, next step

    def _load_cublas_kernels(self) -> None:
        engine = self.engine
        start = engine.now
        engine.host(200_000)
        correlation = engine.call("cuLibraryLoadData", MODULE_LOAD_NS)
        engine.capture.overhead(
            engine.thread,
            "Runtime module loading",
            6,
            engine.now - MODULE_LOAD_NS + 40_000,
            engine.now - 25_000,
            correlation=correlation,
        )
        engine.capture.cublas(engine.thread, "cublasSetWorkspace_v2", start, engine.now)
        engine.cublas_calls += 1
        engine.reason = "module_load"

    def _capture_graph(self, position: int) -> None:
        """Records one decode step and instantiates the graph."""
        engine = self.engine
        engine.call("cuStreamBeginCapture_v2", 4_200)
        works = forward(self.shape, tokens=1, position=position)
        for work in works:
            engine.record(work)
        engine.call("cuStreamEndCapture", 6_800)
        created = engine.now - 1_000
        engine.call("cuGraphInstantiateWithFlags", 310_000)
        engine.call("cuGraphUpload", 35_000)
        engine.reason = "launch"
        count = sum(len(work.kernels) for work in works)
        recorded, instantiated = _GRAPH << 32, _GRAPH_EXEC << 32
        capture, thread = engine.capture, engine.thread
        capture.graph_created(thread, created, _GRAPH)
        capture.graph_nodes(thread, created, [(recorded + n, None) for n in range(count)])
        capture.graph_created(thread, engine.now, _GRAPH, _GRAPH_EXEC)
        capture.graph_nodes(
            thread, engine.now, [(instantiated + n, recorded + n) for n in range(count)]
        )
        self.first_node = instantiated

    def truth(self) -> DecodeTruth:
        engine = self.engine
        kernels = [op for op in engine.operations if op.kind == "kernel"]
        markers = [op for op in kernels if op.name == "argmax_kernel"]
        steps, start = [], kernels[0].start
        for number, (marker, (run, kind)) in enumerate(
            zip(markers, self.spans, strict=True), start=1
        ):
            inside = [k for k in kernels if k.start >= start and k.end <= marker.end]
            steps.append(
                Step(
                    index=number,
                    run=run,
                    kind=kind,
                    start=start,
                    end=marker.end,
                    kernel_count=len(inside),
                    kernel_ns=sum(k.end - k.start for k in inside),
                    busy_ns=busy_ns(engine.operations, start, marker.end),
                )
            )
            start = marker.end
        return DecodeTruth(
            operations=engine.operations,
            calls=engine.calls,
            gaps=engine.gaps(),
            steps=steps,
            launches_without_kernel=engine.launches_without_kernel,
            graph_launches=engine.graph_launches,
            cublas_calls=engine.cublas_calls,
            memory_events=engine.memory_events,
            memory_in_use=engine.memory_in_use,
            synchronizations=engine.synchronizations,
        )
