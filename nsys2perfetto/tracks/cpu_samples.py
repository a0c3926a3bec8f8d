"""CPU samples as Perfetto's own: packets of perf samples, which the UI draws as flame graphs.

perf_sample.proto, profile_common.proto. Chains, frames and names are interned, each once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.analysis import call_chains
from nsys2perfetto.analysis.call_chains import Chains
from nsys2perfetto.nsys.cpu_samples import Samples
from nsys2perfetto.nsys.ids import PROCESS_MASK
from nsys2perfetto.nsys.text import StringTable
from nsys2perfetto.tracks import sequences
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.strings import StringPool
from nsys2perfetto.wire import packets, ragged
from nsys2perfetto.wire.ragged import Ragged
from nsys2perfetto.wire.stamp import RowSlot, Stamper
from nsys2perfetto.wire.template import Placeholders

I64 = npt.NDArray[np.int64]

_CHUNK = 65536
_FRAMES, _CALLSTACKS, _MAPPINGS = 6, 7, 19
"""Fields of InternedData."""
_KERNEL, _USER = 1, 2
"""Profiling.CpuMode."""
_UNNAMED = "[unknown]"


def write(
    samples: Samples, strings: StringTable, tracks: Tracks, shift: int
) -> Iterator[bytes | npt.NDArray[np.uint8]]:
    """Writes all samples, first what they refer to.

    Args:
        samples: From `nsys.cpu_samples`.
        strings: The capture's string table.
        tracks: Numbers processes and threads.
        shift: ns added to every timestamp.
    """
    if not len(samples):
        return
    _announce(samples, tracks)
    ids = samples.values["id"]
    frames = samples.frames.filter(pl.col("id").is_in(pl.Series(ids).implode()))
    named = _named(frames, strings)
    number, kinds = _numbered(named)
    sample, depth = (frames[c].to_numpy() for c in ("id", "stackDepth"))
    chains = call_chains.distinct(sample, depth, number)

    first = sequences.start(sequences.SAMPLES)
    first.trace_packet_defaults.perf_sample_defaults.SetInParent()
    yield packets.frame([first])
    for entries in _interned(kinds, chains):
        yield from packets.interned(sequences.following(sequences.SAMPLES), entries)
    yield from _samples(samples, frames, chains, tracks, shift)


def _announce(samples: Samples, tracks: Tracks) -> None:
    """Sees to it that the threads have tracks, which carry their names."""
    for thread in samples.config["globalTid"].fill_null(0).unique().sort().to_list():
        tracks.thread(thread)


def _named(frames: pl.DataFrame, strings: StringTable) -> pl.DataFrame:
    """The function and module of each frame; of modules only the file: paths tell of users."""
    module = strings.look_up(frames["module"]).str.split("/").list.last()
    return pl.DataFrame(
        {
            "function": strings.look_up(frames["symbol"]).fill_null(_UNNAMED),
            "module": module.fill_null(_UNNAMED),
        }
    )


def _numbered(named: pl.DataFrame) -> tuple[I64, pl.DataFrame]:
    """Number of each frame, and the distinct frames in that order."""
    distinct = named.unique(maintain_order=True).with_row_index("number")
    number = named.join(distinct, on=["function", "module"], how="left", maintain_order="left")
    return number["number"].to_numpy().astype(np.int64), distinct


def _interned(kinds: pl.DataFrame, chains: Chains) -> Iterator[Ragged]:
    """Names, modules, frames and chains, in the order in which they refer to each other."""
    functions, paths = StringPool(5), StringPool(17)
    function, path = functions.iids(kinds["function"]), paths.iids(kinds["module"])
    yield paths.entries()
    yield functions.entries()
    modules = np.arange(1, len(paths) + 1)
    mapping = ragged.concat(ragged.encode_varint(1, modules), ragged.encode_varint(7, modules))
    yield ragged.length_delimited(_MAPPINGS, mapping)
    frame = ragged.concat(
        ragged.encode_varint(1, np.arange(1, len(kinds) + 1)),
        ragged.encode_varint(2, function.to_numpy()),
        ragged.encode_varint(3, path.to_numpy()),
    )
    yield ragged.length_delimited(_FRAMES, frame)
    if len(chains.counts):
        listed = ragged.group(ragged.encode_varint(2, chains.frames + 1), chains.counts)
        iids = ragged.encode_varint(1, np.arange(1, len(chains.counts) + 1))
        yield ragged.length_delimited(_CALLSTACKS, ragged.concat(iids, listed))


def _samples(
    samples: Samples, frames: pl.DataFrame, chains: Chains, tracks: Tracks, shift: int
) -> Iterator[npt.NDArray[np.uint8]]:
    ids = samples.values["id"]
    place = np.minimum(np.searchsorted(chains.sample, ids), max(len(chains.sample) - 1, 0))
    has_chain = np.zeros(len(samples), bool)
    chain = np.zeros(len(samples), np.int64)
    mode = np.zeros(len(samples), np.int64)
    if len(chains.sample):
        has_chain = chains.sample[place] == ids
        chain = chains.chain[place]
        mode = np.where(has_chain, _modes(frames, chains)[place], 0)
    threads = samples.config["globalTid"].fill_null(0)
    config = pl.DataFrame(
        {
            "pid": [tracks.pid(t & PROCESS_MASK) for t in threads],
            "tid": [tracks.tid(t) for t in threads],
            "cpu": samples.config["cpu"],
        },
        schema={"pid": pl.Int64, "tid": pl.Int64, "cpu": pl.Int64},
    )
    time = samples.start + shift

    def fill(p: Placeholders) -> pb.TracePacket:
        packet = sequences.following(sequences.SAMPLES)
        packet.timestamp = p["ts"]
        sample = packet.perf_sample
        for name in ("pid", "tid", "cpu"):
            if name in p:
                setattr(sample, name, p[name])
        if "mode" in p:
            sample.cpu_mode = p["mode"]
        if "chain" in p:
            sample.callstack_iid = p["chain"]
        return packet

    slots = {
        "ts": RowSlot.fitting(time),
        "chain": RowSlot.fitting(np.array([len(chains.counts) + 1]), optional=True),
        "mode": RowSlot(1, optional=True),
    }
    stamper = Stamper(fill, config, slots)
    for low in range(0, len(samples), _CHUNK):
        part = slice(low, low + _CHUNK)
        values = {"ts": time[part], "chain": chain[part] + 1, "mode": mode[part]}
        present = {"chain": has_chain[part], "mode": mode[part] > 0}
        blocks = stamper.stamp(samples.code[part], values, present)
        pieces = [(rows, ragged.from_matrix(block)) for rows, block in blocks]
        yield ragged.interleave(pieces, len(time[part])).data


def _modes(frames: pl.DataFrame, chains: Chains) -> I64:
    """Whether each sample hit the kernel, by its innermost frame; in the order of `chains`."""
    innermost = frames.sort("stackDepth").unique("id", keep="first").sort("id")
    mode = pl.when(pl.col("kernelMode") != 0).then(_KERNEL).otherwise(_USER)
    known = pl.when(pl.col("kernelMode").is_not_null()).then(mode).otherwise(0)
    return innermost.select(known.cast(pl.Int64).alias("mode"))["mode"].to_numpy()
