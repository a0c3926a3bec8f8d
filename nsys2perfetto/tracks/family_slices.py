"""Where the kernel time of each steady step goes: shares by family of kernels, side by side."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.analysis.step_measure import Timed
from nsys2perfetto.analysis.steps import PHASES, Found
from nsys2perfetto.tracks.thread_pools import Pools
from nsys2perfetto.tracks.thread_slices import SliceFamily
from nsys2perfetto.wire.stamp import RowSlot

CATEGORY = "nsys.step.family"
_STEADY = PHASES.index("steady")


class HasSteps(Protocol):
    """What is needed of `annotation.Annotations`."""

    @property
    def steps(self) -> Found:
        """The steps."""

    @property
    def kernels(self) -> Timed:
        """All kernels, by unit."""

    @property
    def step_of_kernel(self) -> npt.NDArray[np.int64]:
        """Row of each kernel's step, -1 for none."""

    @property
    def kernel_families(self) -> tuple[npt.NDArray[np.int16], list[str]]:
        """Number of each kernel's family, and the families' names."""


def family(found: HasSteps, track_of_unit: dict[int, int], pools: Pools) -> SliceFamily:
    """A slice for each family in each steady step, as long as its kernel time, largest first.

    The slices of a step begin where it begins and follow each other; where kernels overlap so much
    that they would leave the step, they are shortened in proportion.
    """
    steps = found.steps.steps
    number, names = found.kernel_families
    kernels = found.kernels
    of_step = found.step_of_kernel
    rows = np.flatnonzero(of_step >= 0)
    rows = rows[steps.phase[of_step[rows]] == _STEADY]
    cell = of_step[rows].astype(np.int64) * len(names) + number[rows]
    # Sums of up to 2^53 ns, 104 days, are exact in doubles.
    total_ns = np.bincount(cell, weights=kernels.end[rows] - kernels.start[rows])
    used = np.flatnonzero(np.bincount(cell))
    shares = (
        pl.DataFrame({
            "step": used // max(len(names), 1),
            "family": used % max(len(names), 1),
            "ns": total_ns[used].astype(np.int64),
        })
        .sort("step", "ns", "family", descending=[False, True, False])
        .with_columns(pl.col("ns").sum().over("step").alias("total"))
    )  # fmt: skip
    step = shares["step"].to_numpy()
    wall = steps.wall_ns[step]
    total = shares["total"].to_numpy()
    scale = np.minimum(1.0, wall / np.maximum(total, 1))
    length = np.floor(shares["ns"].to_numpy() * scale).astype(np.int64)
    before = np.cumsum(length) - length
    first = np.flatnonzero(np.append(True, step[1:] != step[:-1])) if len(step) else step
    offset = before - np.repeat(before[first], np.diff(np.append(first, len(step))))
    start = steps.t0[step] + offset
    percent = np.round(100 * shares["ns"].to_numpy() / np.maximum(total, 1)).astype(np.int64)
    labels = shares.select(
        pl.concat_str(
            pl.lit(pl.Series(names, dtype=pl.String)).gather(shares["family"]),
            pl.lit(" "),
            pl.lit(pl.Series(percent)).cast(pl.String),
            pl.lit("%"),
        ).alias("label")
    )["label"]
    units = sorted(track_of_unit)
    config = pl.DataFrame(
        {
            "track": [track_of_unit[u] for u in units],
            "category_iid": [pools.categories.iid(CATEGORY)] * len(units),
        },
        schema={"track": pl.Int64, "category_iid": pl.Int64},
    )
    iids = pools.names.iids(labels).to_numpy()
    return family_of(config, start, start + length, np.searchsorted(units, steps.unit[step]), iids)


def family_of(
    config: pl.DataFrame,
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    code: npt.NDArray[np.intp],
    name_iid: npt.NDArray[np.int64],
) -> SliceFamily:
    """Slices without arguments whose names differ."""
    return SliceFamily(
        "step_family",
        config,
        start,
        end,
        code.astype(np.uint32),
        rows={"name_iid": RowSlot.fitting(name_iid)},
        values={"name_iid": name_iid},
        in_order=True,
    )
