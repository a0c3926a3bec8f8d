"""The values inside the rows of an SQLite table, column by column, for many rows at once.

A row is a record: a header that gives the type of each column, one varint each ("serial type"),
then the values without gaps (sqlite.org/fileformat2.html, section 2.1). Integers take as many bytes
as their value needs, so that rows of one table differ in their offsets. Columns whose type is the
same in all rows of a chunk, as most are, cost nothing but their width, added to what follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nsys2perfetto.nsys.btree import (
    I64,
    U8,
    Cells,
    DamagedError,
    PageFile,
    UnreadableError,
    big_endian,
    varints,
    windows,
)

U64 = npt.NDArray[np.uint64]
Dtype = type[np.int64] | type[np.float64]
Serial = int | npt.NDArray[np.uint8] | I64
"""Type of one column: one for all rows, or of shape (n,)."""

NULL, ONE_BYTE, REAL, ZERO, ONE, FIRST_TEXT = 0, 1, 7, 8, 9, 12

_LARGE = 65535
"""Width of what must not occur (types 10 and 11): it makes the record longer than any page."""
_WIDTHS = np.array([0, 1, 2, 3, 4, 6, 8, 8, 0, 0, _LARGE, _LARGE])
_WIDTH = np.concatenate([_WIDTHS, (np.arange(12, 256) - 12) >> 1]).astype(np.uint16)
_HALF_SHIFT = np.append((64 - 8 * _WIDTHS[:10]) >> 1, [0] * 246).astype(np.int64)
_MAX_SERIAL = 1 << 31

_HIGH_BITS = np.uint64(0x8080808080808080)
_COLLECT = np.uint64(0x0002040810204081)


@dataclass(frozen=True)
class Column:
    """One column of a chunk of rows.

    Attributes:
        values: Int64 or Float64, shape (n,); a number where all rows have the same one; None where
            all are null.
        null: Where values mean nothing, shape (n,); None where no value is null.
    """

    values: npt.NDArray[np.int64] | npt.NDArray[np.float64] | int | None
    null: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Records:
    """Rows of some leaf pages; arrays of shape (n,).

    Attributes:
        buffer: The pages.
        rowid: Strictly increasing.
        at: Where each record begins in the buffer.
        end: Where it ends, as if all of it were on its page.
        local_end: Where the part of it ends that is on its page.
    """

    buffer: U8
    rowid: I64
    at: I64
    end: I64
    local_end: I64

    def __len__(self) -> int:
        return len(self.at)


def records(file: PageFile, cells: Cells) -> Records:
    """Reads what is before the record in each cell: its length, and the rowid (section 1.6).

    Raises:
        UnreadableError: The file is damaged.
    """
    length, rowid, at = _cell_heads(cells.buffer, cells.at)
    if (rowid[1:] <= rowid[:-1]).any():
        raise DamagedError("rows are not in order")
    local = length
    most = file.usable - 35
    longest, shortest = (length.max(), length.min()) if len(length) else (1, 1)
    if shortest < 1 or longest > _MAX_SERIAL:
        raise UnreadableError("length of a row")
    if longest > most:
        least = (file.usable - 12) * 32 // 255 - 23
        some = least + (length - least) % (file.usable - 4)
        local = np.where(length <= most, length, np.where(some <= most, some, least))
    if (at + local > cells.page_end).any():
        raise UnreadableError("a row is longer than its page")
    return Records(cells.buffer, rowid, at, at + length, at + local)


def _cell_heads(buffer: U8, at: I64) -> tuple[I64, I64, I64]:
    """Two varints, one after the other, and where they end; shape (n,) each."""
    word = big_endian(buffer, at)
    # The highest bits of the eight bytes, which say where varints go on, as one number below 256.
    more = ((word & _HIGH_BITS) >> np.uint64(7)) * (_COLLECT << np.uint64(7)) >> np.uint64(56)
    first, second = _FIRST.take(more.view(np.int64)), _SECOND.take(more.view(np.int64))
    length = _join(word >> (np.uint64(64) - first))
    rowid = _join(word << first >> (np.uint64(64) - second))
    end = at + ((first + second) >> np.uint64(3)).view(np.int64)
    long = np.flatnonzero(second == 0)  # together more than eight bytes: rare
    if len(long):
        length[long], taken = varints(buffer, at[long])
        rowid[long], more_taken = varints(buffer, at[long] + taken)
        end[long] = at[long] + taken + more_taken
    return length, rowid, end


def _lengths() -> tuple[U64, U64]:
    """Bits that two varints take, for each pattern of highest bits; 0 where not known."""
    first, second = np.full(256, 8, np.uint64), np.zeros(256, np.uint64)
    for pattern in range(256):
        ends = [i for i in range(8) if not pattern & 0x80 >> i]
        if len(ends) >= 2:
            first[pattern], second[pattern] = 8 * (ends[0] + 1), 8 * (ends[1] - ends[0])
    return first, second


_FIRST, _SECOND = _lengths()


def _join(varint: U64) -> I64:
    """The values of varints of up to eight bytes: drops the highest bit of each byte."""
    value = varint
    for keep, shift in (
        (0x007F007F007F007F, 1),
        (0x00003FFF00003FFF, 2),
        (0x000000000FFFFFFF, 4),
    ):
        low = np.uint64(keep)
        high = low << np.uint64(8 * shift)
        value = value & low | (value & high) >> np.uint64(shift)
    return value.view(np.int64)


class _Header:
    """Goes through the types of the columns, from the first on."""

    def __init__(self, rows: Records, columns: int) -> None:
        """Args: `columns`: How many columns are of interest."""
        self._rows = rows
        width = min(-(-(columns + 1) // 8) * 8, 128)
        self._bytes = windows(rows.buffer, width)[rows.at].view(np.uint8).reshape(-1, width)
        words = self._bytes.view(np.uint64)
        # Which bits differ between rows, and what the first row has.
        differ = [np.bitwise_or.reduce(words[:, k] ^ words[0, k]) for k in range(width // 8)]
        self._differ = np.array(differ, np.uint64).view(np.uint8).tolist()
        self._first = self._bytes[0].tolist()
        self.size = self._bytes[:, 0].astype(np.int64)
        if self.size.min() < 1 or self.size.max() >= 0x80:
            raise UnreadableError("size of a record's header")
        self._next = 1
        """Offset of the next type; below 0 where rows differ in it: `_at` has it then."""
        self._at = rows.at
        self._end = rows.at + self.size
        if self._differ[0]:
            self._diverge()
        if (self._end > rows.local_end).any():
            raise UnreadableError("a record's header is not on its page")

    def _diverge(self) -> None:
        self._at = self._rows.at + self._next
        self._next = -1

    def next(self, has_default: bool) -> Serial:
        """The type of the next column; NULL where a record ends before it.

        Args:
            has_default: Whether the column would then have another value than null.
        """
        if self._next >= 0:
            offset = self._next
            if offset >= self._first[0]:
                return self._missing(has_default)
            if (self._first[offset] | self._differ[offset]) < 0x80:
                self._next += 1
                if not self._differ[offset]:
                    return self._first[offset]
                return self._bytes[:, offset].copy()
            self._diverge()
        missing = self._at >= self._end
        byte = self._rows.buffer.take(self._at)
        if missing.any():
            byte[missing] = self._missing(has_default)
        long = np.flatnonzero(byte >= 0x80)
        self._at += 1
        if not len(long):
            return byte if byte.min() != byte.max() else int(byte[0])
        at = self._at[long] - 1
        value, length = varints(self._rows.buffer, at)
        at += length
        if value.min() < 0 or value.max() > _MAX_SERIAL or (at > self._end[long]).any():
            raise UnreadableError("type of a column")
        self._at[long] = at
        serial = byte.astype(np.int64)
        serial[long] = value
        return serial if serial.min() != serial.max() else int(serial[0])

    @staticmethod
    def _missing(has_default: bool) -> int:
        if has_default:
            raise UnreadableError("a default value")
        return NULL

    def is_done(self) -> npt.NDArray[np.bool_] | bool:
        """Whether all types have been read, of shape (n,) where rows differ in it."""
        return self._next >= self._first[0] if self._next >= 0 else self._at >= self._end


def decode(rows: Records, wanted: dict[int, Dtype], defaults: list[bool]) -> dict[int, Column]:
    """Reads columns.

    Args:
        rows: At least one.
        wanted: Place of each column in the record, counted from 0, and what it is to hold: an
            integer is as good as a real number, but not the other way round.
        defaults: Of each of the table's columns, whether it has a default value.

    Raises:
        UnreadableError: A value is of another type, or not on its page, or the file is damaged.
    """
    if not wanted:
        return {}
    last = max(wanted)
    header = _Header(rows, last + 1)
    found: dict[int, Column] = {}
    at = rows.at + header.size
    skip = 0  # bytes between `at` and the value, the same in all rows
    for place in range(last + 1):
        serial = header.next(defaults[place])
        if isinstance(serial, int):
            skip += _width(serial)
        else:
            at += _widths(serial)
        if place in wanted:
            found[place] = _value(rows.buffer, serial, at, skip, wanted[place])
    end = at + skip
    # Values behind the end were nonsense; bounds were checked where they were gathered.
    if (end > rows.local_end).any() or (header.is_done() & (end != rows.end)).any():
        raise UnreadableError("a record is longer or shorter than its header says")
    return found


def _width(serial: int) -> int:
    return int(_WIDTH[serial]) if serial < 256 else (serial - FIRST_TEXT) >> 1


def _widths(serial: npt.NDArray[np.uint8] | I64) -> npt.NDArray[np.uint16] | I64:
    if serial.dtype == np.uint8:
        return _WIDTH.take(serial)
    short = _WIDTH.take(np.minimum(serial, FIRST_TEXT))
    return np.where(serial < FIRST_TEXT, short, (serial - FIRST_TEXT) >> 1)


def _value(buffer: U8, serial: Serial, at: I64, skip: int, kind: Dtype) -> Column:
    """The values that end at `at` + `skip`."""
    if isinstance(serial, int):
        if serial == NULL:
            return Column(None)
        if serial in (ZERO, ONE):
            return Column(serial - ZERO)
    real = serial == REAL
    some_real = bool(np.any(real))
    if np.max(serial) > ONE or (some_real and kind is np.int64):
        raise UnreadableError("a value is of another type than its column")
    if isinstance(serial, int) and serial == ONE_BYTE:  # common, and a third of the time
        return Column(buffer.view(np.int8).take(at + (skip - 1)).astype(np.int64))
    # Eight bytes that end where the value ends; what is before it is shifted out, which extends the
    # sign too. Twice by half: a shift of 64 bits is not defined.
    bits = big_endian(buffer, at + (skip - 8)).view(np.int64)
    half = _HALF_SHIFT.take(serial)
    if np.any(half):
        for shift in (np.left_shift, np.right_shift):
            shift(bits, half, out=bits)
            shift(bits, half, out=bits)
    null = None
    if not isinstance(serial, int):
        bits += serial == ONE
        null = serial == NULL
    if kind is np.int64:
        return Column(bits, null if null is not None and null.any() else None)
    values = bits.astype(np.float64)
    if some_real:
        values = np.where(real, bits.view(np.float64), values)
        not_a_number = np.isnan(values)  # SQLite reads it as null
        null = not_a_number if null is None else null | not_a_number
    return Column(values, null if null is not None and null.any() else None)
