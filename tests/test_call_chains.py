"""Distinct call chains, against tuples in a dictionary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis import call_chains
from nsys2perfetto.analysis.call_chains import MOST_FRAMES, distinct

CHAINS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), max_size=20)


def table(chains):
    """Rows of frames, as the capture has them: sample, depth (0 is innermost), frame."""
    rows = [
        (sample, depth, frame)
        for sample, chain in enumerate(chains)
        for depth, frame in enumerate(reversed(chain))
    ]
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2]


def unpacked(result):
    ends = np.cumsum(result.counts)
    listed = [tuple(part) for part in np.split(result.frames, ends[:-1])] if len(ends) else []
    return {s: listed[c] for s, c in zip(result.sample.tolist(), result.chain, strict=True)}, listed


@given(CHAINS, st.randoms(use_true_random=False))
def test_each_sample_keeps_its_chain_and_each_chain_is_there_once(chains, random):
    sample, depth, frame = table(chains)
    order = list(range(len(sample)))
    random.shuffle(order)
    result = distinct(sample[order], depth[order], frame[order])
    of_sample, listed = unpacked(result)
    assert of_sample == {number: tuple(chain) for number, chain in enumerate(chains)}
    assert len(set(listed)) == len(listed) == len(set(of_sample.values()))


def test_of_an_endless_chain_the_innermost_frames_are_kept():
    chain = list(range(MOST_FRAMES + 5))
    of_sample, _ = unpacked(distinct(*table([chain, [7]])))
    assert of_sample == {0: tuple(chain[5:]), 1: (7,)}
    assert call_chains.MOST_FRAMES == MOST_FRAMES
