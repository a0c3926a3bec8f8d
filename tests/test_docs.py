"""The documentation says what is true: what it shows is run, what it lists is compared."""

import inspect
import re
from collections.abc import Sequence

import click
import pytest

import nsys2perfetto
from nsys2perfetto import errors
from nsys2perfetto.analysis import gaps, kernel_families, markers, occupancy
from nsys2perfetto.cli.main import COMMANDS, commands
from nsys2perfetto.families import FAMILIES
from nsys2perfetto.protos import extensions_pb2 as ext
from nsys2perfetto.query import package
from nsys2perfetto.query.result import Result
from nsys2perfetto.sql import PACKAGE
from nsys2perfetto.tables import TABLES
from nsys2perfetto.tracks import call_tables
from samples.builder.scenarios import SCENARIOS
from tests import cli_page, documents, manual_sql
from tests.documents import PAGES, REPOSITORY, name_of, quoted, tables
from tests.engine import query
from tests.sessions import in_process
from tests.test_query_session import VARIANTS, methods

TRACE_PAGE = REPOSITORY / "docs" / "trace.md"
CLI_PAGE = REPOSITORY / "docs" / "cli.md"
PYTHON_PAGE = REPOSITORY / "docs" / "python.md"
SQL_PAGE = REPOSITORY / "docs" / "sql.md"
STEPS_PAGE = REPOSITORY / "docs" / "steps.md"

