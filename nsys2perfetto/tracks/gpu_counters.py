"""Native GPU counters: one GpuCounterEvent packet a time, with all counters that share it.

How the engine reads a sample (tried with v55.3): its value covers the interval that *ends* at its
timestamp. In SQL the row at a sample's time therefore has the value of the *next* sample, the last
row has 0, and the value of a counter's first sample would be lost: what opens the first interval is
a sample of its own (`CounterBlock.start`). The field `value_direction` turns that round in the
newest engines only, so it stays unset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.nsys import gpu_metric_names
from nsys2perfetto.nsys.gpu_metrics import Metrics, SampleSet
from nsys2perfetto.tracks import sequences
from nsys2perfetto.wire import packets as wire
from nsys2perfetto.wire.stamp import RowSlot, Stamper
from nsys2perfetto.wire.template import DOUBLE, Placeholders

CHUNK = 16384
"""Packets stamped at a time: each has some hundred bytes."""

I64 = npt.NDArray[np.int64]
Column = npt.NDArray[np.generic]

_MU = pb.GpuCounterDescriptor.MeasureUnit
_UNITS = {
    "%": _MU.PERCENT, "Hz": _MU.HERTZ, "B": _MU.BYTE, "KB": _MU.KILOBYTE, "MB": _MU.MEGABYTE,
    "GB": _MU.GIGABYTE, "ns": _MU.NANOSECOND, "us": _MU.MICROSECOND, "ms": _MU.MILLISECOND,
    "s": _MU.SECOND, "W": _MU.WATT, "mW": _MU.MILLIWATT, "J": _MU.JOULE, "V": _MU.VOLT,
    "A": _MU.AMPERE, "C": _MU.CELSIUS,
}  # fmt: skip
"""Symbols that the engine prints for its units."""

_FIRST_GROUP = 100
"""Groups of our own are numbered from here: smaller numbers are the fixed GpuCounterGroup."""

_LONGEST = 2
"""Sampling periods that a sample covers at most: what is longer is a break in the sampling."""


@dataclass(frozen=True)
class CounterSpec:
    """What a counter is.

    Attributes:
        name: Unique among the counters of its GPU: the engine tells them apart by it.
        unit: A symbol, or two with a slash (`GB/s`). The UI adds SI prefixes only to B, b, Hz, W,
            V, A, J and s alone: a rate must be scaled beforehand.
        group: The UI shows groups under `GPU > Counters`, sorted by name; nothing for none.
        description: Shown in the track's help.
    """

    name: str
    unit: str = ""
    group: str = ""
    description: str = ""


@dataclass
class CounterBlock:
    """Counters of one GPU that change at the same times.

    Attributes:
        gpu: nsys' number of the GPU.
        specs: k counters.
        time: ns as the capture counts, sorted, shape (n,): where the interval of each value ends.
        values: k columns of shape (n,), integers or reals.
        start: Where the first interval begins, ns.
    """

    gpu: int
    specs: Sequence[CounterSpec]
    time: I64
    values: Sequence[Column]
    start: int

    @classmethod
    def holding(
        cls, gpu: int, specs: Sequence[CounterSpec], time: I64, values: Sequence[Column], end: int
    ) -> CounterBlock:
        """Counters whose values hold *from* their times on, the last one until `end`."""
        after = np.append(time[1:], end).astype(np.int64)
        return cls(gpu, specs, after, values, int(time[0]) if len(time) else end)

    @classmethod
    def sampled(
        cls, gpu: int, specs: Sequence[CounterSpec], time: I64, values: Sequence[Column]
    ) -> CounterBlock:
        """Periodic samples, each of what was measured since the one before.

        The period is the median distance. A sample covers one period at most where the sampling
        paused for more than two: the pause shows 0, as the time after the last sample does. The
        first sample covers one period too, but not time before 0 that nothing else lies in.
        """
        if not len(time):
            return cls(gpu, specs, time, values, 0)
        distance = np.diff(time)
        period = int(np.median(distance)) if len(distance) else 0
        start = max(int(time[0]) - period, min(0, int(time[0])))
        late = np.nonzero(distance > _LONGEST * period)[0] + 1 if period else np.empty(0, np.int64)
        if len(late):
            time = np.insert(time, late, time[late] - period)
            values = [np.insert(column, late, 0) for column in values]
        return cls(gpu, specs, time, values, start)

    def __len__(self) -> int:
        return len(self.time)


def of_metrics(metrics: Metrics, others: Iterable[CounterBlock] = ()) -> list[CounterBlock]:
    """GPU metric samples as counters; see `nsys.gpu_metrics`.

    Args:
        metrics: The samples.
        others: Counters that are written as well: none gets the name of one of theirs.
    """
    taken = Counter((block.gpu, spec.name) for block in others for spec in block.specs)
    return [CounterBlock.sampled(s.gpu, _specs(s, taken), s.time, s.values) for s in metrics.sets]


def _specs(samples: SampleSet, taken: Counter[tuple[int, str]]) -> list[CounterSpec]:
    """Names that are unique on the GPU: nsys' own tell the kinds of a metric apart."""
    found = [gpu_metric_names.describe(name) for name in samples.names]
    often = Counter(m.name for m in found)
    period = int(np.median(np.diff(samples.time))) if len(samples.time) > 1 else 0
    every = f"one each {period / 1000:g} us" if period else "one only"
    specs = []
    for metric, nsys_name in zip(found, samples.names, strict=True):
        name = metric.name if often[metric.name] == 1 else nsys_name
        taken[samples.gpu, name] += 1
        if (number := taken[samples.gpu, name]) > 1:
            name = f"{name} ({number})"
        text = (
            f"{metric.description} GPU metric of nsys: {nsys_name}; {every}. A value covers the "
            "time since the sample before; 0 also where nothing was sampled."
        )
        specs.append(CounterSpec(name, metric.unit, metric.group, text.strip()))
    return specs


