"""GPU work in the trace: every operation, its queue, its arguments, the arrow that leads to it."""

import sqlite3
from collections import Counter, defaultdict

import pytest

from samples.builder import A100, H100, RTX_3090, Capture, Kernel
from samples.builder.scenarios import SCENARIOS
from tests import checks
from tests.runs import RUNS, converted, edited, load


@pytest.fixture(scope="session", params=RUNS)
def run(request, open_trace):
    return load(request.param, open_trace)


@pytest.mark.parametrize("check", checks.GPU_CHECKS, ids=lambda check: check.__name__)
def test_gpu_work(run, check):
    check(run)


@pytest.fixture
def scene(request, open_trace):
    """The scenario that the test is called after, or asks for by `indirect` parameter."""
    return load(request.param, open_trace)


def of_scenario(name):
    assert name in SCENARIOS
    return pytest.mark.parametrize("scene", [name], indirect=True)


def built(capture, tmp_path, open_trace, **options):
    return converted(capture.save(tmp_path, "built"), open_trace, **options)


def kernels(run):
    return [s for s in run.trace.gpu if s["kind"] == "CUDA kernel"]


@of_scenario("two_processes_two_gpus")
def test_equal_devices_of_two_processes_are_two_gpus(scene):
    found = Counter((s["pid"], s["gpu"]) for s in kernels(scene))
    expected = {
        (pid, gpu): scene.facts["kernels_of_pid"][pid]
        for pid, gpu in scene.facts["gpu_of_pid"].items()
    }
    assert found == expected
    assert {scene.trace.args(s)["device"] for s in kernels(scene)} == {0}
    assert len({s["track_id"] for s in kernels(scene)}) == 2
    arrows = [(scene.trace.by_id[f["slice_out"]], scene.trace.by_id[f["slice_in"]])
              for f in scene.trace.flows]  # fmt: skip
    assert all(call["pid"] == kernel["pid"] for call, kernel in arrows)


@of_scenario("gpu_order_differs")
def test_gpus_by_cuda_ordinal_where_no_table_maps_them(scene):
    models = {g["ugpu"]: g["model"] for g in scene.trace.gpus}
    for s in kernels(scene):
        device = scene.trace.args(s)["device"]
        assert s["gpu"] == scene.facts["gpu_of_device"][device]
        assert models[s["gpu"]] == scene.facts["name_of_device"][device]


@of_scenario("eight_hundred_streams")
def test_eight_hundred_streams(scene):
    of_track = defaultdict(set)
    for s in kernels(scene):
        of_track[s["track_id"]].add(scene.trace.args(s)["stream"])
    assert sorted(stream for [stream] in of_track.values()) == scene.facts["streams"]
    names = {s["track"] for s in kernels(scene)}
    assert names == {f"Stream {n:>3}" for n in scene.facts["streams"]}, "sorted as text"


@of_scenario("unified_memory")
def test_migrations_are_apart_from_streams(scene):
    moved = [s for s in scene.trace.gpu if s["kind"] == "Unified-memory migration"]
    assert len(moved) == scene.facts["migrations"]
    assert sum(s["dur"] for s in moved) == scene.facts["migrated_ns"]
    others = {s["track_id"] for s in scene.trace.gpu if s not in moved}
    assert not {s["track_id"] for s in moved} & others
    assert {"stream"} & {k for s in moved for k in scene.trace.args(s)} == set()
    causes = Counter(scene.trace.args(s)["migration_cause"] for s in moved)
    assert causes == {"Page fault": 133, "Eviction": 67}
    targets = {f["slice_in"] for f in scene.trace.flows}
    assert not targets & {s["id"] for s in moved}


@of_scenario("every_copy_kind")
def test_copies_of_every_kind(scene):
    copies = [s for s in scene.trace.gpu if s["kind"] == "CUDA memory copy"]
    names = {
        0: "Unknown", 1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 5: "AtoA", 6: "AtoD", 7: "DtoA",
        8: "DtoD", 9: "HtoH", 10: "PtoP",
    }  # fmt: skip
    found = {s["name"]: scene.trace.args(s)["bytes"] for s in copies}
    assert found == {f"Memcpy {names[k]}": n for k, n in scene.facts["bytes_of_kind"].items()}
    [peer] = [scene.trace.args(s) for s in copies if s["name"] == "Memcpy PtoP"]
    assert (peer["source_device"], peer["destination_device"]) == (0, 1)
    assert not any(
        "source_device" in scene.trace.args(s) for s in copies if "PtoP" not in s["name"]
    )
    assert {scene.trace.args(s)["device"] for s in copies} == {0}
    assert {scene.trace.args(s)["stream"] for s in copies} == {7}


