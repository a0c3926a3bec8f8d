"""Arguments of GPU work, `GpuRenderStageEvent.ExtraComputeArg`, written for whole columns.

Perfetto names what repeats by id: the argument's name in `compute_arg_names`, a text value in
`debug_annotation_string_values` of the same sequence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from nsys2perfetto.tracks.strings import StringPool
from nsys2perfetto.wire import ragged
from nsys2perfetto.wire.ragged import Ragged

NAME_IID = 1
INT_VALUE = 3
UINT_VALUE = 4
DOUBLE_VALUE = 5
STRING_VALUE_IID = 7


class ComputeArgs:
    """The names and text values of arguments on one sequence."""

    def __init__(self) -> None:
        self.names = StringPool(field=1001)  # GpuInternedData.compute_arg_names
        self.texts = StringPool(field=29)  # InternedData.debug_annotation_string_values

    def encode(self, field: int, args: Mapping[str, pl.Series]) -> Ragged:
        """All arguments of n rows as repeated fields `field` of the message around them.

        Args:
            field: `args` in ComputeKernelLaunch (3) or InternedComputeKernel (5).
            args: Name to values, shape (n,): integers, floats or strings. A row has no such
                argument where its value is null.
        """
        return ragged.concat(*(self._one(field, n, v) for n, v in args.items()))

    def _one(self, field: int, name: str, values: pl.Series) -> Ragged:
        iid = self.names.iid(name)
        present = values.is_not_null().to_numpy()
        if values.dtype == pl.String:
            number, filled = STRING_VALUE_IID, self.texts.iids(values)
        elif values.dtype.is_float():
            number, filled = DOUBLE_VALUE, values
        else:
            negative = (values.min() or 0) < 0  # type: ignore[operator]
            number, filled = (INT_VALUE if negative else UINT_VALUE), values
        column = filled.fill_null(0).to_numpy()
        value = _doubles(column) if number == DOUBLE_VALUE else ragged.encode_varint(number, column)
        name_field = ragged.encode_varint(NAME_IID, np.full(len(values), iid))
        return ragged.keep(
            ragged.length_delimited(field, ragged.concat(name_field, value)), present
        )

    def entries(self) -> list[Ragged]:
        """What must be interned before the first packet that uses it."""
        return [self.names.entries(), self.texts.entries()]


def _doubles(values: np.ndarray) -> Ragged:
    tag = ragged.repeat(ragged.tag(DOUBLE_VALUE, ragged.WIRE_FIXED64), len(values))
    raw = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
    return ragged.concat(tag, ragged.from_matrix(raw))
