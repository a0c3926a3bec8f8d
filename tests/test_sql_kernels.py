"""Kernels and copies by SQL: each row against the capture, summaries against plain Python's."""

import pytest

from tests import report_oracle, sql_views
from tests.oracle import MEMORY_KINDS, pid
from tests.runs import same


@pytest.fixture(scope="session", params=sql_views.RUNS)
def made(request, open_trace):
    return sql_views.ask(request.param, open_trace)


@pytest.fixture(scope="session")
def real(capture, open_trace):
    return sql_views.ask(capture, open_trace)


def check_kernels(asked):
    """Names, place, launch shape."""

    def shape(*numbers):
        return None if None in numbers else "x".join(map(str, numbers))

    def product(*numbers):
        return numbers[0] * numbers[1] * numbers[2]

    columns = (
        *("ts", "dur", "name", "demangled_name", "pid", "gpu", "device", "stream"),
        *("grid", "block", "grid_size", "block_size", "registers_per_thread"),
        *("shared_mem_static", "shared_mem_dynamic", "graph_node_id"),
    )
    expected = [
        (
            *(r["start"], r["end"] - r["start"], r["short"], r["full"], pid(r["globalPid"])),
            *(r["gpu"], r["deviceId"], r["streamId"]),
            *(shape(*grid), shape(*block), product(*grid), product(*block)),
            *(r["registersPerThread"], r["staticSharedMemory"], r["dynamicSharedMemory"]),
            r["graphNodeId"] or None,
        )
        for r in report_oracle.kernels(asked.oracle)
        for grid, block in [
            [tuple(r[f"{what}{axis}"] for axis in "XYZ") for what in ("grid", "block")]
        ]
    ]
    same(asked.slices("nsys_kernel", *columns), expected, "kernels")


def launches(asked, rows):
    """Start and end of each operation with those of its call, and the time between."""
    for row in rows:
        call = asked.oracle.call_of.get((row["globalPid"], row["correlationId"]))
        work = (row["start"], row["end"] - row["start"])
        if not call:
            yield (*work, None, None)
            continue
        queue = row["start"] - call["end"]
        yield (*work, call["start"], queue if queue >= 0 else None)


def check_launches(asked):
    """The launching call, and the time in the queue by the rule of `cuda_kern_exec_sum`."""
    columns = ("ts", "dur", "launch_ts", "queue_ns")
    kernels = report_oracle.kernels(asked.oracle)
    same(asked.slices("nsys_kernel", *columns), launches(asked, kernels), "kernels")
    copies = report_oracle.copies(asked.oracle)
    same(asked.slices("nsys_copy", *columns), launches(asked, copies), "copies")


def check_kernel_summaries(asked):
    kernels = report_oracle.kernels(asked.oracle)
    sql_views.close(asked["nsys_kernel_summary"], report_oracle.summary(kernels, "short"))
    sql_views.close(asked["nsys_kernel_summary_full"], report_oracle.summary(kernels, "full"))


def check_copies(asked):
    def kind(r):
        return "migration" if r["migration"] else r["family"]

    def ends(r):
        known = (r["srcKind"], r["dstKind"]) if r["family"] == "memcpy" else (None, r["memKind"])
        return [MEMORY_KINDS.get(k) for k in known]

    def rate(size, row):
        return None if size is None or row["end"] == row["start"] else "a number"

    columns = ("ts", "dur", "name", "kind", "pid", "gpu", "stream", "bytes")
    expected = [
        (
            *(r["start"], r["end"] - r["start"], r["name"], kind(r), pid(r["globalPid"]), r["gpu"]),
            *(None if r["migration"] else r["streamId"], r["bytes"], *ends(r)),
            rate(r["bytes"], r),
        )
        for r in report_oracle.copies(asked.oracle)
    ]
    found = [
        (
            *(row[c] for c in columns),
            *(row["source"], row["destination"]),
            None if row["gb_per_s"] is None else "a number",
        )
        for row in asked["nsys_copy"]
    ]
    same(found, expected, "copies")
    for row in asked["nsys_copy"]:
        if row["gb_per_s"] is not None:
            assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["dur"])


def check_copy_summary(asked):
    sql_views.close(asked["nsys_copy_summary"], report_oracle.copy_summary(asked.oracle))


CHECKS = (
    check_kernels,
    check_launches,
    check_kernel_summaries,
    check_copies,
    check_copy_summary,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_made(made, check):
    check(made)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_real(real, check):
    check(real)
