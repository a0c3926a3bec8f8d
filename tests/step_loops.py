"""Made-up loops of kernels, and the decode steps that are found in them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl

from nsys2perfetto.analysis import markers
from nsys2perfetto.analysis import steps as st
from nsys2perfetto.analysis.intervals import union
from nsys2perfetto.analysis.step_measure import Timed, measure


def int64s(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


def phases(steps) -> list[str]:
    return [st.PHASES[p] for p in steps.phase]


class Loop:
    """Kernels one after another on one GPU, 10 ns each and 2 ns apart unless said otherwise."""

    def __init__(self, unit: int = 0, at: int = 1_000):
        self.unit, self.now = unit, at
        self.rows: list[tuple[int, int, str, int]] = []
        self.copies: list[tuple[int, int, int]] = []
        self.ranges: list[tuple[str, int, int, int]] = []
        self.replays: list[tuple[int, int, int]] = []

    def run(self, *names, ns=10, grid=1, gap=2):
        for name in names:
            self.rows.append((self.now, self.now + ns, name, grid))
            self.now += ns + gap
        return self

    def copy(self, size):
        self.copies.append((self.now, self.now + 3, size))
        self.now += 5
        return self

    def step(self, name, *kernels, thread=1, **how):
        """A range around kernels."""
        start = self.now
        self.run(*kernels, **how)
        self.ranges.append((name, thread, start, self.now - 2))
        return self

    def replay(self, graph, *kernels, whole=0):
        start = self.now
        self.now += whole + 2 if whole else 0
        self.run(*kernels)
        self.replays.append((graph, start, self.now - 2))
        return self

    def pause(self, ns):
        self.now += ns
        return self


BODY = ("norm", "gemv", "rope", "attention", "gemv", "add", "norm", "mlp")
PREFILL = ("norm", "gemm", "rope", "attention", "gemm", "add", "norm", "gemm", "mlp")


def find(*loops, rule=st.AUTO, patterns=(), warmup=None, shuffle=False):
    """The steps of loops; each loop has a unit of its own."""
    rows = [(lo.unit, *row) for lo in loops for row in lo.rows]
    if shuffle:
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    configs = sorted({row[3:] for row in rows})
    texts = [name for name, _ in configs]
    names = markers.KernelNames(
        texts, texts, texts, pl.DataFrame({"grid": [grid for _, grid in configs]})
    )
    unit, start, end = (int64s(row[i] for row in rows) for i in range(3))
    config = np.array([configs.index(row[3:]) for row in rows], np.uint32)
    kernels = st.Kernels(unit, start, end, config, names)
    range_rows = [(lo.unit, *row) for lo in loops for row in lo.ranges]
    range_names = pl.Series(sorted({r[1] for r in range_rows}), dtype=pl.String)
    codes = {name: i for i, name in enumerate(range_names)}
    r_unit, thread, r_start, r_end = (int64s(r[i] for r in range_rows) for i in (0, 2, 3, 4))
    ranges = st.Ranges(
        r_unit, thread, int64s(codes[r[1]] for r in range_rows), r_start - 500, r_start - 499,
        r_start, r_end, np.ones(len(range_rows), np.int64), names=range_names,
    )  # fmt: skip
    replay_rows = [(lo.unit, *row) for lo in loops for row in lo.replays]
    g = [int64s(r[i] for r in replay_rows) for i in range(4)]
    inside = [((start >= a) & (end <= b) & (unit == u)).any()
              for u, _, a, b in replay_rows]  # fmt: skip
    replays = st.Replays(g[0], g[1], g[2], g[3], ~np.array(inside, np.bool_))
    copy_rows = [(lo.unit, *row) for lo in loops for row in lo.copies]
    copies = st.Copies(*(int64s(row[i] for row in copy_rows) for i in range(4)))
    found = st.find_steps(
        kernels,
        np.concatenate((unit, copies.unit, replays.unit)),
        np.concatenate((start, copies.start, replays.start)),
        st.Request(rule, tuple(patterns), warmup),
        ranges=ranges,
        replays=replays,
        copies=copies,
    )
    found_kernels = Timed(unit, start, end)
    counts = measure(found.steps, found_kernels, union(unit, start, end)).kernel_count
    return SimpleNamespace(
        steps=found.steps, choices=found.choices, choice=(found.choices or [None])[0],
        counts=counts.tolist(), kernels=kernels, phases=phases(found.steps),
        runs=list(zip(found.steps.run.tolist(), found.steps.step.tolist(), strict=True)),
    )  # fmt: skip


def decode(loop=None, steps=6, end=("argmax",), prefill=True):
    loop = loop or Loop()
    if prefill:
        loop.run(*PREFILL, grid=64).run(*end)
    for _ in range(steps):
        loop.run(*BODY).run(*end).pause(5)
    return loop
