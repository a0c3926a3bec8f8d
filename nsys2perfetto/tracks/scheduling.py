"""When the program's threads were on a CPU (`SCHED_EVENTS`), on a track below each thread.

Each row of the table says that a thread came to a CPU or left it. nsys records the threads of the
profiled processes only, so nothing is known of what else a CPU did (NSYS_SCHEMA section 4).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from nsys2perfetto.analysis import on_cpu
from nsys2perfetto.nsys import events as nsys_events
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.dictionary import RowDictionary
from nsys2perfetto.nsys.enums import THREAD_STATE, labels
from nsys2perfetto.nsys.events import Events, Selection
from nsys2perfetto.nsys.ids import pid_of
from nsys2perfetto.tracks.processes import Tracks
from nsys2perfetto.tracks.thread_pools import Pools, annotate
from nsys2perfetto.tracks.thread_slices import SliceFamily

TABLE = "SCHED_EVENTS"
CATEGORY = "sched"

_TRACK = "On CPU"
_HELP = (
    "When the thread was on a CPU. Between the slices it waited for something, or for a CPU; what "
    "else the CPUs did is not recorded."
)


def read(capture: Capture, selection: Selection) -> Events:
    """Reads the stays of threads on CPUs: from the coming to the leaving.

    Configuration: globalTid, cpu (null: not known), left_as (in which state the thread left; null
    where that is not known). A row at which a thread left counts as `joined`: it ends a stay.
    """
    # Of all threads and times, whatever is selected: each stay needs both of its rows.
    columns = ("globalTid", "cpu", "isSchedIn", "threadState")
    points = nsys_events.read(capture, TABLE, dict.fromkeys(columns, "int"), end=None)
    config = points.config.with_columns(pl.col("globalTid").fill_null(0))
    thread, comes = (config[c].fill_null(0).to_numpy() for c in ("globalTid", "isSchedIn"))
    stays = on_cpu.stays(thread[points.code], points.start, comes[points.code] != 0)
    labelled = labels(capture, "ENUM_SAMPLING_THREAD_STATE", THREAD_STATE)
    state = config["threadState"].replace_strict(
        {number: label for number, label in labelled.items() if number},
        default=None,
        return_dtype=pl.String,
    )
    known = pl.Series(stays.left >= 0, dtype=pl.Boolean)
    left_as = state[points.code[stays.left]].set(~known, None).alias("left_as")
    whose = points.code[np.where(stays.came >= 0, stays.came, stays.left)]
    dictionary = RowDictionary()
    code = dictionary.encode(config.select("globalTid", "cpu")[whose].with_columns(left_as))
    result = Events(TABLE, stays.start, stays.end, code, dictionary.table())

    rows = (stays.came >= 0).astype(np.int64) + (stays.left >= 0)
    chosen = _chosen(result, selection)
    kept = result.only(chosen)
    damaged = {} if selection.nothing else dict(points.dropped)
    if len(stays.twice) and not selection.nothing:
        damaged["the thread had left its CPU before"] = len(stays.twice)
    kept.joined = int(rows[chosen].sum()) - len(kept)
    kept.dropped = damaged
    kept.rows_read = int(rows[chosen].sum()) + sum(damaged.values())
    kept.filtered = points.rows_read - kept.rows_read
    return kept


def _chosen(stays: Events, selection: Selection) -> npt.NDArray[np.bool_]:
    """Which stays overlap the selected time and belong to a selected process."""
    if selection.nothing:
        return np.zeros(len(stays), bool)
    chosen = np.ones(len(stays), bool)
    if selection.start is not None:
        chosen &= stays.end >= selection.start
    if selection.end is not None:
        chosen &= stays.start <= selection.end
    if selection.pids and len(stays):
        mine = [pid_of(t) in selection.pids for t in stays.config["globalTid"].to_list()]
        chosen &= np.array(mine)[stays.code]
    return chosen


def family(events: Events, tracks: Tracks, pools: Pools) -> SliceFamily:
    """A slice `CPU 3` a stay."""
    config = events.config
    threads = config["globalTid"].unique().sort().to_list()
    track = {thread: tracks.child(tracks.thread(thread), _TRACK, _HELP) for thread in threads}
    cpu = config["cpu"].cast(pl.String).fill_null("?")
    slots = pl.DataFrame(
        {
            "track": config["globalTid"].replace_strict(track, return_dtype=pl.Int64),
            "name_iid": pools.names.iids("CPU " + cpu),
            "left_as": pools.texts.iids(config["left_as"]),
        }
    )
    iids = pools.annotations.lookup(["left_as"])
    return SliceFamily(
        "sched",
        slots.with_columns(pl.lit(pools.categories.iid(CATEGORY)).alias("category_iid")),
        events.start,
        events.end,
        events.code,
        lambda p, event: annotate(p, event, {"left_as": "text"}, iids),
        in_order=True,
    )
