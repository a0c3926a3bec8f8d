"""Theoretical occupancy and waves of kernel launches, from their launch configuration.

Limits per compute capability (all checked against the sources unless marked in the table):

- "Technical Specifications per Compute Capability" in the appendix of NVIDIA's CUDA C++ Programming
  Guide (7.5 to 12.0), and NVIDIA's ``cuda::arch_traits`` in the CCCL repository,
  ``libcudacxx/include/cuda/__device/arch_traits.h`` (5.0 to 12.1): warps, blocks, registers, shared
  memory, and the 1 KB of it that the system keeps per block from 8.0 on.
- ``cuda_occupancy.h`` of the CUDA toolkit (12.6): allocation units, sub-partitions, and the rules
  that :func:`blocks_per_sm` follows. For 10.0 to 12.1, which that edition does not know yet, the
  units are those of 9.0; they agree with what Nsight Compute prints on 10.0 and 12.0.

Not modelled, since an nsys export does not tell: the block barriers a kernel uses (a limit from 9.0
on, rarely the smallest), cluster launches that find no room for a whole cluster, and the fewer SMs
of a green context or an MPS share.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
UInt8s = NDArray[np.uint8]

WARP_SIZE = 32
MAX_THREADS_PER_BLOCK = 1024
NO_LIMIT = 1 << 30

_KB = 1024


class Limit(IntFlag):
    """What keeps further blocks off an SM; several at once when they tie."""

    WARPS = 1
    REGISTERS = 2
    SHARED_MEMORY = 4
    BLOCKS = 8


@dataclass(frozen=True)
class SmLimits:
    """The resources of one streaming multiprocessor (SM).

    Attributes:
        compute_capability: (major, minor).
        max_warps: resident warps per SM.
        max_blocks: resident blocks per SM.
        registers: 32-bit registers per SM.
        registers_per_block: 32-bit registers that one block can have.
        max_registers_per_thread: 32-bit registers that one thread can have.
        register_unit: registers are given to a warp in multiples of this.
        warp_granularity: sub-partitions of an SM. Warps are dealt to them evenly, and the
            registers of each serve its own warps only.
        shared_memory: bytes per SM, at the largest carve-out.
        shared_memory_per_block: bytes that one block can have (with opt-in).
        shared_memory_unit: shared memory is given to a block in multiples of this, bytes.
        reserved_shared_memory: bytes of each block that the system keeps for itself.
    """

    compute_capability: tuple[int, int]
    max_warps: int
    max_blocks: int
    registers: int
    registers_per_block: int
    max_registers_per_thread: int
    register_unit: int
    warp_granularity: int
    shared_memory: int
    shared_memory_per_block: int
    shared_memory_unit: int
    reserved_shared_memory: int


def _limits(
    compute_capability: tuple[int, int],
    warps_and_blocks: tuple[int, int],
    shared_kb: int,
    block_shared_kb: int,
    *,
    registers_k: int = 64,
    block_registers_k: int = 64,
    warp_granularity: int = 4,
) -> SmLimits:
    major = compute_capability[0]
    return SmLimits(
        compute_capability=compute_capability,
        max_warps=warps_and_blocks[0],
        max_blocks=warps_and_blocks[1],
        registers=registers_k * 1024,
        registers_per_block=block_registers_k * 1024,
        max_registers_per_thread=255,
        register_unit=256,
        warp_granularity=warp_granularity,
        shared_memory=shared_kb * _KB,
        shared_memory_per_block=block_shared_kb * _KB,
        shared_memory_unit=128 if major >= 8 else 256,
        reserved_shared_memory=_KB if major >= 8 else 0,
    )


_TABLE = {
    limits.compute_capability: limits
    for limits in (
        # 3.5, 3.7, 7.2: sizes from third-party code that quotes older editions of the guide.
        _limits((3, 5), (64, 16), 48, 48),
        _limits((3, 7), (64, 16), 112, 48, registers_k=128),
        _limits((5, 0), (64, 32), 64, 48),
        _limits((5, 2), (64, 32), 96, 48),
        _limits((5, 3), (64, 32), 64, 48, block_registers_k=32),
        _limits((6, 0), (64, 32), 64, 48, warp_granularity=2),
        _limits((6, 1), (64, 32), 96, 48),
        _limits((6, 2), (64, 32), 64, 48, block_registers_k=32),
        _limits((7, 0), (64, 32), 96, 96),
        _limits((7, 2), (64, 32), 96, 96),
        _limits((7, 5), (32, 16), 64, 64),
        _limits((8, 0), (64, 32), 164, 163),
        _limits((8, 6), (48, 16), 100, 99),
        _limits((8, 7), (48, 16), 164, 163),
        _limits((8, 8), (48, 16), 100, 99),  # in CCCL only, as a copy of 8.6
        _limits((8, 9), (48, 24), 100, 99),
        _limits((9, 0), (64, 32), 228, 227),
        _limits((10, 0), (64, 32), 228, 227),
        _limits((10, 3), (64, 32), 228, 227),
        _limits((11, 0), (48, 24), 228, 227),
        _limits((12, 0), (48, 24), 100, 99),
        _limits((12, 1), (48, 24), 100, 99),
    )
}


def limits_of(major: int, minor: int) -> SmLimits | None:
    """The limits of a compute capability; None where they are not known: no guess is made."""
    return _TABLE.get((major, minor))


@dataclass(frozen=True)
class BlockLimits:
    """Blocks per SM that each resource alone allows; all arrays of shape (n,).

    The same as "Block Limit Warps / Registers / Shared Mem / SM" in Nsight Compute.

    Attributes:
        warps: by warp slots.
        registers: by registers; `NO_LIMIT` for a kernel without registers.
        shared_memory: by shared memory; `NO_LIMIT` for a kernel without shared memory.
        blocks: by block slots.
    """

    warps: Int64s
    registers: Int64s
    shared_memory: Int64s
    blocks: Int64s


def block_limits(
    limits: SmLimits,
    threads_per_block: Int64s,
    registers_per_thread: Int64s,
    shared_memory_per_block: Int64s,
    shared_memory_executed: Int64s | None = None,
) -> BlockLimits:
    """The limits behind :func:`blocks_per_sm`, which has the same arguments."""
    threads = np.asarray(threads_per_block, dtype=np.int64)
    warps = np.maximum(-(-threads // WARP_SIZE), 1)
    possible = (threads >= 1) & (threads <= MAX_THREADS_PER_BLOCK)
    return BlockLimits(
        warps=np.where(possible, limits.max_warps // warps, 0),
        registers=_by_registers(limits, warps, registers_per_thread),
        shared_memory=_by_shared_memory(limits, shared_memory_per_block, shared_memory_executed),
        blocks=np.full(len(threads), limits.max_blocks),
    )


def blocks_per_sm(
    limits: SmLimits | None,
    threads_per_block: Int64s,
    registers_per_thread: Int64s,
    shared_memory_per_block: Int64s,
    shared_memory_executed: Int64s | None = None,
) -> tuple[Int64s, UInt8s]:
    """How many blocks of a launch fit on an SM at once, by the rules of ``cuda_occupancy.h``.

    ``shared_memory_executed`` is the capture's ``sharedMemoryExecuted``: how much of an SM's
    combined cache the driver had set aside as shared memory while the kernel ran. It is the whole
    SM's, not one block's, so blocks really had to fit into it, and it is what Nsight Compute
    divides (its "Shared Memory Configuration Size": 8 KB with 1 KB a block gives its "Block Limit
    Shared Mem" of 8). As a rule the driver sets aside enough for the other limits to come first,
    and the result is the same with and without; it is lower where a program asked for a small
    carve-out, and then that is what ran. So it is used where it is given, except where it cannot
    be meant: a value too small for even one block (0 or absent in some captures) means the
    largest carve-out from the table instead.

    Args:
        limits: of the GPU, or None if unknown.
        threads_per_block: shape (n,).
        registers_per_thread: shape (n,).
        shared_memory_per_block: static + dynamic, bytes, shape (n,).
        shared_memory_executed: bytes per SM, shape (n,), 0 where not given.

    Returns:
        Blocks per SM, shape (n,), 0 where a block does not fit or the limits are unknown; and what
        limits them, shape (n,), bits of :class:`Limit`, 0 where the limits are unknown.
    """
    if limits is None:
        unknown = np.zeros(len(threads_per_block), dtype=np.int64)
        return unknown, unknown.astype(np.uint8)
    launch = (threads_per_block, registers_per_thread, shared_memory_per_block)
    by = block_limits(limits, *launch, shared_memory_executed)
    blocks = np.minimum.reduce([by.warps, by.registers, by.shared_memory, by.blocks])
    limiting = (
        np.where(by.warps == blocks, Limit.WARPS, 0)
        | np.where(by.registers == blocks, Limit.REGISTERS, 0)
        | np.where(by.blocks == blocks, Limit.BLOCKS, 0)
    )
    # The driver tends to set aside just what the other limits need. That tie is no limit.
    at_most = block_limits(limits, *launch).shared_memory
    shared = (at_most == blocks) | (limiting == 0)
    return blocks, (limiting | np.where(shared, Limit.SHARED_MEMORY, 0)).astype(np.uint8)


def theoretical_occupancy_pct(
    limits: SmLimits | None, threads_per_block: Int64s, blocks: Int64s
) -> Float64s:
    """Warps that can be resident on an SM in percent of the warps that an SM can hold.

    Args:
        limits: of the GPU, or None if unknown.
        threads_per_block: shape (n,).
        blocks: from :func:`blocks_per_sm`, shape (n,).

    Returns:
        Percent, shape (n,); NaN where the limits are unknown or not one block fits.
    """
    if limits is None:
        return np.full(len(blocks), np.nan)
    warps = -(-np.asarray(threads_per_block, dtype=np.int64) // WARP_SIZE)
    return np.where(blocks > 0, 100.0 * blocks * warps / limits.max_warps, np.nan)


def waves_per_multiprocessor(grid_blocks: Int64s, sm_count: int, blocks: Int64s) -> Float64s:
    """How many times the grid fills the GPU: Nsight Compute's ``launch__waves_per_multiprocessor``.

    The blocks of the grid divided by the blocks that the whole GPU holds at once.

    Args:
        grid_blocks: blocks of the grid, shape (n,).
        sm_count: SMs of the GPU; 0 if unknown.
        blocks: blocks per SM from :func:`blocks_per_sm`, shape (n,).

    Returns:
        Waves, shape (n,), not rounded; NaN where the GPU is unknown or not one block fits.
    """
    grid = np.asarray(grid_blocks, dtype=np.float64)
    at_once = np.asarray(blocks, dtype=np.float64) * max(sm_count, 0)
    waves = np.full(len(grid), np.nan)
    np.divide(grid, at_once, out=waves, where=at_once > 0)
    return waves


def _by_registers(limits: SmLimits, warps: Int64s, registers_per_thread: Int64s) -> Int64s:
    """Blocks for which the registers suffice."""
    registers = np.asarray(registers_per_thread, dtype=np.int64)
    warp_registers = _round_up(registers * WARP_SIZE, limits.register_unit)
    partition = limits.registers // limits.warp_granularity
    fit = partition // np.maximum(warp_registers, 1) * limits.warp_granularity // warps
    # The hardware checks a block as if it had warps in all sub-partitions alike.
    checked = warp_registers * _round_up(warps, limits.warp_granularity)
    too_many = (checked > limits.registers_per_block) | (
        registers > limits.max_registers_per_thread
    )
    return np.where(too_many, 0, np.where(warp_registers > 0, fit, NO_LIMIT))


def _by_shared_memory(
    limits: SmLimits, shared_memory_per_block: Int64s, shared_memory_executed: Int64s | None
) -> Int64s:
    """Blocks for which the shared memory suffices."""
    asked = np.asarray(shared_memory_per_block, dtype=np.int64)
    allocated = _round_up(asked + limits.reserved_shared_memory, limits.shared_memory_unit)
    available = np.full(len(asked), limits.shared_memory)
    if shared_memory_executed is not None:
        executed = np.asarray(shared_memory_executed, dtype=np.int64)
        meant = (executed >= allocated) & (executed < limits.shared_memory)
        available[meant] = executed[meant]
    fit = np.where(allocated > 0, available // np.maximum(allocated, 1), NO_LIMIT)
    return np.where(asked > limits.shared_memory_per_block, 0, fit)


def _round_up(value: Int64s, unit: int) -> Int64s:
    return -(-value // unit) * unit
