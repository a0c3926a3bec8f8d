"""Completion in shells: what is offered, asked by click's protocol and by a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nsys2perfetto.cli import completion, main
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.report import names
from tests.command import environment

FILE = "file:"


@pytest.fixture
def offered(tmp_path, monkeypatch, capsys):
    """What is offered for the last word of a command line; `file:` where the shell adds files."""
    (tmp_path / "sub").mkdir()
    for name in ("trace.sqlite", "conversation.txt", "sub/part.pftrace.gz"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    def offered(line):
        words = line.split(" ")
        monkeypatch.setenv(completion.VARIABLE, "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        assert main.run([]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        found = [item.split(",", 1) for item in out.split()]
        return [FILE if kind == "file" else value for kind, value in found]

    return offered


def test_the_first_word_is_a_command_or_a_capture(offered):
    assert offered("nsys2perfetto ") == [FILE, *main.COMMANDS, "trace.sqlite"]
    assert offered("nsys2perfetto comp") == [FILE, "compare", "completion"]
    assert offered("nsys2perfetto sub/") == [FILE, "sub/part.pftrace.gz"]
    assert offered("nsys2perfetto no_such_folder/x") == [FILE]


@pytest.mark.parametrize("before", ["", "trace.sqlite ", "convert trace.sqlite ", "convert "])
def test_options_of_the_default_command_need_no_name_of_it(offered, before):
    assert offered(f"nsys2perfetto {before}--step") == [
        "--steps", "--step-kernel", "--step-nvtx", "--step-graph",
    ]  # fmt: skip


def test_every_option_of_every_command_is_offered(offered):
    for name in main.COMMANDS:
        found = offered(f"nsys2perfetto {name} --")
        command = main.commands.get_command(None, name)
        long = {o for p in command.params for o in p.opts if o.startswith("--")}
        assert set(found) == long | {"--help"}
    assert "--version" in offered("nsys2perfetto --")
    assert offered("nsys2perfetto --").count("--help") == 1


def test_families_are_completed_one_by_one(offered):
    assert offered("nsys2perfetto trace.sqlite --only ") == list(FAMILIES)
    assert offered("nsys2perfetto --skip osrt,mem") == [
        f"osrt,{name}" for name in FAMILIES if name.startswith("mem")
    ]
    assert "kernel,kernel" not in offered("nsys2perfetto --only kernel,k")


def test_a_report_is_a_name_and_then_a_file(offered):
    assert offered("nsys2perfetto report ") == [FILE, *names.WORDS, "trace.sqlite"]
    assert offered("nsys2perfetto report step_t") == [FILE, "step_times"]
    assert offered("nsys2perfetto report gap_total ") == [FILE]
    assert offered("nsys2perfetto report decode_step 11 ") == [FILE]


@pytest.mark.parametrize(
    "line",
    [
        "convert ", "info ", "query ", "compare ", "compare a.sqlite ", "trace.sqlite -o ",
        "report --kernel-families ", "query x --engine ", "query x --file ",
    ],
)  # fmt: skip
def test_files_are_left_to_the_shell(offered, line):
    assert offered(f"nsys2perfetto {line}") == [FILE]


def test_choices_are_offered(offered):
    assert offered("nsys2perfetto report --format ") == ["table", "csv", "json", "markdown"]
    assert offered("nsys2perfetto completion ") == list(completion.SHELLS)


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_script_is_one_that_the_shell_reads(shell, capsys):
    assert main.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert completion.VARIABLE in script and f"{shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes(tmp_path):
    program = Path(sys.executable).with_name("nsys2perfetto")
    if not program.exists():
        pytest.skip("the command is not installed")
    script = """
        eval "$(nsys2perfetto completion bash)"
        COMP_WORDS=(nsys2perfetto trace.sqlite --only kernel,mems); COMP_CWORD=3
        _nsys2perfetto_completion nsys2perfetto
        echo "${COMPREPLY[@]}"
        complete -p nsys2perfetto
    """
    env = environment(PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    run = subprocess.run(
        ["bash", "--norc", "-c", script], env=env, capture_output=True, text=True, check=True
    )
    reply, registered = run.stdout.splitlines()
    assert reply == "kernel,memset"
    assert "_nsys2perfetto_completion" in registered
