"""What holds for every capture: comparisons of a trace with the oracle, for made and real captures.

Each function takes a `Run`; `CHECKS` lists those that need nothing but a trace of a whole capture.
"""

from tests.checks.cpu import calls, errors, names, nesting, on_cpu, samples
from tests.checks.gpu import (
    KINDS,
    arrows,
    copy_arguments,
    gpu_names_and_totals,
    gpu_work,
    kernel_arguments,
    no_forbidden_argument,
    occupancy,
    queues,
    render_stages,
)
from tests.checks.nvtx import nvtx, projection
from tests.checks.waits import wake_ups
from tests.checks.whole import (
    CUDA,
    ORPHAN,
    PROJECTED,
    SCHED,
    WAKE_UP,
    counts,
    metadata,
    nothing_lost,
    time,
)

GPU_CHECKS = (
    nothing_lost, gpu_work, gpu_names_and_totals, render_stages, queues, arrows, kernel_arguments,
    occupancy, copy_arguments, no_forbidden_argument,
)  # fmt: skip
CPU_CHECKS = (calls, errors, nesting, names, wake_ups, on_cpu, samples)
NVTX_CHECKS = (nvtx, projection)
WHOLE_CHECKS = (counts, time, metadata)
CHECKS = (*GPU_CHECKS, *CPU_CHECKS, *NVTX_CHECKS, *WHOLE_CHECKS)

__all__ = [
    "CHECKS",
    "CPU_CHECKS",
    "CUDA",
    "GPU_CHECKS",
    "KINDS",
    "NVTX_CHECKS",
    "ORPHAN",
    "PROJECTED",
    "SCHED",
    "WAKE_UP",
    "WHOLE_CHECKS",
    "arrows",
    "calls",
    "copy_arguments",
    "counts",
    "errors",
    "gpu_names_and_totals",
    "gpu_work",
    "kernel_arguments",
    "metadata",
    "names",
    "nesting",
    "no_forbidden_argument",
    "nothing_lost",
    "nvtx",
    "occupancy",
    "on_cpu",
    "projection",
    "queues",
    "render_stages",
    "samples",
    "time",
    "wake_ups",
]
