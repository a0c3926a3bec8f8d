"""All GPU work on one packet sequence: queues, interned data, and the packets of every family."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np
import numpy.typing as npt

from nsys2perfetto.nsys.events import Events
from nsys2perfetto.nsys.gpus import Gpu, Gpus
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.tracks import copies, kernels, sequences
from nsys2perfetto.tracks.compute_args import ComputeArgs
from nsys2perfetto.tracks.detail import FULL, Detail
from nsys2perfetto.tracks.gpu_family import GpuFamily
from nsys2perfetto.tracks.gpu_queues import Queues
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.strings import StringPool
from nsys2perfetto.wire import packets


class GpuSequence:
    """The GPU work of a trace.

    Attributes:
        families: Those that have events, with their event ids.
        names: The interned names of the operations.
        queues: Where they are shown.
        used: The GPUs to describe: those with work or counters; all where none has any.
    """

    def __init__(
        self,
        work: dict[str, Events],
        strings: StringTable,
        gpus: Gpus,
        tracks: Tracks,
        stream_names: dict[tuple[int, int, int], str],
        sampled: Collection[int] = (),
        detail: Detail = FULL,
    ) -> None:
        """Prepares everything for writing.

        Args:
            work: Events by family (`kernel`, `memcpy`, `memset`, `graph`); their configurations
                get the columns `gpu` and `migration`.
            strings: The capture's string table.
            gpus: The GPUs, and which of them each process's devices are.
            tracks: Gives each process its number.
            stream_names: See `Queues`.
            sampled: Numbers of GPUs that have counters.
            detail: How much is said of each operation.
        """
        names, args = StringPool(2), ComputeArgs()
        self.names, self._args = names, args
        queues = self.queues = Queues(gpus, tracks, stream_names)
        for events in work.values():
            events.config = queues.with_gpu(events.config)
        queues.define([e.config for e in work.values() if len(e)])
        makers: dict[str, Callable[[Events], GpuFamily]] = {
            "kernel": lambda e: kernels.family(
                e, strings, queues, gpus, tracks, names, args, detail
            ),
            "memcpy": lambda e: copies.copies(e, queues, names, args, detail=detail),
            "memset": lambda e: copies.memory_sets(e, queues, names, args, detail),
            "graph": lambda e: copies.graph_launches(e, queues, names, args),
        }
        self.families = [makers[f](e) for f, e in work.items() if len(e)]
        first = 1
        for family in self.families:
            family.first_event_id = first
            first += len(family.events)
        numbers = {n for f in self.families for n in f.config["gpu"].unique().to_list()}
        numbers.update(sampled)
        known = gpus.by_id.values()
        self.used = [g for g in known if g.id in numbers or (g.is_cuda and not numbers)]
        self.used += [Gpu(n, "GPU") for n in sorted(numbers - gpus.by_id.keys())]

    def __len__(self) -> int:
        return sum(len(f.events) for f in self.families)

    def packets(self, shift: int) -> Iterator[bytes | npt.NDArray[np.uint8]]:
        """Interned data, then the packets of every family; `shift` ns are added to every time."""
        if not self.families:
            return
        yield packets.frame([self.queues.interned()])
        interned = [self.names.entries(), *self._args.entries()]
        interned += [entries for f in self.families for entries in f.interned()]
        for entries in interned:
            yield from packets.interned(sequences.following(sequences.GPU), entries)
        for family in self.families:
            yield from family.packets(shift)
