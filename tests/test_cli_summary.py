"""What a conversion prints at its end, and how numbers look in it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nsys2perfetto.cli import summary, text
from nsys2perfetto.result import CaptureInfo, Conversion, FamilyCount, GpuInfo


def conversion(**changes):
    """A result with something in every field."""
    info = CaptureInfo(
        path=Path("folder/my.sqlite"),
        size=123_456_789,
        nsys_version="2024.6.2.225",
        schema_version="3.16.1",
        session_start_utc_ns=1_740_043_800_123_456_789,
        gpus=[GpuInfo(0, "NVIDIA H100 80GB HBM3", 1_000_000), GpuInfo(1, "NVIDIA H100", 1)],
        processes=[(4242, "app")],
        first_event_ns=0,
        duration_ns=12_345_678_901,
        notes=["3 CUDA graphs are shown as one slice each, " + "with a long explanation " * 9],
    )
    families = [
        FamilyCount("kernel", "CUPTI_ACTIVITY_KIND_KERNEL", 1_000_001, 1_000_001, 5, 0, {}, 10**9),
        FamilyCount("cuda_wait", "WAITS", 10, 0, 0, 7, {"ends before it starts": 3}, 2500),
        FamilyCount("osrt", "OSRT_API", 0, 0, 77),
    ]
    result = Conversion(
        capture=info,
        output=Path("folder/my.pftrace"),
        output_size=15_800_000,
        families=families,
        derived={"wake_up": 7, "nvtx_projection": 0},
        time_shift_ns=190_000_000,
        arrows=999,
    )
    return replace(result, **changes)


def test_summary_says_it_all():
    out = "\n".join(summary.lines(conversion(), summary.Request()))
    for words in [
        "2024.6.2.225 (schema 3.16.1), file of 123 MB",
        "GPU 0     NVIDIA H100 80GB HBM3, 1,000,000 kernels",
        "GPU 1     NVIDIA H100, 1 kernel\n",
        "session   began 2025-02-20 09:30:00 UTC",
        "events    from 0 ns to 12.35 s (12.35 s)",
        "kernel     1,000,001  1,000,001         5         0",
        "cuda_wait         10          7         0         3",
        "total      1,000,011  1,000,008        82         3",
        "999 arrows from CUDA calls to the GPU work they submitted",
        "left out: 3 cuda_wait: ends before it starts",
        "every time was shifted by 190.0 ms (190,000,000 ns)",
        "  ! 3 CUDA graphs are shown as one slice each",
        "Wrote folder/my.pftrace (15.8 MB)",
        "Open it: nsys2perfetto open folder/my.pftrace",
        "      or drag it into https://ui.perfetto.dev",
    ]:
        assert words in out, words
    assert "7 wake_up slices" in " ".join(out.split())
    assert "nvtx_projection" not in out and "KERNEL" not in out


def test_verbose_summary_adds_tables_and_times():
    out = "\n".join(summary.lines(conversion(), summary.Request(), {"reading": 1.5, "in all": 2}))
    assert re.search(r"^  kernel .* 1\.000 s$", out, re.M)
    assert re.search(r"^  kernel +CUPTI_ACTIVITY_KIND_KERNEL$", out, re.M)
    assert re.search(r"^  in all +2\.00 s$", out, re.M)
    assert "written as part of other events: 7 cuda_wait" in out


@pytest.mark.parametrize("timings", [None, {"reading other events": 123.456}])
def test_summary_fits_eighty_columns_of_ascii(timings):
    lines = summary.lines(conversion(), summary.Request(1, 2, (1,)), timings)
    assert max(map(len, lines)) <= text.WIDTH
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_summary_of_an_old_and_empty_capture():
    info = replace(
        conversion().capture,
        nsys_version=None,
        schema_version=None,
        session_start_utc_ns=None,
        gpus=[],
        notes=[],
    )
    out = "\n".join(summary.lines(conversion(capture=info, families=[]), summary.Request()))
    assert "nsys      older than 2022" in out
    assert "GPU       none listed in the capture" in out
    assert "start time not in the capture" in out
    assert "no events in this capture" in out


def test_control_characters_of_a_capture_stay_out_of_the_terminal():
    evil = "\x1b[2Jevil\x07\n\u202e"
    info = replace(
        conversion().capture,
        path=Path(evil),
        nsys_version=evil,
        schema_version=evil,
        gpus=[GpuInfo(0, evil, 1)],
        notes=[evil],
    )
    count = FamilyCount("kernel", evil, 1, 0, 0, 0, {evil: 1})
    result = conversion(capture=info, output=Path(evil), families=[count], derived={evil: 1})
    lines = summary.lines(result, summary.Request(), {evil: 1.0})
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "number, shown",
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (9_996, "10.0 kB"),
     (123_456, "123 kB"), (999_600, "1.00 MB"), (15_800_000, "15.8 MB"), (2**40, "1.10 TB")],
)  # fmt: skip
def test_size(number, shown):
    assert text.size(number) == shown


@pytest.mark.parametrize(
    "ns, shown",
    [(0, "0 ns"), (999, "999 ns"), (1500, "1.500 us"), (-2_000_000, "-2.000 ms"),
     (84_312_345, "84.31 ms"), (1_234_567_890, "1.235 s"), (3_600 * 10**9, "3,600.0 s")],
)  # fmt: skip
def test_duration(ns, shown):
    assert text.duration(ns) == shown


def test_dates_beyond_all_calendars_are_left_out():
    assert text.utc(1_740_043_800_123_456_789) == "2025-02-20 09:30:00 UTC"
    assert text.utc(2**70) is None
    assert text.utc(-(2**70)) is None


def test_long_names_are_shortened_in_the_middle():
    assert text.fit("short", 10) == "short"
    assert text.fit("abcdefghijkl", 9) == "abc...jkl"
