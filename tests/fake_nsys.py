#!/usr/bin/env python3
"""A stand-in for NVIDIA's `nsys`, which few machines have: `--version`, and `export` to SQLite.

Command line, texts, streams and exit statuses are those of nsys 2022.4.2. A report is a head of
this file's own, and the capture. The environment variable FAKE_NSYS says what else it does:

    stranger    is another program called nsys
    deaf        does not tell its version
    old         finds the report too new
    hang        works for a minute, with a child, and writes the ids of both beside the report
    mute        says that it succeeded, and has written nothing
    crash       is killed half-way
    junk        exports something that is no capture
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HEAD = b"NVIDIA Tegra Profiler Report 1.\0"
MODE = os.environ.get("FAKE_NSYS", "")


def install(folder):
    """Puts it on a PATH of its own; returns the folder to be put there."""
    folder.mkdir(exist_ok=True)
    program = folder / "nsys"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    program.chmod(0o755)
    return folder


def write_report(path, capture):
    """A report that it exports to this capture (bytes)."""
    path.write_bytes(HEAD + capture)
    return path


def fail(text):
    print(f"\n{text}", file=sys.stderr)
    sys.exit(1)


def export(arguments):
    options = dict(a.removeprefix("--").split("=", 1) for a in arguments if a.startswith("--"))
    [report] = [Path(a) for a in arguments if not a.startswith("--")]
    if set(options) - {"type", "output", "force-overwrite", "lazy", "quiet"}:
        fail(f"unrecognised option in {options}")
    if options["type"] != "sqlite":
        fail("Exportation error: this nsys knows nothing but sqlite")
    target = Path(options["output"])
    if target.exists() and options.get("force-overwrite") != "true":
        fail(f"Exportation error: File already exists: '{target}'.\n"
             "Use `--force-overwrite true` to overwrite existing files.")  # fmt: skip
    data = report.read_bytes()
    if not data.startswith(HEAD):
        fail("Exportation error: Version tag does not contain a delimiter.")
    if MODE == "old":
        fail("Exportation error: Unsupported file version.")
    for percent in range(1, 101):
        bar = ("=" * (percent // 2) + f"{percent}%").ljust(54)
        print(f"\rExporting 129 events: [{bar}]", end="", file=sys.stderr, flush=True)
        if percent == 50 and MODE == "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            report.with_suffix(".pids").write_text(f"{os.getpid()} {child.pid} {target}")
            time.sleep(60)
        if percent == 50 and MODE == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
    if MODE != "mute":
        target.write_bytes(b"junk" * 99 if MODE == "junk" else data[len(HEAD) :])


def main():
    if sys.argv[1:] == ["--version"]:
        if MODE == "deaf":
            time.sleep(60)
        name = "Network Systems 7" if MODE == "stranger" else "NVIDIA Nsight Systems"
        print(f"{name} version 2022.4.2.1-df9881f\n")
    elif sys.argv[1:2] == ["export"]:
        export(sys.argv[2:])
    else:
        fail(f"usage: nsys ... (not {sys.argv[1:]})")


if __name__ == "__main__":
    main()
