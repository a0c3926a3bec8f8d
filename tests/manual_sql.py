"""The queries of the nsys manual that this project was born from, run as they are by sqlite3.

The text is the manual's (section "Step 4"), in ms and us rounded to two digits. `exact` takes the
rounding away, so that the numbers are whole ns. Nothing of the tool's own code is used here.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

GAP_TOTAL = """
WITH ordered AS (
  SELECT start, end, (end - start) as dur,
    ROW_NUMBER() OVER (ORDER BY start) as rn
  FROM CUPTI_ACTIVITY_KIND_KERNEL
),
gaps AS (
  SELECT (b.start - a.end) as gap_ns
  FROM ordered a
  JOIN ordered b ON b.rn = a.rn + 1
)
SELECT
  ROUND(SUM(gap_ns)/1e6, 2) as total_gap_ms,
  ROUND((SELECT SUM(end-start) FROM CUPTI_ACTIVITY_KIND_KERNEL)/1e6, 2) as total_kernel_ms,
  ROUND((SELECT MAX(end)-MIN(start) FROM CUPTI_ACTIVITY_KIND_KERNEL)/1e6, 2) as wall_ms
FROM gaps;
"""

BUCKETS = """
WITH ordered AS (
  SELECT start, end,
    ROW_NUMBER() OVER (ORDER BY start) as rn
  FROM CUPTI_ACTIVITY_KIND_KERNEL
),
gaps AS (
  SELECT (b.start - a.end) as gap_ns
  FROM ordered a
  JOIN ordered b ON b.rn = a.rn + 1
),
buckets AS (
  SELECT
    CASE
      WHEN gap_ns < 1000 THEN '  <1us'
      WHEN gap_ns < 5000 THEN ' 1-5us'
      WHEN gap_ns < 10000 THEN ' 5-10us'
      WHEN gap_ns < 50000 THEN '10-50us'
      WHEN gap_ns < 100000 THEN '50-100us'
      WHEN gap_ns < 1000000 THEN '0.1-1ms'
      ELSE '>1ms'
    END as bucket,
    gap_ns
  FROM gaps
)
SELECT bucket, COUNT(*) as count,
  ROUND(SUM(gap_ns)/1e6, 2) as total_ms,
  ROUND(100.0*COUNT(*)/(SELECT COUNT(*) FROM gaps), 1) as pct
FROM buckets GROUP BY bucket ORDER BY bucket;
"""

BIG_GAPS = """
WITH ordered AS (
  SELECT start, end, demangledName,
    ROW_NUMBER() OVER (ORDER BY start) as rn
  FROM CUPTI_ACTIVITY_KIND_KERNEL
),
big_gaps AS (
  SELECT (b.start - a.end) as gap_ns,
    sa.value as prev_kernel, sb.value as next_kernel
  FROM ordered a
  JOIN ordered b ON b.rn = a.rn + 1
  JOIN StringIds sa ON a.demangledName = sa.id
  JOIN StringIds sb ON b.demangledName = sb.id
  WHERE (b.start - a.end) > 1000000
)
SELECT ROUND(gap_ns/1e6, 2) as gap_ms,
  SUBSTR(prev_kernel, 1, 40) as after,
  SUBSTR(next_kernel, 1, 40) as before
FROM big_gaps ORDER BY gap_ns DESC;
"""

DECODE_STEP = """
WITH argmax AS (
  SELECT k.start, k.end,
    ROW_NUMBER() OVER (ORDER BY k.start) as step
  FROM CUPTI_ACTIVITY_KIND_KERNEL k
  JOIN StringIds s ON k.demangledName = s.id
  WHERE s.value LIKE 'argmax%'
),
boundary AS (
  SELECT
    (SELECT end FROM argmax WHERE step = 10) as t0,
    (SELECT end FROM argmax WHERE step = 11) as t1
),
step_kernels AS (
  SELECT (end - start) as dur
  FROM CUPTI_ACTIVITY_KIND_KERNEL
  WHERE start >= (SELECT t0 FROM boundary)
    AND end <= (SELECT t1 FROM boundary)
)
SELECT
  COUNT(*) as kernel_count,
  ROUND(SUM(dur)/1e3, 1) as kernel_us,
  ROUND(((SELECT t1 FROM boundary)-(SELECT t0 FROM boundary))/1e3, 1) as wall_us,
  ROUND(100.0*SUM(dur)/((SELECT t1 FROM boundary)-(SELECT t0 FROM boundary)), 1) as gpu_util_pct
FROM step_kernels;
"""


def exact(query: str) -> str:
    """A query in ns (percent unrounded): its `ROUND(x/1e6, 2)` and the like become `x`."""
    return re.sub(r"ROUND\((.+?)(?:/1e[36])?, [12]\) as", r"(\1) as", query)


class Totals(NamedTuple):
    """Answer of `GAP_TOTAL`; all None where the capture has less than two kernels."""

    gap_ns: int | None
    kernel_ns: int | None
    wall_ns: int | None


class Step(NamedTuple):
    """Answer of `DECODE_STEP`."""

    kernel_count: int
    kernel_ns: int | None
    wall_ns: int | None
    util_pct: float | None


def rows(capture: Path | sqlite3.Connection, query: str) -> list[Any]:
    """The rows of a query, as tuples."""
    if isinstance(capture, sqlite3.Connection):
        return capture.execute(query).fetchall()
    sql = sqlite3.connect(capture)
    try:
        return sql.execute(query).fetchall()
    finally:
        sql.close()


def gap_total(capture: Path | sqlite3.Connection) -> Totals:
    """Sum of the gaps, of the kernels, and the time from the first start to the last end."""
    [row] = rows(capture, exact(GAP_TOTAL))
    return Totals(*row)


def buckets(capture: Path | sqlite3.Connection) -> dict[str, tuple[int, int, float]]:
    """Count, total ns and percent of the count of each size class that occurs."""
    found = rows(capture, exact(BUCKETS))
    return {name.strip(): (count, total, pct) for name, count, total, pct in found}


def big_gaps(capture: Path | sqlite3.Connection) -> list[tuple[int, str, str]]:
    """ns and the kernels after and before each gap over 1 ms, the longest first."""
    return rows(capture, exact(BIG_GAPS))


def decode_step(capture: Path | sqlite3.Connection, number: int, marker: str = "argmax%") -> Step:
    """The step that ends with this marker, counted from 1; there is none for number 1.

    Args:
        capture: The export, or a connection to it.
        number: 11 is the manual's own query.
        marker: For `LIKE` on the demangled name.
    """
    numbers = {"10": str(number - 1), "11": str(number)}
    query = re.sub(r"(?<=step = )\d+", lambda m: numbers[m.group()], DECODE_STEP)
    query = query.replace("argmax%", marker)
    [row] = rows(capture, exact(query))
    return Step(*row)
