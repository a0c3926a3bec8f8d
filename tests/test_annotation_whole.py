"""Steps, gaps and counters of all captures that the project makes; the manual on the trace."""

import pytest

from nsys2perfetto import convert
from samples.builder.scenarios import SCENARIOS
from samples.make_samples import SAMPLES
from tests import manual_sql
from tests.annotated import convert_now
from tests.engine import query
from tests.gap_checks import check_gaps
from tests.runs import folder, scenario
from tests.step_checks import check_consistent, check_families, check_rate, sample
from tests.test_annotation_counters import check_counters

SCHEMAS = ("2020.4", "3.1.7", "3.25.0")
ALL = (*SCENARIOS, *(f"same_run {s}{graph}" for s in SCHEMAS for graph in ("", " graph")))
"""All captures but the samples, which have tests of their own."""

NATIVE = """
CREATE PERFETTO VIEW CUPTI_ACTIVITY_KIND_KERNEL AS
SELECT id, ts AS start, ts + dur AS end,
  extract_arg(arg_set_id, 'kernel_demangled_name') AS demangledName
FROM gpu_slice WHERE render_stage_category = 2;
CREATE PERFETTO VIEW StringIds AS
SELECT DISTINCT demangledName AS id, demangledName AS value FROM CUPTI_ACTIVITY_KIND_KERNEL;
"""
"""What the manual's queries ask for, out of the native GPU slices."""


@pytest.mark.parametrize("name", ALL)
def test_every_capture(name, open_trace):
    found = convert_now(scenario(name).path, open_trace)
    for check in (check_consistent, check_gaps, check_counters, check_families, check_rate):
        check(found)
    told = found.metadata.get("trace_attribute.decode_steps")
    assert told == ("; ".join(found.result.decode_steps) or None)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_manuals_queries_on_the_trace(name, open_trace):
    """As they are: gaps, buckets, big gaps and the decode step, also out of the trace itself."""
    path = sample(name)
    trace = folder() / f"manual of {name}.pftrace"
    convert(path, trace, force=True)
    with open_trace(trace) as tp:
        tp.query(NATIVE)
        for text in (manual_sql.GAP_TOTAL, manual_sql.BUCKETS, manual_sql.BIG_GAPS,
                     manual_sql.DECODE_STEP):  # fmt: skip
            for sql in (text, manual_sql.exact(text)):
                rows = [tuple(r.values()) for r in query.rows(tp, sql)]
                assert rows == manual_sql.rows(path, sql)
