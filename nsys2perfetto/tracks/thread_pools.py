"""What TrackEvents intern: names, categories, and the names and texts of debug annotations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.tracks.strings import StringPool
from nsys2perfetto.wire.ragged import Ragged
from nsys2perfetto.wire.template import Placeholders

AnnotationKind = Literal["int", "uint", "double", "text"]


@dataclass
class Pools:
    """The interned strings of the CPU sequence (fields of InternedData)."""

    names: StringPool = field(default_factory=lambda: StringPool(2))
    categories: StringPool = field(default_factory=lambda: StringPool(1))
    annotations: StringPool = field(default_factory=lambda: StringPool(3))
    texts: StringPool = field(default_factory=lambda: StringPool(29))

    def entries(self) -> list[Ragged]:
        """What must be interned before the events that are written next."""
        pools = (self.names, self.categories, self.annotations, self.texts)
        return [pool.entries() for pool in pools]


def annotate(
    p: Placeholders, event: pb.TrackEvent, kinds: dict[str, AnnotationKind], iids: dict[str, int]
) -> None:
    """Adds a debug annotation for each slot that is present.

    Args:
        p: The placeholders; a slot is called like its annotation. Dots in a name make levels, since
            the engine would replace them.
        event: Where they are added; the engine shows them as `debug.NAME`.
        kinds: Slot to type; `text` slots hold ids of `Pools.texts`.
        iids: What stands between the dots of a slot to its id in `Pools.annotations`.
    """
    for slot, kind in kinds.items():
        if slot not in p:
            continue
        *levels, name = slot.split(".")
        entries = event.debug_annotations
        for level in levels:
            iid = iids[level]
            there = [entry for entry in entries if entry.name_iid == iid]
            entries = (there[0] if there else entries.add(name_iid=iid)).dict_entries
        annotation = entries.add(name_iid=iids[name])
        if kind == "double":
            annotation.double_value = p.double(slot)
        elif kind == "text":
            annotation.string_value_iid = p[slot]
        elif kind == "uint":
            annotation.uint_value = p[slot]
        else:
            annotation.int_value = p.signed(slot)