def first(blocks: Sequence[CounterBlock]) -> int | None:
    """The earliest time of all blocks, ns; None for none."""
    return min((b.start for b in blocks if len(b)), default=None)


def packets(
    blocks: Sequence[CounterBlock], shift: int, sequence: int = sequences.GPU_COUNTERS
) -> Iterator[bytes | npt.NDArray[np.uint8]]:
    """Writes counters.

    Args:
        blocks: In any order; no two counters of a GPU share their name.
        shift: ns added to every timestamp.
        sequence: No other packets may be on it.

    Raises:
        ValueError: Two counters of a GPU have the same name, or a unit is not known.
    """
    blocks = [b for b in blocks if len(b) and b.specs]
    if not blocks:
        return
    often = Counter((b.gpu, s.name) for b in blocks for s in b.specs)
    if twice := [key for key, number in often.items() if number > 1]:
        raise ValueError(f"counters of the same name: {twice}")
    yield wire.frame([_descriptors(blocks, sequence)])
    for i, block in enumerate(blocks):
        yield from _block(block, i + 1, shift, sequence)


def _descriptors(blocks: Sequence[CounterBlock], sequence: int) -> pb.TracePacket:
    """What the events refer to. Every GPU's groups have the same numbers, as the UI expects."""
    packet = sequences.start(sequence)
    names = sorted({s.group for b in blocks for s in b.specs if s.group})
    groups = {name: _FIRST_GROUP + i for i, name in enumerate(names)}
    for i, block in enumerate(blocks):
        entry = packet.interned_data.gpu_counter_descriptors.add(iid=i + 1, gpu_id=block.gpu)
        members: dict[str, list[int]] = {}
        for number, spec in enumerate(block.specs, 1):
            added = entry.counter_descriptor.specs.add(counter_id=number, name=spec.name)
            if spec.description:
                added.description = spec.description
            above, _, below = spec.unit.partition("/")
            added.numerator_units.extend(_unit(u) for u in [above] if u)
            added.denominator_units.extend(_unit(u) for u in [below] if u)
            if spec.group:
                members.setdefault(spec.group, []).append(number)
        for group, numbers in members.items():
            entry.counter_descriptor.counter_groups.add(
                group_id=groups[group], name=group, counter_ids=numbers
            )
    return packet


def _unit(symbol: str) -> int:
    if symbol not in _UNITS:
        raise ValueError(f"the engine has no unit {symbol!r}")
    return int(_UNITS[symbol])


def _block(
    block: CounterBlock, iid: int, shift: int, sequence: int
) -> Iterator[npt.NDArray[np.uint8]]:
    slots = [f"value{i}" for i in range(len(block.values))]
    real = [column.dtype.kind == "f" for column in block.values]

    def fill(p: Placeholders) -> pb.TracePacket:
        packet = sequences.following(sequence)
        packet.timestamp = p["ts"]
        event = packet.gpu_counter_event
        event.counter_descriptor_iid = iid
        for number, (slot, is_real) in enumerate(zip(slots, real, strict=True), 1):
            if is_real:
                event.counters.add(counter_id=number, double_value=p.double(slot))
            else:
                event.counters.add(counter_id=number, int_value=p.signed(slot))
        return packet

    rows = {"ts": RowSlot.fitting(np.array([block.start + shift, block.time[-1] + shift]))}
    for slot, is_real, column in zip(slots, real, block.values, strict=True):
        rows[slot] = RowSlot(DOUBLE) if is_real else RowSlot.fitting(column)  # type: ignore[arg-type]
    stamper = Stamper(fill, pl.DataFrame(), rows)

    def stamp(time: I64, values: Sequence[Column]) -> Iterator[npt.NDArray[np.uint8]]:
        code = np.zeros(len(time), np.uint32)
        columns = {"ts": time + shift, **dict(zip(slots, values, strict=True))}
        for _, data in stamper.stamp(code, columns):
            yield data

    # The value of the sample that opens the first interval is never read.
    yield from stamp(np.array([block.start]), [np.zeros(1, c.dtype) for c in block.values])
    for low in range(0, len(block), CHUNK):
        part = slice(low, low + CHUNK)
        yield from stamp(block.time[part], [column[part] for column in block.values])
