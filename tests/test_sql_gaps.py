"""Gaps by SQL: the manual's queries as they stand, brute force on the capture, the slices."""

import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given

from nsys2perfetto.annotation import AnnotationOptions
from nsys2perfetto.query import package
from samples.builder import Capture, Kernel
from samples.builder.truth import bucket
from tests import manual_sql, report_oracle, runs, sql_annotations
from tests.gap_checks import BUCKET_NAMES, in_buckets, split_idle
from tests.oracle import pid
from tests.runs import same
from tests.sql_views import by
from tests.step_checks import RANDOM, RANDOM_RUN, built, crowd_of_processes
from tests.test_annotation_gaps import crossing_work

KERNELS = "CUPTI_ACTIVITY_KIND_KERNEL"
WORDS = {slice_word: word for word, slice_word in BUCKET_NAMES.items()}
MILLISECOND = 1_000_000
PARTS = ("sync_ns", "launch_ns", "memory_ns", "copy_ns", "other_cuda_ns", "outside_cuda_ns")
BIG = ("gap_ns", "prev_demangled_name", "next_demangled_name")


@pytest.fixture(scope="session", params=sql_annotations.RUNS)
def made(request, open_trace):
    return sql_annotations.ask(request.param, open_trace)


@pytest.fixture(scope="session")
def real(capture, open_trace):
    asked = sql_annotations.ask(capture, open_trace)
    if asked.left_out:
        pytest.skip("rows of this capture cannot be shown")
    return asked


def works(asked):
    """All GPU work in order of start by GPU, and under None all together."""
    everything = asked.oracle.gpu_work
    found = report_oracle.of_gpus(everything, all_gpus=False)
    return found | report_oracle.of_gpus(everything, all_gpus=True)


# The manual's queries


def check_against_the_manual(asked):
    """All kernels as those of one GPU, in its own SQL; then the kernels of each GPU alone."""
    if KERNELS not in asked.oracle.columns:
        return
    with closing(sqlite3.connect(asked.path)) as sql:
        check_manual_numbers(asked, sql, "_all_gpus", None)
        rows = [r for r in asked.oracle.gpu_work if r["family"] == "kernel"]
        for gpu in {r["gpu"] for r in rows}:
            owners = {(r["globalPid"], r["deviceId"]) for r in rows if r["gpu"] == gpu}
            where = " or ".join(
                f"(deviceId = {device} and "
                + (
                    f"globalPid = {process})"
                    if "globalPid" in asked.oracle.columns[KERNELS]
                    else "1)"
                )
                for process, device in owners
            )
            sql.execute("drop view if exists temp.CUPTI_ACTIVITY_KIND_KERNEL")
            sql.execute(f"create temp view {KERNELS} as select * from main.{KERNELS} where {where}")
            check_manual_numbers(asked, sql, "", gpu)


def check_manual_numbers(asked, sql, suffix, gpu):
    def mine(view, *columns, definition=None):
        return [
            tuple(r[c] for c in columns)
            for r in asked[view + suffix]
            if r["gpu"] == gpu and definition in (None, r.get("definition"))
        ]

    number = next(iter(sql.execute(f"select count(*) from {KERNELS}")))[0]
    total = manual_sql.gap_total(sql)
    columns = ("total_gap_ns", "total_kernel_ns", "wall_ns", "count")
    found = mine("nsys_gap_total", *columns, definition="consecutive")
    # The manual's sum over no gap is null.
    expected = (total.gap_ns or 0, total.kernel_ns, total.wall_ns, number - 1)
    assert found == ([expected] if number else [])

    columns = ("bucket", "count", "total_ns", "pct")
    found = {b: rest for b, *rest in mine("nsys_gap_bucket", *columns, definition="consecutive")}
    assert found == {
        bucket: [count, ns, pytest.approx(pct)]
        for bucket, (count, ns, pct) in manual_sql.buckets(sql).items()
    }

    names = asked.oracle.strings
    kernels = asked.oracle.select(KERNELS, "demangledName")
    if all(names.get(k["demangledName"]) for k in kernels):  # its joins drop those without
        same(
            [
                (gap, before[:40], after[:40])
                for gap, before, after in mine("nsys_consecutive_gap", *BIG)
                if gap > MILLISECOND
            ],
            manual_sql.big_gaps(sql),
            "big gaps",
        )


# Both definitions, by brute force


