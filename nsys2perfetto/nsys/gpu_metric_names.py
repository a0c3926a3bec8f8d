"""Names of GPU metrics: what nsys calls them, taken apart into name, unit and group.

Later versions put the unit into brackets (`SMs Active [Throughput %]`), earlier ones name none (`SM
Active`). The names vary by version and by GPU (NSYS_SCHEMA section 6), so the rules go by words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OTHER = "Other"


@dataclass(frozen=True)
class MetricName:
    """A metric as a counter shows it."""

    name: str
    unit: str
    """`%`, `Hz` or nothing."""
    group: str
    description: str


_BRACKETS = re.compile(r"(.*\S)\s*\[([^\[\]]*)\]\s*")
_HELPER = re.compile(r"timestamp", re.IGNORECASE)
_CLOCK = re.compile(r"clock|frequency|\[[kMG]?Hz\]", re.IGNORECASE)
_PERCENT = re.compile(r"throughput|bandwidth|active|issue|in flight|warps", re.IGNORECASE)
"""What is a percentage in exports that name no unit; the rest (requests to BAR1) counts."""

_GROUPS = (
    (r"clock|frequency", "Clocks"),
    (r"nvlink|\bc2c\b", "NVLink"),
    (r"pcie|\bbar1\b", "PCIe"),
    (r"\bd?ram\b|\bvram\b|memory|\bl2\b", "Memory"),
    (r"tensor|\bfp16\b", "Tensor"),
    (r"warps", "Warps"),
    (r"\bsms?\b", "SM"),
    (r"copy engine", "Copy engines"),
    (r"\bgr\b|compute in flight", "Engines"),
    (r"nvenc|nvdec|nvjpg|\bofa\b|video", "Video"),
)
"""Words and the group of the metrics that have them; the first that fits counts."""

_DESCRIPTIONS = (
    (r"gpc clock", "Mean clock of the graphics processing clusters, which the SMs run at."),
    (r"sys clock", "Mean clock of the front end, the copy engines and the performance monitor."),
    (r"^gr active", "Share of the time in which the graphics and compute engine had work."),
    (r"^async compute", "Share of the time in which asynchronous compute work was in flight."),
    (r"^sync compute", "Share of the time in which synchronous compute work was in flight."),
    (r"copy engine", "Share of the time in which this copy engine worked."),
    (r"^sms? active", "Share of the time in which an SM had a warp resident, mean over all SMs."),
    (r"^sms? issue", "Share of the time in which an SM's schedulers issued an instruction."),
    (r"^tensor active", "Share of the time in which the tensor pipes executed instructions."),
    (r"unallocated warps", "Warp slots of active SMs that no warp occupied."),
    (r"warps", "Warps of this kind that were resident, of the slots that the SMs have."),
    (r"dram read", "Share of the time in which the interface of the device memory read."),
    (r"dram write", "Share of the time in which the interface of the device memory wrote."),
    (r"nvlink rx", "What arrived over NVLink."),
    (r"nvlink tx", "What was sent over NVLink."),
    (r"pcie rx", "What the GPU received over PCIe, protocol included, of the link's limit."),
    (r"pcie tx", "What the GPU sent over PCIe, protocol included, of the link's limit."),
    (r"bar1", "Requests of the CPU or of other GPUs to this GPU's memory, counted a sample."),
)


def is_helper(name: str) -> bool:
    """Whether a "metric" is none: nsys keeps times of the sampler among them (`EndTimestamp`)."""
    return bool(_HELPER.search(name))


def is_clock(name: str) -> bool:
    """Whether the values are Hz (they are, even where the name says MHz; NSYS_SCHEMA section 6)."""
    return bool(_CLOCK.search(name))


def describe(nsys_name: str) -> MetricName:
    """Takes a name of nsys apart.

    What a unit says is left out of the name; other brackets stay, since they tell metrics apart
    (`Compute Warps in Flight [Avg]`).
    """
    name = " ".join(nsys_name.split())
    found = _BRACKETS.fullmatch(name)
    brackets = found[2] if found else None
    unit = ""
    if is_clock(name):
        unit = "Hz"
    elif brackets is not None:
        unit = "%" if brackets.strip().endswith("%") else ""
    elif _PERCENT.search(name) and "request" not in name.lower():
        unit = "%"
    if found and unit:
        name = found[1]
    return MetricName(name, unit, _first(_GROUPS, name) or OTHER, _first(_DESCRIPTIONS, name))


def _first(rules: tuple[tuple[str, str], ...], name: str) -> str:
    return next((text for words, text in rules if re.search(words, name, re.IGNORECASE)), "")
