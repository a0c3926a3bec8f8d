"""Occupancy and waves, against what Nsight Compute prints."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nsys2perfetto.analysis.occupancy import (
    NO_LIMIT,
    Limit,
    block_limits,
    blocks_per_sm,
    limits_of,
    theoretical_occupancy_pct,
    waves_per_multiprocessor,
)

# Launches as Nsight Compute printed them in published reports:
# compute capability, SMs, grid, block, registers, shared memory (static + dynamic), configured ->
# block limits (SM, registers, shared memory, warps), theoretical occupancy, waves per SM.
NSIGHT_COMPUTE = [
    ((7, 0), 80, 32768, 256, 16, 0, 0, (32, 16, None, 8), 100.0, 51.20),
    ((7, 5), None, 0, 256, 16, 1024, 32768, (16, 16, 32, 4), 100.0, None),
    ((7, 5), None, 0, 256, 16, 1040, 32768, (16, 16, 25, 4), 100.0, None),
    ((7, 5), None, 0, 256, 30, 1024, 32768, (16, 8, 32, 4), 100.0, None),
    ((8, 0), 108, 3456, 256, 26, 0, 32768, (32, 8, 32, 8), 100.0, 4.0),
    ((8, 6), 82, 47000, 256, 30, 0, 8192, (16, 8, 8, 6), 100.0, 95.53),
    ((8, 6), 82, 23989, 256, 16, 4096, 65536, (16, 16, 12, 6), 100.0, 48.76),
    ((8, 9), 58, 128, 512, 54, 29824, 65536, (24, 2, 2, 3), 66.67, 1.10),
    ((8, 9), 58, 128, 128, 80, 43776, 102400, (24, 6, 2, 12), 16.67, 1.10),
    ((8, 9), 58, 4096, 256, 72, 33024, 102400, (24, 3, 3, 6), 50.0, 23.54),
    ((8, 9), 58, 512, 256, 54, 16384, 102400, (24, 4, 5, 6), 66.67, 2.21),
    ((10, 0), 152, 288, 384, 168, 205696, 233472, (32, 1, 1, 5), 18.75, 1.89),
    ((12, 0), 170, 16384, 256, 40, 0, 16384, (24, 6, 16, 6), 100.0, 16.06),
    ((12, 0), 170, 16384, 256, 37, 2048, 65536, (24, 6, 21, 6), 100.0, 16.06),
]


@pytest.mark.parametrize("case", NSIGHT_COMPUTE)
def test_equals_nsight_compute(case):
    capability, sms, grid, *launch, expected, occupancy, waves = case
    limits = limits_of(*capability)
    arrays = [np.array([value]) for value in launch]
    by = block_limits(limits, *arrays)
    assert (by.blocks[0], by.registers[0], by.warps[0]) == (expected[0], expected[1], expected[3])
    assert by.shared_memory[0] == (NO_LIMIT if expected[2] is None else expected[2])
    blocks, _ = blocks_per_sm(limits, *arrays)
    found = theoretical_occupancy_pct(limits, arrays[0], blocks)[0]
    assert found == pytest.approx(occupancy, abs=0.005)
    if waves is not None:
        found = waves_per_multiprocessor(np.array([grid]), sms, blocks)[0]
        assert found == pytest.approx(waves, abs=0.005)


def limiting(capability, *launch) -> tuple[int, Limit]:
    arrays = [np.array([value]) for value in launch]
    blocks, limit = blocks_per_sm(limits_of(*capability), *arrays)
    return int(blocks[0]), Limit(int(limit[0]))


def test_the_limiting_factor():
    assert limiting((9, 0), 1024, 32, 0) == (2, Limit.WARPS | Limit.REGISTERS)
    assert limiting((9, 0), 128, 255, 0) == (2, Limit.REGISTERS)
    assert limiting((9, 0), 128, 32, 100_000) == (2, Limit.SHARED_MEMORY)
    assert limiting((8, 6), 32, 16, 0) == (16, Limit.BLOCKS)


def test_a_carve_out_that_just_suffices_is_no_limit():
    # 16 blocks of 1 KB in 16 KB: what the driver sets aside for 16 block slots.
    assert limiting((8, 6), 32, 16, 0, 16384) == (16, Limit.BLOCKS)


def test_a_small_carve_out_limits_and_one_that_cannot_be_meant_does_not():
    assert limiting((8, 6), 32, 16, 0, 8192) == (8, Limit.SHARED_MEMORY)
    assert limiting((8, 6), 32, 16, 4096, 0) == (16, Limit.BLOCKS)
    assert limiting((8, 6), 32, 16, 4096, 4096) == (16, Limit.BLOCKS)
    assert limiting((8, 6), 32, 16, 4096, 1 << 40) == (16, Limit.BLOCKS)


def test_registers_are_dealt_out_per_sub_partition():
    # 224 registers: 7,168 a warp. One pool of 65,536 would hold the 9 warps of a block of 288
    # threads; four sub-partitions of 16,384 hold two warps each.
    assert limiting((8, 0), 256, 224, 0)[0] == 1
    assert limiting((8, 0), 288, 224, 0)[0] == 0


def test_launches_that_cannot_be():
    assert limiting((8, 0), 2048, 16, 0)[0] == 0
    assert limiting((8, 0), 0, 16, 0)[0] == 0
    assert limiting((8, 0), 128, 16, 200_000)[0] == 0
    assert limiting((8, 0), 128, 300, 0)[0] == 0
    limits = limits_of(8, 0)
    none = np.array([0])
    assert math.isnan(theoretical_occupancy_pct(limits, np.array([2048]), none)[0])
    assert math.isnan(waves_per_multiprocessor(np.array([7]), 108, none)[0])


def test_unknown_gpus_are_not_guessed():
    assert limits_of(99, 0) is None
    assert limits_of(8, 1) is None
    ones = np.ones(3, dtype=np.int64)
    blocks, limit = blocks_per_sm(None, ones, ones, ones, ones)
    assert blocks.tolist() == [0, 0, 0]
    assert limit.tolist() == [0, 0, 0]
    assert np.isnan(theoretical_occupancy_pct(None, ones, blocks)).all()
    assert np.isnan(waves_per_multiprocessor(ones, 46, blocks)).all()
    assert np.isnan(waves_per_multiprocessor(ones, 0, ones)).all()


def test_no_launches():
    none = np.array([], dtype=np.int64)
    blocks, limit = blocks_per_sm(limits_of(9, 0), none, none, none, none)
    assert len(blocks) == len(limit) == 0
    assert len(theoretical_occupancy_pct(limits_of(9, 0), none, blocks)) == 0
    assert len(waves_per_multiprocessor(none, 132, blocks)) == 0


CAPABILITIES = (
    "3.5 3.7 5.0 5.2 5.3 6.0 6.1 6.2 7.0 7.2 7.5 8.0 8.6 8.7 8.8 8.9 9.0 10.0 10.3 11.0 12.0 12.1"
)


@pytest.mark.parametrize("capability", CAPABILITIES.split())
def test_every_capability_runs_a_small_block_and_fills_up(capability):
    limits = limits_of(*map(int, capability.split(".")))
    threads = np.arange(1, 1025)
    blocks, limit = blocks_per_sm(limits, threads, threads * 0 + 16, threads * 0)
    assert (blocks >= 1).all()
    assert (limit > 0).all()
    occupancy = theoretical_occupancy_pct(limits, threads, blocks)
    assert occupancy.max() == 100.0
    # The largest block leaves room for what the system reserves.
    assert limits.shared_memory - limits.shared_memory_per_block >= limits.reserved_shared_memory
