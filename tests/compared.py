"""What comparisons are tried on: decode loops with known differences, and plain sums of files."""

from __future__ import annotations

from collections import defaultdict

from samples.builder import Capture
from tests.oracle import Oracle

NORM = ("rms_norm_kernel", 3_000)
GEMM = ("ampere_bf16_gemm_64x64_tn", 40_000)
SILU = ("silu_kernel", 2_000)
MUL = ("mul_kernel", 2_500)
FUSED = ("silu_and_mul_kernel", 2_600)
BODY = (NORM, GEMM, SILU, MUL)
ARGMAX = ("argmax_kernel", 6_000)
STEPS = 14

KERNEL_AFTER_LAUNCH, KERNEL_AFTER_KERNEL = 4_000, 1_000
LAUNCH, WAKE_UP, HOST = 2_000, 3_000, 20_000


def decode_loop(folder, name, *, body=BODY, waits=0, steps=STEPS, host=HOST, jitter=0, gpus=1):
    """A capture of a decode loop that is the same in every step; returns its path.

    Args:
        folder: Where it goes.
        name: Of the file.
        body: Kernels of a step before its argmax: name and ns.
        waits: After how many of them the host waits for the GPU, beside the wait for the token.
        steps: After the prefill.
        host: ns between two steps in which the host does other things.
        jitter: Every second step the host takes so much longer, ns.
        gpus: As many processes, each on a GPU of its own, do the same.
    """
    capture = Capture("3.16.1")
    for number in range(gpus):
        capture.gpu(number)
        process = capture.process(4242 + number, "engine", gpus=(number,))
        thread = capture.thread(process, 4300 + number, "worker")
        _run(capture, thread, body, waits, steps, host, jitter)
    return capture.save(folder, name)


def _run(capture, thread, body, waits, steps, host, jitter):
    now, free = 1_000_000, 0

    def launch(kernel, duration, **how):
        nonlocal now, free
        start = max(now + KERNEL_AFTER_LAUNCH, free + KERNEL_AFTER_KERNEL)
        capture.launch(thread, kernel, at=now, call=LAUNCH, start=start, duration=duration, **how)
        now, free = now + LAUNCH, start + duration

    def wait():
        nonlocal now
        capture.sync(thread, "stream", now, free + WAKE_UP, stream=7)
        now = free + WAKE_UP

    for kernel in ("prefill_gemm", "prefill_attention", "prefill_gemm"):
        launch(kernel, 300_000)
    launch(*ARGMAX)
    wait()
    for step in range(steps):
        now += host + jitter * (step % 2)
        for place, kernel in enumerate(body):
            launch(*kernel)
            if place < waits:
                wait()
        launch(*ARGMAX)
        wait()


class Sums:
    """Sums over whole steps of a capture or over all of it, by the manual's rule, in plain Python.

    Args:
        path: The capture.
        steps: Numbers of the steps, as the manual counts; None for the whole capture.
        gpu: Only what is on this GPU.
    """

    def __init__(self, path, steps=None, gpu=None):
        oracle = Oracle(path)
        work = [w for w in self.work_of(path) if gpu is None or w["gpu"] == gpu]
        kernels = [w for w in work if w["family"] == "kernel"]
        if steps is None:
            spans = [(min(w["start"] for w in work), max(w["end"] for w in work))]
        else:
            ends = sorted(k["end"] for k in kernels if k["name"].startswith("argmax"))
            spans = [(ends[n - 2], ends[n - 1]) for n in steps]
        self.spans = spans
        self.kernels = self._sums(
            k for a, b in spans for k in kernels if k["start"] >= a and k["end"] <= b
        )
        pids = {w["globalPid"] for w in work}
        self.calls = self._sums(
            c
            for a, b in spans
            for c in oracle.calls
            if steps is None or (c["globalTid"] & ~0xFFFFFF in pids and a <= c["start"] < b)
        )
        self.wall = sum(b - a for a, b in spans)
        self.gaps = [gap for a, b in spans for gap in _idle(work, a, b)]
        self.idle = sum(self.gaps)

    @staticmethod
    def work_of(path):
        """All that GPUs did."""
        return Oracle(path).gpu_work

    @staticmethod
    def _sums(rows):
        found = defaultdict(lambda: [0, 0])
        for row in rows:
            found[row["name"]][0] += row["end"] - row["start"]
            found[row["name"]][1] += 1
        return {name: tuple(sums) for name, sums in found.items()}


def _idle(work, start, end):
    """Lengths of the times in which nothing ran between start and end."""
    gaps, busy_until = [], start
    for row in sorted(work, key=lambda w: w["start"]):
        if row["start"] >= end:
            break
        if row["start"] > busy_until:
            gaps.append(row["start"] - busy_until)
        busy_until = max(busy_until, min(row["end"], end))
    return [*gaps, end - busy_until] if busy_until < end else gaps
