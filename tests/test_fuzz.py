"""A slice of the fuzzer that is the same each time; `make fuzz` goes on from there."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter

import pytest

import nsys2perfetto
from fuzz import __main__ as program
from fuzz import case, check, shapes, worker

FIRST, CASES, AT_A_TIME = 1_000_000, 150, 10
COMMANDS = [["info", "-v"], ["report"], ["-f", "-v", "--lean"]]
SMALL = 1_200
"""Rows of a table: more than the engine has levels of nesting."""
LARGE, GUARD_S = 30_000, 25
"""Rows of a table, and CPU seconds that only quadratic time takes: all take less than five."""


@pytest.mark.parametrize("first", range(FIRST, FIRST + CASES, AT_A_TIME))
def test_cases(first, engine_shell):
    for seed in range(first, first + AT_A_TIME):
        result = worker.run(seed, kept=None)
        assert not result["problems"], (seed, result)


@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda shape: shape.__name__)
def test_nothing_is_lost_in_the_worst_shapes(shape, tmp_path, engine_shell):
    path = shapes.write(shape, SMALL, tmp_path / "case.sqlite")
    problems: list[str] = []
    assert check.run(case.Case(path, [shape.__name__], {}, True, COMMANDS), problems) == "converted"
    assert problems == []


@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda shape: shape.__name__)
def test_the_worst_shapes_take_no_quadratic_time(shape, tmp_path):
    path = shapes.write(shape, LARGE, tmp_path / "case.sqlite")
    before = time.process_time()
    nsys2perfetto.convert(path)
    nsys2perfetto.inspect(path)
    assert time.process_time() - before < GUARD_S


def test_a_seed_gives_the_same_case(tmp_path):
    for seed in range(20):
        files = []
        for name in ("a", "b"):
            folder = tmp_path / f"{seed}{name}"
            folder.mkdir()
            made = case.make(seed, folder)
            files.append((made.path.read_bytes(), made.done, made.options))
        assert files[0] == files[1]


def test_mutations_find_something_to_change(tmp_path):
    done = Counter(
        (line.partition(":")[0], "nothing" not in line and "refused" not in line)
        for seed in range(60)
        for line in case.make(seed, tmp_path).done
    )
    assert len({name for name, _ in done}) > 20
    assert sum(n for (_, well), n in done.items() if well) > 0.7 * done.total()


@pytest.fixture
def failing(tmp_path, monkeypatch, capsys, engine_shell):
    """Runs a seed of which a test made something fail; returns what is told."""
    monkeypatch.chdir(tmp_path)

    def failing(seed=3):
        monkeypatch.setattr("sys.argv", ["fuzz", "--seed", str(seed)])
        assert program.main() == 1
        kept = [p.name for p in (tmp_path / "build" / "fuzz").iterdir()]
        assert kept == [f"seed-{seed}.sqlite"]
        said = capsys.readouterr().out
        assert f"FAILED: python -m fuzz --seed {seed}" in said
        return said

    return failing


def test_another_exception_is_told(failing, monkeypatch):
    def broken(*_, **__):
        raise KeyError("inside")

    monkeypatch.setattr(check, "convert", broken)
    assert "KeyError: 'inside'" in failing()


def test_a_lost_event_is_told(failing, monkeypatch):
    convert = nsys2perfetto.convert

    def lossy(*arguments, **options):
        result = convert(*arguments, **options)
        one_more = [dataclasses.replace(f, written=f.written + 1) for f in result.families]
        return dataclasses.replace(result, families=one_more)

    monkeypatch.setattr(check, "convert", lossy)
    assert "in the engine" in failing()


def test_a_hang_is_told(failing, monkeypatch):
    def endless(*_, **__):
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(check, "convert", endless)
    monkeypatch.setattr(worker, "SECONDS_A_CASE", 0.5)
    assert "takes too long" in failing()


def test_what_is_left_behind_is_told(failing, monkeypatch):
    convert = nsys2perfetto.convert

    def untidy(capture, output, **options):
        output.with_name("left.part").touch()
        return convert(capture, output, **options)

    monkeypatch.setattr(check, "convert", untidy)
    assert "files changed" in failing()


def test_many_processes_run_cases(tmp_path, monkeypatch, capfd, engine_shell):
    monkeypatch.setenv("PYTHONPATH", str(case.REPOSITORY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fuzz", "--cases", "4", "--jobs", "2", "--first", "1000000"])
    assert program.main() == 0
    assert "\n4 cases: " in capfd.readouterr().out
