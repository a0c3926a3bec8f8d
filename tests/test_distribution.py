"""Wheel and sdist: complete, the same from either tree, and truthful about themselves.

`make dist-test` goes on from here: it installs the wheel into an empty environment.
"""

import re
import zipfile
from importlib.metadata import PathDistribution

import markdown_it
import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import nsys2perfetto
from tests import archives, licences
from tests.engine.locate import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return archives.wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return archives.sdist(tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def metadata(wheel):
    return Metadata.from_email(archives.read(wheel, "/METADATA"), validate=True)


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    ours, others = archives.names_in_wheel(wheel)
    assert ours == archives.package_files()
    assert others == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    kinds = {re.sub(r".*\.", "", name) for name in ours}
    assert {"py", "pyi", "typed", "sql", "binpb"} <= kinds


def test_the_sdist_holds_all_that_git_knows(sdist, tmp_path):
    root = archives.unpack(sdist, tmp_path)
    held = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()} - {"PKG-INFO"}
    known = archives.tracked_files()
    if known is None:
        pytest.skip("not a git checkout")
    assert held == known
    assert not any(name.startswith("bench/data") for name in held)


def test_the_wheel_made_from_the_sdist_is_the_same(wheel, sdist, tmp_path):
    root = archives.unpack(sdist, tmp_path / "tree")
    assert archives.wheel(tmp_path, root).read_bytes() == wheel.read_bytes()


def test_the_version_is_said_in_one_place(wheel, metadata):
    assert str(metadata.version) == nsys2perfetto.__version__
    assert wheel.name == f"nsys2perfetto-{nsys2perfetto.__version__}-py3-none-any.whl"
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    [newest, *_] = re.findall(r"^## \[(.+?)\]", changes, re.MULTILINE)
    assert newest == nsys2perfetto.__version__
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert not re.search(r"^version\s*=", project, re.MULTILINE)


def test_the_metadata_are_valid_and_true(wheel, metadata, tmp_path):
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.license_files == ["LICENSE"]
    assert metadata.description == (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert metadata.description_content_type == "text/markdown"
    assert len(metadata.summary) < 120
    [oldest] = re.findall(r"^>=(3\.\d+)$", str(metadata.requires_python))
    versions = [text for text in metadata.classifiers if re.search(r":: 3\.\d+$", text)]
    assert versions[0].endswith(oldest)
    assert not any(text.startswith("License ::") for text in metadata.classifiers)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    [info] = tmp_path.glob("*.dist-info")
    [command] = PathDistribution(info).entry_points
    assert (command.group, command.name) == ("console_scripts", "nsys2perfetto")
    assert callable(command.load())


def test_the_minimum_versions_are_those_that_are_declared(metadata):
    lines = (REPOSITORY / "requirements" / "minimum.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    declared = [r for r in metadata.requires_dist if r.marker is None]
    assert sorted(str(r).replace(">=", "==") for r in declared) == pinned


def test_the_lock_has_all_that_development_needs_and_names_no_index(metadata):
    text = (REPOSITORY / "requirements" / "development.txt").read_text(encoding="utf-8")
    assert "://" not in text and "index" not in text
    locked = {}
    for requirement in map(Requirement, text.splitlines()):
        [version] = [clause.version for clause in requirement.specifier]
        locked.setdefault(requirement.name, []).append(version)
    for requirement in metadata.requires_dist:
        if requirement.name == metadata.name:
            continue  # one extra has all of another
        versions = locked.get(requirement.name)
        assert versions, requirement
        assert all(version in requirement.specifier for version in versions), requirement


def test_the_long_description_is_rendered(metadata):
    html = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(metadata.description)
    assert html.startswith("<h1>nsys2perfetto</h1>")
    assert "<table>" in html and "<pre><code" in html and "```" not in html


def test_every_licence_of_what_is_needed_is_permissive():
    found = {name: licences.licence(one) for name, one in licences.needed().items()}
    assert {"perfetto", "polars", "numpy", "protobuf", "click"} <= set(found)
    assert [name for name, said in found.items() if not licences.is_permissive(said)] == []


@pytest.mark.parametrize(
    "said",
    ["", "GPL-3.0-only", "MIT AND LGPL-2.1-or-later", "Proprietary", "Apache-2.0 OR AGPL-3.0"],
)
def test_other_licences_fail(said):
    assert not licences.is_permissive(said)
    assert licences.is_permissive("(MIT OR Apache-2.0) AND BSD-3-Clause")
