"""The suggestion for large traces, whose options can be used as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nsys2perfetto import convert, sizing
from nsys2perfetto.cli.options import parse_range, parse_steps
from nsys2perfetto.cli.summary import Request, lines
from nsys2perfetto.sizing import LARGE, Extent, note
from tests.command import run

SAMPLE = Path(__file__).parents[1] / "samples" / "decode_eager.sqlite"
SECOND = 10**9


def options(text):
    """The options that a note names: name to value."""
    return dict(re.findall(r"--(steps|range) (\S+)", text))


def test_an_ordinary_trace_has_no_note():
    assert note(Extent(LARGE - 1, 0, SECOND, (1, 100))) is None


def test_the_part_lies_in_the_middle_and_holds_half_a_million_slices():
    text = note(Extent(5_000_000, 10 * SECOND, 30 * SECOND, (1, 1000)))
    found = options(text)
    first, last = parse_steps(found["steps"])
    assert (first, last) == (451, 550)
    assert parse_range(found["range"]) == (19 * SECOND, 21 * SECOND)
    assert "5.0 million slices need about 2.0 GB in the browser, of the 4 GB" in text
    assert "--lean" in text


def test_a_trace_that_does_not_fit_is_told_so():
    text = note(Extent(20_000_000, 0, SECOND, (1, 9)))
    assert "8.0 GB in the browser, more than the 4 GB" in text
    assert options(text)["steps"] == "5..5", "one step at least"


def test_a_lean_trace_needs_half_and_is_not_told_to_be_lean():
    text = note(Extent(12_000_000, 0, SECOND, None, lean=True))
    assert "2.4 GB" in text and "--lean" not in text and "--steps" not in text
    assert "--range" in text


@pytest.mark.parametrize("steps", [None, (12, 20)])
def test_it_is_among_the_notes_and_its_options_work(tmp_path, monkeypatch, steps):
    real = sizing.note
    monkeypatch.setattr(sizing, "note", lambda extent: real(extent, 100))
    monkeypatch.setattr(sizing, "_PART", 1_000)
    whole = convert(SAMPLE, tmp_path / "whole.pftrace", steps=steps)
    [text] = [n for n in whole.capture.notes if n.startswith("a large trace")]
    written = sum(f.written for f in whole.families) + sum(whole.derived.values())
    assert f"its {written / 1e6:.1f} million slices" in text
    found = options(text)
    for option, value in found.items():
        part = tmp_path / f"{option}.pftrace"
        assert run(SAMPLE, "-o", part, "-q", f"--{option}", value)[0] == 0
        assert 0 < part.stat().st_size < whole.output_size
    if steps:
        low, high = parse_steps(found["steps"])
        assert 12 <= low <= high <= 20


def test_the_summary_marks_it(tmp_path, monkeypatch):
    real = sizing.note
    monkeypatch.setattr(sizing, "note", lambda extent: real(extent, 100))
    result = convert(SAMPLE, tmp_path / "trace.pftrace")
    assert any(re.match(r"  ! a large trace: ", line) for line in lines(result, Request()))