def check_both_definitions(asked):
    for all_gpus, suffix in ((False, ""), (True, "_all_gpus")):
        gaps = report_oracle.gap_lengths(asked.oracle, all_gpus)
        for definition, gpu in gaps:
            if definition == "idle":
                gaps[definition, gpu] = [b - a for a, b in split_idle(works(asked)[gpu])]
        columns = ("definition", "gpu", "total_gap_ns", "total_kernel_ns", "wall_ns")
        found = asked.cells(f"nsys_gap_total{suffix}", *columns, "count")
        total = report_oracle.gap_total(asked.oracle, all_gpus)
        assert found == [(*row, len(gaps[row[:2]])) for row in total]

        expected = {}
        for (definition, gpu), lengths in gaps.items():
            for word, (count, ns) in in_buckets(lengths).items():
                inside = [n for n in lengths if bucket(n) == WORDS[word]]
                pct = pytest.approx(100 * count / len(lengths))
                key = (definition, gpu, WORDS[word])
                expected[key] = (count, ns, pct, min(inside), max(inside))
        keys = asked.cells(f"nsys_gap_bucket{suffix}", "definition", "gpu", "bucket")
        columns = ("count", "total_ns", "pct", "min_ns", "max_ns")
        found = asked.cells(f"nsys_gap_bucket{suffix}", *columns)
        assert dict(zip(keys, found, strict=True)) == expected
        sizes = list(WORDS.values())
        assert keys == sorted(keys, key=lambda k: (k[0], k[1] or 0, sizes.index(k[2])))


def check_consecutive(asked):
    """Each gap with its kernels, by brute force over the trace's kernels by their ids."""
    work = {w["id"]: w for w in asked.trace["work"]}
    for all_gpus, suffix in ((False, ""), (True, "_all_gpus")):
        view = f"nsys_consecutive_gap{suffix}"
        by_gpu = report_oracle.of_gpus(report_oracle.kernels(asked.oracle), all_gpus)
        # Kernels that start together have no order of their own: only gaps that are told.
        for gpu, kernels in by_gpu.items():
            found = [r for r in asked[view] if r["gpu"] == gpu]
            gaps = report_oracle.consecutive(kernels)
            same(
                ((r["ts"], r["gap_ns"], *(r[c] for c in BIG[1:]), r["prev_name"]) for r in found),
                ((a["end"], n, a["full"], b["full"], a["short"]) for n, a, b in gaps),
                "consecutive gaps",
            )
        assert sum(len(rows) - 1 for rows in by_gpu.values()) == len(asked[view])
        for r in asked[view]:
            before, after = work[r["prev_slice_id"]], work[r["next_slice_id"]]
            assert (before["name"], after["name"]) == (r["prev_name"], r["next_name"])
            assert before["ts"] + before["dur"] == r["ts"]
            assert after["ts"] == r["ts"] + r["gap_ns"]
            assert (before["ts"], before["id"]) < (after["ts"], after["id"])
            assert r["bucket"] == bucket(r["gap_ns"])


# Idle gaps


def check_gaps(asked):
    """All gaps that are there, with all that their slices tell; each has a slice here."""
    expected = [
        (gpu, a, b - a)
        for gpu, work in works(asked).items()
        if gpu is not None
        for a, b in split_idle(work)
    ]
    same(asked.cells("nsys_gap", "gpu", "ts", "dur"), expected, "gaps")
    check_arguments(asked, "nsys_gap", "nsys.gap")
    check_ids(asked, "nsys_gap", "gpu")


def check_process_gaps(asked):
    units = sql_annotations.by_unit(asked)
    gpus = Counter(gpu for _, gpu in units)
    expected = [
        (number, gpu, a, b - a)
        for (number, gpu), work in units.items()
        if gpus[gpu] > 1
        for a, b in split_idle(sorted(work, key=lambda r: r["start"]))
    ]
    found = asked.cells("nsys_process_gap", "pid", "gpu", "ts", "dur")
    same(((pid(p << 24), *rest) for p, *rest in found), (tuple(e) for e in expected))
    check_arguments(asked, "nsys_process_gap", "nsys.process_gap")
    check_ids(asked, "nsys_process_gap", "gpu", "pid")


def check_arguments(asked, view, category):
    """What a slice tells, in the words of the manual and of docs/causes.md."""
    steps = by(asked.slices["nsys.step"], "process_id", "gpu", "run", "index")
    upid = {p["pid"]: p["upid"] for p in asked.trace["processes"]}
    expected = []
    for s in asked.slices[category]:
        place = (s["process_id"], s["gpu"], s.get("run"), s.get("step"))
        [step] = steps.get(place, [{}])
        assert ("step" in s) == bool(step)
        expected.append(
            (
                *(s["id"], s["ts"], s["dur"], s["gpu"], upid[s["process_id"]], s["process_id"]),
                *(s.get("run"), s.get("step"), step.get("number"), step.get("id")),
                *(WORDS[s["bucket"]], s["previous"], s["next"]),
                s["cause"].removeprefix("CAUSE_").lower(),
                *(s[c].lower() if c in s else None for c in ("mostly", "pace")),
                s.get("launch_lateness_ns"),
                *(s.get(part, 0) for part in PARTS),
            )
        )
    columns = (
        *("id", "ts", "dur", "gpu", "upid", "pid", "run", "step_in_run", "step", "step_id"),
        *("bucket", "prev_name", "next_name", "cause", "mostly", "pace", "launch_lateness_ns"),
    )
    same(asked.cells(view, *columns, *PARTS), expected, view)


