"""Damaged files read by their pages: refused, or read as SQLite reads them."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsys2perfetto.errors import CaptureError
from nsys2perfetto.nsys.btree import PageFile, UnreadableError, varints
from nsys2perfetto.nsys.capture import Capture
from nsys2perfetto.nsys.pages import PageReader
from nsys2perfetto.nsys.sqlite_store import SqliteStore
from tests.sqlite_tables import EDGES, by_pages, by_sqlite, database, refused, same


def small(path: Path, page_size: int = 512) -> dict[str, str]:
    db = database(
        path,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, s TEXT, b INTEGER, c REAL)",
        page_size=page_size,
    )
    rng = random.Random(1)
    db.executemany(
        "INSERT INTO t VALUES(?, ?, ?, ?, ?)",
        [
            (
                i * i,
                rng.choice(EDGES),
                "s" * rng.randrange(70),
                rng.choice([None, 0, 1, 300]),
                i / 2,
            )
            for i in range(400)
        ],
    )
    db.commit()
    db.close()
    return {"id": "int", "a": "int", "b": "int", "c": "real"}


def check_damaged(path: Path, columns: dict[str, str]) -> str:
    """What the reader did; fails if it gave something that SQLite does not."""
    try:
        found = by_pages(path, "t", columns)
    except (UnreadableError, CaptureError):
        return "refused"
    try:
        expected = by_sqlite(path, "t", columns)
    except (sqlite3.DatabaseError, ValueError, TypeError):
        return "only here"
    assert same(found, expected)
    return "same"


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes(tmp_path: Path, seed: int) -> None:
    path, damaged = tmp_path / "c.sqlite", tmp_path / "d.sqlite"
    columns = small(path)
    content = path.read_bytes()
    rng = random.Random(seed)
    outcomes = set()
    for _ in range(60):
        broken = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 30])):
            # Cell pointers and headers are at the beginning of pages: most of what can go wrong.
            page = rng.randrange(1, len(content) // 512) * 512
            at = page + rng.choice([rng.randrange(12), rng.randrange(40), rng.randrange(512)])
            broken[at] = rng.choice([0, 1, 0x05, 0x0D, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        damaged.write_bytes(broken)
        outcomes.add(check_damaged(damaged, columns))
    assert {"refused", "same"} <= outcomes


def root_of(path: Path, table: str) -> int:
    db = sqlite3.connect(path)
    (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
    db.close()
    return int(root)


def set_link(content: bytearray, root: int, page: int) -> None:
    content[(root - 1) * 512 + 8 : (root - 1) * 512 + 12] = struct.pack(">I", page)


@pytest.mark.parametrize("page", [0, 1, 10**6, 0xFFFFFFFF])
def test_links_out_of_the_file(tmp_path: Path, page: int) -> None:
    path = tmp_path / "c.sqlite"
    columns = small(path)
    content = bytearray(path.read_bytes())
    set_link(content, root_of(path, "t"), page)
    path.write_bytes(content)
    assert refused(path, columns)


def test_links_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    columns = small(path)
    content, root = bytearray(path.read_bytes()), root_of(path, "t")
    set_link(content, root, root)
    path.write_bytes(content)
    assert refused(path, columns)
    with pytest.raises(CaptureError, match="damaged"):
        Capture(path)


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    columns = small(path)
    with contextlib.closing(SqliteStore(path, fast=False)) as store:
        reader = PageReader(path, store.sql)
        path.write_bytes(path.read_bytes()[:-2048])
        with pytest.raises(UnreadableError):
            list(reader.batches("t", columns, 100))
        reader.close()


@pytest.mark.parametrize("size", [0, 99, 511])
def test_a_file_without_a_page(tmp_path: Path, size: int) -> None:
    path = tmp_path / "c.sqlite"
    small(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UnreadableError):
        PageFile(path)


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1))
def test_varints(numbers: list[int]) -> None:
    """Against section 1.6's definition, written out."""

    def encode(value: int) -> bytes:
        if value >> 56:
            return bytes([value >> s & 0x7F | 0x80 for s in range(57, 7, -7)] + [value & 0xFF])
        parts = [value & 0x7F]
        while value := value >> 7:
            parts.append(value & 0x7F | 0x80)
        return bytes(reversed(parts))

    encoded = [encode(n) for n in numbers]
    at = np.cumsum([0, *map(len, encoded)])
    buffer = np.frombuffer(b"".join(encoded) + bytes(16), np.uint8)
    found, length = varints(buffer, at[:-1])
    assert found.view(np.uint64).tolist() == numbers
    assert length.tolist() == [len(e) for e in encoded]
