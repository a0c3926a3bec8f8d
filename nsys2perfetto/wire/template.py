"""Templates: the bytes of one packet, and where its varying fields lie.

A template is written with the ordinary protobuf classes, so that nesting, lengths and field numbers
are theirs. A function fills a message from placeholder values; it is called once with every slot at
a base value, and once more per slot with another value of the same width. The byte that changed is
where that slot begins. Nothing has to be known of the encoding of the surrounding messages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from nsys2perfetto.wire import varint
from nsys2perfetto.wire.ragged import WIRE_LENGTH, tag

U8 = npt.NDArray[np.uint8]
Columns = Mapping[str, npt.NDArray[np.generic]]

DOUBLE = "double"
"""Slot kind of a 64-bit floating point field; every other slot is a varint of a given width."""

_DOUBLE_BASE, _DOUBLE_OTHER = (struct.unpack("<d", bytes([b] + [1] * 7))[0] for b in (1, 2))

TRACE_PACKET = 1
"""Field of `Trace.packet`: how packets follow each other in a file."""


class Placeholders:
    """The values that a template function puts into its message: `p["ts"]` for the slot ts."""

    def __init__(self, slots: Mapping[str, int | str], changed: str | None = None) -> None:
        self._slots = slots
        self._changed = changed

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def __getitem__(self, name: str) -> int:
        """An integer placeholder whose varint is exactly as wide as the slot."""
        width = self._slots[name]
        assert isinstance(width, int), f"slot {name} is not a varint"
        base = 1 << (7 * (width - 1))
        # One byte wide: 1 and 2; wider: the first byte goes from 0x80 to 0x81.
        return base + 1 if name == self._changed else base

    def signed(self, name: str) -> int:
        """The same for a signed field: of ten bytes only negative numbers are that wide."""
        value = self[name]
        return value - (1 << 64) if value >= 1 << 63 else value

    def double(self, name: str) -> float:
        """A floating point placeholder."""
        assert self._slots[name] == DOUBLE, f"slot {name} is not a double"
        return float(_DOUBLE_OTHER if name == self._changed else _DOUBLE_BASE)


@dataclass(frozen=True)
class Slot:
    """A varying field: `width` bytes at `offset`; a little-endian double if `is_double`."""

    offset: int
    width: int
    is_double: bool = False

    def patch(self, block: U8, values: npt.NDArray[np.generic]) -> None:
        """Writes a value into each row of `block`, shape (n, length)."""
        if self.is_double:
            raw = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
            block[:, self.offset : self.offset + 8] = raw
        else:
            varint.patch_varint(block, self.offset, values, self.width)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Template:
    """A serialised message with its slots by name."""

    data: U8
    slots: dict[str, Slot]

    @classmethod
    def make(
        cls,
        fill: Callable[[Placeholders], Message],
        slots: Mapping[str, int | str],
        field: int = TRACE_PACKET,
    ) -> Template:
        """Builds a template by watching which byte each slot moves.

        Args:
            fill: Makes the message; called len(slots) + 1 times. Every slot must occur once in it.
            slots: Name to width in bytes (1 to 10), or DOUBLE.
            field: The message is wrapped as this length-delimited field; 0 leaves it bare.

        Raises:
            ValueError: A slot does not occur, or occurs twice, in the message.
        """
        base = _serialise(fill(Placeholders(slots)), field)
        found: dict[str, Slot] = {}
        for name, width in slots.items():
            other = _serialise(fill(Placeholders(slots, name)), field)
            same_length = len(base) == len(other)
            moved = np.nonzero(base != other)[0] if same_length else np.empty(0, np.intp)
            if len(moved) != 1:
                raise ValueError(f"slot {name!r} occurs {len(moved)} times in the template")
            found[name] = Slot(int(moved[0]), 8 if width == DOUBLE else int(width), width == DOUBLE)
        return cls(base, found)

    def stamp(self, columns: Columns, n: int) -> U8:
        """Copies the template n times and patches the given slots; shape (n, length)."""
        block = np.empty((n, len(self.data)), np.uint8)
        block[:] = self.data
        self.patch(block, columns)
        return block

    def patch(self, block: U8, columns: Columns) -> None:
        """Patches slots of rows that were stamped before; columns have shape (n,)."""
        for name, values in columns.items():
            self.slots[name].patch(block, values)


def _serialise(message: Message, field: int) -> U8:
    body = message.SerializeToString()
    if field:
        body = tag(field, WIRE_LENGTH) + varint.encode(np.array([len(body)]))[0].tobytes() + body
    return np.frombuffer(body, np.uint8)
