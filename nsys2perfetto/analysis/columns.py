"""Columns that take little memory: captures have tens of millions of rows.

A column whose value is the same in all rows is one value that is read again and again (an array
with stride 0); it can be indexed and computed with like any other, but not written to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


class Column(Protocol):
    """What gives the values of some rows: an array, or `Computed`."""

    def __getitem__(self, rows: Any, /) -> npt.NDArray[Any]:
        """The values of these rows (numbers, or a slice)."""


class Computed:
    """A column that takes no memory: each value is worked out when it is asked for.

    Args:
        values: Gives the values of some rows (numbers, or a slice).
    """

    def __init__(self, values: Callable[[Any], npt.NDArray[Any]]) -> None:
        self._values = values

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        """The values of these rows."""
        return self._values(rows)


def spread(of_code: npt.NDArray[Number], code: npt.NDArray[np.uint32]) -> npt.NDArray[Number]:
    """A configuration's value for each event, ``of_code[code]``, shape (events,)."""
    if len(of_code) and (of_code == of_code[0]).all():
        return np.broadcast_to(of_code[0], len(code))
    return of_code[code]


def joined(parts: Sequence[npt.NDArray[Number]]) -> npt.NDArray[Number]:
    """The parts one after the other; without a copy where there is one, or all are one value.

    Without any part: no integers.
    """
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    if parts and all(_is_constant(part) and part[0] == parts[0][0] for part in parts):
        return np.broadcast_to(parts[0][0], sum(map(len, parts)))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def narrow(column: I64, largest: int) -> I64:
    """Integers in 32 bits where `largest` fits: half the memory, for columns of row numbers."""
    return column.astype(width_of(largest), copy=False)


def width_of(largest: int) -> type[np.int64]:
    """The narrower of int32 and int64 that holds numbers up to this one, and as far below 0."""
    return np.int32 if largest < 1 << 31 else np.int64  # type: ignore[return-value]


def _is_constant(column: npt.NDArray[np.generic]) -> bool:
    return column.strides == (0,)
