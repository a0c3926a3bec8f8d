"""What the panel below says of a kernel, a step, a gap; and SQL in the query page."""

import re
from itertools import pairwise

import pytest

from tests.engine import query
from tests.ui import place


def _selected(opened, slice_id, name):
    opened.ui.select(slice_id)
    opened.ui.picture(place.PICTURES / f"{opened.case}-{name}.png")
    return opened.ui.details()


def _arguments(text):
    """Names and values, as the panel lays them out: a line with the name, one with the value."""
    lines = [line.removesuffix("arrow_drop_down").strip() for line in text.splitlines()]
    lines = lines[lines.index("Arguments") + 1 :]
    return list(pairwise(lines))


def _kernel(opened):
    """The longest kernel of the capture, and its slice."""
    [row] = opened.sqlite(
        "select k.start, k.end - k.start, s.value, gridX, blockX, blockY, blockZ,"
        " registersPerThread, dynamicSharedMemory, streamId from CUPTI_ACTIVITY_KIND_KERNEL k"
        " join StringIds s on s.id = k.shortName order by k.end - k.start desc, k.start limit 1"
    )
    [found] = opened.ui.ask(
        f"select s.id, s.name from slice s join track t on t.id = s.track_id"
        f" where s.ts = {row[0]} and s.dur = {row[1]}"
        f" and (t.type = 'gpu_render_stage' or s.category = 'gpu.kernel')"
    )
    return row, found


def test_a_kernel_shows_its_launch_configuration(opened):
    row, found = _kernel(opened)
    _, _, name, grid, x, y, z, registers, shared, stream = row
    text = _selected(opened, found["id"], "3-kernel")
    assert name in text.splitlines()
    if not (opened.case.compat or opened.case.newer):
        return  # the v52 engine knows no more of a native kernel
    shown = _arguments(text)
    for pair in (
        ("registers_per_thread", str(registers)),
        ("shared_mem_dynamic", str(shared)),
        ("stream", str(stream)),
        ("workgroup_size", str(x * y * z)),
    ):
        assert pair in shown
    axes = [pair for pair in shown if pair[0] == "x"]
    assert axes == [("x", str(grid)), ("x", str(x))], "launch.grid_size, launch.workgroup_size"


def test_a_kernel_shows_the_call_that_launched_it(opened):
    if not (opened.case.compat or opened.case.newer):
        pytest.skip("the v52 engine draws no arrows of native traces")
    _, found = _kernel(opened)
    text = _selected(opened, found["id"], "3-kernel")
    assert "Preceding Flows" in text
    assert re.search(r"\bcu\w*Launch\w*", text.partition("Preceding Flows")[2])


def test_a_step_shows_its_fields(opened, open_trace):
    with open_trace(opened.trace) as tp:
        expected = query.rows(
            tp,
            "select s.name, a.flat_key, a.key, coalesce(a.int_value, a.string_value) as value"
            " from slice s join args a using (arg_set_id)"
            " where s.id = (select id from slice where category = 'nsys.step'"
            "   and name not like '%prefill%' order by ts limit 1)"
            " and a.flat_key in ('decode_step.kernel_count', 'decode_step.idle_ns',"
            "   'decode_step.wall_ns')",
        )
    [found] = opened.ui.ask(
        "select id, name from slice where category = 'nsys.step' and name not like '%prefill%'"
        " order by ts limit 1"
    )
    shown = _arguments(_selected(opened, found["id"], "4-step"))
    assert len(expected) == 3
    for row in expected:
        assert (row["key"].rpartition(".")[2], str(row["value"])) in shown


def test_a_gap_shows_its_cause(opened, open_trace):
    longest = "select id from slice where category = 'nsys.gap' order by dur desc, ts limit 1"
    with open_trace(opened.trace) as tp:
        [cause] = query.rows(
            tp,
            f"select a.string_value as cause from slice s join args a using (arg_set_id)"
            f" where s.id = ({longest}) and a.flat_key = 'gpu_gap.cause'",
        )
    [found] = opened.ui.ask(longest)
    shown = _arguments(_selected(opened, found["id"], "5-gap"))
    assert ("cause", cause["cause"]) in shown
    assert any(name == "sync_ns" for name, _ in shown)


def test_sql_in_the_query_page(opened):
    rows = opened.ui.query(
        "select category, count(*) as n, sum(dur) as total from slice"
        " where category in ('cuda_runtime', 'cuda_driver', 'nsys.step') group by 1 order by 1"
    )
    opened.ui.picture(place.PICTURES / f"{opened.case}-6-query.png")
    opened.ui.page.evaluate("location.hash = '#!/viewer'")
    found = {cells[-3]: cells[-2:] for cells in rows}
    plain = opened.sqlite("select count(*), sum(end - start) from CUPTI_ACTIVITY_KIND_RUNTIME")
    calls = [
        [int(re.sub(r"\D", "", c)) for c in cells] for k, cells in found.items() if "cuda" in k
    ]
    assert [sum(c) for c in zip(*calls, strict=True)] == list(plain[0])
    assert int(found["nsys.step"][0]) > 0
