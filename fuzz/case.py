"""One case: a made capture, what was done to it, and how it is converted; all of it from a seed."""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fuzz import damage, schemas, values
from nsys2perfetto.families import FAMILIES
from samples.builder import PRODUCTS
from samples.builder.scenarios import SCENARIOS, same_run

Something = TypeVar("Something")

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = ("decode_eager", "decode_graph")
BASES: tuple[str, ...] = (
    *SCENARIOS,
    *(f"same_run {schema}" for schema in PRODUCTS),
    *SAMPLES,
)
"""Captures to begin from."""
COMMANDS: tuple[list[str], ...] = (
    *(["info", *words] for words in ([], ["--json"], ["-v"])),
    *(["report", "--format", form] for form in ("table", "csv", "json", "markdown")),
    *(["compare", "--format", form] for form in ("table", "csv", "json", "markdown")),
    *(["compare", str(REPOSITORY / "samples" / f"{name}.sqlite")] for name in SAMPLES),
    ["report", "kernel_families", "--full-names"],
    ["report", "gap_total", "--all-gpus"],
    ["report", "--no-steps", "--top", "2"],
    ["-f", "--lean"],
    ["-f", "--steps", "2..3"],
    ["-f", "--step-graph", "--min-gap", "0ns"],
    *([first, "--step-nvtx", "*"] for first in ("-f", "report")),
    *([first, "--step-kernel", "*e*", "--warmup", "1"] for first in ("-f", "report")),
)
"""What is done with a capture, besides its conversion in every detail."""


@dataclass(frozen=True)
class Case:
    """A capture that is perhaps none.

    Attributes:
        path: The file.
        done: What it is made of and what was done to it, in order.
        options: For `convert`.
        sound: Whether SQLite's own structure is whole, so that its rows can be counted.
        commands: Commands to try; the capture follows the words.
    """

    path: Path
    done: list[str]
    options: dict[str, Any]
    sound: bool
    commands: list[list[str]]


@functools.cache
def _base(name: str) -> bytes:
    """The bytes of a capture as the builder makes it."""
    if name in SAMPLES:
        return (REPOSITORY / "samples" / f"{name}.sqlite").read_bytes()
    with tempfile.TemporaryDirectory(prefix="nsys2perfetto-fuzz-") as folder:
        if name.startswith("same_run "):
            return same_run(Path(folder), name.split()[1]).path.read_bytes()
        return SCENARIOS[name](Path(folder)).path.read_bytes()


def make(seed: int, folder: Path) -> Case:
    """Writes the capture of a seed into a folder; the same bytes each time."""
    rng = random.Random(seed)
    name = rng.choice(BASES)
    path = folder / "case.sqlite"
    path.write_bytes(_base(name))
    done = [f"base {name}"]
    kind = rng.random()
    if kind < 0.65:
        wanted = [_weighted(values.MUTATIONS, rng) for _ in range(rng.choice([1, 1, 2, 4, 8]))]
        if kind > 0.35:
            some = [_weighted(schemas.MUTATIONS, rng) for _ in range(rng.choice([1, 1, 3]))]
            wanted = some + wanted[: rng.choice([0, 0, 4])]
        done += _rewritten(path, wanted, rng)
    sound = True
    if kind >= 0.6:
        sound = False
        done += _damaged(path, rng)
    return Case(path, done, _options(rng), sound, [["-f", "-v"], *rng.sample(COMMANDS, 3)])


def _weighted(choices: Sequence[tuple[Something, int]], rng: random.Random) -> Something:
    return rng.choices([c for c, _ in choices], [w for _, w in choices])[0]


def _rewritten(path: Path, wanted: list[values.Mutation], rng: random.Random) -> list[str]:
    """Applies mutations of rows and schemas; one that SQLite refuses is undone."""
    done = []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA legacy_alter_table = ON")
        for mutation in wanted:
            before = path.read_bytes()
            try:
                done.append(f"{mutation.__name__}: {mutation(db, rng)}")
            except (sqlite3.Error, OverflowError, IndexError) as error:
                done.append(f"{mutation.__name__}: refused ({error})")
                db.close()
                path.write_bytes(before)
                return done
    return done


def _damaged(path: Path, rng: random.Random) -> list[str]:
    content = bytearray(path.read_bytes())
    size = damage.page_size(content)
    done = []
    for _ in range(rng.choice([1, 1, 2, 4])):
        harm = _weighted(damage.DAMAGES, rng)
        done.append(f"{harm.__name__}: {harm(content, size, rng)}")
        if len(content) < 2 * size:
            break
    path.write_bytes(content)
    return done


def _options(rng: random.Random) -> dict[str, Any]:
    """How the capture is converted: as it is, most of the time."""
    options: dict[str, Any] = {}
    if rng.random() < 0.6:
        return options
    if rng.random() < 0.4:
        options["start"] = rng.choice([-(1 << 61), 0, 1_000_000, 600_000_000, 1 << 62, 1 << 63])
    if rng.random() < 0.4:
        options["end"] = rng.choice([-5, 1_050_000, 700_000_000, (1 << 62) - 1, 1 << 64])
    if rng.random() < 0.3:
        options["lean"] = True
    if rng.random() < 0.3:
        options["pids"] = rng.choice([[4242], [4242, 4300], [0], [1 << 24]])
    if rng.random() < 0.3:
        names = rng.sample(list(FAMILIES), rng.randrange(1, len(FAMILIES)))
        options[rng.choice(["only", "skip"])] = names
    return options


def keep(case: Case, folder: Path, name: str) -> Path:
    """Copies the capture to a folder that stays."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(case.path, folder / f"{name}.sqlite"))
