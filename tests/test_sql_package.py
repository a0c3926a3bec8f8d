"""The SQL package itself: documented, loadable everywhere, right where a trace has nothing."""

import re
import shutil

import pytest
from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

from nsys2perfetto import convert, sql
from nsys2perfetto.query import package
from nsys2perfetto.sql import PACKAGE
from tests import runs
from tests.engine import query
from tests.engine.locate import NODE_SHELL, installed_shell

MODULES = sql.modules()
PUBLIC = [name for name in MODULES if not name.startswith("nsys._")]
VIEWS = package.views()
ALWAYS = {"nsys_capture"}
"""Views that have rows in a trace without GPU work and CUDA calls."""

_DEFINITION = re.compile(
    r"^((?:-- .*\n|--\n)*)CREATE PERFETTO (TABLE|VIEW|FUNCTION|MACRO) (\w+)\(\n((?:  .*\n)*?)\)\n",
    re.MULTILINE,
)
_INCLUDE = re.compile(r"^INCLUDE PERFETTO MODULE (nsys\.\w+);$", re.MULTILINE)
_COLUMN = re.compile(r"(  -- .*\n)+  [a-z]\w* [A-Za-z]+(\([a-z_.]+\))?,?\n")


@pytest.fixture(scope="session")
def sample():
    return _converted("decode_eager")


def _converted(name):
    path = runs.scenario(name).path
    return convert(path, runs.folder() / f"{name} package.pftrace", force=True).output


@pytest.mark.parametrize("name", MODULES)
def test_style(name):
    """Every statement and every column has a comment, every column a type."""
    text = MODULES[name]
    assert text.startswith("-- "), "begins with what it is"
    assert text.isascii()
    assert max(map(len, text.splitlines())) < 80
    assert text.endswith(";\n")
    definitions = list(_DEFINITION.finditer(text))
    assert len(definitions) == len(re.findall("^CREATE (?!PERFETTO INDEX)", text, re.MULTILINE))
    for comment, _, view, columns in (match.groups() for match in definitions):
        assert comment, f"{view} has no comment"
        assert view.startswith("_nsys_" if name.startswith("nsys._") else ("nsys_", "_nsys_"))
        assert _COLUMN.sub("", columns) == "", f"{view}: columns without comment or type"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_includes_what_it_uses(name):
    """Itself or through what it includes; and nothing that it does not use."""
    text = re.sub(r"--.*", "", MODULES[name])
    home = {d[3]: module for module in MODULES for d in _DEFINITION.finditer(MODULES[module])}
    used = {home[word] for word in re.findall(r"\w+", text) if word in home} - {name}
    included = _INCLUDE.findall(text)
    assert used <= set().union(*map(_with_included, included))
    assert all(used & _with_included(module) for module in included)
    assert included == sorted(included)


def _with_included(module):
    """A module and all that it includes."""
    return {module}.union(*map(_with_included, _INCLUDE.findall(MODULES[module])))


@pytest.mark.parametrize("name", MODULES)
def test_each_module_alone(name, sample, open_trace):
    with open_trace(sample, sql_packages=[PACKAGE]) as tp:
        query.rows(tp, f"INCLUDE PERFETTO MODULE {name}")


@pytest.mark.parametrize(
    "trace", ["decode_eager", "no_cuda_at_all", "no_kernels", "all_tables_empty"]
)
def test_views_have_the_columns_that_they_document(trace, open_trace):
    with open_trace(_converted(trace), sql_packages=[PACKAGE]) as tp:
        for view in VIEWS.values():
            result = tp.query(f"INCLUDE PERFETTO MODULE {view.module}; SELECT * FROM {view.name}")
            assert result.column_names == [column.name for column in view.columns], view.name
            rows = len(list(result))
            assert trace != "no_cuda_at_all" or (rows > 0) == (view.name in ALWAYS), view.name


def test_fixed_names():
    """Users rely on these."""
    summary = "name time_pct total_ns instances avg_ns med_ns min_ns max_ns stddev_ns p95_ns p99_ns"
    kernel = "id ts dur name demangled_name upid gpu device stream grid block registers_per_thread"
    kernel += " shared_mem_static shared_mem_dynamic launch_slice_id launch_ts queue_ns step"
    for view, columns in {
        "nsys_kernel": kernel,
        "nsys_kernel_summary": summary,
        "nsys_kernel_summary_full": summary,
        "nsys_api_summary": summary,
        "nsys_copy_summary": summary + " total_bytes gb_per_s",
    }.items():
        assert {column.name for column in VIEWS[view].columns} >= set(columns.split()), view


@pytest.mark.parametrize("name", PUBLIC)
def test_pasted_without_a_package(name, sample, open_trace):
    """As on the UI's query page; pasting again replaces."""
    views = [view.name for view in VIEWS.values() if view.module == name]
    assert views
    with open_trace(sample) as tp:
        for _ in range(2):
            text = sql.script(name) + f"SELECT count(*) AS n FROM {views[0]};\n"
            [answer] = query.rows(tp, text)
            assert answer["n"] > 0 or name not in ("nsys.kernels", "nsys.api", "nsys.steps")


def test_all_pasted_at_once(sample, open_trace):
    with open_trace(sample) as tp:
        query.rows(tp, sql.script())
        for view in VIEWS:
            query.rows(tp, f"SELECT * FROM {view} LIMIT 1")


def test_no_such_module():
    with pytest.raises(KeyError, match="nothing"):
        sql.script("nsys.nothing")


@pytest.mark.skipif(not (installed_shell() or shutil.which("node")), reason="needs Node")
def test_on_the_command_line(sample):
    """`trace_processor_shell --add-sql-package DIR`, which is what Python's config does."""
    shell = installed_shell() or str(NODE_SHELL)
    config = TraceProcessorConfig(bin_path=shell, add_sql_packages=[str(PACKAGE)])
    with TraceProcessor(trace=str(sample), config=config) as tp:
        for module in PUBLIC:
            query.rows(tp, f"INCLUDE PERFETTO MODULE {module}")
        assert query.scalar(tp, "SELECT count(*) FROM nsys_kernel") > 0
        query.rows(tp, "INCLUDE PERFETTO MODULE nsys.*")
