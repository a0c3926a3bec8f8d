"""What a benchmark capture contains: its parameters, its file name, the presets of the command."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
"""Where captures are kept (git-ignored)."""

FORMAT = 1
"""Part of every file name; raise it when the rows of equal parameters change."""

STEP_KERNELS = 300
"""Kernels in a decode step; the last of them is `argmax_kernel`."""


@dataclass(frozen=True)
class Shape:
    """The parameters of a capture; equal parameters give equal rows."""

    kernels: int = 1_000_000
    """Kernels, in decode steps of `STEP_KERNELS`."""
    names: int = 40
    """Distinct kernels (name, demangled name, mangled name)."""
    configurations: int = 160
    """Distinct launch configurations over all kernels, at least `names`."""
    streams: int = 1
    """Streams; up to four are busy at a time."""
    nvtx: float = 0.1
    """NVTX ranges for each kernel."""
    copies: float = 1 / STEP_KERNELS
    """Copies for each kernel; every step ends with one device-to-host copy in any case."""
    memory: float = 0.02
    """Memory events (allocations and frees) for each kernel."""
    graphs: float = 0.0
    """Share of the decode steps that are one CUDA graph launch, traced node by node."""

    def __post_init__(self) -> None:
        if self.kernels < 1 or self.streams < 1 or self.names < 2:
            raise ValueError("a capture has at least one kernel, one stream and two kernel names")
        if self.configurations < self.names:
            raise ValueError("there are at least as many configurations as kernel names")

    @property
    def steps(self) -> int:
        """Decode steps, the last of which may be cut short."""
        return -(-self.kernels // STEP_KERNELS)

    def path(self) -> Path:
        """The file of this capture; its name tells every parameter that is not the default."""
        parts = [f"decode{FORMAT}", str(self.kernels)]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                parts.append(f"{field.name}={value:.6g}")
        return DATA / f"{'-'.join(parts)}.sqlite"


PRESETS = {
    "decode": Shape(),
    "plain": Shape(nvtx=0, memory=0),
    "streams": Shape(streams=800),
    "distinct": Shape(names=5_000, configurations=50_000),
    "graphs": Shape(graphs=1.0),
}
"""The kinds of capture that the command knows; `decode` is the default."""


def preset(name: str, kernels: int) -> Shape:
    """The preset called `name` with `kernels` kernels; KeyError for an unknown name."""
    return replace(PRESETS[name], kernels=kernels)
