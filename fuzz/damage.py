"""Files that are broken: bits, pages and headers that are not what SQLite wrote."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

Damage = Callable[[bytearray, int, random.Random], str]
"""Changes a file in place, given its page size; tells what it did."""

_EDGES = (0, 1, 2, 5, 10, 13, 0x7F, 0x80, 0x81, 0xFE, 0xFF)
_HEADER_FIELDS = {
    "page size": (16, 2), "write version": (18, 1), "read version": (19, 1), "reserved": (20, 1),
    "payload fractions": (21, 3), "change counter": (24, 4), "pages": (28, 4),
    "free list": (32, 4), "free pages": (36, 4), "schema cookie": (40, 4),
    "schema format": (44, 4), "largest root": (52, 4), "encoding": (56, 4), "user version": (60, 4),
    "vacuum": (64, 4), "valid for": (92, 4), "SQLite version": (96, 4),
}  # fmt: skip


def page_size(content: bytes | bytearray) -> int:
    """Bytes of a page, as the header says."""
    (size,) = struct.unpack(">H", content[16:18])
    return 65_536 if size == 1 else max(512, size)


def _some_page(content: bytearray, size: int, rng: random.Random) -> int:
    """Where a page begins; the first holds the schema and is hit less often than its share."""
    pages = max(1, len(content) // size)
    return rng.randrange(min(1, pages - 1), pages) * size


def bits(content: bytearray, size: int, rng: random.Random) -> str:
    """Some bits anywhere, most of them where pages keep their books."""
    count = rng.choice([1, 1, 2, 4, 30])
    for _ in range(count):
        page = _some_page(content, size, rng)
        at = page + rng.choice([rng.randrange(12), rng.randrange(60), rng.randrange(size)])
        if at < len(content):
            content[at] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped"


def bytes_(content: bytearray, size: int, rng: random.Random) -> str:
    """Some bytes become values at a border."""
    count = rng.choice([1, 2, 5, 60])
    for _ in range(count):
        page = _some_page(content, size, rng)
        at = page + rng.choice([rng.randrange(12), rng.randrange(60), rng.randrange(size)])
        if at < len(content):
            content[at] = rng.choice(_EDGES)
    return f"{count} bytes set"


def cut(content: bytearray, size: int, rng: random.Random) -> str:
    """The end is missing; the header may agree with it."""
    keep = rng.choice(
        [
            rng.randrange(len(content) + 1),
            rng.randrange(1, len(content) // size + 1) * size,
            rng.randrange(120),
        ]
    )
    del content[keep:]
    if len(content) >= 100 and rng.random() < 0.5:
        content[28:32] = struct.pack(">I", len(content) // size)
    return f"cut to {keep} bytes"


def longer(content: bytearray, size: int, rng: random.Random) -> str:
    """Something follows the last page."""
    more = rng.choice([1, size - 1, size, 3 * size])
    content += bytes(more) if rng.random() < 0.5 else rng.randbytes(more)
    return f"{more} bytes more"


def exchanged(content: bytearray, size: int, rng: random.Random) -> str:
    """Two pages in each other's place."""
    a, b = (_some_page(content, size, rng) for _ in range(2))
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    return f"pages {a // size + 1} and {b // size + 1} exchanged"


def repeated(content: bytearray, size: int, rng: random.Random) -> str:
    """A page in the place of another."""
    a, b = (_some_page(content, size, rng) for _ in range(2))
    content[b : b + size] = content[a : a + size]
    return f"page {a // size + 1} over {b // size + 1}"


def blank(content: bytearray, size: int, rng: random.Random) -> str:
    """A page of zeros, of ones, or of noise."""
    page = _some_page(content, size, rng)
    length = len(content[page : page + size])
    content[page : page + size] = rng.choice(
        [bytes(length), b"\xff" * length, rng.randbytes(length)]
    )
    return f"page {page // size + 1} blank"


def header(content: bytearray, size: int, rng: random.Random) -> str:
    """A field of the file's header."""
    name = rng.choice(list(_HEADER_FIELDS))
    at, width = _HEADER_FIELDS[name]
    number = rng.choice([0, 1, 2, 3, 4, 0xFF, 0xFFFF, 512, 1 << 31, rng.randrange(1 << 32)])
    content[at : at + width] = number.to_bytes(8, "big")[-width:]
    return f"{name} = {number}"


def links(content: bytearray, size: int, rng: random.Random) -> str:
    """Interior pages that lead elsewhere, or in a circle."""
    interior = [p for p in range(0, len(content) - size + 1, size) if content[p] == 5]
    if not interior:
        return bits(content, size, rng)
    page = rng.choice(interior)
    target = rng.choice([0, 1, page // size + 1, rng.randrange(1, len(content) // size + 2)])
    content[page + 8 : page + 12] = struct.pack(">I", target)
    return f"page {page // size + 1} leads to {target}"


def cells(content: bytearray, size: int, rng: random.Random) -> str:
    """Pointers to cells that are exchanged, equal, or lead outside."""
    leaves = [p for p in range(0, len(content) - size + 1, size) if content[p] == 13]
    if not leaves:
        return bits(content, size, rng)
    page = rng.choice(leaves)
    count = min((content[page + 3] << 8) + content[page + 4], size // 4)
    for _ in range(rng.choice([1, 3])):
        a, b = (page + 8 + 2 * rng.randrange(max(1, count)) for _ in range(2))
        if rng.random() < 0.7:
            content[a : a + 2], content[b : b + 2] = content[b : b + 2], content[a : a + 2]
        else:
            content[a : a + 2] = struct.pack(">H", rng.randrange(1 << 16))
    return f"cells of page {page // size + 1}"


def schema_words(content: bytearray, size: int, rng: random.Random) -> str:
    """Words of the schema, as the file holds them, are others."""
    old, new = rng.choice(
        [
            (b"CREATE TABLE", b"CREATE  VIEW"),
            (b"INTEGER", b"TEXT   "),
            (b"NOT NULL", b"        "),
            (b"start", b"strat"),
            (b"correlationId", b"correlationid"),
            (b"table", b"index"),
            (b"CREATE", b"\x00\x00\x00\x00\x00\x00"),
            (b"PRIMARY KEY", b"           "),
            (b"KERNEL", b"K\x1b[2JL"),
        ]
    )
    places, at = [], content.find(old)
    while at >= 0:
        places.append(at)
        at = content.find(old, at + 1)
    for place in rng.sample(places, min(len(places), rng.choice([1, 3]))):
        content[place : place + len(old)] = new
    return f"{old!r} became {new!r}"


DAMAGES: tuple[tuple[Damage, int], ...] = (
    (bits, 5),
    (bytes_, 5),
    (cut, 2),
    (longer, 1),
    (exchanged, 2),
    (repeated, 2),
    (blank, 2),
    (header, 3),
    (links, 2),
    (cells, 3),
    (schema_words, 2),
)
"""Each with its weight."""
