"""Queries with their expected results: `tests/sql/NAME.sql` and `NAME.csv`.

The first line of a query names its trace, a capture that the project makes (`tests.runs.RUNS`):

    -- trace: decode_eager

The result is that of its last statement: a line of column names, then one a row. NULL is `[NULL]`,
numbers with a fraction have three decimals. To rewrite all or some of them:

    python -m tests.sql_goldens [NAME ...]
"""

from __future__ import annotations

import csv
import functools
import io
import re
import sys
from pathlib import Path
from typing import Any

from nsys2perfetto import convert
from nsys2perfetto.sql import PACKAGE
from tests import runs

FOLDER = Path(__file__).parent / "sql"

_TRACE = re.compile(r"-- trace: (.+)\n")


def names() -> list[str]:
    """All queries."""
    return sorted(path.stem for path in FOLDER.glob("*.sql"))


def expected(name: str) -> Path:
    """The file with a query's expected result."""
    return FOLDER / f"{name}.csv"


def run(name: str, open_trace: Any) -> str:
    """The result of a query as CSV."""
    sql = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    trace = _TRACE.match(sql)
    assert trace, f"{name}.sql does not begin with a line `-- trace: ...`"
    with open_trace(_trace(trace[1]), sql_packages=[PACKAGE]) as tp:
        result = tp.query(sql)
        rows = [vars(row) for row in result]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(result.column_names)
    writer.writerows([_cell(row[column]) for column in result.column_names] for row in rows)
    return text.getvalue()


@functools.cache
def _trace(name: str) -> Path:
    return convert(runs.scenario(name).path, runs.folder() / f"{name} golden.pftrace").output


def _cell(value: Any) -> str:
    if value is None:
        return "[NULL]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    """Rewrites expected results, those of the arguments or all."""
    from tests.conftest import TraceProcessorConfig, WasmTraceProcessor  # noqa: PLC0415 - no test

    def open_trace(trace: Path, sql_packages: list[Path]) -> Any:
        config = TraceProcessorConfig(add_sql_packages=[str(p) for p in sql_packages])
        return WasmTraceProcessor(trace=str(trace), config=config)

    for name in sys.argv[1:] or names():
        path, text = expected(name), run(name, open_trace)
        before = path.read_text(encoding="utf-8") if path.exists() else None
        path.write_text(text, encoding="utf-8")
        print("same   " if text == before else "changed", name)


if __name__ == "__main__":
    main()
