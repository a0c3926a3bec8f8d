"""What must hold of the tables of reports, whatever the capture."""

import contextlib
import math
import re
import sqlite3

import polars as pl

from nsys2perfetto import convert
from nsys2perfetto.report import source as tables
from tests import manual_sql, report_oracle
from tests.gap_checks import in_buckets
from tests.oracle import Oracle
from tests.report_sources import of_capture, of_trace
from tests.runs import folder, same

ALL = -(1 << 60)
ASKED = {
    "kernel_summary": (tables.SUMMARY, [(), (True,)]),
    "api_summary": (tables.SUMMARY, [()]),
    "copy_summary": (tables.COPY_SUMMARY, [()]),
    "sync_summary": (tables.SYNC_SUMMARY, [()]),
    "kernel_names": (tables.KERNEL_NAME, [()]),
    "gpu_balance": (tables.GPU_BALANCE, [()]),
    "gap_total": (tables.GAP_TOTAL, [(), (True,)]),
    "gap_buckets": (tables.GAP_BUCKET, [(), (True,)]),
    "consecutive_gaps": (tables.CONSECUTIVE_GAP, [(1_000_000,), (ALL,), (ALL, True)]),
    "gaps": (tables.GAP, [()]),
    "process_gaps": (tables.GAP, [()]),
    "steps": (tables.STEP, [()]),
    "step_kernels": (tables.STEP_KERNEL, [()]),
    "step_calls": (tables.STEP_CALL, [()]),
}
"""Method of a source, its schema, and the arguments to try."""


def rows(frame):
    return frame.to_dicts()


def close(found, expected, what=""):
    """Rows alike: whole numbers and texts exactly, reals but for rounding."""
    assert len(found) == len(expected), what
    for a, b in zip(found, expected, strict=True):
        for name, value in b.items():
            if isinstance(value, float) and a[name] is not None:
                alike = math.isclose(a[name], value, rel_tol=1e-9, abs_tol=1e-9)
            else:
                alike = a[name] == value
            assert alike, (what, name, a, b)


def counted(frame, *keys):
    return {tuple(r[k] for k in keys): (r["count"], r["total_ns"]) for r in rows(frame)}


# From an export: plain SQL and Python


def check_capture(path):
    oracle = Oracle(path)
    with of_capture(path) as found:
        check_summaries(found, oracle)
        check_gaps(found, oracle)
        check_steps(found, oracle)
        check_manual(found, path)


def check_summaries(found, oracle):
    kernels, calls = report_oracle.kernels(oracle), report_oracle.calls(oracle)
    close(rows(found.kernel_summary()), report_oracle.summary(kernels, "short"))
    close(rows(found.kernel_summary(full_names=True)), report_oracle.summary(kernels, "full"))
    close(rows(found.api_summary()), report_oracle.summary(calls))
    close(rows(found.copy_summary()), report_oracle.copy_summary(oracle))
    names = counted(found.kernel_names(), "name", "demangled_name")
    assert names == report_oracle.by_both_names(kernels, "short", "full")
    waiting = [c for c in calls if re.match(r"cu.*Synchronize", c["name"])]
    expected = report_oracle.by_both_names(waiting, "name")
    sums = found.sync_summary().group_by("name").agg(
        pl.col("instances", "total_ns", "wake_up_count", "wake_up_ns").sum()
    )  # fmt: skip
    assert {(r["name"],): (r["instances"], r["total_ns"]) for r in rows(sums)} == expected
    assert all(r["wake_up_ns"] <= r["total_ns"] for r in rows(sums))
    assert all(r["wake_up_count"] <= r["instances"] for r in rows(sums))


