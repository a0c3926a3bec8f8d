"""What a user sees who drags a trace into the UI."""

import pytest

ROOTS = {
    "decode_eager": ["Decode steps", "GPU idle gaps", "GPU utilization", "bench_decode 41250"],
    "decode_graph": ["Decode steps", "GPU idle gaps", "GPU utilization"],
}
BELOW = [
    "Decode steps",
    "Decode steps/Kernel time by family",
    "Decode steps/Steps per second",
    "GPU idle gaps",
    "GPU idle gaps/Launch queue depth",
    "GPU utilization",
    "GPU utilization/Kernels in flight",
]
COUNTERS = ["Kernels in flight", "Launch queue depth", "Utilization"]


def test_the_ui_complains_of_nothing(opened):
    ui = opened.ui
    assert ui.dialogs() == []
    assert ui.badges() == []
    assert ui.problems == []
    assert ui.ask("select name from stats where severity != 'info' and value > 0") == []


def test_steps_gaps_and_utilization_come_first(opened):
    """Every group is closed, so nothing but roots is on the screen; these three show values."""
    roots = ROOTS[opened.case.sample]
    if opened.case.compat:
        # The GPU's own track is its utilization.
        gpu = [path for path in opened.first if path.startswith("GPU 0 ")]
        assert len(gpu) == 1
        roots = [roots[0], *gpu, *(r for r in roots[1:] if r not in BELOW)]
    shown = [path for path in opened.first if path in roots]
    assert shown == roots
    others = [path for path in opened.first if path not in roots and "/" not in path]
    processes = [p for p in others if p.rpartition(" ")[2].isdigit()]
    assert set(others) - set(processes) <= {"GPU", "System", "Global Track Events"}
    # The UI puts its own groups before ours, and processes last.
    assert all(opened.first.index(p) > opened.first.index(roots[1]) for p in processes)


def test_the_screen_opens_on_the_decode_steps(opened):
    [row] = opened.ui.ask(
        "select min(ts) as low, max(ts + dur) as high from slice "
        "where category = 'nsys.step' and name not like '%prefill%'"
    )
    start, end = opened.view
    assert start <= row["low"] and row["high"] <= end
    assert end - start <= 1.15 * (row["high"] - row["low"])


def test_below_the_roots(opened):
    if opened.case.compat:
        steps = [p for p in opened.every if p.startswith("Decode steps")]
        assert steps == [
            "Decode steps",
            "Decode steps/GPU idle gaps",
            "Decode steps/Kernel time by family",
            "Decode steps/Steps per second",
        ]
        gpu = [p.split("/", 1)[1] for p in opened.every if p.startswith("GPU 0 ") and "/" in p]
        streams = [p for p in gpu if p.startswith("Stream")]
        assert streams and gpu[: len(streams)] == streams, "streams stand before counters"
        assert set(COUNTERS[:2]) < set(gpu)
    else:
        assert [p for p in opened.every if p.split("/")[0] in (BELOW[0], *BELOW[3:6:2])] == BELOW
        own = [p for p in opened.every if p.startswith("GPU/")]
        names = {p.rpartition("/")[2] for p in own}
        streams = {
            f"Stream {stream}"
            for (stream,) in opened.sqlite(
                "select distinct streamId from CUPTI_ACTIVITY_KIND_KERNEL"
            )
        }
        assert streams <= {" ".join(name.split()) for name in names}


def test_threads_stand_below_their_process(opened):
    threads = opened.sqlite("select distinct globalTid & 0xFFFFFF from CUPTI_ACTIVITY_KIND_RUNTIME")
    below = [p for p in opened.every if "/" in p]
    for (tid,) in threads:
        assert any(p.endswith(f" {tid}") for p in below), tid


@pytest.mark.parametrize("name", COUNTERS)
def test_native_counters_are_in_the_gpus_group(opened, name):
    if opened.case.compat or not opened.case.newer:
        pytest.skip("the v52 engine does not know these counters' descriptors")
    assert any(p.startswith("GPU/") and p.endswith(f"/{name}") for p in opened.every)
