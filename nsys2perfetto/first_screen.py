"""What the UI shows before its user has touched anything.

It opens with every group closed, so what should be seen must be a root track with values of its
own; and a root track without a child is put into a closed group. Roots stand in order of name:
steps, idle gaps, utilization. (Perfetto's plugin dev.perfetto.TrackEvent, v52 to v58.)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nsys2perfetto.analysis.steps import PHASES
from nsys2perfetto.annotation import Annotations
from nsys2perfetto.tracks import counter_tracks
from nsys2perfetto.tracks.counter_tracks import CounterValues
from nsys2perfetto.tracks.gpu_counters import CounterBlock
from nsys2perfetto.tracks.processes import Tracks

UTILIZATION = "GPU utilization"
_SAME = "The same values as the GPU's own counter {}: {}."
_UNITS = {"Utilization": "%", "Kernels in flight": "kernels", "Launch queue depth": "operations"}
"""By name: native counters have no room for units of one's own."""
_MARGIN = 50
"""A part in so many of the view is left free on both sides."""


def utilization(blocks: Iterable[CounterBlock], tracks: Tracks) -> list[CounterValues]:
    """A root track with the utilization of each GPU, and below it how many kernels ran."""
    blocks = list(blocks)
    result = []
    for block in blocks:
        name = UTILIZATION + (f" · GPU {block.gpu}" if len(blocks) > 1 else "")
        root = copied(block, "Utilization", tracks, None, name)
        result += [root, copied(block, "Kernels in flight", tracks, root.track)]
    return result


def copied(
    block: CounterBlock, name: str, tracks: Tracks, parent: int | None, shown: str | None = None
) -> CounterValues:
    """One of the GPU's computed counters as an ordinary track, which may stand anywhere.

    Args:
        block: The counters of a GPU.
        name: Which of them.
        tracks: Hands out the track.
        parent: uuid of the track above; None at the root.
        shown: The track's name, where it is another.
    """
    column = next(i for i, spec in enumerate(block.specs) if spec.name == name)
    text = _SAME.format(f"`{name}`", block.specs[column].description)
    track = counter_tracks.counter_track(tracks, parent, shown or name, _UNITS[name], text)
    value = block.values[column]
    # It holds from the begin of its window on, and nothing holds after the last.
    time = np.append(block.start, block.time)
    value = np.append(value, np.zeros(1, value.dtype))
    changes = np.append(True, value[1:] != value[:-1])
    changes[-1] = True
    return CounterValues(track, time[changes], value[changes])


def view(found: Annotations, span: tuple[int, int]) -> tuple[int, int] | None:
    """The time to be shown first, in ns of the capture; None where there is no reason to choose.

    Loading a model and the first prefill often take longer than all decode steps, which would be a
    sliver at the right edge. So: all decode steps but prefills; without steps all GPU work.

    Args:
        found: The steps, and the work of the GPUs.
        span: The first and the last time of the trace.
    """
    steps = found.steps.steps
    decoding = steps.phase != PHASES.index("prefill")
    if decoding.any():
        start, end = int(steps.t0[decoding].min()), int(steps.t1[decoding].max())
    elif len(found.operations.start):
        start, end = int(found.operations.start.min()), int(found.operations.end.max())
    else:
        return None
    margin = (end - start) // _MARGIN
    start, end = max(start - margin, span[0]), min(end + margin, span[1])
    return (start, end) if start < end else None
