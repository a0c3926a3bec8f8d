"""What the tests ask a trace: rows, data frames, and whether anything was lost in import."""

from __future__ import annotations

from typing import Any

import polars as pl
from perfetto.trace_processor import TraceProcessor

QUIET_LOSSES = (
    "flow_end_without_start",
    "flow_step_without_start",
    "interned_data_skipped_incremental_state_invalid",
    "interned_data_tokenizer_errors",
    "packet_skipped_seq_needs_incremental_state_invalid",
    "tokenizer_skipped_packets",
    "track_event_dropped_packets_outside_of_range_of_interest",
    "track_event_parser_errors",
    "track_event_tokenizer_errors",
    "track_hierarchy_missing_uuid",
)
"""Statistics of severity "info" that nevertheless mean that the writer made a mistake."""

_LOSSES_SQL = f"""
    select name, idx, severity, source, value from stats
    where value > 0 and (severity != 'info' or name in {QUIET_LOSSES})
    order by name, idx
"""


def rows(tp: TraceProcessor, sql: str) -> list[dict[str, Any]]:
    """The result of ``sql``, one dict a row, keyed by column name."""
    return [vars(row) for row in tp.query(sql)]


def frame(tp: TraceProcessor, sql: str) -> pl.DataFrame:
    """The result of ``sql`` as columns, for results too large to compare row by row."""
    result = tp.query(sql)
    cells, width = result.cells, result.column_count
    return pl.DataFrame(
        {
            name: pl.Series(name, cells[i::width].tolist(), strict=False)
            for i, name in enumerate(result.column_names)
        }
    )


def scalar(tp: TraceProcessor, sql: str) -> Any:
    """The only value of a result of one row and one column."""
    [row] = rows(tp, sql)
    [value] = row.values()
    return value


def losses(tp: TraceProcessor) -> list[dict[str, Any]]:
    """What the engine dropped or could not read, as rows of its ``stats`` table."""
    return rows(tp, _LOSSES_SQL)


def assert_clean(tp: TraceProcessor) -> None:
    """Fail when the engine dropped or could not read anything of the trace."""
    found = losses(tp)
    assert not found, f"lost in import: {found}"
