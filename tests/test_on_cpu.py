"""Times on a CPU: pairs of coming and leaving, against a walk through the rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis.on_cpu import stays

ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.booleans()), max_size=24)


def found(rows):
    thread, time, comes = (np.array(column) for column in zip(*rows, strict=True))
    return stays(thread.astype(np.int64), time.astype(np.int64), comes.astype(bool))


def walked(rows):
    """(start, end) of each stay, and how many rows end none; row by row."""
    first, last = min(r[1] for r in rows), max(r[1] for r in rows)
    result, twice = [], 0
    for thread in {r[0] for r in rows}:
        mine = sorted((r for r in rows if r[0] == thread), key=lambda r: r[1])
        since = None
        for i, (_, time, comes) in enumerate(mine):
            if since is not None:
                result.append((since, time))
                since = None
            elif not comes and i == 0:
                result.append((first, time))
            elif not comes:
                twice += 1
            if comes:
                since = time
        if since is not None:
            result.append((since, last))
    return sorted(result), twice


@given(ROWS.filter(bool))
def test_stays_are_those_of_a_walk(rows):
    result = found(rows)
    expected, twice = walked(rows)
    assert sorted(zip(result.start.tolist(), result.end.tolist(), strict=True)) == expected
    assert len(result.twice) == twice
    assert (np.diff(result.start) >= 0).all()
    used = [r for r in (*result.came, *result.left, *result.twice) if r >= 0]
    assert sorted(used) == list(range(len(rows)))


def test_no_rows():
    nothing = np.empty(0, np.int64)
    assert len(stays(nothing, nothing, nothing.astype(bool)).start) == 0
