"""How far the aims are met, from the results of `python -m bench --all`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from .candidates import ALONE, BARE, JSON, OURS, PROTOBUF, SCAN
from .report import Result, fastest

Results = Mapping[tuple[str, int], list[Result]]
"""By kind of capture and number of kernels."""

MILLION, TEN_MILLION, SMALL = 1_000_000, 10_000_000, 1_000


def table(results: Results) -> str:
    """Each aim and what was measured, as Markdown; what was not measured is a dash."""
    million = {kind: found for (kind, size), found in results.items() if size == MILLION}
    plain = million.get("plain", [])
    rows = [
        (
            "CPU time at most 4 × the scan",
            _join(f"{r:.1f} {k}" for k, f in million.items() if (r := _ratio(f, OURS, SCAN))),
        ),
        ("at most 1/10 of the fastest JSON converter", _fraction(plain, JSON)),
        ("at most 1/15 of protobuf objects", _fraction(plain, PROTOBUF)),
        ("CPU time at 10^7 at most 10.5 × that at 10^6", _growth(results)),
        ("peak memory at 10^6 at most 600 MB", _peak(million)),
        (
            "peak memory at 10^7 at most 2,500 MB",
            _peak({k: f for (k, size), f in results.items() if size == TEN_MILLION}),
        ),
        (
            "at most 90 bytes for a kernel and its call, 20 gzipped",
            _join(
                f"{_bytes(plain, key)} {words}"
                for key, words in ((BARE, "without annotations"), (OURS, "with them"))
            ),
        ),
        (
            "wall time falls with a second core",
            _join(
                f"{time:.2f} s on {words}"
                for key, words in ((ALONE, "one CPU"), (OURS, "all"))
                if (time := _wall(plain, key))
            ),
        ),
        (
            "start-up 0.2 s for `--help`, 0.8 s for a capture of 1,000 kernels",
            _join(
                f"{time:.2f} s"
                for key in ("help", OURS)
                if (time := _wall(results.get(("decode", SMALL), []), key))
            ),
        ),
    ]
    lines = ["| aim | measured |", "|---|---|", *(f"| {aim} | {found} |" for aim, found in rows)]
    return "\n".join(lines)


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "–"


def _of(found: list[Result], key: str) -> Result | None:
    return next((r for r in found if r.candidate.key == key and r.cpu is not None), None)


def _ratio(found: list[Result], kind: str, other: str) -> float | None:
    one, two = fastest(found, kind), fastest(found, other)
    return one / two if one and two else None


def _fraction(found: list[Result], other: str) -> str:
    times, scan = _ratio(found, other, OURS), _ratio(found, other, SCAN)
    if not times or not scan:
        return "–"
    return f"1/{times:.1f}; the scan alone is 1/{scan:.1f}"


def _growth(results: Results) -> str:
    large, small = (results.get(("decode", size), []) for size in (TEN_MILLION, MILLION))
    return _join(
        f"{now / then:.1f}" + (" (the scan)" if kind == SCAN else "")
        for kind in (OURS, SCAN)
        if (now := fastest(large, kind)) and (then := fastest(small, kind))
    )


def _peak(captures: Mapping[str, list[Result]]) -> str:
    return _join(
        f"{max(run.peak for run in ours.runs) / 1e6:,.0f} {kind}"
        for kind, found in captures.items()
        if (ours := _of(found, OURS))
    )


def _bytes(found: list[Result], key: str) -> str:
    result = _of(found, key)
    if result is None:
        return "–"
    return f"{result.output_bytes / MILLION:.0f} and {result.gzipped_bytes / MILLION:.0f}"


def _wall(found: list[Result], key: str) -> float | None:
    result = _of(found, key)
    return statistics.median(run.wall for run in result.runs) if result else None
