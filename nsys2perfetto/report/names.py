"""What reports there are; imports nothing heavy, for the command line and its help."""

from __future__ import annotations

import difflib

from nsys2perfetto.errors import UsageError
from nsys2perfetto.nsys.source import printable

STEP = "decode_step"
"""The report that needs a number."""

NAMES = {
    "cuda_gpu_kern_sum": "Kernels by name, as in nsys stats.",
    "cuda_api_sum": "CUDA calls by name, as in nsys stats.",
    "cuda_gpu_mem_time_sum": "Copies and memory sets by kind, as in nsys stats.",
    "sync_sum": "Calls that waited for a GPU, and their wake-up.",
    "gpu_balance": "How busy each GPU was.",
    "gpu_parts": "Where the time of each GPU goes.",
    "kernel_families": "Kernels by family: gemm, attention, norm, ...",
    "gap_total": "Sum of the gaps between kernels, and of idle time.",
    "gap_buckets": "Gaps by size.",
    "gap_causes": "Idle gaps by cause, and what the host did meanwhile.",
    "big_gaps": "Long gaps between kernels: when, in which step, why.",
    "decode_steps": "Every decode step.",
    STEP + " N": "Step N taken apart: kernels, gaps, CUDA calls.",
    "steady_step": "Time of each kernel in a steady step.",
    "step_medians": "Medians of a steady step: kernels, launches, ...",
    "step_parts": "Where the time of the steady steps goes.",
    "step_times": "Median, p95, p99 of the steps' wall time.",
    "step_histogram": "Steady steps and outliers by wall time.",
}
"""Name, with what must follow it, to one line of help."""

WORDS = tuple(name.split()[0] for name in NAMES)
"""The names alone."""


def find(word: str) -> str | None:
    """The report that a word names, hyphens and capital letters forgiven; None for no report."""
    known = word.lower().replace("-", "_")
    return known if known in WORDS else None


def unknown(word: str) -> UsageError:
    """What to tell somebody who named a report that there is not."""
    close = difflib.get_close_matches(word.lower().replace("-", "_"), WORDS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return UsageError(f"no report '{printable(word)}'; {hint}there are: {', '.join(WORDS)}")
