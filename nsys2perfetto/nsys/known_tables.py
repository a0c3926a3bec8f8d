"""By which tables an export of nsys is known."""

from __future__ import annotations

from collections.abc import Collection

_TABLES = (
    "StringIds",
    "META_DATA_EXPORT",
    "EXPORT_META_DATA",
    "TARGET_INFO_SESSION_START_TIME",
)
_PREFIXES = ("CUPTI_ACTIVITY_KIND_", "TARGET_INFO_")


def are_of_nsys(tables: Collection[str]) -> bool:
    """Whether any of the tables is one that only nsys writes."""
    return any(t in tables for t in _TABLES) or any(t.startswith(_PREFIXES) for t in tables)
