"""How much is said of each event: everything, or what a very large trace can afford.

Every event is written either way; what differs are arguments, arrows, and what the tool adds. An
argument that differs from event to event costs the trace processor a set of arguments an event.
docs/benchmarks.md has what each field costs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Detail:
    """What is written besides the events themselves.

    Attributes:
        arrows: From each CUDA call to what it submitted.
        gpu_api: The argument of CUDA calls that says that they are CUDA's.
        launch: Arguments of kernels that follow from others or are seldom needed: each costs the
            trace processor time, a kernel has thirty.
        throughput: `throughput_gb_s` of copies and memory sets: `bytes` over the duration.
        gaps: All arguments of idle gaps; else only what many gaps have in common (cause, step).
        projection: Where the range of a projected NVTX range lies on its thread.
    """

    arrows: bool = True
    gpu_api: bool = True
    launch: bool = True
    throughput: bool = True
    gaps: bool = True
    projection: bool = True


FULL = Detail()
LEAN = Detail(
    arrows=False, gpu_api=False, launch=False, throughput=False, gaps=False, projection=False
)

LEFT_OUT = (
    "arrows from CUDA calls; arguments gpu_api, some of kernels, throughput_gb_s of copies, "
    "most of gpu_gap, two of gpu_projection"
)
"""What LEAN lacks, for the trace's metadata."""
