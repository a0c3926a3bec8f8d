"""Options for what the tool adds to a trace: decode steps, gaps, counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nsys2perfetto.cli.options import one, parse_time
from nsys2perfetto.errors import UsageError

if TYPE_CHECKING:
    from nsys2perfetto.annotation import AnnotationOptions

STEPS_AND_GAPS = "Steps, gaps and counters"
"""Section of these options in a command's help."""

OF_STEPS = ("step_kernels", "step_nvtx", "step_graph", "no_steps", "warmup", "min_gap")
"""Names of the parameters that `step_options` adds."""

F = TypeVar("F", bound=Callable[..., Any])

_STEP_OPTIONS = (
    click.option(
        "--step-kernel",
        "step_kernels",
        multiple=True,
        metavar="PATTERN",
        help="A decode step ends with this kernel: glob or /regex/ on its short, demangled or "
        "mangled name; may be repeated. Default: argmax* and the known samplers.",
    ),
    click.option(
        "--step-nvtx",
        "step_nvtx",
        multiple=True,
        metavar="PATTERN",
        help="NVTX ranges whose names match are the decode steps.",
    ),
    click.option(
        "--step-graph", is_flag=True, help="Each replay of the most used CUDA graph is a step."
    ),
    click.option("--no-steps", is_flag=True, help="No decode steps."),
    click.option(
        "--warmup",
        type=click.IntRange(min=0),
        metavar="N",
        help="The first N decode steps of each run are warm-up. Default: found from the data.",
    ),
    click.option(
        "--min-gap",
        callback=one(parse_time),
        metavar="TIME",
        help="Show idle gaps of the GPU from this length on. Default: 1us (10us with --lean).",
    ),
)
_TRACE_OPTIONS = (
    click.option("--no-gaps", is_flag=True, help="No slices for idle gaps."),
    click.option(
        "--util-window",
        callback=one(parse_time),
        metavar="TIME",
        help="Width of the windows of Utilization and its like. Default: chosen by the step time.",
    ),
    click.option(
        "--no-counters",
        is_flag=True,
        help="No computed counters; steps per second, memory and GPU metrics stay.",
    ),
)


_OF_TRACES = {"no_gaps": False, "util_window": None, "no_counters": False}
"""What `_TRACE_OPTIONS` mean where a command does not have them."""


def annotation_options(command: F) -> F:
    """Adds all options to a command that writes traces."""
    for option in reversed((*_STEP_OPTIONS, *_TRACE_OPTIONS)):
        command = option(command)
    return command


def step_options(command: F) -> F:
    """Adds those options to a command that matter where no trace is written."""
    for option in reversed(_STEP_OPTIONS):
        command = option(command)
    return command


def check(given: dict[str, Any]) -> None:
    """Raises a UsageError where options contradict each other, or a value or pattern is wrong."""
    given = _OF_TRACES | given
    rules = {
        "--step-kernel": bool(given["step_kernels"]),
        "--step-nvtx": bool(given["step_nvtx"]),
        "--step-graph": given["step_graph"],
        "--no-steps": given["no_steps"],
    }
    used = [name for name, is_used in rules.items() if is_used]
    if len(used) > 1:
        raise UsageError(f"{' and '.join(used)} contradict each other: choose one")
    if given["util_window"] is not None and given["util_window"] <= 0:
        raise UsageError("--util-window must be longer than 0")
    if given["min_gap"] is not None and given["min_gap"] < 0:
        raise UsageError("--min-gap cannot be negative")
    patterns = (*given["step_kernels"], *given["step_nvtx"])
    if patterns:
        from nsys2perfetto.analysis import markers  # noqa: PLC0415 - imports numpy and polars

        for pattern in patterns:
            try:
                markers.compile_pattern(pattern)
            except ValueError as error:
                raise UsageError(str(error)) from None


def build(given: dict[str, Any], lean: bool = False) -> AnnotationOptions:
    """The options as `convert` takes them, once `check` has passed them."""
    from nsys2perfetto.analysis import steps  # noqa: PLC0415 - imports numpy and polars
    from nsys2perfetto.annotation import (  # noqa: PLC0415
        LEAN_MIN_GAP,
        MIN_GAP,
        AnnotationOptions,
    )

    given = _OF_TRACES | given
    shortest = LEAN_MIN_GAP if lean else MIN_GAP
    rule = steps.AUTO
    patterns: tuple[str, ...] = ()
    if given["step_kernels"]:
        rule, patterns = steps.KERNEL, given["step_kernels"]
    elif given["step_nvtx"]:
        rule, patterns = steps.NVTX, given["step_nvtx"]
    elif given["step_graph"]:
        rule = steps.GRAPH
    elif given["no_steps"]:
        rule = steps.NONE
    return AnnotationOptions(
        steps=steps.Request(rule, tuple(patterns), given["warmup"]),
        min_gap=shortest if given["min_gap"] is None else given["min_gap"],
        gaps=not given["no_gaps"],
        counters=not given["no_counters"],
        window=given["util_window"],
    )
