"""Compare converters on generated captures: `python -m bench`.

Every candidate is a process of its own, run in interleaved rounds (A B C A B C ...). The table
gives the median CPU time (user + system, all threads) and its ratio to the fastest candidate of
each kind.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from . import aims, load, report
from .candidates import BARE, LEAN, OURS, SCAN, chosen
from .capture.shape import DATA, PRESETS, preset
from .measure import gzipped_size, read_once, run

_FEW = ("--rounds", "2", "--only", "ours", "scan", "json-dumps")
EVERYTHING = (
    ("--capture", "plain", "--rounds", "2", "--gzip", "--load"),
    ("--capture", "decode", "--size", "1e5", "1e6", "1e7", *_FEW),
    ("--capture", "streams", *_FEW),
    ("--capture", "distinct", *_FEW),
    ("--capture", "graphs", *_FEW),
    ("--size", "1e3", "--rounds", "5", "--only", "ours", "help"),
)
"""The runs of `--all`: each a table or, with several sizes, a table each."""

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUTS = DATA / "out"
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"


def main() -> int:
    """Run the benchmark; 1 when a candidate failed."""
    arguments = _parse(sys.argv[1:])
    if not arguments.all:
        return _run(arguments, sys.argv[1:], {})
    write = ["--write"] if arguments.write else []
    everything: dict[tuple[str, int], list[report.Result]] = {}
    failed = 0
    for options in EVERYTHING:
        failed |= _run(_parse([*options, *write]), [*options, *write], everything)
    block = aims.table(everything)
    print(block)
    if arguments.write:
        report.write_block(DOCUMENT, "aims", block)
    fields = [sys.executable, "-m", "bench.fields", *write]
    return failed | subprocess.run(fields, cwd=REPOSITORY, check=False).returncode


def _run(
    arguments: argparse.Namespace,
    options: list[str],
    everything: dict[tuple[str, int], list[report.Result]],
) -> int:
    """One kind of capture in one or several sizes; the results go into `everything` too."""
    if arguments.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    os.chdir(REPOSITORY)
    results: dict[int, list[report.Result]] = {}
    for kernels in sorted(arguments.size):
        capture = _capture(arguments.capture, kernels)
        OUTPUTS.mkdir(parents=True, exist_ok=True)
        results[kernels] = _measure(arguments, capture, kernels)
        everything[arguments.capture, kernels] = results[kernels]
        block = _block(arguments, options, capture, kernels, results)
        if arguments.load:
            block += _loads(arguments, results[kernels])
        shutil.rmtree(OUTPUTS)
        print(f"\n{block}\n", flush=True)
        if arguments.write:
            key = f"{arguments.capture} {kernels}"
            key += f" {arguments.cores} cores" if arguments.cores else ""
            report.write_block(DOCUMENT, key, block)
    return int(any(result.failed for group in results.values() for result in group))


def _parse(options: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--size",
        type=lambda text: int(float(text)),
        nargs="+",
        default=[1_000_000],
        metavar="N",
        help="kernels of the capture, with about as many API calls: 1e5, 1e6 (default), 1e7",
    )
    parser.add_argument(
        "--capture", choices=PRESETS, default="decode", help="kind of capture (default: decode)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each candidate (default: 3)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="KEY",
        help="candidates: ours, scan, json, json-dump, ..., protobuf (default: all)",
    )
    parser.add_argument(
        "--args", default="", help="more arguments for nsys2perfetto: --args='-v --no-x'"
    )
    parser.add_argument("--cores", type=int, help="use only so many CPUs (Linux)")
    parser.add_argument("--gzip", action="store_true", help="also the gzipped size of each output")
    parser.add_argument(
        "--load", action="store_true", help="also time the trace processor on our outputs"
    )
    parser.add_argument("--limit", type=float, default=1200, help="seconds a run (default: 1200)")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/benchmarks.md"
    )
    parser.add_argument(
        "--all", action="store_true", help="make every table of docs/benchmarks.md, and no other"
    )
    arguments = parser.parse_args(options)
    try:
        arguments.candidates = chosen(arguments.only)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _capture(kind: str, kernels: int) -> Path:
    """The capture, made in another process so that this one stays small, and read once."""
    path = preset(kind, kernels).path()
    if not path.exists():
        print(f"generating {path.name} ...", file=sys.stderr)
        made = run(
            [sys.executable, "-m", "bench.generate", "--preset", kind, "--kernels", str(kernels)],
            limit_s=3600,
        )
        if not made.ok:
            sys.exit(f"could not generate the capture: {made.message}")
    read_once(path)
    return path


def _measure(arguments: argparse.Namespace, capture: Path, kernels: int) -> list[report.Result]:
    results = [report.Result(candidate) for candidate in arguments.candidates]
    for round_ in range(arguments.rounds):
        for result in results:
            candidate = result.candidate
            if kernels > candidate.largest:
                result.skipped = "not at this size"
                continue
            if result.failed:
                continue
            command = candidate.command(capture, OUTPUTS, shlex.split(arguments.args))
            measured = run(command, arguments.limit)
            result.runs.append(measured)
            said = f"{measured.cpu:.2f} CPU s" if measured.ok else f"failed: {measured.message}"
            print(f"{kernels:,} round {round_ + 1} {candidate.key}: {said}", file=sys.stderr)
            output = candidate.output(OUTPUTS)
            if measured.ok and output:
                result.output_bytes = output.stat().st_size
    if arguments.gzip:
        for result in results:
            output = result.candidate.output(OUTPUTS)
            if output and output.exists():
                result.gzipped_bytes = gzipped_size(output)
    return [result for result in results if result.candidate.key != "help" or result.runs]


def _block(
    arguments: argparse.Namespace,
    options: list[str],
    capture: Path,
    kernels: int,
    results: dict[int, list[report.Result]],
) -> str:
    """The Markdown for one capture."""
    command = shlex.join(["python", "-m", "bench", *options])
    rounds = f"{arguments.rounds} round{'s' if arguments.rounds > 1 else ''}"
    lines = [
        f"### `{arguments.capture}`, {kernels:,} kernels",
        "",
        f"{report.contents(capture)}. Made by `{command}`, {rounds}, on {report.machine()}.",
        "",
        report.table(results[kernels], kernels, arguments.gzip),
    ]
    for smaller in sorted(size for size in results if size < kernels):
        growth = []
        for kind, title in ((OURS, "nsys2perfetto"), (SCAN, "the scan")):
            now = report.fastest(results[kernels], kind)
            then = report.fastest(results[smaller], kind)
            if now and then:
                growth.append(f"{now / then:.2f} for {title}")
        if growth:
            lines += ["", f"CPU time over that at {smaller:,} kernels: {', '.join(growth)}."]
    return "\n".join(lines)


def _loads(arguments: argparse.Namespace, results: list[report.Result]) -> str:
    """Load time and memory of the trace processor for our traces, as far as they are there."""
    loads = []
    for result in results:
        trace = result.candidate.output(OUTPUTS)
        ours = result.candidate.key in (OURS, BARE, LEAN)
        if not ours or not trace or not trace.exists() or result.failed:
            continue
        measured = run([sys.executable, "-m", "bench.load", str(trace)], arguments.limit)
        if measured.ok:
            loads.append(load.Load.of(result.candidate.title, trace, measured))
        else:
            print(f"loading {trace.name} failed: {measured.message}", file=sys.stderr)
    return f"\n\n{load.table(loads)}" if loads else ""


if __name__ == "__main__":
    sys.exit(main())
