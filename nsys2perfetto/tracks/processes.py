"""Processes and threads of the trace: Perfetto's numbers for nsys' global ids, and their tracks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.nsys.ids import PROCESS_MASK, pid_of, tid_of
from nsys2perfetto.tracks import sequences

_NAMESPACE_SHIFT = 24
"""Process and thread ids have 24 bits in nsys; what lies above tells equal ids apart."""

_LARGEST = (1 << 31) - 1
"""Perfetto's process and thread ids are int32."""

TrackDescriptor = pb.TrackDescriptor


class _Numbers:
    """Numbers for global ids, no two alike."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self._taken: set[int] = set()
        self._following: dict[int, int] = {}
        """What to try next for ids of the same number: among thousands each try would count."""
        self._spare = _LARGEST

    def number(self, global_id: int, own: int) -> int:
        """The id's own number of 24 bits if no other id has it, else one above 2^24."""
        if global_id not in self._of:
            number = self._following.get(own, own)
            while number in self._taken and number <= _LARGEST:
                number += 1 << _NAMESPACE_SHIFT
            self._following[own] = number + (1 << _NAMESPACE_SHIFT)
            if number > _LARGEST:
                number = self._unused()
            self._taken.add(number)
            self._of[global_id] = number
        return self._of[global_id]

    def _unused(self) -> int:
        """Any number: 128 processes have the same one."""
        while self._spare in self._taken:
            self._spare -= 1
        return self._spare


@dataclass
class Tracks:
    """Hands out track uuids and collects the descriptors of the tracks that are used.

    Uuids count from 1: they are written with every event, so they stay short.
    """

    process_names: dict[int, str] = field(default_factory=dict)
    thread_names: dict[int, str] = field(default_factory=dict)
    _process_uuid: dict[int, int] = field(default_factory=dict)
    _thread_uuid: dict[int, int] = field(default_factory=dict)
    _pids: _Numbers = field(default_factory=_Numbers)
    _tids: _Numbers = field(default_factory=_Numbers)
    _descriptors: list[pb.TrackDescriptor] = field(default_factory=list)
    _next: int = 1

    def pid(self, global_pid: int) -> int:
        """The trace's process id of a globalPid.

        It is the operating system's, unless two processes of the capture share that number (pids
        of two containers or machines): the later ones get a number above 2^24.
        """
        return self._pids.number(global_pid, pid_of(global_pid))

    def tid(self, global_tid: int) -> int:
        """The trace's thread id of a globalTid, likewise."""
        return self._tids.number(global_tid, tid_of(global_tid))

    def process(self, global_pid: int) -> int:
        """The uuid of a process's track."""
        if global_pid not in self._process_uuid:
            uuid = self._process_uuid[global_pid] = self._new_uuid()
            name = self.process_names.get(global_pid)
            descriptor = TrackDescriptor(uuid=uuid)
            descriptor.process.pid = self.pid(global_pid)
            if name:
                descriptor.process.process_name = name
            self._descriptors.append(descriptor)
        return self._process_uuid[global_pid]

    def thread(self, global_tid: int) -> int:
        """The uuid of a thread's own track."""
        if global_tid not in self._thread_uuid:
            process = global_tid & PROCESS_MASK
            parent = self.process(process)
            uuid = self._thread_uuid[global_tid] = self._new_uuid()
            descriptor = TrackDescriptor(uuid=uuid, parent_uuid=parent)
            descriptor.thread.pid = self.pid(process)
            descriptor.thread.tid = self.tid(global_tid)
            if name := self.thread_names.get(global_tid):
                descriptor.thread.thread_name = name
            self._descriptors.append(descriptor)
        return self._thread_uuid[global_tid]

    def child(
        self,
        parent: int | None,
        name: str,
        description: str = "",
        counter: pb.CounterDescriptor | None = None,
        rank: int | None = None,
        ranks: bool = False,
    ) -> int:
        """The uuid of a new track below another, or at the root; equal names are shown as one.

        Args:
            parent: uuid of the track above; None at the root.
            name: What the user reads.
            description: Shown in the track's help.
            counter: What it counts; None for a track of slices.
            rank: Its place among its siblings, which stand in order of name otherwise.
            ranks: Its children have ranks. (The UI heeds them below ordinary tracks only.)
        """
        uuid = self._new_uuid()
        descriptor = TrackDescriptor(uuid=uuid, name=name)
        if parent is not None:
            descriptor.parent_uuid = parent
        if description:
            descriptor.description = description
        if counter is not None:
            descriptor.counter.CopyFrom(counter)
        if rank is not None:
            descriptor.sibling_order_rank = rank
        if ranks:
            descriptor.child_ordering = TrackDescriptor.EXPLICIT
        self._descriptors.append(descriptor)
        return uuid

    def _new_uuid(self) -> int:
        self._next += 1
        return self._next - 1

    def name_of_process(self, global_pid: int) -> str:
        """The program's name, or `process` and its number where the capture has no name."""
        return self.process_names.get(global_pid) or f"process {self.pid(global_pid)}"

    def listed(self) -> list[tuple[int, str]]:
        """Process number and program name of each process, sorted."""
        return sorted((self.pid(p), self.process_names.get(p, "")) for p in self._process_uuid)

    def packets(self) -> Iterator[pb.TracePacket]:
        """The descriptors, parents before children; of each call those that are new."""
        fresh, self._descriptors = self._descriptors, []
        for descriptor in fresh:
            packet = sequences.following(sequences.DESCRIPTORS)
            packet.track_descriptor.CopyFrom(descriptor)
            yield packet

    def use(self, processes: Iterable[int]) -> None:
        """Numbers processes and gives each a track, in this order."""
        for process in processes:
            self.process(process)