SAMPLES = ("decode_eager", "decode_graph")
SHOWN = (
    "nested_calls", "nvtx_zoo", "every_library", "every_copy_kind", "graph_level",
    "graph_nodes_with_graph_id", "negative_times", "orphans", "sync_zoo", "unified_memory",
    "device_memory", "gpu_metrics", "two_processes_two_gpus",
    "host_activity",
)  # fmt: skip
"""Scenarios that together have nearly every kind of event and argument."""


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Paths of the traces of the samples and of the scenarios above."""
    folder = tmp_path_factory.mktemp("docs")
    captures = [REPOSITORY / "samples" / f"{name}.sqlite" for name in SAMPLES]
    captures += [SCENARIOS[name](folder).path for name in SHOWN]
    found = [
        nsys2perfetto.convert(capture, folder / f"{capture.stem}.pftrace").output
        for capture in captures
    ]
    part = folder / "part.pftrace"
    return [*found, nsys2perfetto.convert(captures[0], part, lean=True, steps=(5, 9)).output]


@pytest.fixture(scope="module")
def facts(traces, open_trace):
    """What occurs in the traces: arguments with their types, categories, metadata."""
    arguments, categories, metadata = {}, set(), set()
    for path in traces:
        with open_trace(path) as tp:
            for row in query.rows(
                tp,
                "SELECT DISTINCT key, value_type AS type FROM args WHERE arg_set_id IN ("
                "SELECT arg_set_id FROM slice UNION SELECT arg_set_id FROM gpu)",
            ):
                arguments.setdefault(without_index(row["key"]), set()).add(row["type"])
            rows = query.rows(tp, "SELECT DISTINCT category AS name FROM slice")
            categories |= {row["name"] for row in rows} - {None}
            metadata |= metadata_in(tp)
    return arguments, categories, metadata


def metadata_in(tp):
    """What the tool says of a trace: facts, and the time that the UI shows first."""
    sql = "SELECT name FROM metadata WHERE name GLOB 'trace_attribute.*' OR name GLOB '*ed_ns'"
    return {row["name"] for row in query.rows(tp, sql)}


def without_index(argument):
    return re.sub(r"\[\d+\]$", "", argument)


def trace_page():
    return TRACE_PAGE.read_text(encoding="utf-8")


def documented_arguments():
    """Name to the types that the page gives it."""
    found = {}
    for cells in tables(trace_page(), "argument"):
        for name in quoted(cells[0]):
            if not name.startswith("…"):
                types = set(re.findall(r"uint|int|real|text", cells[1]))
                found.setdefault(without_index(name), set()).update(types)
    return found


# What is shown is run


@pytest.mark.parametrize(("where", "sql"), documents.all_blocks("sql"))
def test_sql_runs_and_finds_something(where, sql, traces, open_trace):
    found = []
    packages = [PACKAGE] if "MODULE nsys." in sql else []
    for path in traces:
        with open_trace(path, packages) as tp:
            found += query.rows(tp, sql)
        if found and "FROM stats" not in sql:
            return
    assert bool(found) == ("FROM stats" not in sql), where


def test_the_queries_give_the_numbers_of_the_manual(traces, open_trace):
    capture = REPOSITORY / "samples" / "decode_eager.sqlite"

    def answers(heading, block=0):
        sql = documents.blocks_under(SQL_PAGE, heading, "sql")[block]
        with open_trace(traces[0]) as tp:
            return query.rows(tp, sql)

    [total] = [r for r in answers("Gap totals") if r["definition"] == "consecutive"]
    totals = (total["total_gap_ns"], total["total_kernel_ns"], total["wall_ns"])
    assert totals == manual_sql.gap_total(capture)
    buckets = {r["bucket"]: (r["gaps"], r["total_ns"]) for r in answers("Gaps between kernels")}
    assert buckets == {n: row[:2] for n, row in manual_sql.buckets(capture).items()}
    large = [tuple(r.values()) for r in answers("Large gaps", 1)]
    assert large == [(ns, a[:40], b[:40]) for ns, a, b in manual_sql.big_gaps(capture)]
    [step] = answers("One decode step")
    assert tuple(step.values()) == pytest.approx(tuple(manual_sql.decode_step(capture, 11)))


def test_idle_gaps_add_up_in_the_queries(traces, open_trace):
    [sql] = documents.blocks_under(SQL_PAGE, "Gap totals", "sql")
    for path in traces[:2]:
        with open_trace(path) as tp:
            [row] = [r for r in query.rows(tp, sql) if r["definition"] == "idle"]
            utilization = query.scalar(
                tp,
                "SELECT sum(value * dur) / 100 FROM (SELECT c.value, lead(c.ts) OVER (ORDER BY "
                "c.ts) - c.ts AS dur FROM counter AS c JOIN gpu_counter_track AS t "
                "ON t.id = c.track_id WHERE t.name = 'Utilization')",
            )
        assert utilization == pytest.approx(row["wall_ns"] - row["total_gap_ns"], rel=1e-9)


@pytest.mark.parametrize(("where", "code"), documents.all_blocks("python"))
def test_python_runs_and_prints(where, code, open_trace, monkeypatch, capsys):
    monkeypatch.setattr("perfetto.trace_processor.TraceProcessor", open_trace)
    with documents.playground(), in_process():
        if "trace.sqlite" not in code:
            nsys2perfetto.convert("trace.sqlite")
        exec(compile(code, where, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


@pytest.mark.parametrize(("where", "block"), documents.all_blocks("console"))
def test_output_is_what_the_command_prints(where, block):
    now = documents.replayed(block)
    assert documents.comparable(block) == documents.comparable(now), (
        f"{where}: if this is meant, run `python -m tests.documents`"
    )


# What is listed is complete


def test_every_argument_is_documented_with_its_type(facts):
    arguments, _, _ = facts
    documented = documented_arguments()
    meaningless = set(quoted(re.search(r"The engine adds .*?\n\n", trace_page(), re.DOTALL)[0]))
    words = {"string": "text"}
    for name, types in arguments.items():
        if name not in meaningless:
            assert {words.get(t, t) for t in types - {"null"}} <= documented.get(name, set()), name


def test_every_documented_argument_exists(facts):
    arguments, _, _ = facts
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "nsys2perfetto").rglob("*.py")
    )
    for name in documented_arguments():
        assert name in arguments or re.search(rf"\b{name.split('.')[-1]}\b", code), name


@pytest.mark.parametrize(
    ("prefix", "message"), [("decode_step", ext.DecodeStep), ("gpu_gap", ext.GpuGap)]
)
def test_every_field_of_steps_and_gaps_is_documented_with_its_values(prefix, message):
    rows = [c for c in tables(trace_page(), "argument") if f"`{prefix}." in c[0]]
    documented = {name: cells for cells in rows for name in quoted(cells[0])}
    assert set(documented) == {f"{prefix}.{f.name}" for f in message.DESCRIPTOR.fields}
    for field in message.DESCRIPTOR.fields:
        cells = documented[f"{prefix}.{field.name}"]
        unit = {"ns": "ns", "pct": "percent", "bytes": "bytes"}.get(field.name.split("_")[-1])
        assert unit is None or cells[2] == unit, field.name
        if field.enum_type is not None:
            values = {value.name for value in field.enum_type.values}
            named = {name for name in quoted(cells[3]) if name.isupper()}
            assert values == named, field.name


def test_the_size_classes_are_as_many_as_those_of_the_code():
    field = ext.GpuGap.DESCRIPTOR.fields_by_name["bucket"]
    assert len(field.enum_type.values) == len(gaps.BUCKETS)


def test_the_known_samplers_are_those_of_the_code():
    rows = tables(STEPS_PAGE.read_text(encoding="utf-8"), "engine")
    assert rows == [
        [s.engine, ", ".join(f"`{p}`" for p in s.patterns), " or ".join(s.names)]
        for s in markers.KNOWN_SAMPLERS
    ]


def test_the_families_of_kernels_are_those_of_the_code():
    [text] = re.findall(
        r"Families\s+go\s+by\s+the\s+kernel's\s+name.*?:(.*?)\.\n", trace_page(), re.DOTALL
    )
    known = [name for name, _ in kernel_families.FAMILIES] + [kernel_families.OTHER]
    assert quoted(text) == known


def test_the_computed_counters_are_documented(facts, traces, open_trace):
    documented = {name for cells in tables(trace_page(), "counter") for name in quoted(cells[0])}
    with open_trace(traces[0]) as tp:
        found = query.rows(
            tp, "SELECT name FROM gpu_counter_track UNION SELECT name FROM process_counter_track"
        )
    assert {row["name"] for row in found} <= documented


def test_the_categories_are_those_of_the_code(facts):
    _, categories, _ = facts
    documented = {name for cells in tables(trace_page(), "category") for name in quoted(cells[0])}
    assert categories | {table.category for table in call_tables.TABLES} <= documented
    assert documented <= categories | {"cuda_wait"} | {t.category for t in call_tables.TABLES}


def test_the_families_and_their_tables_are_those_of_the_code():
    documented = {
        name: quoted(cells[1])
        for cells in tables(trace_page(), "family")
        for name in quoted(cells[0])
    }
    assert documented == {name: TABLES[name] for name in FAMILIES}
    [listed] = re.findall(r"\*\*FAMILY\*\*.*?:(.*?)\.\n", CLI_PAGE.read_text(), re.DOTALL)
    assert quoted(listed) == list(FAMILIES)


def test_the_methods_of_a_session_and_their_views_are_those_of_the_code():
    rows = tables(PYTHON_PAGE.read_text(encoding="utf-8"), "method")
    calls = [re.fullmatch(r"(\w+)\((.*)\)", quoted(row[0])[0]) for row in rows]
    documented = {call[1]: quoted(row[1]) for call, row in zip(calls, rows, strict=True)}
    assert [name for name in documented if not name.startswith("to_")] == methods()
    assert {view for views in documented.values() for view in views} == {
        name for name in package.views() if not name.endswith(("_full", "_all_gpus"))
    }
    for call in calls:
        assert (VARIANTS.get(call[1], "") in call[2]) and bool(call[2]) == (call[1] in VARIANTS)
    conversions = {name for name in vars(Result) if name.startswith("to_")}
    assert {name for name in documented if name.startswith("to_")} == conversions


def test_the_errors_of_sessions_are_those_of_the_code():
    [rows] = [tables(PYTHON_PAGE.read_text(encoding="utf-8"), "error")]
    known = {
        name for name in vars(errors) if name.endswith("Error") and name != "Nsys2PerfettoError"
    }
    assert {name for row in rows for name in quoted(row[0])} == known


def test_the_metadata_are_those_of_the_code(facts, traces, tmp_path, open_trace):
    _, _, metadata = facts
    capture = traces[0].parent / "device_memory.sqlite"
    plain = nsys2perfetto.convert(capture, tmp_path / "plain.pftrace", compat=True).output
    with open_trace(plain) as tp:
        metadata = metadata | metadata_in(tp)
    assert {name for cells in tables(trace_page(), "name") for name in quoted(cells[0])} == metadata


def test_the_compute_capabilities_are_those_of_the_code():
    [text] = re.findall(r"Known compute capabilities:(.*?)\. ", trace_page(), re.DOTALL)
    known = [tuple(map(int, c.split("."))) for c in text.replace("\n", " ").split(",")]
    assert sorted(known) == sorted(occupancy._TABLE)


def test_every_option_is_documented():
    assert cli_page.has_all()
    assert cli_page.PAGE.read_text(encoding="utf-8") == cli_page.page(), (
        "if this is meant, run `python -m tests.documents`"
    )
    page = CLI_PAGE.read_text(encoding="utf-8")
    for name in COMMANDS:
        [text] = re.findall(rf"^## {name}\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
        assert f"<!-- options of {name} -->" in text
    with click.Context(commands) as context:
        own = {name for parameter in commands.get_params(context) for name in parameter.opts}
    [text] = re.findall(r"^## Without a command\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    documented = {
        name.split(" ")[0] for cells in tables(text, "option") for name in quoted(cells[0])
    }
    assert documented == own | {"-h", "--help"}


def test_every_public_name_is_documented():
    """Those of the package, its sessions and its results, each with a docstring of its own."""
    page = PYTHON_PAGE.read_text(encoding="utf-8") + (REPOSITORY / "README.md").read_text("utf-8")
    for name in nsys2perfetto.__all__:
        assert f"`{name}" in page or f"nsys2perfetto.{name}" in page, name
        assert name == "__version__" or inspect.getdoc(getattr(nsys2perfetto, name)), name
    for owner in (nsys2perfetto.Trace, Result):
        inherited = set(dir(Sequence)) if issubclass(owner, Sequence) else set()
        public = {name for name in dir(owner) if not name.startswith("_")} - inherited
        for name in public:
            assert re.search(rf"`(trace\.|result\.|first\.)?{name}\b", page), (owner, name)
            assert inspect.getdoc(getattr(owner, name)), (owner, name)


def test_the_reference_of_the_views_is_current():
    assert documents.VIEWS_PAGE.read_text(encoding="utf-8") == documents.views_page()


# What is pointed at is there


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", documents.prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.is_file(), target
        assert not anchor or anchor in documents.anchors(other), target


def test_the_readme_leads_to_every_page():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.name == "README.md" or f"({name_of(page)}" in text, name_of(page)


def test_the_map_of_the_package_is_complete():
    text = (REPOSITORY / "docs" / "development.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^      (\S+)", text, re.MULTILINE))
    there = {
        path.name + "/" * path.is_dir()
        for path in (REPOSITORY / "nsys2perfetto").iterdir()
        if not path.name.startswith("_") and path.suffix in {"", ".py"}
    }
    assert there <= named


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"^make ([\w-]+)|`make ([\w-]+)`", text, re.MULTILINE)
        assert {a or b for a, b in named} <= targets, name_of(page)
