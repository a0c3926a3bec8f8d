"""A trace as the engine knows it, in a form in which two traces can be compared."""

import re

from tests.engine import query

_SLICES = """
    select s.id, s.ts, s.dur, s.name, s.category, s.depth, s.arg_set_id, t.name as track,
      thread.tid, coalesce(p.pid, q.pid) as pid
    from slice s join track t on t.id = s.track_id
    left join thread_track tt on tt.id = t.id left join thread using (utid)
    left join process p on p.upid = thread.upid
    left join process_track pt on pt.id = t.id left join process q on q.upid = pt.upid
    order by s.ts, s.dur, s.name, s.depth, t.name, s.id"""
_ARGS = """
    select arg_set_id, key, coalesce(int_value, real_value, string_value) as value from args
    where value_type != 'null'"""
_COUNTERS = """
    select c.ts, c.value, t.name from counter c join counter_track t on t.id = c.track_id
    order by t.name, c.ts, c.id"""
_SUBMITTED = "gpu_correlation.render_stage_submission_event_ids"


class Loaded:
    """A trace: slices without what only numbers them, each with its arguments.

    Attributes:
        slices: (columns, arguments) by time.
        arrows: (slice, slice), as columns without depth.
        operation: Event id to the columns of the operation, of those that a call submitted alone.
    """

    def __init__(self, path, open_trace):
        with open_trace(path) as tp:
            query.assert_clean(tp)
            slices = query.rows(tp, _SLICES)
            self.counters = [tuple(r.values()) for r in query.rows(tp, _COUNTERS)]
            flows = query.rows(tp, "select slice_out, slice_in from flow")
            self.metadata = {
                r["name"]: r["str_value"] for r in query.rows(tp, "select * from metadata")
            }
            args = {}
            for r in query.rows(tp, _ARGS):
                args.setdefault(r["arg_set_id"], {})[r["key"]] = r["value"]
        by_id, self.slices, ids = {}, [], {}
        for s in slices:
            number, own = s.pop("id"), args.get(s.pop("arg_set_id"), {})
            by_id[number] = s
            self.slices.append((s, own))
            ids[number] = [v for k, v in own.items() if k.startswith(_SUBMITTED)]
        self.arrows = [(by_id[f["slice_out"]], by_id[f["slice_in"]]) for f in flows]
        self.operation = {
            ids[f["slice_out"]][0]: by_id[f["slice_in"]]
            for f in flows
            if len(ids[f["slice_out"]]) == 1
        }

    def events(self):
        """All but gaps."""
        return [(s, a) for s, a in self.slices if not is_gap(s)]

    def gaps(self):
        """Gaps of GPUs and of processes."""
        return [(s, a) for s, a in self.slices if is_gap(s)]

    def of(self, *categories):
        """Slices of some categories."""
        return [(s, a) for s, a in self.slices if s["category"] in categories]


def is_gap(row):
    return row["category"] in ("nsys.gap", "nsys.process_gap")


def place(row):
    """What a slice is, wherever its trace stacks it: on its track, where others may be missing."""
    return tuple(v for k, v in row.items() if k != "depth")


def without_ids(args):
    """Arguments without what numbers the operations, queues, contexts, processes of a trace."""
    ids = r"event_ids?(\[\d+\])?$|^(hw_queue_id|context_id|upid)$"
    return {k: v for k, v in args.items() if not re.search(ids, k)}
