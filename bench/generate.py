"""Write a large nsys capture quickly: `python -m bench.generate --kernels 1e6` prints its path.

A decode loop in schema 3.16.1: launches queued ahead of the GPU, `argmax_kernel`, a small
device-to-host copy and a stream synchronisation in every step. Equal parameters give equal rows,
and a capture that is there already is not made again.
"""

from __future__ import annotations

import argparse
import sqlite3
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from .capture.kernels import Kernels, configurations, launched
from .capture.schema import Column, insert
from .capture.shape import PRESETS, STEP_KERNELS, Shape
from .capture.static import (
    FIRST_KERNEL,
    FIRST_LAYER,
    GLOBAL_PID,
    GLOBAL_TID,
    GRAPH_NODES,
    RUNTIME_LAUNCH,
    write_static,
)
from .capture.timeline import (
    ALLOCATE,
    COPY_IN,
    COPY_OUT,
    FREE,
    GRAPH_LAUNCH,
    LAUNCH,
    THINK_NS,
    Steps,
    lane_of,
    simulate,
)

BLOCK_STEPS = 700  # steps made at a time: about 210,000 kernels
MAIN_STREAM, FIRST_SIDE_STREAM = 7, 13
NO_EVENT = 4294967295  # the eventId of a synchronisation that is about a stream
ON_DEVICE: dict[str, Column] = {
    "deviceId": 0,
    "contextId": 1,
    "greenContextId": 0,
    "globalPid": GLOBAL_PID,
}