def check_gaps(found, oracle):
    close(rows(found.gpu_balance()), report_oracle.balance(oracle))
    for all_gpus in (False, True):
        assert found.gap_total(all_gpus).rows() == report_oracle.gap_total(oracle, all_gpus)
        lengths = report_oracle.gap_lengths(oracle, all_gpus)
        expected = [
            (definition, gpu, MANUAL_NAMES[name], count, total, 100 * count / len(gaps))
            for (definition, gpu), gaps in lengths.items()
            for name, (count, total) in sorted(in_buckets(gaps).items(), key=by_size)
        ]
        assert found.gap_buckets(all_gpus).rows() == expected
        expected = [
            (a["end"], n, gpu, a["short"], b["short"], a["full"], b["full"])
            for gpu, kernels in report_oracle.of_gpus(
                report_oracle.kernels(oracle), all_gpus
            ).items()
            for n, a, b in report_oracle.consecutive(kernels)
        ]
        gaps = found.consecutive_gaps(ALL, all_gpus).drop("bucket")
        same(gaps.rows(), expected, "consecutive gaps")
        assert gaps.rows() == sorted(gaps.rows(), key=lambda r: (r[2] or 0, -r[1], r[0]))
        longer = found.consecutive_gaps(5_000, all_gpus)
        assert longer.equals(found.consecutive_gaps(ALL, all_gpus).filter(pl.col("gap_ns") > 5_000))


MANUAL_NAMES = {
    "UNDER_1US": "<1us", "FROM_1US_TO_5US": "1-5us", "FROM_5US_TO_10US": "5-10us",
    "FROM_10US_TO_50US": "10-50us", "FROM_50US_TO_100US": "50-100us",
    "FROM_100US_TO_1MS": "0.1-1ms", "FROM_1MS": ">1ms",
}  # fmt: skip


def by_size(item):
    return list(MANUAL_NAMES).index(item[0])


def check_steps(found, oracle):
    steps = rows(found.steps())
    kernels = counted(found.step_kernels(), "pid", "gpu", "step", "name", "demangled_name")
    assert kernels == report_oracle.step_kernels(oracle, steps)
    calls = counted(found.step_calls(), "pid", "gpu", "step", "name")
    assert calls == report_oracle.step_calls(oracle, steps)
    for gap in (*rows(found.gaps()), *rows(found.process_gaps())):
        at = gap["ts"]
        inside = [
            (s["run"], s["step"]) for s in steps
            if s["ts"] <= at < s["ts"] + s["dur"]
            and (s["pid"], s["gpu"]) == (gap["pid"], gap["gpu"])
        ]  # fmt: skip
        assert [(gap["run"], gap["step"])] == (inside or [(None, None)])


def check_manual(found, path):
    if len(found.kernel_names()) and found.kernel_names()["count"].sum() > 1:
        total = found.gap_total(all_gpus=True).row(0, named=True)
        manual = manual_sql.gap_total(path)
        assert (total["total_gap_ns"], total["total_kernel_ns"], total["wall_ns"]) == manual
        buckets = found.gap_buckets(all_gpus=True).filter(pl.col("definition") == "consecutive")
        got = {r["bucket"]: (r["count"], r["total_ns"], r["pct"]) for r in rows(buckets)}
        assert got == manual_sql.buckets(path)
        big = found.consecutive_gaps(1_000_000, all_gpus=True)
        names = pl.col("prev_demangled_name", "next_demangled_name").str.slice(0, 40)
        with contextlib.suppress(UnicodeDecodeError, sqlite3.OperationalError):
            same(big.select("gap_ns", names).rows(), manual_sql.big_gaps(path), "big gaps")


# From an export and from its trace


def check_alike(capture, trace):
    """Every table has its schema, and both sources say the same in the same order."""
    assert capture.facts == trace.facts
    assert capture.time_shift() == trace.time_shift()
    for name, (schema, arguments) in ASKED.items():
        for asked in arguments:
            frame = getattr(capture, name)(*asked)
            other = getattr(trace, name)(*asked)
            expected = {column: dtype() for column, dtype in schema.items()}
            assert dict(frame.schema) == dict(other.schema) == expected, name
            close(rows(other), rows(frame), f"{name}{asked}")


def check_alike_for(path, open_trace, selection=None, annotate=None):
    options = {}
    if selection is not None:
        options = {"start": selection.start, "end": selection.end, "pids": selection.pids}
    target = folder() / f"{path.stem}.report.pftrace"
    convert(path, target, force=True, annotate=annotate, **options)
    with (
        of_capture(path, selection=selection, annotate=annotate) as capture,
        of_trace(target, open_trace) as trace,
    ):
        check_alike(capture, trace)
