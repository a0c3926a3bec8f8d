"""Stamping in two steps: configurations become rows of bytes once, events are copies of those.

An event is its configuration (what many events share: name, track, grid, ...) plus a few values of
its own (timestamp, duration, ids). The template is stamped once a configuration, all at once; each
event then copies the bytes of its configuration, and its own values are patched in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from google.protobuf.message import Message

from nsys2perfetto.wire import varint
from nsys2perfetto.wire.template import DOUBLE, TRACE_PACKET, Placeholders, Template

U8 = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint32]
Column = npt.NDArray[np.generic]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class RowSlot:
    """A value that each event has of its own.

    Attributes:
        width: Bytes of the varint, from `widest` over the whole column; DOUBLE for a double.
        optional: Some events lack it; `Stamper.stamp` is told which.
    """

    width: int | str
    optional: bool = False

    @classmethod
    def fitting(cls, values: varint.Ints, optional: bool = False) -> RowSlot:
        """A varint slot that holds every value of a column."""
        return cls(varint.widest(values), optional)


@dataclass(frozen=True)
class _Layout:
    """One template, and the configurations stamped from it."""

    template: Template
    stencils: U8  # shape (configurations of this layout, length)


class Stamper:
    """Turns events into packets.

    Args:
        fill: Makes the message from placeholders. A slot that can be absent is asked for with
            `"name" in placeholders` first.
        config: One row a configuration, one column a slot; integers, or floats for doubles. Null
            means that the configuration lacks the slot.
        rows: The slots that each event has of its own.
        field: How the message is wrapped, see `Template.make`.

    A new template is made for each combination of present slots that really occurs.
    """

    def __init__(
        self,
        fill: Callable[[Placeholders], Message],
        config: pl.DataFrame,
        rows: Mapping[str, RowSlot],
        field: int = TRACE_PACKET,
    ) -> None:
        self._fill = fill
        self._field = field
        self._rows = dict(rows)
        self._config = config
        self._alike = not config.width
        self._shape, self._shapes = _shapes(config)
        # Where each configuration's bytes are among those of its shape.
        self._place = np.empty(len(self._shape), np.int64)
        for shape in range(len(self._shapes)):
            members = np.nonzero(self._shape == shape)[0]
            self._place[members] = np.arange(len(members))
        self._layouts: dict[tuple[int, tuple[str, ...]], _Layout] = {}

    def stamp(
        self,
        code: Codes,
        values: Mapping[str, Column],
        present: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    ) -> Iterator[tuple[Rows, U8]]:
        """Stamps n events.

        Args:
            code: The configuration of each event, shape (n,).
            values: A column of shape (n,) a row slot.
            present: For optional row slots: which events have it.

        Yields:
            (rows, block): the numbers of the events of one layout, and their bytes, shape
            (len(rows), length). Every event is in exactly one of them.
        """
        if self._alike:
            code = np.zeros(len(code), np.uint32)
        optional = [name for name, slot in self._rows.items() if slot.optional]
        key = self._shape.take(code)
        for bit, name in enumerate(optional):
            if present is not None and name in present:
                key = key + len(self._shapes) * (present[name].astype(np.int64) << bit)
        for value in np.unique(key) if len(self._shapes) > 1 or optional else key[:1]:
            rows = np.nonzero(key == value)[0]
            whole = len(rows) == len(code)
            shape, bits = int(value) % len(self._shapes), int(value) // len(self._shapes)
            has = tuple(name for bit, name in enumerate(optional) if bits >> bit & 1)
            layout = self._layout(shape, has)
            place = self._place.take(code if whole else code.take(rows))
            # A quarter of the time that indexing takes, and other threads may go on meanwhile.
            block = layout.stencils.take(place, axis=0)
            layout.template.patch(
                block,
                {
                    name: values[name] if whole else values[name].take(rows)
                    for name, slot in self._rows.items()
                    if not slot.optional or name in has
                },
            )
            yield rows, block

    def _layout(self, shape: int, has: tuple[str, ...]) -> _Layout:
        key = (shape, has)
        if key not in self._layouts:
            members = np.nonzero(self._shape == shape)[0]
            columns = {name: self._config[name][members].to_numpy() for name in self._shapes[shape]}
            slots: dict[str, int | str] = {
                name: DOUBLE if column.dtype.kind == "f" else varint.widest(column)
                for name, column in columns.items()
            }
            slots |= {n: s.width for n, s in self._rows.items() if not s.optional or n in has}
            template = Template.make(self._fill, slots, self._field)
            self._layouts[key] = _Layout(template, template.stamp(columns, len(members)))
        return self._layouts[key]


def _shapes(config: pl.DataFrame) -> tuple[npt.NDArray[np.int64], list[list[str]]]:
    """Numbers the combinations of non-null columns: (number a row, the columns of each number)."""
    always = [c.name for c in config if c.null_count() == 0]
    sometimes = [c.name for c in config if c.null_count() and c.null_count() < len(config)]
    if not sometimes:
        return np.zeros(max(len(config), 1), np.int64), [always]
    masks = config.select(pl.col(name).is_not_null() for name in sometimes)
    found = masks.unique(maintain_order=True).with_row_index("shape")
    # A left join on the masks numbers each row.
    number = masks.join(found, on=sometimes, how="left", maintain_order="left")["shape"]
    shapes = [
        always + [name for name in sometimes if row[name]] for row in found.iter_rows(named=True)
    ]
    return number.to_numpy().astype(np.int64), shapes
