"""The converter that users know: rows of the capture to Chrome JSON events, one dict each.

Reads kernels and API calls through the sqlite3 module and writes with the json module, as the
converters that people pass around do. Three ways to write, because they differ much in speed; the
benchmark compares with the fastest.

    python -m bench.json_converter {dump,dumps,stream} CAPTURE OUTPUT
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any

KERNELS = """
    SELECT k.start, k.end, k.streamId, k.globalPid, s.value
    FROM CUPTI_ACTIVITY_KIND_KERNEL AS k JOIN StringIds AS s ON s.id = k.shortName
"""
CALLS = """
    SELECT r.start, r.end, r.globalTid, s.value
    FROM CUPTI_ACTIVITY_KIND_RUNTIME AS r JOIN StringIds AS s ON s.id = r.nameId
"""


def events(db: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """One complete event (times in us) for each kernel and each API call, no arguments."""
    for start, end, stream, process, name in db.execute(KERNELS):
        yield {
            "name": name,
            "ph": "X",
            "ts": start / 1000,
            "dur": (end - start) / 1000,
            "pid": process >> 24 & 0xFFFFFF,
            "tid": f"Stream {stream}",
        }
    for start, end, thread, name in db.execute(CALLS):
        yield {
            "name": name,
            "ph": "X",
            "ts": start / 1000,
            "dur": (end - start) / 1000,
            "pid": thread >> 24 & 0xFFFFFF,
            "tid": thread & 0xFFFFFF,
        }


def convert(way: str, capture: str, output: str) -> None:
    """Write `capture` to `output`.

    Args:
        way: `dump` collects a list and calls json.dump, `dumps` collects a list and writes the
            text of one json.dumps, `stream` calls json.dumps for each event and keeps none.
        capture: The SQLite file.
        output: The JSON file, overwritten.
    """
    db = sqlite3.connect(capture)
    with open(output, "w", encoding="utf-8") as file:  # noqa: PTH123
        if way == "dump":
            json.dump({"traceEvents": list(events(db))}, file)
        elif way == "dumps":
            file.write(json.dumps({"traceEvents": list(events(db))}))
        elif way == "stream":
            file.write('{"traceEvents": [')
            separator = ""
            for event in events(db):
                file.write(separator + json.dumps(event))
                separator = ",\n"
            file.write("]}")
        else:
            raise ValueError(way)


if __name__ == "__main__":
    convert(*sys.argv[1:])
