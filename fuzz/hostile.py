"""Values that no honest export holds."""

from __future__ import annotations

import random

Value = int | float | str | bytes | None

NUMBERS: tuple[int, ...] = (
    *(0, 1, -1, 2, 127, 128, 255, 256, 65_535, 1 << 24, (1 << 24) - 1),
    *((1 << 31) - 1, 1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 32, 1 << 48, 1 << 53),
    *((1 << 61) - 1, 1 << 61, -(1 << 61), 1 << 62, (1 << 62) - 1, -(1 << 62)),
    *((1 << 63) - 1, (1 << 63) - 2, -(1 << 63), -(1 << 63) + 1),
)
"""Integers at the borders of every width, and of the times that are taken."""

_STRANGE: tuple[Value, ...] = (
    *(None, 0.5, -1.5, 1e300, -1e300, float("inf"), float("-inf"), 1e18, 5e-324),
    *("", "12", "-7", "1e3", "0x10", "nonsense", "9223372036854775808", "٣", "1 2"),
    *(b"", b"\x00", b"\xff\xfe", b"12", b"\x00" * 9),
)

TEXTS: tuple[str | bytes, ...] = (
    "",
    " ",
    "a\x00b",
    "\x00",
    "\x1b]0;title\x07\x1b[2J\x1b[31mred",
    "\x9b31m\x85\x90\x7f\x7f",
    "line\r\nbreak\ttab\x0b\x0c\x08",
    "\u202egnp.exe\u202c \u2066x\u2069 \u200b\ufeff\u2028\u2029",
    "e\u0301\u0302" * 20,
    "日本語 ядро 🚀 \U0010ffff",
    "{}[]%s%n%d {0} {name} $x `x` <script>",
    "a/b\\c -d --token=secret",
    b"\xff\xfe\xfd broken",
    b"\xed\xa0\x80 lone surrogate \xed\xb0\x80",
    b"\xf4\x90\x80\x80 beyond unicode",
    b"\xc0\xaf overlong",
    b"cut \xe2\x82",
    b"nul \x00 and \xff",
    "void f<" + "int, " * 3_000 + "int>()",
    "A" * 65_535 + "é",
)

JSON: tuple[str | bytes, ...] = (
    "{}",
    "[]",
    "null",
    "1",
    '"text"',
    "{",
    '{"a":}',
    "[" * 5_000 + "]" * 5_000,
    '{"a":' * 3_000 + "1" + "}" * 3_000,
    '{"SM Active":"nan","Infinity":Infinity,"x":1e999}',
    '{"SM Active":"' + "9" * 5_000 + '"}',
    '{"SM Active":' + "9" * 5_000 + "}",
    '{"SM Active":[1,2],"Type":{"a":1},"":"3"}',
    '{"Name":null,"Fields":7}',
    '{"Name":"GPU Metrics [x]","Fields":[null,1,{"Name":5}]}',
    '{"Fields":[{"FieldTypes":[],"Name":"\\ud800"}]}',
    b'{"a":"\xff"}',
    '{"a":1,"a":2,"\\u0000":1}',
    "\ufeff{}",
)


def value(rng: random.Random) -> Value:
    """Anything that a column can be made to hold."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(NUMBERS)
    if kind < 0.7:
        return rng.choice(_STRANGE)
    if kind < 0.8:
        return rng.randrange(-(1 << 63), 1 << 63)
    if kind < 0.9:
        return text(rng)
    return rng.randrange(0, 200)


def text(rng: random.Random) -> str | bytes:
    """A name that should not reach a terminal as it is, or a very long one."""
    kind = rng.random()
    if kind < 0.85:
        return rng.choice(TEXTS)
    if kind < 0.95:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
    return rng.choice(["x", "é", "\x1b", "🚀", "\n"]) * rng.choice([1_000_001, 3_000_000])
