"""Markdown tables of the results, and where they go in docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .candidates import JSON, PROTOBUF, SCAN, Candidate
from .measure import Run

PACKAGES = ("numpy", "polars", "adbc-driver-sqlite", "protobuf", "perfetto")
COLUMNS = (
    "",
    "CPU s",
    "of scan",
    "of JSON",
    "of protobuf",
    "wall s",
    "peak MB",
    "output MB",
    "bytes/kernel",
)
GZIPPED = "gzipped"


@dataclass
class Result:
    """What one candidate did with one capture."""

    candidate: Candidate
    runs: list[Run] = field(default_factory=list)
    output_bytes: int = 0
    gzipped_bytes: int = 0
    skipped: str = ""

    @property
    def failed(self) -> Run | None:
        """The first run that failed."""
        return next((run for run in self.runs if not run.ok), None)

    @property
    def cpu(self) -> float | None:
        """Median CPU time in s, None unless every run went well."""
        if not self.runs or self.failed:
            return None
        return statistics.median(run.cpu for run in self.runs)


def fastest(results: Iterable[Result], kind: str) -> float | None:
    """CPU time (s) of the fastest candidate of a kind; None if none of them ran."""
    times = [r.cpu for r in results if r.candidate.kind == kind and r.cpu is not None]
    return min(times, default=None)


def table(results: list[Result], kernels: int, with_gzip: bool) -> str:
    """One row a candidate; ratios are CPU times over the fastest candidate of the kind named."""
    base = {kind: fastest(results, kind) for kind in (SCAN, JSON, PROTOBUF)}
    header = [*COLUMNS, *([GZIPPED] if with_gzip else [])]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for result in results:
        lines.append([result.candidate.title, *_cells(result, base, kernels, with_gzip)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(
    result: Result, base: Mapping[str, float | None], kernels: int, with_gzip: bool
) -> list[str]:
    empty = ["–"] * (len(COLUMNS) - 2 + with_gzip)
    if result.failed:
        return [f"failed ({result.failed.ending})", *empty]
    if result.cpu is None:
        return [result.skipped or "not run", *empty]
    times = [run.cpu for run in result.runs]
    spread = f" ({min(times):.2f}–{max(times):.2f})" if len(times) > 1 else ""
    cells = [f"{result.cpu:.2f}{spread}"]
    cells += [f"{result.cpu / time:.2f}" if time else "–" for time in base.values()]
    cells.append(f"{statistics.median(run.wall for run in result.runs):.2f}")
    cells.append(f"{max(run.peak for run in result.runs) / 1e6:.0f}")
    sizes = [result.output_bytes, *([result.gzipped_bytes] if with_gzip else [])]
    written = [f"{result.output_bytes / 1e6:.1f}", *(f"{size / kernels:.1f}" for size in sizes)]
    return cells + (written if result.output_bytes else ["–"] * len(written))


def machine() -> str:
    """CPUs, operating system and versions; nothing that names the machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    packages = []
    for package in PACKAGES:
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            packages.append(f"no {package}")
    system = f"{platform.system()} {platform.machine()}"
    return (
        f"{cpus} CPU{'s' if cpus > 1 else ''}, {system}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {', '.join(packages)}"
    )


def contents(capture: Path) -> str:
    """How many rows of what a capture has, and its size."""
    rows = {
        "CUPTI_ACTIVITY_KIND_KERNEL": "kernels",
        "CUPTI_ACTIVITY_KIND_RUNTIME": "API calls",
        "NVTX_EVENTS": "NVTX ranges",
        "CUPTI_ACTIVITY_KIND_MEMCPY": "copies",
        "CUDA_GPU_MEMORY_USAGE_EVENTS": "memory events",
    }
    db = sqlite3.connect(f"file:{capture}?mode=ro&immutable=1", uri=True)
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    counts = [
        f"{db.execute(f'SELECT count(*) FROM {name}').fetchone()[0]:,} {label}"
        for name, label in rows.items()
        if name in there
    ]
    db.close()
    return f"{', '.join(counts)}; {capture.stat().st_size / 1e6:.0f} MB"


def write_block(document: Path, key: str, block: str) -> None:
    """Put `block` between the markers for `key` in the document, at its end where they are not."""
    begin, end = f"<!-- bench: {key} -->", "<!-- /bench -->"
    text = document.read_text(encoding="utf-8")
    block = f"{begin}\n\n{block}\n\n{end}"
    if begin in text:
        before, _, rest = text.partition(begin)
        text = before + block + rest.partition(end)[2]
    else:
        text = f"{text.rstrip()}\n\n{block}\n"
    document.write_text(text, encoding="utf-8")
