"""`nsys2perfetto compare` as users run it."""

import csv
import json
import shutil

import pytest

import nsys2perfetto
from nsys2perfetto.cli.main import run
from tests import sessions
from tests.command import run as run_process
from tests.compared import BODY, GEMM, NORM, decode_loop
from tests.engine.locate import REPOSITORY

EAGER, GRAPH = (
    str(REPOSITORY / "samples" / f"decode_{kind}.sqlite") for kind in ("eager", "graph")
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two loops; the second one's matrix product takes 4 us longer, and its step by as much."""
    folder = tmp_path_factory.mktemp("pair")
    slower = (NORM, (GEMM[0], GEMM[1] + 4_000), *BODY[2:])
    made = decode_loop(folder, "before"), decode_loop(folder, "after", body=slower)
    return [str(path) for path in made]


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_the_first_lines_say_what_changed(pair, capsys):
    assert run(["compare", *pair]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4.7 % slower: the median step takes" in said
    assert "gemm kernels +4" in said
    assert said.index("slower") < said.index("Where the time goes") < said.index("CUDA calls")


@pytest.mark.parametrize(
    ("limit", "status"),
    [("4.8", 0), ("4.7%", 3), ("0", 3), ("100", 0), (None, 0)],
)
def test_fail_above(pair, limit, status, capsys):
    # 84.5 us to 88.5 us: 4.734 %.
    options = [] if limit is None else ["--fail-above", limit]
    assert run(["compare", *pair, *options]) == status
    out, err = capsys.readouterr()
    assert "slower" in out
    assert bool(err) == bool(status)
    if status:
        [line] = err.splitlines()
        assert line.startswith("nsys2perfetto: the median steady step takes 4.734 % longer")
        assert line.endswith(f"--fail-above allows {limit.removesuffix('%')} %")


def test_faster_never_fails(pair, capsys):
    assert run(["compare", *reversed(pair), "--fail-above", "0"]) == 0
    assert run(["compare", pair[0], pair[0], "--fail-above", "0"]) == 0
    assert not capsys.readouterr().err


def test_fail_above_without_steps_is_about_kernel_time(pair, capsys):
    assert run(["compare", *pair, "--no-steps", "--fail-above", "3"]) == 3
    out, err = capsys.readouterr()
    assert "more kernel time" in out
    # 14 steps of 53.5 us and a prefill of 906 us; 14 times 4 us more.
    assert f"the kernels take {100 * 56 / (14 * 53.5 + 906):.4g} % longer" in err
    assert run(["compare", *pair, "--no-steps", "--fail-above", "3.5"]) == 0


def test_a_check_that_checks_nothing_fails(pair, tmp_path, capsys):
    empty = nsys2perfetto.convert(pair[0], tmp_path / "empty.pftrace", only=("cuda_api",)).output
    with sessions.in_process():
        assert run(["compare", str(empty), str(empty), "--fail-above", "1"]) == 1
        assert "BEFORE has neither" in capsys.readouterr().err
        assert run(["compare", pair[0], str(empty), "--no-steps", "--fail-above", "1"]) == 2
        assert "is a trace already" in capsys.readouterr().err
        assert run(["compare", pair[0], str(empty), "--fail-above", "1"]) == 1
    out, err = capsys.readouterr()
    assert "Only one, not after, has steady decode steps" in " ".join(out.split())
    assert "cannot be checked: AFTER has no steady decode steps" in err


def test_formats(pair, tmp_path, capsys):
    assert run(["compare", *pair, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["slowdown_pct"] == pytest.approx(100 * 4 / 84.5)
    assert {"summary", "parts", "kernels", "families", "gaps", "api"} <= set(found)
    assert run(["compare", *pair, "--format", "csv", "--section", "kernels"]) == 0
    rows = list(csv.DictReader(lines(capsys)))
    assert [float(row["change_ns"]) for row in rows] == [4_000, 0, 0, 0, 0]
    assert rows[0]["name"] == GEMM[0]
    assert run(["compare", *pair, "--format", "csv"]) == 0
    heads = [line for line in lines(capsys) if line.startswith("# ")]
    assert heads == [f"# {name}" for name in list(found)[-6:]]
    assert run(["compare", *pair, "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("**4.7 % slower:")
    assert f"| {GEMM[0]} | 40.00 | 44.00 | +4.00 | +10.0 | 1 | +10.0 |" in out
    for name, begins in (("a.json", "{"), ("a.md", "**"), ("a.csv", "# "), ("a.txt", "before")):
        target = tmp_path / name
        assert run(["compare", *pair, "-o", str(target)]) == 0
        assert target.read_text(encoding="utf-8").startswith(begins), name
    assert not capsys.readouterr().out


def test_rows_and_names(capsys):
    assert run(["compare", EAGER, GRAPH, "--section", "kernels", "--top", "1"]) == 0
    title, head, row, rest = lines(capsys)
    assert title == "Kernels (per step, us)"
    assert head.split()[:4] == ["kernel", "before", "after", "change"]
    assert row.startswith("gemv2T_kernel_val ")
    assert rest.startswith("and 9 more, together ")
    assert run(["compare", EAGER, GRAPH, "--section", "kernels", "--full-names"]) == 0
    assert any("void gemv2T_kernel_val<" in line for line in lines(capsys))


def test_families_from_a_file(tmp_path, capsys):
    file = tmp_path / "families.txt"
    file.write_text("# ours\nvectors: ^gemv2T\n", encoding="utf-8")
    wanted = ["compare", EAGER, GRAPH, "--section", "families", "--kernel-families", str(file)]
    assert run(wanted) == 0
    assert any(line.startswith("vectors ") and line.endswith(" 9") for line in lines(capsys))
    file.write_text("gemm\n", encoding="utf-8")
    assert run(wanted) == 2
    assert "line 1" in capsys.readouterr().err


def test_traces_in_any_mix(pair, tmp_path, capsys):
    traces = [
        str(nsys2perfetto.convert(path, tmp_path / f"{number}.pftrace").output)
        for number, path in enumerate(pair)
    ]
    said = []
    with sessions.in_process():
        for before, after in zip((pair[0], traces[0]), (traces[1], pair[1]), strict=True):
            assert run(["compare", before, after, "--fail-above", "1"]) == 3
            said.append(capsys.readouterr().out.split("\n\n")[1:])
    assert run(["compare", *pair]) == 0
    assert said == [capsys.readouterr().out.split("\n\n")[1:]] * 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "missing argument 'BEFORE'"),
        (["{0}"], 2, "missing argument 'AFTER'"),
        (["{0}", "no.sqlite"], 1, "no.sqlite: no such file"),
        (["{0}", "{1}", "--fail-above", "-1"], 2, "'-1' is not a percentage such as 5 or 2.5"),
        (["{0}", "{1}", "--fail-above", "nan"], 2, "'nan' is not a percentage"),
        (["{0}", "{1}", "--fail-above", "much"], 2, "'much' is not a percentage"),
        (["{0}", "{1}", "--top", "0"], 2, "'--top'"),
        (["{0}", "{1}", "--section", "kernel"], 2, "'--section'"),
        (["{0}", "{1}", "-o", "{0}", "-f"], 2, "is compared: name another output with -o"),
        (["{0}", "{1}", "-o", "{dir}/there.md"], 2, "there.md exists: use --force"),
        (["{0}", "{1}", "--step-graph", "--no-steps"], 2, "contradict each other"),
        (["{0}", "{1}", "--kernel-families", "no.txt"], 2, "no.txt: cannot read the families"),
    ],
)
def test_what_goes_wrong_is_one_line(pair, tmp_path, arguments, status, said, capsys):
    (tmp_path / "there.md").write_text("something")
    given = [word.format(*pair, dir=tmp_path) for word in arguments]
    assert run(["compare", *given]) == status
    out, err = capsys.readouterr()
    assert not out
    [line] = err.splitlines()
    assert said in line


def test_captures_are_only_read(tmp_path, capsys):
    for name in ("a.sqlite", "b.sqlite"):
        shutil.copy(EAGER, tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(["compare", str(tmp_path / "a.sqlite"), str(tmp_path / "b.sqlite")]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "As fast as before" in capsys.readouterr().out


def test_the_status_of_the_process(pair):
    status, out, err = run_process("compare", *pair, "--fail-above", "1", "--section", "families")
    assert status == 3
    assert out.startswith("Families of kernels (per step, us)\n")
    assert err.count("\n") == 1
