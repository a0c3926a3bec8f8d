"""Call chains of samples: which are the same, so that each is written once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

MOST_FRAMES = 1024
"""Of longer chains (damage: nsys cuts them much earlier) only the innermost frames are kept."""


@dataclass(frozen=True)
class Chains:
    """Distinct call chains, and who has which.

    Attributes:
        sample: The samples that have a chain, sorted, shape (n,).
        chain: The chain of each, from 0, shape (n,).
        frames: The frames of all chains, one chain after the other, the outermost first.
        counts: Number of frames of each chain.
    """

    sample: I64
    chain: I64
    frames: I64
    counts: I64


def distinct(sample: I64, depth: I64, frame: I64) -> Chains:
    """Finds the distinct chains.

    Chains are walked from the outside in, all at once: two samples stay in one group as long as
    their frames are the same. That is exact, unlike a hash of the whole chain.

    Args:
        sample: The sample that each frame belongs to, shape (n,), in any order.
        depth: Its place in the chain; the innermost has the smallest.
        frame: Number of the frame, from 0.
    """
    order = np.lexsort((-depth, sample))
    sample, frame = sample[order], frame[order]
    first = np.flatnonzero(np.append(True, sample[1:] != sample[:-1])) if len(sample) else order
    length = np.diff(np.append(first, len(sample)))
    first, length = first + np.maximum(length - MOST_FRAMES, 0), np.minimum(length, MOST_FRAMES)
    group = np.zeros(len(first), np.int64)
    width = int(frame.max(initial=0)) + 1
    groups = 1
    for level in range(int(length.max(initial=0))):
        there = np.flatnonzero(length > level)
        key = group[there] * width + frame[first[there] + level]
        found, place = np.unique(key, return_inverse=True)
        group[there] = groups + place
        groups += len(found)
    _, chosen, chain = np.unique(group, return_index=True, return_inverse=True)
    counts = length[chosen]
    ends = np.cumsum(counts)
    inside = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
    frames = frame[np.repeat(first[chosen], counts) + inside]
    return Chains(sample[first], chain.astype(np.int64), frames, counts)
