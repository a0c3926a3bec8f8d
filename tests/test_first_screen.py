"""What the UI shows first: roots with values and a child, and the time on the screen."""

from samples.builder import Capture
from tests.annotated import EVERYTHING, annotated
from tests.step_checks import loop, sample

SHOWN = {
    "GPU utilization": ("Utilization", "%", None),
    "Kernels in flight": ("Kernels in flight", "kernels", "GPU utilization"),
    "Launch queue depth": ("Launch queue depth", "operations", "GPU idle gaps"),
}


def copies(found, suffix=""):
    """The counters outside the group of the GPUs, by name."""
    own = [c for c in found.counters if c.gpu is None and c.type.startswith("global")]
    return {c.name: c for c in own if (c.above or c.name).endswith(suffix)}


def changes(rows):
    """The first row, those with another value than the row before, and the last."""
    last = len(rows) - 1
    return [r for i, r in enumerate(rows) if i in (0, last) or r[1] != rows[i - 1][1]]


def check_copies(found, gpu, suffix=""):
    """They are the GPU's own counters, change for change."""
    shown = copies(found, suffix)
    for name, (native, unit, above) in SHOWN.items():
        counter = shown[name + suffix if above is None else name]
        assert counter.rows == changes(found.counter(native, gpu).rows)
        assert (counter.unit, counter.above) == (unit, above and above + suffix)
        assert f"`{native}`" in counter.help


def view(found):
    """ns of the capture."""
    return tuple(
        found.metadata[name] - found.shift
        for name in ("all_data_source_started_ns", "tracing_disabled_ns")
    )


def test_utilization_and_queue_depth_stand_beside_the_steps(open_trace):
    for name in ("decode_eager", "decode_graph"):
        found = annotated(sample(name), open_trace, EVERYTHING)
        assert found.losses == []
        check_copies(found, 0)


def test_each_gpu_has_its_own(tmp_path, open_trace):
    capture = Capture("3.16.1")
    for gpu in (0, 1):
        capture.gpu(gpu)
        process = capture.process(4242 + gpu, f"rank{gpu}", gpus=(0, 1))
        thread = capture.thread(process, 4242 + gpu, "app")
        loop(capture, thread, 1_000_000 + 50 * gpu, 6 + gpu, device=gpu)
    found = annotated(capture.save(tmp_path, "two"), open_trace)
    for gpu in (0, 1):
        check_copies(found, gpu, f" · GPU {gpu}")


def test_the_screen_opens_on_the_steps(open_trace):
    found = annotated(sample("decode_eager"), open_trace)
    decoding = [s for s in found.steps if s["phase"] != "PREFILL"]
    low, high = min(s["start"] for s in decoding), max(s["end"] for s in decoding)
    start, end = view(found)
    assert low - (high - low) // 50 <= start <= low
    assert high <= end <= high + (high - low) // 50
    assert start > min(s["start"] for s in found.steps), "the first prefill is left of the screen"


def test_without_steps_it_opens_on_the_gpu_work(tmp_path, open_trace):
    capture = Capture("3.16.1")
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    capture.api(thread, "cuInit", 0, 5_000_000)
    for n in range(3):
        at = 6_000_000 + 90_000 * n
        capture.launch(thread, f"k{n}", at=at, call=2_000, start=at + 4_000, duration=3_000)
    found = annotated(capture.save(tmp_path, "plain"), open_trace)
    assert found.steps == []
    start, end = view(found)
    assert 6_000_000 < start <= 6_004_000 and 6_187_000 <= end < 6_200_000
    capture = Capture("3.16.1")
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    capture.api(thread, "cuInit", 0, 5_000_000)
    found = annotated(capture.save(tmp_path, "calls"), open_trace)
    assert "tracing_disabled_ns" not in found.metadata
