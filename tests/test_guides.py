"""The pages that lead through the tool: their commands run, and they cover what they promise."""

import re
import shlex

import pytest

from nsys2perfetto.cli.main import run
from tests import documents, sessions
from tests.documents import REPOSITORY

DOCS = REPOSITORY / "docs"
CHINESE = DOCS / "zh.md"

MANUAL = (
    "工具路径", "Step 1", "Step 2", "Step 3", "Step 4", "Step 5", "常见场景速查", "ncu",
)  # fmt: skip
"""What the sections of the manual are called by."""


def commands():
    """Command lines of the Chinese page, with the names of files that are there."""
    lines = "".join(block for _, block in documents.blocks(CHINESE, "bash")).splitlines()
    lines = [re.sub(r"\s+#.*", "", line) for line in lines]
    return [line.replace("/tmp/decode_trace", "trace") for line in lines if "nsys2perf" in line]


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_a_command_runs(line, capsys):
    program, *arguments = shlex.split(line)
    assert program == "nsys2perfetto"
    with documents.playground(), sessions.in_process():
        assert run(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out and not captured.err


def test_the_chinese_page_walks_through_the_manual():
    text = CHINESE.read_text(encoding="utf-8")
    [walk] = re.findall(r"^## 按手册走一遍\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    sections = re.split(r"^### ", walk, flags=re.MULTILINE)[1:]
    titles = [section.partition("\n")[0] for section in sections]
    assert len(titles) == len(MANUAL)
    for title, section, word in zip(titles, sections, MANUAL, strict=True):
        assert word in title
        assert "nsys2perfetto" in section, title
        assert "```sql" in section or "cookbook.zh.md#" in section or word == "Step 5", title


@pytest.mark.parametrize(
    "words",
    [
        ("large",), ("browser", "memory"), ("ranks",), ("no kernels",), ("GPU", "wrong name"),
        ("No decode steps",), ("over 100",), ("nsys stats",), ("negative",), ("blank",),
        ("old UI",), ("no network",), ("goes into the trace",), ("Windows", "macOS"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_question_is_answered_with_a_command(words):
    text = (DOCS / "faq.md").read_text(encoding="utf-8")
    answers = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    found = [a for a in answers if all(word in a.partition("\n")[0] for word in words)]
    assert len(found) == 1
    assert "nsys2perfetto" in found[0] or "--" in found[0]


@pytest.mark.parametrize(
    "engine", ["vLLM", "SGLang", "TensorRT-LLM", "llama.cpp", "Plain PyTorch", "Rust, C++"]
)
def test_every_engine_has_its_recipe(engine):
    text = (DOCS / "capture.md").read_text(encoding="utf-8")
    [engines] = re.findall(r"^## Engines\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    [recipe] = re.findall(
        rf"^\*\*{re.escape(engine)}\*\*(.*?)(?=^\*\*|\Z)", engines, re.MULTILINE | re.DOTALL
    )
    assert "nsys profile" in recipe
