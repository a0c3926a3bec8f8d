"""What a thread does in a CUDA call, by the name of the call."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Int8s = NDArray[np.int8]


class Activity(IntEnum):
    """What a thread can be doing; the rows of `Causes.split`."""

    SYNC = 0
    LAUNCH = 1
    MEMORY = 2
    COPY = 3
    OTHER_CUDA = 4
    OUTSIDE_CUDA = 5


ACTIVITIES = tuple(activity.name.lower() for activity in Activity)
"""Names of the activities: `sync`, `launch`, `memory`, `copy`, `other_cuda`, `outside_cuda`."""

_CATEGORIES = (
    (Activity.SYNC, r"^cu\w*Synchronize"),
    (Activity.LAUNCH, r"^cu(da)?(Graph)?Launch"),
    (Activity.COPY, r"^cu(da)?(Memcpy|Memset|MemPrefetch|MemDiscardAndPrefetch)"),
    (Activity.MEMORY, r"^cu(da)?(Malloc|Free|HostAlloc|Host(Unr|R)egister|DeviceGraphMemTrim)"),
    (Activity.MEMORY, r"^cu(da)?Mem(Alloc|Free|HostAlloc|Host(Unr|R)egister|Pool(Create|Destroy))"),
    (Activity.MEMORY, r"^cu(da)?MemPool(TrimTo|Import|Export|SetAccess)|^cu(da)?MemDiscard"),
    (Activity.MEMORY, r"^cuMem(Create|Release|Map|Unmap|SetAccess|Address(Reserve|Free)|Import)"),
    (Activity.MEMORY, r"^cu(da)?Ipc(Open|Close)MemHandle|^cu(Mipmapped)?Array3?D?(Create|Destroy)"),
)
"""The first pattern that a call's name matches decides; what matches none is `OTHER_CUDA`."""


def categories(names: Iterable[str | None]) -> Int8s:
    """The `Activity` of each call name, with or without its ABI suffix; shape (names,)."""
    compiled = [(activity, re.compile(pattern)) for activity, pattern in _CATEGORIES]
    return np.array(
        [
            next((a for a, pattern in compiled if pattern.search(name or "")), Activity.OTHER_CUDA)
            for name in names
        ],
        dtype=np.int8,
    )