def check_ids(asked, view, *place):
    """The operations before and after: of that name, and just at the gap's ends."""
    work = [w | {"end": w["ts"] + w["dur"]} for w in asked.trace["work"]]
    ending = by(work, *place, "end", "name")
    starting = by(work, "gpu", "pid", "ts", "name")
    for gap in asked[view]:
        before = ending[(*(gap[p] for p in place), gap["ts"], gap["prev_name"])]
        after = starting[gap["gpu"], gap["pid"], gap["ts"] + gap["dur"], gap["next_name"]]
        assert gap["prev_slice_id"] == max(before, key=lambda w: (w["ts"], w["id"]))["id"]
        assert gap["next_slice_id"] == min(w["id"] for w in after)


def check_causes(asked):
    expected = []
    for (gpu,), gaps in by(asked["nsys_gap"], "gpu").items():
        everything = sum(g["dur"] for g in gaps)
        for (cause,), mine in by(gaps, "cause").items():
            total = sum(g["dur"] for g in mine)
            expected.append(
                (
                    *(gpu, cause, len(mine), total, pytest.approx(100 * total / everything)),
                    *(pytest.approx(total / len(mine)), max(g["dur"] for g in mine)),
                    sum(g["dur"] for g in mine if g["pace"] == "host"),
                    *(sum(g[part] for g in mine) for part in PARTS),
                )
            )
    columns = ("gpu", "cause", "count", "total_ns", "pct", "avg_ns", "max_ns", "host_paced_ns")
    found = asked.cells("nsys_gap_cause", *columns, *PARTS)
    assert found == sorted(expected, key=lambda r: (r[0], -r[3], r[1]))


def check(asked):
    check_against_the_manual(asked)
    check_both_definitions(asked)
    check_consecutive(asked)
    check_gaps(asked)
    check_process_gaps(asked)
    check_causes(asked)


def test_gaps_of_the_projects_captures(made):
    check(made)


def test_gaps_of_real_captures(real):
    check(real)


@RANDOM
@given(**RANDOM_RUN)
def test_gaps_of_random_decode_runs(open_trace, **parameters):
    with tempfile.TemporaryDirectory() as directory:
        check(sql_annotations.ask_now(built(directory, **parameters)[0], open_trace))


@RANDOM
@given(rows=crossing_work())
def test_gaps_of_random_work_on_two_gpus(open_trace, rows):
    capture = Capture("3.16.1")
    for gpu in (0, 1):
        capture.gpu(gpu)
    process = capture.process(4242, "app", gpus=(0, 1))
    for what, device, stream, at, length, _ in rows:
        where = {"correlation": None, "device": device, "stream": stream}
        if what == "kernel":
            capture.kernel(process, Kernel("some_kernel"), at, at + length, **where)
        elif what == "memcpy":
            capture.memcpy(process, "HtoD", 64, at, at + length, **where)
        else:
            capture.memset(process, 64, at, at + length, **where)
    with tempfile.TemporaryDirectory() as directory:
        check(sql_annotations.ask_now(capture.save(Path(directory), "work"), open_trace))


def test_processes_that_share_gpus(tmp_path, open_trace):
    asked = sql_annotations.ask_now(crowd_of_processes(tmp_path)[0], open_trace)
    assert len(asked["nsys_process_gap"]) > 100
    check(asked)


@pytest.mark.parametrize("name", runs.SAMPLES)
def test_short_gaps_count_though_they_have_no_slice(name, open_trace):
    path = runs.scenario(name).path
    every = sql_annotations.ask(name, open_trace)
    long = sql_annotations.ask_now(path, open_trace, AnnotationOptions(min_gap=20_000))
    columns = ("ts", "dur", "cause", "step")
    expected = [row for row in every.cells("nsys_gap", *columns) if row[1] >= 20_000]
    assert 0 < len(expected) < len(every["nsys_gap"])
    same(long.cells("nsys_gap", *columns), expected)
    for view in ("nsys_gap_total", "nsys_gap_bucket"):
        assert long[view] == every[view]
    none = sql_annotations.ask_now(path, open_trace, AnnotationOptions(gaps=False))
    assert none["nsys_gap"] == none["nsys_gap_cause"] == []
    assert none["nsys_gap_total"] == every["nsys_gap_total"]


def test_without_gpu_work_there_are_no_rows(open_trace):
    asked = sql_annotations.ask("no_cuda_at_all", open_trace)
    for view in sql_annotations.VIEWS["gaps"]:
        assert asked[view] == []


def test_fixed_names():
    """Users rely on these."""
    views = package.views()
    for view, columns in {
        "nsys_gap": "id ts dur gpu step bucket prev_name next_name cause",
        "nsys_consecutive_gap": "ts gap_ns bucket prev_name next_name",
        "nsys_gap_bucket": "definition gpu bucket count total_ns pct",
        "nsys_gap_total": "definition gpu total_gap_ns total_kernel_ns wall_ns",
    }.items():
        for suffix in ("", "_all_gpus") if view + "_all_gpus" in views else ("",):
            found = {column.name for column in views[view + suffix].columns}
            assert found >= set(columns.split()), view + suffix