@of_scenario("overlapping_kernels")
def test_overlapping_kernels_are_kept(scene):
    found = sorted((scene.trace.args(s)["stream"], s["ts"], s["dur"]) for s in kernels(scene))
    assert sum(dur for *_, dur in found) == scene.facts["sum_ns"]
    assert [stream for stream, *_ in found] == [7, 7, 7, 13, 14]
    assert len({s["queue"] for s in kernels(scene)}) == 3


@pytest.mark.parametrize(
    "scene",
    ["graph_nodes", "graph_nodes_with_graph_id", "graph_nodes_old_name"],
    indirect=True,
)
def test_a_graph_launch_leads_to_all_its_nodes(scene):
    out = Counter(f["slice_out"] for f in scene.trace.flows)
    launches = [s for s in scene.trace.cpu if s["name"].startswith("cudaGraphLaunch")]
    assert len(launches) == len(scene.facts["launches"])
    assert {out[s["id"]] for s in launches} == {scene.facts["nodes_of_launch"]}
    nodes = [s for s in scene.trace.gpu if s["name"] != "eager"]
    assert all(scene.trace.args(s)["graph_node_id"] >= 2 << 32 for s in nodes)
    [eager] = [s for s in scene.trace.gpu if s["name"] == "eager"]
    assert "graph_node_id" not in scene.trace.args(eager)
    assert "graph_id" not in scene.trace.args(eager)


@of_scenario("graph_level")
def test_one_slice_a_launch_where_graphs_are_traced_whole(scene):
    graphs = [s for s in scene.trace.gpu if s["kind"].startswith("CUDA graph")]
    assert len(graphs) == len(scene.facts["launches"]) == len(scene.trace.gpu)
    assert sum(s["dur"] for s in graphs) == scene.facts["graph_ns"]
    assert {s["name"] for s in graphs} == {"CUDA graph 1"}
    args = scene.trace.args(graphs[0])
    assert (args["graph_id"], args["graph_exec_id"], args["stream"]) == (1, 2, 13)
    assert "--cuda-graph-trace=node" in " ".join(scene.result.capture.notes)


@of_scenario("orphans")
def test_kernels_without_a_call_have_no_arrow(scene):
    launches = {f["slice_in"] for f in scene.trace.flows}
    lonely = [s for s in kernels(scene) if s["id"] not in launches]
    assert len(kernels(scene)) == scene.facts["kernels"]
    assert len(lonely) == scene.facts["kernels"] - scene.facts["matched"]


@of_scenario("dangling_strings")
def test_kernels_without_names_survive(scene):
    assert len(kernels(scene)) == scene.facts["kernels"]
    # The second has a demangled name only.
    assert sorted(s["name"] for s in kernels(scene)) == ["[unnamed kernel]", "k"]


@of_scenario("two_processes_two_gpus")
def test_the_gpu_table(scene):
    described = {g["ugpu"]: g for g in scene.trace.gpus if g["name"]}
    for row in scene.oracle.gpus:
        if row["id"] in described:
            gpu = described[row["id"]]
            assert gpu["model"] == row["name"]
            assert gpu["uuid"] == row["uuid"].replace("-", "")
            assert gpu["pci_bdf"] == row["busLocation"]
            assert gpu["vendor"] == "NVIDIA" and gpu["architecture"] == "Ampere"
    assert {s["gpu"] for s in kernels(scene)} <= described.keys()


