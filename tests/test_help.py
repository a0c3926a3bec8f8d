"""The help of each command: sections, examples that run, one-line summaries, its width."""

import re
import shlex

import click
import pytest

import nsys2perfetto
from nsys2perfetto.cli import main
from nsys2perfetto.cli.help import OTHER
from tests import documents
from tests.sessions import in_process

BLANKS = re.compile(r" {3,}")


def commands():
    return {name: main.commands.get_command(None, name) for name in main.COMMANDS}


def examples():
    return [
        (name, BLANKS.split(line)[0])
        for name, command in commands().items()
        for line in command.examples.splitlines()
    ]


@pytest.mark.parametrize("name", main.COMMANDS)
def test_help_ends_with_examples_of_the_command(name, capsys):
    assert main.run([name, "--help"]) == 0
    out = capsys.readouterr().out
    shown = out.partition("\nExamples:\n")[2].splitlines()
    assert shown == [f"  {line}" for line in commands()[name].examples.splitlines()]
    assert len(shown) >= 2
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", main.COMMANDS)
def test_summaries_are_one_line(name):
    for text in (main.COMMANDS[name], commands()[name].get_short_help_str(limit=90)):
        assert text[0].isupper() and text.endswith(".") and not text.endswith("...")
        assert len(text) <= 90


@pytest.mark.parametrize("name", main.COMMANDS)
def test_sections_name_what_there_is(name):
    command = commands()[name]
    named = [one for names in command.sections.values() for one in names]
    assert len(named) == len(set(named))
    assert set(named) <= {parameter.name for parameter in command.params}
    with click.Context(command, **command.context_settings) as ctx:
        found = command.sorted_options(ctx)
    options = [option for options in found.values() for option in options]
    assert len(options) == len({option.name for option in options})
    assert "--help" in found[OTHER][-1].opts
    assert len(found) > 1 or len(options) < 10


@pytest.mark.parametrize(("name", "line"), examples())
def test_an_example_does_what_it_says(name, line, capsys):
    program, *arguments = shlex.split(line, comments=False)
    if program == "eval":
        program, *arguments = shlex.split(re.findall(r"\$\((.*)\)", line)[0])
    if "|" in arguments:
        arguments = arguments[: arguments.index("|")]
    assert program == "nsys2perfetto"
    if name == "open":  # it waits for a browser: tests/test_cli_open.py plays one
        assert commands()[name].make_context(name, arguments[1:]).params["path"]
        return
    with documents.playground() as folder, in_process():
        for run in ("run1", "run2"):
            (folder / f"{run}.sqlite").write_bytes((folder / "trace.sqlite").read_bytes())
        (folder / "traces").mkdir()
        (folder / "steps.sql").write_text("SELECT step, wall_ns FROM nsys_step", encoding="utf-8")
        if "trace.pftrace" in arguments:
            nsys2perfetto.convert("trace.sqlite")
        before = set(folder.rglob("*"))
        assert main.run(arguments) == 0
        written = {path.name for path in set(folder.rglob("*")) - before}
    captured = capsys.readouterr()
    assert captured.err == ""
    if "-o" in arguments:
        target = arguments[arguments.index("-o") + 1]
        assert written == {target} or target.endswith("/"), (name, written)
    assert captured.out or written
