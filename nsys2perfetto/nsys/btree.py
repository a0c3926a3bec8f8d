"""The pages of an SQLite file: which of them hold a table's rows, and where each row begins.

Whole levels of a tree and whole runs of pages are looked at with NumPy at once. The format is the
one of sqlite.org/fileformat2.html; its section 1.6 describes b-tree pages. Pages are read, not
mapped: a file that shrinks meanwhile is a short read then, not a signal that ends the program, and
a buffer that stays in the cache takes no page faults.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

PADDING = 128
"""Bytes behind the last page of a buffer, so that windows which begin in a cell stay inside."""

_INTERIOR, _LEAF = 0x05, 0x0D  # of a table with rowid
_MAX_DEPTH = 20  # SQLite gives up there too (BTCURSOR_MAX_DEPTH)
_MIN_CELL = 6  # bytes of page that a cell takes at least, its pointer included (MX_CELL)
_LOCK_BYTE = 0x40000000  # the page that holds this byte of the file is never part of a tree
_LEVEL_BYTES = 1 << 23  # of interior pages read at a time


class UnreadableError(Exception):
    """The pages hold something that this reader leaves to SQLite: unusual, or damaged."""


def windows(buffer: U8, width: int) -> npt.NDArray[np.void]:
    """All `width` bytes long pieces of a buffer, piece i beginning at byte i; nothing is copied.

    Indexing it with an array of positions gathers that many bytes for each position in one go, and
    checks the bounds.
    """
    return np.ndarray((len(buffer) - width + 1,), f"V{width}", buffer, strides=(1,))


def big_endian(buffer: U8, at: I64) -> npt.NDArray[np.uint64]:
    """The 8 bytes at each position as one unsigned number, shape (n,)."""
    return windows(buffer, 8)[at].view(">u8").astype(np.uint64)


class DamagedError(UnreadableError):
    """The pages are damaged in a way that SQLite would not notice: it would read rows twice."""


@dataclass(frozen=True)
class Cells:
    """Rows of some leaf pages, in the order of the table; arrays of shape (n,).

    Attributes:
        buffer: The pages, and PADDING bytes.
        at: Where in `buffer` each cell begins.
        page_end: Where the usable part of its page ends.
    """

    buffer: U8
    at: I64
    page_end: I64


class PageFile:
    """An SQLite file as numbered pages of equal size.

    Attributes:
        page_size: Bytes.
        usable: Bytes of each page that SQLite uses; the rest belongs to extensions.
        count: Pages that the database has; numbers begin with 1.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._leaves: dict[int, I64] = {}
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _read_header(self) -> None:
        """Sizes, by section 1.3 of the format and by lockBtree() of SQLite's btree.c."""
        header = self._file.read(100)
        if len(header) < 100:
            raise UnreadableError("no header")
        (size,) = struct.unpack(">H", header[16:18])
        self.page_size = 65536 if size == 1 else size
        self.usable = self.page_size - header[20]
        if self.page_size < 512 or self.page_size & (self.page_size - 1) or self.usable < 480:
            raise UnreadableError("page size")
        in_file = self._file.seek(0, 2) // self.page_size
        changes, pages = struct.unpack(">II", header[24:32])
        (valid_for,) = struct.unpack(">I", header[92:96])
        self.count = pages if pages and changes == valid_for else in_file
        if self.count > in_file:
            raise UnreadableError("fewer pages than the header says")

    def read(self, pages: I64, buffer: U8 | None = None) -> tuple[U8, I64]:
        """Reads pages.

        Args:
            pages: Their numbers, shape (n,), all different; any order.
            buffer: At least n pages and PADDING long, to be overwritten; None for a new one.

        Returns:
            The buffer, and where in it each page begins, shape (n,).
        """
        size = self.page_size
        if buffer is None:
            buffer = np.zeros(len(pages) * size + PADDING, np.uint8)
        order = np.argsort(pages, kind="stable")
        sorted_pages = pages[order]
        # One call of the system for each run of adjacent pages: nsys writes table after table, so
        # that only the interior pages, one in hundreds, end a run.
        breaks = np.flatnonzero(np.diff(sorted_pages) != 1) + 1
        memory = buffer.data
        for first, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(pages)], strict=True):
            self._file.seek((int(sorted_pages[first]) - 1) * size)
            wanted = memory[first * size : end * size]
            while len(wanted):
                got = self._file.readinto(wanted)
                if not got:
                    raise UnreadableError("the file has become shorter")
                wanted = wanted[got:]
        begin = np.empty(len(pages), np.int64)
        begin[order] = np.arange(len(pages)) * size
        return buffer, begin

    def leaves(self, root: int) -> I64:
        """Numbers of the leaf pages of the table whose tree begins at `root`, in order of rowid.

        Only interior pages are read, and the first leaf: `cells` checks what the others are.

        Raises:
            UnreadableError: The tree is not one of a table with rowid, or is damaged.
            DamagedError: A page occurs twice in it. (Where many do, a few pages stand for more rows
                than anybody could read.)
        """
        if root not in self._leaves:
            self._leaves[root] = self._find_leaves(root)
        return self._leaves[root]

    def _find_leaves(self, root: int) -> I64:
        level = np.array([root], np.int64)
        seen = np.zeros(self.count + 1, bool)
        lock_page = _LOCK_BYTE // self.page_size + 1
        met = 0
        for _ in range(_MAX_DEPTH):
            if level.min() < 2 or level.max() > self.count or (level == lock_page).any():
                raise UnreadableError("no such page")
            seen[level] = True
            met += len(level)
            if np.count_nonzero(seen) != met:
                raise DamagedError("a page occurs twice")
            if self.read(level[:1])[0][0] == _LEAF:
                return level
            step = max(1, _LEVEL_BYTES // self.page_size)
            level = np.concatenate(
                [self._children(level[i : i + step]) for i in range(0, len(level), step)]
            )
        raise UnreadableError("the tree is too deep")

    def _children(self, pages: I64) -> I64:
        """Numbers of the pages right below interior pages, in their order."""
        buffer, begin = self.read(pages)
        counts, at, _ = self._cell_positions(buffer, begin, _INTERIOR)
        link = windows(buffer, 4)
        ends = np.cumsum(counts + 1)
        children = np.empty(ends[-1], np.int64)
        right = np.zeros(len(children), bool)
        right[ends - 1] = True
        children[right] = link[begin + 8].view(">u4")
        children[~right] = link[at].view(">u4")
        return children

    def cells(self, pages: I64, buffer: U8 | None = None, *, may_be_empty: bool = False) -> Cells:
        """Finds the rows on leaf pages.

        Args:
            pages: As `leaves` gives them.
            buffer: See `read`.
            may_be_empty: Whether a page without rows is all right; it is for a root only.

        Raises:
            UnreadableError: The file is damaged.
        """
        buffer, begin = self.read(pages, buffer)
        _, at, page_end = self._cell_positions(buffer, begin, _LEAF, may_be_empty)
        return Cells(buffer, at, page_end)

    def _cell_positions(
        self, buffer: U8, begin: I64, kind: int, may_be_empty: bool = False
    ) -> tuple[I64, I64, I64]:
        """Number of cells of each page; position in the buffer and end of page of each cell."""
        if (buffer[begin] != kind).any():
            raise UnreadableError("a page is not of the kind that it should be")
        counts = buffer[begin + 3].astype(np.int64) << 8 | buffer[begin + 4]
        if counts.max() > (self.page_size - 8) // _MIN_CELL or counts.min() < (not may_be_empty):
            raise UnreadableError("number of cells")
        header = 12 if kind == _INTERIOR else 8
        ends = np.cumsum(counts)
        slot = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        page = np.repeat(begin, counts)
        pointer = buffer.view(">u2").take(((page + header) >> 1) + slot).astype(np.int64)
        low = np.repeat(header + 2 * counts, counts)
        if (pointer < low).any() or (pointer > self.usable - 4).any():
            raise UnreadableError("a cell lies outside its page's content")
        return counts, page + pointer, page + self.usable


def varints(buffer: U8, at: I64) -> tuple[I64, I64]:
    """Values and lengths in bytes (1 to 9) of the varints at positions, shape (n,) each."""
    value = np.zeros(len(at), np.uint64)
    length = np.full(len(at), 9, np.int64)
    rows = np.arange(len(at))
    for k in range(8):
        byte = buffer[at[rows] + k].astype(np.uint64)
        value[rows] = value[rows] << np.uint64(7) | byte & np.uint64(0x7F)
        last = byte < 0x80
        length[rows[last]] = k + 1
        rows = rows[~last]
        if not len(rows):
            return value.view(np.int64), length
    value[rows] = value[rows] << np.uint64(8) | buffer[at[rows] + 8]
    return value.view(np.int64), length
