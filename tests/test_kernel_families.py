"""Families of kernels by name."""

from __future__ import annotations

import re
import time

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.analysis.kernel_families import FAMILIES, OTHER, classify

words = st.sampled_from(
    ["gemm", "GEMV", "rms_", "x", "argmax", "copy", "Flash", "<int>", "softmax"]
)
names = st.one_of(st.none(), st.lists(words, max_size=3).map("".join))


@given(st.lists(st.tuples(names, names), max_size=12))
def test_the_first_family_that_fits_the_short_name_then_the_long_one(rows):
    def find(text):
        fits = (n for n, regex in FAMILIES if text and re.search(regex, text, re.IGNORECASE))
        return next(fits, None)

    expected = [find(short) or find(long) or OTHER for short, long in rows]
    short, long = [r[0] for r in rows], [r[1] for r in rows]
    assert classify(short, long) == expected
    series = (pl.Series(column, dtype=pl.String) for column in (short, long))
    assert classify(*series) == expected


def test_expressions_that_only_python_knows():
    assert classify(["ab", "ac"], [None, None], [("followed", "a(?=b)")]) == ["followed", OTHER]


def test_long_names_cost_little():
    """Sixty megabytes of names."""
    long = [f"void cutlass_{'x' * 60_000}_{n}" for n in range(1_000)]
    before = time.process_time()
    assert set(classify(["Kernel2"] * 1_000, long)) == {"gemm"}
    assert time.process_time() - before < 15
