"""The schema versions of nsys' SQLite export, and which nsys wrote them.

Exports before nsys 2022 carry no schema version at all; they go by the nsys version here
("2020.4", "2021.1", "2021.3"), which sorts before every real schema version.
"""

from __future__ import annotations

Version = tuple[int, int, int]

PRODUCTS: dict[str, str] = {
    "2020.4": "2020.4.3.7",
    "2021.1": "2021.1.1.66",
    "2021.3": "2021.3.2.4",
    "2.9.1": "2022.1.3.3",
    "3.0.0": "2022.4.2.1",
    "3.1.2": "2023.1.2.43",
    "3.1.7": "2023.2.3.1001",
    "3.4.0": "2023.3.1.92",
    "3.6.0": "2023.4.1.97",
    "3.7.2": "2023.4.4.54",
    "3.11.1": "2024.2.3.38",
    "3.13.2": "2024.5.1.113",
    "3.16.1": "2024.6.2.225",
    "3.17.1": "2025.1.1.118",
    "3.17.2": "2025.1.3.140",
    "3.20.2": "2025.3.1.90",
    "3.20.3": "2025.3.2.474",
    "3.23.3": "2025.5.1.121",
    "3.24.0": "2025.5.2.266",
    "3.24.8": "2025.6.1.190",
    "3.24.14": "2026.1.1.204",
    "3.24.18": "2026.1.2.63",
    "3.25.0": "2026.2.1.210",
}
"""Schema version → version of the nsys that exports it."""

ALIASES = {"none": "2021.3", "2020": "2020.4", "2021": "2021.3"}

_BEFORE_SCHEMA_VERSIONS = 2000


def canonical(schema: str) -> str:
    """The key of `PRODUCTS` for a schema version or one of its aliases.

    Raises:
        ValueError: The version is not one this builder knows.
    """
    name = ALIASES.get(schema, schema)
    if name not in PRODUCTS:
        raise ValueError(f"unknown schema version {schema!r}; known: {', '.join(PRODUCTS)}")
    return name


def parse(schema: str) -> Version:
    """A version that compares in order of age: "3.16.1" → (3, 16, 1), "2021.3" → (0, 2021, 3)."""
    parts = [int(part) for part in ALIASES.get(schema, schema).split(".")]
    if parts[0] > _BEFORE_SCHEMA_VERSIONS:
        parts.insert(0, 0)
    parts += [0] * (3 - len(parts))
    return parts[0], parts[1], parts[2]
