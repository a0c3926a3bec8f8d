"""`--compat`: all that a native trace shows, in traces and engines that know no GPU model."""

import functools
import itertools
from collections import defaultdict

import polars as pl
import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto import convert, first_screen
from nsys2perfetto.query import package
from nsys2perfetto.sql import PACKAGE
from tests import runs
from tests.compat_trace import (
    CompatTrace,
    arrow,
    gpu_number,
    native_operations,
    on_cpu,
    operations,
)
from tests.engine import query
from tests.runs import same

CAPTURES = (
    "negative_times", "odd_text", "empty_tables", "no_kernels", "no_cuda_at_all", "unsorted_rows",
    "negative_global_ids", "nvtx_zoo", "nested_calls", "overlapping_calls", "zero_length",
    "every_library", "gpu_metrics", "graph_nodes", "graph_level", "two_processes_two_gpus",
    "eight_hundred_streams", "unified_memory", "every_copy_kind", "sync_zoo", "device_memory",
    "overlapping_kernels", "orphans", *runs.SAMPLES, "same_run 2020.4", "same_run 3.25.0 graph",
)  # fmt: skip
ENGINES = ("v55", "v52")
REPEATED = (first_screen.UTILIZATION, "Kernels in flight", "Launch queue depth")
"""Counters that a native trace has once more for the first screen, as tracks of their own."""


@pytest.fixture(scope="session", params=ENGINES)
def open_in(request, open_trace, open_in_v52):
    """Each engine in turn."""
    return {"v55": open_trace, "v52": open_in_v52}[request.param]


@functools.cache
def written(path, **options):
    output = runs.folder() / f"{path.stem}{''.join(options)} compat.pftrace"
    return convert(path, output, force=True, compat=True, **options)


@pytest.fixture(scope="session", params=CAPTURES)
def native(request, open_trace):
    return runs.load(request.param, open_trace)


@functools.lru_cache(maxsize=4)
def compat(path, open_in):
    return CompatTrace(written(path).output, open_in)


def test_everything_is_there(native, open_in, open_trace):
    everything_is_there(native, open_in, open_trace)


def test_everything_of_real_captures_is_there(capture, open_in_v52, open_trace):
    everything_is_there(runs.load_capture(capture, open_trace), open_in_v52, open_trace)


def everything_is_there(native, open_in, open_trace):
    found = compat(native.path, open_in)
    assert not found.losses
    same(operations(found), native_operations(native.trace), "GPU work")
    same(
        on_cpu(found.cpu, lambda s: s["args"]),
        on_cpu(native.trace.cpu, native.trace.args),
        "other slices",
    )
    at = native.trace.by_id
    expected = [arrow(at[f["slice_out"]], at[f["slice_in"]]) for f in native.trace.flows]
    same([arrow(*pair) for pair in found.flows], expected, "arrows")
    assert written(native.path).arrows == native.result.arrows
    same(compat_counters(found), native_counters(native.result.output, open_trace), "counters")
    # Nothing looks like a call stack, and nothing overlaps.
    assert {s["depth"] for s in found.gpu} <= {0}
    of_track = defaultdict(list)
    for s in found.gpu:
        of_track[s["track_id"]].append((s["ts"], s["ts"] + s["dur"]))
    for spans in of_track.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_no_gpu_model(native):
    """Neither its packets nor its extensions."""
    trace = pb.Trace.FromString(written(native.path).output.read_bytes())
    kinds = {p.WhichOneof("data") for p in trace.packet} - {None}
    assert kinds <= {
        "extension_descriptor", "clock_snapshot", "trace_attributes", "gpu_info",
        "track_descriptor", "track_event", "service_event",
    }  # fmt: skip


def compat_counters(trace):
    found = []
    for root, name, unit, ts, value in trace.counters:
        if (gpu := gpu_number(root)) is not None and " memory" not in name:
            found.append((gpu, "Utilization" if name == root else name, unit, ts, value))
        else:
            found.append((None, name, unit, ts, value))
    return found


@functools.lru_cache(maxsize=2)
def native_counters(path, open_trace):
    with open_trace(path) as tp:
        found = query.rows(
            tp,
            "select g.gpu_id as gpu, t.name, t.unit, c.ts, c.value from counter c "
            "join counter_track t on t.id = c.track_id "
            "left join gpu_counter_track g on g.id = t.id",
        )
    return [
        (r["gpu"], r["name"], r["unit"] or None, r["ts"], r["value"])
        for r in found
        if r["gpu"] is not None or not r["name"].startswith(REPEATED)
    ]


@pytest.mark.parametrize("name", ["decode_eager", "two_processes_two_gpus", "unified_memory"])
def test_sql_views_say_the_same(name, open_trace):
    path = runs.scenario(name).path
    views = package.views()

    def rows(trace):
        with open_trace(trace, sql_packages=[PACKAGE]) as tp:
            for view in views.values():
                sql = f"INCLUDE PERFETTO MODULE {view.module}; SELECT * FROM {view.name}"
                ids = [c.name for c in view.columns if c.type == "JOINID" or c.name == "id"]
                yield view.name, query.frame(tp, sql).drop(ids, strict=False)

    native = runs.load(name, open_trace).result.output
    for (view, found), (_, wanted) in zip(rows(written(path).output), rows(native), strict=True):
        kept = found.filter(pl.col("name") != "compat") if view == "nsys_capture" else found
        same(map(str, kept.rows()), map(str, wanted.rows()), view)
