"""The report as one self-contained HTML page: verdict, charts, tables, links into the trace.

Everything on it comes from the same tables as the page on the terminal (`report.page`): no number
is computed for this page alone, save those that only charts need (`report.chart_tables`).

The page loads nothing: styles, script, Plotly and data are inside, and its content security policy
forbids everything else, scripts that names of a hostile capture might bring included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl

from nsys2perfetto import outputs
from nsys2perfetto.report import chart_tables, derive, reports
from nsys2perfetto.report import page as report
from nsys2perfetto.report.html import assets, figures
from nsys2perfetto.report.html.figures import Figure
from nsys2perfetto.report.html.links import Links
from nsys2perfetto.report.html.tables import Extras, table, text
from nsys2perfetto.report.page import Page, Unit
from nsys2perfetto.report.reports import Options, Section
from nsys2perfetto.report.source import Facts, Source

TOP = 100
"""Rows of each ranking, unless another number is asked for."""
MOST_STEPS = 300
"""Rows of the table of steps."""
MOST_UNITS = 16
"""Processes on GPUs whose steps are taken apart on the page, and GPUs whose gaps are drawn."""
_FAMILIES, _KERNELS = 10, 10
"""Names with a colour of their own in a chart of shares."""
_NAMES_SHOWN = 3
"""Demangled names that are shown when a short one is pointed at."""


def build(source: Source, options: Options, path: Path) -> str:
    """Makes the page.

    Args:
        source: Of the tables.
        options: As for `report.page.build`; rankings have `TOP` rows unless told otherwise.
        path: Of the capture or trace. Only the name of the file gets onto the page.
    """
    options = replace(options, top=options.top or TOP)
    return _Builder(report.remembering(source), options, path).document()


@dataclass(frozen=True)
class _Part:
    """A part of the page: its heading and what is below it."""

    name: str
    title: str
    body: list[str]


class _Builder:
    """Puts the page together; figures are collected on the way."""

    def __init__(self, source: Source, options: Options, path: Path) -> None:
        self.source, self.options = source, options
        self.name = path.name
        self.page: Page = report.build(source, options)
        self.sections = {section.name: section for section in self.page.sections}
        self.figures: list[Figure] = []
        self.steps = source.steps()
        self.units = report.units(self.steps)
        self.every = replace(options, top=None)
        self.links = self._links(path)
        self.full_names = _full_names(source, options)

    def document(self) -> str:
        """The page as HTML."""
        parts = [
            *self._steps(),
            self._gpus(),
            self._gaps(),
            self._kernels(),
            self._calls(),
            self._list_of_steps(),
        ]
        parts = [part for part in parts if part.body]
        content = "\n".join(
            f'<section id="{p.name}">\n<h2>{p.title}</h2>\n' + "\n".join(p.body) + "\n</section>"
            for p in parts
        )
        contents = " ".join(f'<a href="#{p.name}">{p.title}</a>' for p in parts)
        verdict = "\n".join(f"<p>{text(sentence)}</p>" for sentence in self.page.verdict)
        body = (
            f"<header>\n<h1>{text(self.name)}</h1>\n{_facts(self.page)}\n</header>\n"
            f'<section id="verdict">\n{verdict}\n</section>\n'
            f"<nav>{contents}</nav>\n{self._about_links()}\n{content}\n"
        )
        return assets.document(self.name, body, self.figures, self.links)

    # Links

    def _links(self, path: Path) -> Links:
        gaps = self.source.gaps()
        places = pl.concat(
            [f.select("ts", end=pl.col("ts") + pl.col("dur")) for f in (self.steps, gaps)]
        )
        is_trace = path.name.endswith((outputs.EXTENSION, f"{outputs.EXTENSION}.gz"))
        name = path.name if is_trace else outputs.default_name(Path(path.name))
        first, last = (places["ts"].min(), places["end"].max()) if len(places) else (0, 0)
        kernels = int(self.source.gpu_balance()["kernel_count"].sum())
        return Links(name, kernels, self.source.time_shift(), first, last)  # type: ignore[arg-type]

    def _about_links(self) -> str:
        if self.steps.is_empty() and self.sections["big_gaps"].frame.is_empty():
            return ""
        command = f"nsys2perfetto open --stay {text(self.name)}"
        return (
            '<p class="note">Links to times lead into the Perfetto UI, as do clicks on steps in '
            f'charts, while <code class="long">{command}</code> serves the trace. '
            "<b>copy</b> copies a time for the option <code>--range</code>.</p>"
        )

    # Parts of the page

    def _steps(self) -> list[_Part]:
        """Where the time of a step goes, step times, kernels per step; for each unit."""
        if not self.units:
            return []
        [all_parts] = reports.step_parts(self.source, self.every)
        shown = self.units[:MOST_UNITS]
        rows = [(_unit_name(u), report.of_unit(u, all_parts.frame)) for u in shown]
        what = "The mean step" if len(rows) == 1 else "The mean step of each process and GPU"
        parts = _Part("parts", "Where the time of a step goes", [self._figure(
            figures.parts("chart-parts", rows, what)
        )])  # fmt: skip
        times = _Part("step_times", "Step times", [])
        if len(self.units) > 1:
            overview = replace(self.sections["step_times"], title="All processes and GPUs")
            times.body.append(self._table(overview))
        shares = _Part("shares", "Kernels of a step", [])
        for number, unit in enumerate(shown):
            parts_section, _, _ = report.parts_and_times(self.source, self.every, unit)
            whose = parts_section.title.partition("(")[2].removesuffix(")")
            parts_section = replace(parts_section, title=whose.capitalize().replace("gpu", "GPU"))
            parts.body.extend(self._one(number, unit, [self._table(parts_section)]))
            times.body.extend(self._one(number, unit, self._times(number, unit)))
            shares.body.extend(self._one(number, unit, self._shares(number, unit)))
        if more := len(self.units) - len(shown):
            parts.body.append(f"<p>{more:,} more processes on GPUs are not drawn.</p>")
        return [parts, times, shares]

    def _one(self, number: int, unit: Unit, body: list[str]) -> list[str]:
        """What is about one unit: where there are several, all but the first are folded."""
        if len(self.units) == 1:
            return body
        opened = " open" * (number == 0)
        inside = "\n".join(body)
        return [f"<details{opened}><summary>{_unit_name(unit)}</summary>\n{inside}\n</details>"]

    def _times(self, number: int, unit: Unit) -> list[str]:
        mine = report.of_unit(unit, self.steps)
        [times] = reports.times_of_steps(self.source, self.every)
        [histogram] = reports.step_histogram(self.source, self.every)
        figure, width = figures.steps(f"chart-steps-{number}", mine)
        note = "Drag to zoom, double-click to see all. The lower line is how busy the GPU was."
        if width > 1:
            note = f"Of each {width:,} steps in a row the shortest and the longest. {note}"
        shown = report.of_unit(unit, times.frame).drop(derive.UNIT)
        bins = report.of_unit(unit, histogram.frame)
        body = [self._figure(figure), f'<p class="note">{note}</p>']
        body.append(self._table(replace(times, title="Step times by phase", shown=shown)))
        if len(bins):
            body.append(f"<h3>{text(histogram.title)}</h3>")
            body.append(self._figure(figures.histogram(f"chart-histogram-{number}", bins)))
        return body

    def _shares(self, number: int, unit: Unit) -> list[str]:
        mine = report.of_unit(unit, self.steps)
        kernels = report.of_unit(unit, self.source.step_kernels())
        [section, _] = report.steady(self.source, self.options, unit)
        if section.hidden:
            section = replace(section, shown=section.frame.clear())
        else:
            shown = section.for_people
            top = self.options.top or TOP
            title = section.title
            if len(shown) > top:
                title += f": {top} of {len(shown):,} (all: report steady_step)"
            section = replace(section, title=title, shown=shown.head(top))
        if kernels.is_empty():
            return []
        names = derive.families_of(self.source.kernel_names(), self.options.families)
        families = kernels.join(
            names.select("name", "demangled_name", "family"),
            on=["name", "demangled_name"],
            nulls_equal=True,
        )
        column = "demangled_name" if self.options.full_names else "name"
        body = []
        for kind, frame, most in (
            ("families", families.select("step", "total_ns", name="family"), _FAMILIES),
            ("kernels", kernels.select("step", "total_ns", name=pl.col(column).fill_null("")),
             _KERNELS),
        ):  # fmt: skip
            found = chart_tables.shares(mine, frame, most)
            what = "Kernel time of each step by " + ("family" if kind == "families" else "kernel")
            figure = figures.shares(f"chart-{kind}-{number}", found, what)
            body += [f"<h3>{what}</h3>", self._figure(figure)]
        widest = int((found["last"] - found["first"]).max() or 0) + 1
        if widest > 1:
            body.append(f'<p class="note">Each column is the mean of {widest:,} steps.</p>')
        return [*body, self._table(section)]

    def _gpus(self) -> _Part:
        [parts] = reports.gpu_parts(self.source, self.every)
        body = []
        if len(parts.frame):
            facts = self.page.facts
            rows = [
                (f"GPU {gpu}", parts.frame.filter(pl.col("gpu") == gpu))
                for gpu in list(facts.gpus)[:MOST_UNITS]
            ]
            rows = [(name, frame) for name, frame in rows if len(frame)]
            what = "Each GPU, from its first operation to its last"
            body.append(self._figure(figures.parts("chart-gpus", rows, what)))
        body.append(self._table(self.sections["gpu_balance"]))
        body.append(self._table(replace(parts, shown=_parts_for_people(parts.frame))))
        return _Part("gpus", "GPUs", [b for b in body if b])

    def _gaps(self) -> _Part:
        sizes = chart_tables.gap_sizes(self.source.gaps(), self.source.gap_buckets())
        body = []
        gpus = sizes["gpu"].unique().sort().to_list()
        for gpu in gpus[:MOST_UNITS]:
            what = "Idle gaps by size and cause" + f", GPU {gpu}" * (len(gpus) > 1)
            figure = figures.gaps(f"chart-gaps-{gpu}", sizes.filter(pl.col("gpu") == gpu))
            body += [f"<h3>{what}</h3>", self._figure(figure)]
        for name in ("gap_total", "gap_buckets", "gap_causes"):
            body.append(self._table(self.sections[name]))
        body.append(self._big_gaps())
        return _Part("gaps", "Idle time", [b for b in body if b])

    def _big_gaps(self) -> str:
        section = self.sections["big_gaps"]
        longest = section.frame.sort("gap_ns", descending=True, maintain_order=True)
        places = longest.select("ts", "gap_ns").rows()[: len(section.for_people)]
        return self._table(section, places)

    def _kernels(self) -> _Part:
        names = ("kernel_families", "cuda_gpu_kern_sum")
        return _Part("kernels", "Kernels", self._tables(names))

    def _calls(self) -> _Part:
        names = ("cuda_api_sum", "sync_sum", "cuda_gpu_mem_time_sum")
        return _Part("calls", "CUDA calls, waits and copies", self._tables(names))

    def _list_of_steps(self) -> _Part:
        """Every step, or those that stand out, and where they are in the trace."""
        if self.steps.is_empty():
            return _Part("steps", "", [])
        [section] = reports.decode_steps(self.source, self.every)
        rows = list(range(len(section.frame)))
        title = f"Decode steps: all {len(rows):,}"
        if len(rows) > MOST_STEPS:
            odd = pl.col("phase") != derive.STEADY
            order = section.frame.with_row_index("row").sort(
                odd, "wall_ns", descending=True, maintain_order=True
            )
            rows = sorted(order["row"].head(MOST_STEPS).to_list())
            title = (
                f"Decode steps: {MOST_STEPS} of {len(section.frame):,}, those that are not steady "
                "and the longest (all: report decode_steps)"
            )
        places = section.frame[rows].select("ts", "dur").rows()
        shown = replace(section, title=title, shown=section.for_people[rows])
        return _Part("steps", "Steps in the trace", [self._table(shown, places)])

    # Pieces

    def _figure(self, figure: Figure) -> str:
        self.figures.append(figure)
        return (
            f'<div class="chart" id="{figure.name}" role="img" aria-label="{text(figure.label)}" '
            f'data-height="{figure.height}" style="height:{figure.height}px"></div>'
        )

    def _tables(self, names: tuple[str, ...]) -> list[str]:
        made = [self._table(self.sections[name]) for name in names]
        return [html for html in made if html]

    def _table(self, section: Section, places: list[tuple[int, int]] | None = None) -> str:
        """A section of the report, folded; nothing for a table without rows."""
        shown = section.for_people
        if shown.is_empty():
            return ""
        above = "".join(f"<p>{text(line)}</p>" for line in section.above)
        extras = Extras(self.full_names, self.links, places or ())
        return (
            f'<h3 id="table-{section.name}">{text(section.title)}</h3>\n{above}'
            f'<div data-report="{section.name}">{table(shown, extras)}</div>'
        )


def _parts_for_people(parts: pl.DataFrame) -> pl.DataFrame:
    """`derive.PARTS` of all GPUs, in words."""
    shown = parts.select("gpu", "pct", "total_ns", "count", report.in_plain_words())
    return reports.without_constants(shown)


def _unit_name(unit: Unit) -> str:
    return f"Process {unit['pid']} on GPU {unit['gpu']}"


def _full_names(source: Source, options: Options) -> dict[str, str]:
    """What is shown when a short name of a kernel is pointed at: its demangled names."""
    if options.full_names:
        return {}
    found = (
        source.kernel_names()
        .drop_nulls()
        .filter(pl.col("name") != pl.col("demangled_name"))
        .group_by("name", maintain_order=True)
        .agg(pl.col("demangled_name").head(_NAMES_SHOWN), number=pl.len())
    )
    return {
        name: "\n".join([*names, *[f"and {number - len(names)} more"] * (number > len(names))])
        for name, names, number in found.rows()
    }


def _facts(page: Page) -> str:
    """What the capture is: no command line, no name of a machine."""
    facts: Facts = page.facts
    rows = [("nsys", facts.nsys_version or "older than 2022 (the export does not tell)")]
    if facts.session_start_utc_ns is not None and (began := _date(facts.session_start_utc_ns)):
        rows.append(("captured", began))
    by_name: dict[str, list[str]] = {}
    for number, name in facts.gpus.items():
        by_name.setdefault(name, []).append(str(number))
    for name, numbers in by_name.items():
        said = name if name != "GPU" else "its name is not in the capture"
        rows.append((f"GPU {', '.join(numbers)}", said))
    if facts.processes:
        names = [f"{pid} {name}".rstrip() for pid, name in facts.processes.items()]
        more = [f"and {len(names) - MOST_UNITS} more"] * (len(names) > MOST_UNITS)
        rows.append(("processes" if len(names) > 1 else "process",
                     ", ".join([*names[:MOST_UNITS], *more])))  # fmt: skip
    if page.has_steps:
        rows.append(("steps", facts.decode_steps))
    terms = "\n".join(f"<dt>{text(name)}</dt><dd>{text(said)}</dd>" for name, said in rows)
    return f"<dl>\n{terms}\n</dl>"


def _date(utc_ns: int) -> str | None:
    """A time in UTC; None for one that no calendar has."""
    try:
        when = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=utc_ns // 10**9)
    except OverflowError:
        return None
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"
