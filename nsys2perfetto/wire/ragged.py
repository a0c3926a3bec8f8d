"""Columns of byte strings of different lengths, joined row by row without a loop over rows.

Stamping (`template`) is for rows of equal length. What has a length of its own (names, lists of
ids) is put together here: `concat` glues the pieces of each row, `length_delimited` wraps each row
into a protobuf field. `encode_*` make pieces out of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.wire import varint

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

WIRE_VARINT = 0
WIRE_FIXED64 = 1
WIRE_LENGTH = 2


@dataclass(frozen=True)
class Ragged:
    """n byte strings: row i is `data[offsets[i]:offsets[i + 1]]`.

    Attributes:
        data: All bytes.
        offsets: Shape (n + 1,), starts at 0.
    """

    data: U8
    offsets: I64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> I64:
        """Bytes of each row, shape (n,)."""
        return np.diff(self.offsets)

    def row(self, index: int) -> bytes:
        """The bytes of one row."""
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def slice(self, start: int, stop: int) -> U8:
        """The bytes of rows [start, stop), one after the other."""
        return self.data[self.offsets[start] : self.offsets[stop]]


def from_lengths(data: U8, lengths: I64) -> Ragged:
    """Cuts `data` into rows of the given lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Ragged(data, offsets)


def from_matrix(block: U8) -> Ragged:
    """Rows of equal length, shape (n, length)."""
    n, length = block.shape
    return Ragged(
        np.ascontiguousarray(block).reshape(-1), np.arange(n + 1, dtype=np.int64) * length
    )


def from_strings(values: pl.Series) -> Ragged:
    """UTF-8 bytes of a String series or the bytes of a Binary one; null becomes empty."""
    binary = values.cast(pl.Binary).fill_null(b"")
    data = np.frombuffer(b"".join(binary.to_list()), np.uint8)
    lengths = binary.bin.size(unit="b").to_numpy().astype(np.int64)
    return from_lengths(data, lengths)


def repeat(data: bytes, n: int) -> Ragged:
    """The same bytes in each of n rows."""
    return from_matrix(np.tile(np.frombuffer(data, np.uint8), (n, 1)))


def group(items: Ragged, counts: I64) -> Ragged:
    """Joins the first counts[0] items into row 0, the next counts[1] into row 1, and so on."""
    ends = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    return Ragged(items.data, items.offsets[ends])


def concat(*pieces: Ragged) -> Ragged:
    """Row i of the result is row i of each piece, in order. All pieces have equally many rows."""
    lengths = np.sum([p.lengths for p in pieces], axis=0)
    out = from_lengths(np.empty(int(lengths.sum()), np.uint8), lengths)
    begin = out.offsets[:-1].copy()
    for piece in pieces:
        _scatter(out.data, begin, piece)
        begin += piece.lengths
    return out


def _scatter(target: U8, begin: I64, piece: Ragged) -> None:
    """Copies each row of `piece` to its place in `target`."""
    n, size = len(piece), piece.lengths
    if n == 0:
        return
    width = int(size.max())
    if int(size.min()) == width:
        if width:
            # Rows as single elements: an index for each of their bytes would take 25 times as long.
            places = np.ndarray((len(target) - width + 1,), f"V{width}", target, strides=(1,))
            places[begin] = piece.slice(0, n).view(f"V{width}")
    else:
        shift = np.repeat(begin - piece.offsets[:-1], size)
        target[shift + np.arange(piece.offsets[0], piece.offsets[-1])] = piece.slice(0, n)


def interleave(pieces: Sequence[tuple[npt.NDArray[np.intp], Ragged]], n: int) -> Ragged:
    """Puts pieces back into the order of their rows.

    Args:
        pieces: (numbers of the rows, their bytes); each of the n rows is in exactly one piece.
        n: How many rows there are.
    """
    if len(pieces) == 1 and len(pieces[0][0]) == n and bool((np.diff(pieces[0][0]) > 0).all()):
        return pieces[0][1]
    lengths = np.zeros(n, np.int64)
    for rows, piece in pieces:
        lengths[rows] = piece.lengths
    out = from_lengths(np.empty(int(lengths.sum()), np.uint8), lengths)
    for rows, piece in pieces:
        _scatter(out.data, out.offsets[rows], piece)
    return out


def tag(field: int, wire_type: int) -> bytes:
    """The key that begins a field: its number and wire type as a varint."""
    key = np.array([field << 3 | wire_type])
    return varint.encode(key)[0].tobytes()


def encode_varint(field: int, values: varint.Ints) -> Ragged:
    """A varint field a row."""
    data, ends = varint.encode(values)
    body = Ragged(data, np.concatenate([[0], ends]))
    return concat(repeat(tag(field, WIRE_VARINT), len(values)), body)


def encode_string(field: int, values: pl.Series) -> Ragged:
    """A string or bytes field a row; a null row gets no field."""
    return keep(length_delimited(field, from_strings(values)), values.is_not_null().to_numpy())


def keep(rows: Ragged, present: npt.NDArray[np.bool_]) -> Ragged:
    """Empties the rows that are not present."""
    if present.all():
        return rows
    data = rows.data[np.repeat(present, rows.lengths)]
    return from_lengths(data, np.where(present, rows.lengths, 0))


def length_delimited(field: int, rows: Ragged) -> Ragged:
    """Wraps each row into a field of its own: tag, length, row."""
    data, ends = varint.encode(rows.lengths)
    length = Ragged(data, np.concatenate([[0], ends]))
    return concat(repeat(tag(field, WIRE_LENGTH), len(rows)), length, rows)
