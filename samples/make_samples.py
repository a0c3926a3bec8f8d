"""Writes the two sample captures, `decode_eager.sqlite` and `decode_graph.sqlite`.

    python -m samples.make_samples [DIRECTORY]

The files are the same, byte for byte, at every call (for a given version of SQLite).
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: make `samples` importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from samples.builder import Capture, DecodeTruth, decode_run

SAMPLES = {"decode_eager": False, "decode_graph": True}
"""Name of the file → whether the decode steps are CUDA graph launches."""


def make(directory: Path) -> dict[str, DecodeTruth]:
    """Writes both samples and returns what is in them, by name."""
    truths = {}
    for name, graph in SAMPLES.items():
        capture = Capture(schema="3.16.1", graph_nodes=graph)
        truths[name] = decode_run(capture, steps=25, warmup_steps=5, layers=4, graph=graph)
        capture.write(directory / f"{name}.sqlite", vacuum=True)
    return truths


def main() -> None:
    """Writes the samples beside this file, or into the directory given."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    for name, truth in make(directory).items():
        path = directory / f"{name}.sqlite"
        print(
            f"{path}: {path.stat().st_size / 1024:.0f} KB, {len(truth.kernels)} kernels, "
            f"{len(truth.calls)} CUDA calls, {len(truth.steps)} argmax_kernel"
        )


if __name__ == "__main__":
    main()
