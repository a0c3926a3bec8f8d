"""Varints of whole columns: how long they are, and how to write them in place.

A protobuf varint holds seven bits a byte, least significant first, with the top bit set on every
byte but the last (protobuf.dev, "Encoding"). It may be padded: trailing zero groups with their
continuation bits are valid, which lets every row of a column have the same width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.integer]

MAX_WIDTH = 10
"""Bytes of the longest varint: a full 64-bit value, so any negative number too."""

_WIDTH_STARTS = np.array([1 << (7 * i) for i in range(1, MAX_WIDTH)], dtype=np.uint64)


def width_of(value: int) -> int:
    """Bytes that the varint of `value` takes: 1 to 10; a negative one takes 10."""
    if value < 0:
        return MAX_WIDTH
    return max(1, -(-value.bit_length() // 7))


def widest(values: Ints) -> int:
    """The width that holds every value of a column; 1 for an empty one."""
    if len(values) == 0:
        return 1
    if values.dtype.kind == "i" and int(values.min()) < 0:
        return MAX_WIDTH
    return width_of(int(values.max()))


def widths(values: Ints) -> npt.NDArray[np.int64]:
    """Bytes of the shortest varint of each value, shape (n,)."""
    return np.searchsorted(_WIDTH_STARTS, as_unsigned(values), side="right").astype(np.int64) + 1


def as_unsigned(values: Ints) -> npt.NDArray[np.uint64]:
    """The 64-bit two's complement of each value, as protobuf encodes int32, int64 and uint64."""
    return (
        values.astype(np.int64, copy=False).view(np.uint64)
        if values.dtype.kind == "i"
        else (values.astype(np.uint64, copy=False))
    )


def patch_varint(block: U8, offset: int, values: Ints, width: int) -> None:
    """Writes each value as a varint of exactly `width` bytes at `offset` of its row.

    Args:
        block: Rows of bytes, shape (n, length); changed in place.
        offset: Where in each row the varint begins.
        values: Shape (n,). A value that needs more than `width` bytes is a programming error.
        width: 1 to 10 bytes.
    """
    rest = as_unsigned(values)
    if width <= 4:
        rest = rest.astype(np.uint32)  # half the memory traffic for ids and small numbers
    seven = rest.dtype.type(7)
    for i in range(width - 1):
        block[:, offset + i] = rest.astype(np.uint8) | 0x80
        rest = rest >> seven
    block[:, offset + width - 1] = rest.astype(np.uint8)


def encode(values: Ints) -> tuple[U8, npt.NDArray[np.int64]]:
    """The shortest varint of each value, one after the other.

    Returns:
        The bytes of all varints, and the end offset of each within them, shape (n,).
    """
    size = widths(values)
    width = int(size.max(initial=1))
    block = np.empty((len(values), width), np.uint8)
    rest = as_unsigned(values)
    for i in range(width):
        block[:, i] = (rest & np.uint64(0x7F)).astype(np.uint8)
        block[:, i] |= np.where(size > i + 1, 0x80, 0).astype(np.uint8)
        rest = rest >> np.uint64(7)
    return block[np.arange(width) < size[:, None]], np.cumsum(size)
