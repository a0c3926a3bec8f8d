"""The pages of the documentation: what is in them, and running what they show.

After a deliberate change of what the command prints, `python -m tests.documents` writes the new
output into the pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sqlite3
import tempfile
from pathlib import Path
from unittest import mock

from nsys2perfetto.cli.main import run
from nsys2perfetto.nsys import exporting
from nsys2perfetto.query import package
from samples.builder.scenarios import SCENARIOS
from tests import cli_page
from tests.command import another_program
from tests.engine.locate import REPOSITORY
from tests.sessions import in_process

PAGES = sorted(
    REPOSITORY / name
    for name in (
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "protos/README.md",
        "samples/README.md",
        *(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").glob("*.md")),
    )
)

PROMPT = "$ "
LOCKED = "written_by_another_program.sqlite"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SIZE_OF_TRACE = re.compile(r"\(\d[\d,.]* (bytes|kB|MB)\)")


def name_of(path):
    return str(path.relative_to(REPOSITORY))


def blocks(path, language):
    """Fenced blocks of a language: (line, text)."""
    text = path.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start()) + 1, match[2])
        for match in _FENCE.finditer(text)
        if match[1] == language
    ]


def blocks_under(path, heading, language):
    """Texts of the fenced blocks between a heading and the next one."""
    text = path.read_text(encoding="utf-8")
    [section] = re.findall(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL
    )
    return [match[2] for match in _FENCE.finditer(section) if match[1] == language]


def all_blocks(language):
    """The blocks of all pages: (page and line, text)."""
    return [
        (f"{name_of(path)}:{line}", text) for path in PAGES for line, text in blocks(path, language)
    ]


def prose(path):
    """A page without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path):
    """What links to a page may end in, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(text, first):
    """Rows of the tables whose first column is called `first`: lists of cells."""
    rows, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and set(line) - set("|-: "):
            rows.append(cells)
    return rows


def quoted(cell):
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


@contextlib.contextmanager
def playground():
    """A folder with everything that the pages convert, as the working directory."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        eager = REPOSITORY / "samples" / "decode_eager.sqlite"
        (folder / "samples").mkdir()
        for copy in ("samples/decode_eager.sqlite", "trace.sqlite", LOCKED):
            shutil.copy(eager, folder / copy)
        shutil.copy(eager, folder / "before.sqlite")
        shutil.copy(eager.with_name("decode_graph.sqlite"), folder / "after.sqlite")
        SCENARIOS["graph_level"](folder).path.rename(folder / "graphs.sqlite")
        (folder / "report.nsys-rep").write_bytes(b"NSYS report, which only nsys can read")
        (folder / "empty.sqlite").touch()
        (folder / "truncated.sqlite").write_bytes(eager.read_bytes()[:100_000])
        (folder / "notes.txt").write_text("not a database\n")
        with contextlib.closing(sqlite3.connect(folder / "contacts.db")) as database:
            database.execute("CREATE TABLE contacts(name)")
        (folder / "a_directory").mkdir()
        (folder / "a_directory" / "notes.txt").touch()
        (folder / "existing.pftrace").write_bytes(b"a trace")
        stack.enter_context(another_program(folder / LOCKED, "BEGIN EXCLUSIVE"))
        # The pages are the same on machines that have nsys.
        stack.enter_context(mock.patch.object(exporting, "program", lambda: None))
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def output(command):
    """What a command line prints, both streams as a terminal would show them."""
    program, *arguments = shlex.split(command)
    assert program == "nsys2perfetto", command
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        in_process(),
    ):
        run(arguments)
    return printed.getvalue()


def replayed(block):
    """A console block with what its commands print now."""
    commands = [line for line in block.splitlines() if line.startswith(PROMPT)]
    with playground():
        return "".join(f"{line}\n{output(line.removeprefix(PROMPT))}" for line in commands)


def comparable(block):
    """Without the sizes of traces: each byte more would be a change of the documentation."""
    return _SIZE_OF_TRACE.sub("(SIZE)", block)


def rewrite(path):
    """Puts what the commands print now into the console blocks of a page."""

    def renew(match):
        if match[1] != "console":
            return match[0]
        now = replayed(match[2])
        return match[0] if comparable(now) == comparable(match[2]) else f"```console\n{now}```"

    old = path.read_text(encoding="utf-8")
    new = _FENCE.sub(renew, old)
    if new != old:
        path.write_text(new, encoding="utf-8")
    return new != old


VIEWS_PAGE = REPOSITORY / "docs" / "views.md"
_VIEWS_HEAD = """\
# The SQL package `nsys`

Made from the comments in `nsys2perfetto/sql/nsys/*.sql` by `python -m tests.documents`;
`nsys2perfetto query --schema` prints the same. How to use it: [queries](sql.md#the-package-nsys),
[Python](python.md), [cookbook](cookbook.md).
"""


def views_page():
    """The reference of the SQL package: each module, view and column."""
    lines, module = [_VIEWS_HEAD], None
    for view in package.views().values():
        if view.module != module:
            module = view.module
            lines.append(f"## {module}\n")
        lines += [
            f"### {view.name}\n",
            f"{view.comment}\n",
            "| column | type | what |",
            "|---|---|---|",
        ]
        for column in view.columns:
            what = column.comment.replace("|", "\\|")
            lines.append(f"| `{column.name}` | {column.type.lower()} | {what} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    VIEWS_PAGE.write_text(views_page(), encoding="utf-8")
    cli_page.PAGE.write_text(cli_page.page(), encoding="utf-8")
    for page in PAGES:
        if rewrite(page):
            print(f"rewrote {name_of(page)}")