def generate(shape: Shape) -> Path:
    """Write the capture that `shape` describes unless it is there; returns its path."""
    target = shape.path()
    if target.exists():
        return target
    target.parent.mkdir(exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    db = sqlite3.connect(partial)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    write_static(db, shape)
    kernels = configurations(shape)
    clock, correlation = 1_000_000_000, 1
    for first in range(0, shape.steps, BLOCK_STEPS):
        chosen = launched(shape, first, min(BLOCK_STEPS, shape.steps - first))
        steps = simulate(shape, first, clock, kernels.mean_ns[chosen])
        block = Block.of(shape, first, kernels, chosen, steps, correlation=correlation)
        block.write(db)
        correlation += int(steps.call_made.sum())
        clock = int(steps.step_end[-1]) + THINK_NS
    db.commit()
    db.close()
    partial.rename(target)
    return target


@dataclass
class Block:
    """Consecutive steps with everything that their rows need."""

    shape: Shape
    first: int
    kernels: Kernels
    chosen: np.ndarray
    """Configuration of each kernel, (steps, STEP_KERNELS)."""
    steps: Steps
    there: np.ndarray
    """False for kernels of the last step beyond the capture's end, (steps, STEP_KERNELS)."""
    correlation: np.ndarray
    """Correlation ids, (steps, calls)."""
    launch: np.ndarray
    """Which calls of a step launch kernels, (calls,)."""

    @classmethod
    def of(
        cls,
        shape: Shape,
        first: int,
        kernels: Kernels,
        chosen: np.ndarray,
        steps: Steps,
        *,
        correlation: int,
    ) -> Block:
        """Cut the steps to the capture's number of kernels and number their calls by time."""
        launch = (steps.kind[0] == LAUNCH) | (steps.kind[0] == GRAPH_LAUNCH)
        number = np.arange(chosen.size).reshape(chosen.shape) + first * STEP_KERNELS
        there = number < shape.kernels
        steps.call_made[:, launch] &= there
        # The nodes of a graph share the id of their launch: calls not made do not count.
        ids = correlation + np.cumsum(steps.call_made).reshape(steps.kind.shape) - 1
        return cls(shape, first, kernels, chosen, steps, there, ids, launch)

    def write(self, db: sqlite3.Connection) -> None:
        """Insert the rows of all tables."""
        insert(db, "CUPTI_ACTIVITY_KIND_RUNTIME", self._calls())
        insert(db, "CUPTI_ACTIVITY_KIND_KERNEL", self._kernels())
        insert(db, "CUPTI_ACTIVITY_KIND_MEMCPY", self._copies())
        insert(db, "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", self._synchronisations())
        for kind, operation in ((ALLOCATE, 0), (FREE, 1)):
            insert(db, "CUDA_GPU_MEMORY_USAGE_EVENTS", self._memory(kind, operation))
        if round(self.shape.nvtx * STEP_KERNELS):
            insert(db, "NVTX_EVENTS", self._step_ranges())
            insert(db, "NVTX_EVENTS", self._layer_ranges())

    def _calls(self) -> dict[str, Column]:
        made = self.steps.call_made
        runtime = np.zeros(made.shape, bool)
        runtime[:, self.launch] = self.kernels.runtime[self.chosen]
        runtime &= self.steps.kind == LAUNCH
        return {
            "start": self.steps.call_start[made],
            "end": self.steps.call_end[made],
            "eventClass": np.where(runtime, 0, 1)[made],
            "globalTid": GLOBAL_TID,
            "correlationId": self.correlation[made],
            "nameId": np.where(runtime, RUNTIME_LAUNCH, self.steps.kind + 1)[made],
            "returnValue": 0,
        }

    def _kernels(self) -> dict[str, Column]:
        # nsys exports kernels in order of start, in which streams interleave.
        rows = np.flatnonzero(self.there)
        rows = rows[np.argsort(self.steps.kernel_start.ravel()[rows], kind="stable")]
        configuration = self.chosen.ravel()[rows]
        name = FIRST_KERNEL + 3 * self.kernels.name[configuration]
        return (
            ON_DEVICE
            | {
                "start": self.steps.kernel_start.ravel()[rows],
                "end": self.steps.kernel_end.ravel()[rows],
                "streamId": self._streams().ravel()[rows],
                "correlationId": self.correlation[:, self.launch].ravel()[rows],
                "shortName": name,
                "demangledName": name + 1,
                "mangledName": name + 2,
                "launchType": 1,
                "cacheConfig": 1,
                "localMemoryPerThread": 0,
                "localMemoryTotal": 61_931_520,
                "gridId": rows + self.first * STEP_KERNELS + 1,
                "graphNodeId": self._graph_nodes(rows),
                "sharedMemoryLimitConfig": 0,
            }
            | {key: values[configuration] for key, values in self.kernels.columns.items()}
        )

    def _streams(self) -> np.ndarray:
        """Stream of each kernel: lane 0 is the main one, side streams take turns by step."""
        lane = np.tile(lane_of(self.shape), (len(self.chosen), 1))
        lanes = int(lane.max())
        step = self.first + np.arange(len(lane))[:, None]
        turn = (step * lanes + lane - 1) % max(1, self.shape.streams - 1)
        return np.where(lane == 0, MAIN_STREAM, FIRST_SIDE_STREAM + turn)

    def _graph_nodes(self, rows: np.ndarray) -> list[int | None] | None:
        if not self.steps.graph.any():
            return None
        nodes = GRAPH_NODES + STEP_KERNELS + rows % STEP_KERNELS
        in_graph = self.steps.graph[rows // STEP_KERNELS]
        pairs = zip(nodes.tolist(), in_graph.tolist(), strict=True)
        return [node if inside else None for node, inside in pairs]

    def _copies(self) -> dict[str, Column]:
        kind = self.steps.kind
        copies = (kind == COPY_IN) | (kind == COPY_OUT)
        inward = kind[copies] == COPY_IN
        return ON_DEVICE | {
            "start": self.steps.copy_start.ravel(),
            "end": self.steps.copy_end.ravel(),
            "streamId": MAIN_STREAM,
            "correlationId": self.correlation[copies],
            "bytes": np.where(inward, 16_384, 4),
            "copyKind": np.where(inward, 1, 2),
            "srcKind": np.where(inward, 1, 2),
            "dstKind": np.where(inward, 2, 1),
        }

    def _synchronisations(self) -> dict[str, Column]:
        return ON_DEVICE | {
            "start": self.steps.call_start[:, -1] + 300,
            "end": self.steps.call_end[:, -1] - 200,
            "streamId": MAIN_STREAM,
            "correlationId": self.correlation[:, -1],
            "syncType": 3,
            "eventId": NO_EVENT,
        }

    def _memory(self, kind: int, operation: int) -> dict[str, Column]:
        columns = np.flatnonzero(self.steps.kind[0] == kind)
        slot = np.tile(np.arange(len(columns)), len(self.chosen))
        return {
            "start": self.steps.call_end[:, columns].ravel(),
            "globalPid": GLOBAL_PID,
            "deviceId": 0,
            "contextId": 1,
            "address": 0x7F0000000000 + slot * 0x1000000,
            "pc": 0,
            "bytes": 65_536 * (slot + 1),
            "memKind": 2,
            "memoryOperationType": operation,
            "correlationId": self.correlation[:, columns].ravel(),
        }

    def _step_ranges(self) -> dict[str, Column]:
        """A range with inline text around each step."""
        return {
            "start": self.steps.step_start,
            "end": self.steps.step_end + 400,
            "eventType": 59,
            "globalTid": GLOBAL_TID,
            "domainId": 0,
            "text": [f"decode step {self.first + i}" for i in range(len(self.chosen))],
        }

    def _layer_ranges(self) -> dict[str, Column]:
        """Ranges with registered strings around equal parts of the launches of each step.

        A step that is one graph launch has none, and neither has one that is cut short.
        """
        layers = min(round(self.shape.nvtx * STEP_KERNELS) - 1, STEP_KERNELS)
        bounds = np.linspace(0, STEP_KERNELS, layers + 1).astype(np.int64)
        calls = np.flatnonzero(self.launch)
        steps = ~self.steps.graph & self.there.all(axis=1)
        start = self.steps.call_start[:, calls[bounds[:-1]]][steps]
        end = self.steps.call_end[:, calls[bounds[1:] - 1]][steps]
        return {
            "start": start.ravel() - 200,
            "end": end.ravel() + 200,
            "eventType": 59,
            "globalTid": GLOBAL_TID,
            "domainId": 0,
            "textId": np.tile(FIRST_LAYER + np.arange(layers), len(start)),
        }


def main() -> None:
    """Parse one option for each parameter of a capture, write it, print its path."""
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="decode", help="where to start from")
    for field in fields(Shape):
        parser.add_argument(f"--{field.name}", type=float, help=f"default {field.default:.4g}")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    shape = vars(PRESETS[given.pop("preset")])
    whole = {name: type(shape[name])(value) for name, value in given.items()}
    print(generate(Shape(**shape | whole)))


if __name__ == "__main__":
    main()