@pytest.mark.parametrize("model", [A100, H100, RTX_3090], ids=lambda model: model.chip)
def test_occupancy_of_many_launches(model, tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu(0, model)
    thread = capture.thread(capture.process(4242, "app"), 4242, "app")
    at = 1_000_000
    for block in (1, 32, 96, 256, 1000, 1024):
        for registers in (16, 33, 63):
            for shared in (0, 1, 9_000, 48_000):
                kernel = Kernel(
                    f"k{block}", grid=(7, 3, 2), block=(block, 1, 1), registers=registers,
                    static_shared=shared // 2, dynamic_shared=shared - shared // 2,
                    extra={"sharedMemoryExecuted": 0},
                )  # fmt: skip
                capture.launch(thread, kernel, at=at, call=100, start=at + 200, duration=500)
                at += 1_000
    run = built(capture, tmp_path, open_trace)
    for check in checks.GPU_CHECKS:
        check(run)
    assert all("theoretical_occupancy_pct" in run.trace.args(s) for s in kernels(run))


def test_contexts_and_processes_on_one_gpu_have_queues_of_their_own(tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu()
    for pid in (100, 200):
        process = capture.process(pid, f"rank{pid}")
        for context in (1, 2):
            for stream in (7, 13):
                start = 1_000 * pid + 100 * context + stream
                capture.kernel(
                    process, "k", start, start + 5, correlation=None, stream=stream,
                    contextId=context,
                )  # fmt: skip
    run = built(capture, tmp_path, open_trace)
    for check in checks.GPU_CHECKS:
        check(run)
    tracks = {s["track_id"]: s["track"] for s in run.trace.gpu}
    assert len(tracks) == 8 and len(set(tracks.values())) == 8


def test_a_kernel_as_large_and_as_odd_as_numbers_get(tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu()
    process = capture.process(4242, "app")
    big = Kernel("big", grid=(2**31 - 1, 65535, 65535), block=(1024, 1, 1), registers=255)
    capture.kernel(process, big, 1, 1 << 61, correlation=None, graph_node=(1 << 62), graph=0)
    capture.kernel(process, "none", 5, 5, correlation=None)
    capture.memcpy(process, "HtoD", 1 << 50, 10, 20, correlation=None)
    capture.memcpy(process, 99, 0, 10, 10, correlation=None)
    table = "CUPTI_ACTIVITY_KIND_KERNEL"
    script = f"update {table} set gridX = null, registersPerThread = null where start = 5"
    path = edited(capture.save(tmp_path, "built"), table, script=script)
    run = converted(path, open_trace)
    found = {s["name"]: s for s in run.trace.gpu}
    assert found["big"]["dur"] == (1 << 61) - 1
    args = run.trace.args(found["big"])
    grid = (2**31 - 1) * 65535 * 65535
    assert args["grid_size"] == grid
    assert args.get("thread_count") in (None, grid * 1024), "never a number that is wrong"
    assert args["graph_node_id"] == 1 << 62
    args = run.trace.args(found["none"])
    assert not {"registers_per_thread", "launch.grid_size.x", "grid_size"} & args.keys()
    args = run.trace.args(found["Memcpy HtoD"])
    assert args["bytes"] == 1 << 50
    assert args["throughput_gb_s"] == pytest.approx((1 << 50) / 10)
    assert run.trace.args(found["Memcpy 99"])["bytes"] == 0
    assert run.trace.losses == []


def test_correlation_id_zero_joins_nothing(tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    capture.api(thread, "cudaLaunchKernel_v7000", 1_000, 1_100, correlation=0)
    capture.sync(thread, "stream", 2_000, 9_000, stream=7)
    capture.kernel(process, "k", 3_000, 3_500, correlation=0)
    capture.migration(process, "UM HtoD", 4_096, 3_000, 3_700)
    run = built(capture, tmp_path, open_trace)
    assert run.trace.flows == []
    for check in checks.CHECKS:
        check(run)


def test_calls_that_share_a_correlation_id_give_one_arrow(tmp_path, open_trace):
    capture = Capture("3.24.0")
    capture.gpu()
    process = capture.process(4242, "app")
    thread = capture.thread(process, 4242, "app")
    for n in range(3):
        capture.api(thread, "cudaLaunchKernel_v7000", 1_000 * n, 1_000 * n + 9, correlation=5)
    capture.kernel(process, "k", 9_000, 9_500, correlation=5)
    run = built(capture, tmp_path, open_trace)
    assert len(run.trace.flows) == 1
    assert run.trace.losses == []


def test_the_builder_gives_what_the_tests_say(tmp_path):
    """The oracle's assumption: names are looked up in StringIds."""
    path = SCENARIOS["graph_nodes"](tmp_path).path
    with sqlite3.connect(path) as sql:
        query = (
            "select count(*) from CUPTI_ACTIVITY_KIND_KERNEL k join StringIds s on s.id=k.shortName"
        )
        assert sql.execute(query).fetchone() == (13,)
