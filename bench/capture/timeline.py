"""The times of a decode loop, many steps at once: a host thread that launches ahead of a GPU.

Every step ends with a stream synchronisation, so steps do not depend on each other: times are
computed relative to the step, as matrices (steps x calls) and (steps x kernels), and shifted after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shape import STEP_KERNELS, Shape

ALLOCATE, COPY_IN, LAUNCH, FREE, COPY_OUT, SYNC, GRAPH_LAUNCH = range(7)
"""What an API call does."""

# Host time of a call (ns) by kind, as traced by nsys on a desktop GPU: low end, and range above it.
CALL_NS = np.array([900, 2500, 1900, 700, 2600, 0, 45_000])
CALL_SPREAD_NS = np.array([600, 1500, 1800, 400, 1500, 1, 20_000])
THINK_NS = 25_000  # host work between two steps: sampling, detokenising, building the next input
LANES = 4  # streams busy at a time


@dataclass
class Steps:
    """Consecutive steps; times in ns since the start of the session.

    Shapes: `call_*` (steps, calls of a step), `kernel_*` (steps, STEP_KERNELS), `copy_*`
    (steps, copies of a step), `step_*` (steps,). Calls that a graph launch replaces are there with
    `call_made` False.
    """

    kind: np.ndarray
    call_start: np.ndarray
    call_end: np.ndarray
    call_made: np.ndarray
    kernel_start: np.ndarray
    kernel_end: np.ndarray
    copy_start: np.ndarray
    copy_end: np.ndarray
    graph: np.ndarray
    step_start: np.ndarray
    step_end: np.ndarray


def call_kinds(shape: Shape) -> np.ndarray:
    """The kind of each call of a step, in order of time."""
    allocations = round(shape.memory * STEP_KERNELS / 2)
    copies_in = max(0, round(shape.copies * STEP_KERNELS) - 1)
    counts = [allocations, copies_in, STEP_KERNELS, allocations, 1, 1]
    return np.repeat([ALLOCATE, COPY_IN, LAUNCH, FREE, COPY_OUT, SYNC], counts)


def lane_of(shape: Shape) -> np.ndarray:
    """The lane (0 to LANES - 1) of each kernel of a step; the last kernel closes lane 0."""
    lane = np.arange(STEP_KERNELS) // 4 % min(shape.streams, LANES)
    lane[-1] = 0
    return lane


def simulate(shape: Shape, first: int, clock: int, kernel_ns: np.ndarray) -> Steps:
    """Times of some steps from step number `first` on.

    Args:
        shape: The capture's parameters.
        first: Number of the first step; the jitter depends on it alone.
        clock: When the host starts with the first of them (ns).
        kernel_ns: Mean duration of each kernel (ns), (steps, STEP_KERNELS).
    """
    rng = np.random.default_rng([7, first])
    count = len(kernel_ns)
    kind = call_kinds(shape)
    launches, copies_in = kind == LAUNCH, kind == COPY_IN
    numbers = np.arange(first, first + count)
    graph = np.floor((numbers + 1) * shape.graphs) > np.floor(numbers * shape.graphs)

    kinds = np.tile(kind, (count, 1))
    made = np.ones(kinds.shape, bool)
    if graph.any():
        launch = np.flatnonzero(launches)
        kinds[np.ix_(graph, launch[:1])] = GRAPH_LAUNCH
        made[np.ix_(graph, launch[1:])] = False
    pause = rng.integers(600, 1400, kinds.shape)
    busy = CALL_NS[kinds] + (rng.random(kinds.shape) * CALL_SPREAD_NS[kinds]).astype(np.int64)
    pause[~made] = busy[~made] = 0
    call_end = np.cumsum(pause + busy, axis=1)
    call_start = call_end - busy

    kernel_busy = (kernel_ns * rng.uniform(0.97, 1.06, kernel_ns.shape)).astype(np.int64)
    copy_busy = rng.integers(1100, 1500, (count, int(copies_in.sum()) + 1))
    inputs = copy_busy.shape[1] - 1
    called = np.concatenate([call_end[:, copies_in], call_end[:, launches]], axis=1)
    device_busy = np.concatenate([copy_busy[:, :-1], kernel_busy], axis=1)
    lanes = np.concatenate([np.zeros(inputs, np.int64), lane_of(shape)])
    device_pause = rng.integers(500, 1600, device_busy.shape)
    device_end = _device(lanes, called + 1500, device_busy, device_pause)
    copy_end, kernel_end = device_end[:, :inputs], device_end[:, inputs:]
    last = np.maximum(kernel_end[:, -1:], call_end[:, kind == COPY_OUT]) + 900 + copy_busy[:, -1:]
    copy_end = np.concatenate([copy_end, last], axis=1)

    call_end[:, -1] = np.maximum(
        call_start[:, -1] + 1500, last[:, 0] + rng.integers(2500, 4500, count)
    )
    length = call_end[:, -1] + THINK_NS
    origin = clock + np.cumsum(length) - length
    shift = origin[:, None]
    return Steps(
        kind=kinds,
        call_start=call_start + shift,
        call_end=call_end + shift,
        call_made=made,
        kernel_start=kernel_end - kernel_busy + shift,
        kernel_end=kernel_end + shift,
        copy_start=copy_end - copy_busy + shift,
        copy_end=copy_end + shift,
        graph=graph,
        step_start=origin,
        step_end=origin + length - THINK_NS,
    )


def _device(
    lanes: np.ndarray, ready: np.ndarray, busy: np.ndarray, pause: np.ndarray
) -> np.ndarray:
    """Ends of the operations of each step, one after the other in each lane.

    Args:
        lanes: Lane of each operation, (operations,).
        ready: Earliest start, (steps, operations), in ns like the next two.
        busy: Duration.
        pause: Least time after the operation before it in the same lane.
    """
    end = np.empty_like(busy)
    for number in range(int(lanes.max()) + 1):
        columns = lanes == number
        end[:, columns] = _queue(ready[:, columns], busy[:, columns], pause[:, columns])
    # The step's last kernel needs the results of every lane.
    end[:, -1] = np.maximum(end[:, -1], end[:, :-1].max(axis=1) + pause[:, -1] + busy[:, -1])
    return end


def _queue(ready: np.ndarray, busy: np.ndarray, pause: np.ndarray) -> np.ndarray:
    """end[i] = max(end[i-1] + pause[i], ready[i]) + busy[i] along each row, without a loop over i.

    With W the running sum of pause + busy, end - W is the running maximum of ready + busy - W.
    """
    work = np.cumsum(pause + busy, axis=1)
    return work + np.maximum.accumulate(ready + busy - work, axis=1)
