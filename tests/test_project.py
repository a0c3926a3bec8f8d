"""Rules of the repository that no other tool checks."""

import ast
import re
import subprocess

import pytest

from protos import generate
from tests.engine.locate import REPOSITORY

PACKAGE = REPOSITORY / "nsys2perfetto"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if not p.name.endswith("_pb2.py"))
MAXIMUM_LINES = 400

ALLOWED_IMPORTS = {
    "analysis": set(),
    "wire": set(),
    "protos": set(),
    "nsys": {"errors"},
    "tracks": {"analysis", "errors", "nsys", "protos", "wire"},
}
"""Which parts of the package a part may import besides itself; others may import all."""

# In pieces, so that this file does not mention them.
FORBIDDEN = {
    "a package registry's host": r"py" r"pi\.org|npm" r"js\.|files\.python" r"hosted",
    "a path of one machine": r"(?<![\w.~/-])/(?:wo" r"rk|ro" r"ot|ho" r"me)/\w",
}


def tracked_files():
    """Files that git tracks or would track; every file where this is not a checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [REPOSITORY / name for name in run.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def name_of(path):
    return str(path.relative_to(REPOSITORY))


def part_of(path):
    """The part of the package that a module belongs to: ``wire``, ``cli``, or its own name."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(path):
    """Dotted names of every module that a file imports, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["nsys2perfetto", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_mentions(what):
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in tracked_files()
        if (data := path.read_bytes()) and b"\0" not in data[:8192]
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_fits_the_head_and_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAXIMUM_LINES
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(p) in ALLOWED_IMPORTS], ids=name_of)
def test_imports_go_one_way(path):
    allowed = ALLOWED_IMPORTS[part_of(path)] | {part_of(path)}
    parts = {name.split(".")[1] for name in imported_modules(path) if is_ours(name)}
    assert parts <= allowed


def is_ours(name):
    return name.startswith("nsys2perfetto.")


def test_generated_protos_are_current():
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools")
    for name, content in generate.generated().items():
        assert (generate.OUTPUT / name).read_bytes() == content, f"{name} is old: run `make protos`"


def test_every_proto_source_is_generated_from():
    files = {name_of(path) for path in (REPOSITORY / "protos").rglob("*.proto")}
    extended = {"track_event/track_event.proto", "interned_data/interned_data.proto"}
    assert files == set(generate.SOURCES) | {f"protos/perfetto/trace/{name}" for name in extended}
