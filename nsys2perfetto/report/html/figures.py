"""The charts of the page, as Plotly figures: plain data made of tables of the report.

Colours are names of CSS variables (`--part-kernels`), which the page's script replaces by what they
are in light or dark. Names of kernels are escaped: Plotly takes some HTML in its labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import polars as pl

from nsys2perfetto.analysis.gaps import BUCKETS
from nsys2perfetto.nsys.source import printable
from nsys2perfetto.report import chart_tables, derive, formats, verdict

Trace = dict[str, Any]

PALETTE = 12
"""Colours that are told apart, `--series-0` and so on."""
PHASES = ("steady", "outlier", "warmup", "prefill")
_NAME = 34
"""Most characters of a name in a legend."""
_MOST_RUNS = 50
"""Runs up to which their borders are drawn."""


@dataclass(frozen=True)
class Figure:
    """A chart.

    Attributes:
        name: Its id on the page.
        label: What it shows, for those who cannot see it.
        data: Plotly traces.
        layout: Plotly's layout, as far as the page's script does not set it.
        height: Pixels.
        views: Names of buttons to the changes of the layout that they make; the first is on.
    """

    name: str
    label: str
    data: list[Trace]
    layout: dict[str, Any]
    height: int
    views: dict[str, dict[str, Any]] = field(default_factory=dict)


def label(text: str | None, width: int = _NAME) -> str:
    """A text for Plotly, which takes some HTML."""
    return escape(formats.fit(printable(text or "(no name)"), width), quote=False)


def parts(name: str, rows: Sequence[tuple[str, pl.DataFrame]], what: str) -> Figure:
    """Where the time goes: one bar for each row, made of its parts.

    Args:
        name: Of the figure.
        rows: Label of each bar and its `derive.PARTS`.
        what: What a whole bar is.
    """
    every = pl.concat([frame for _, frame in rows])
    order = (
        every.group_by("part", "idle")
        .agg(pl.col("total_ns").sum())
        .sort("idle", pl.col("part") == derive.SHORT_GAPS, -pl.col("total_ns"), "part")
    )
    data = []
    for part, idle in order.select("part", "idle").rows():
        x, text, hover, y = [], [], [], []
        for place, frame in rows:
            for row in frame.filter(pl.col("part") == part).to_dicts():
                y.append(label(place))
                x.append(row["pct"])
                text.append(f"{verdict.words(part)} {row['pct'] or 0:.1f}%")
                hover.append(_part_in_words(row, idle))
        data.append(
            {
                "type": "bar", "orientation": "h", "name": label(verdict.words(part)), "x": x,
                "y": y, "text": text, "customdata": hover, "textposition": "inside",
                "insidetextanchor": "middle", "textangle": 0,
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {"color": f"--part-{part}"}, "textfont": {"color": "--on-part"},
            }
        )  # fmt: skip
    layout = {
        "barmode": "stack",
        "bargap": 0.25,
        "uniformtext": {"minsize": 10, "mode": "hide"},
        "xaxis": {"range": [0, 100], "ticksuffix": "%", "fixedrange": True},
        "yaxis": {
            "autorange": "reversed", "fixedrange": True, "showticklabels": len(rows) > 1,
            "type": "category", "automargin": True,
        },
        "legend": {"traceorder": "normal"},
    }  # fmt: skip
    return Figure(name, f"{what}, taken apart", data, layout, 120 + 34 * len(rows))


def _part_in_words(row: dict[str, Any], idle: bool) -> str:
    name = ("idle: " if idle else "") + verdict.words(row["part"])
    each = row.get("per_step_ns")
    long = f"{formats.time(each)} a step" if each else formats.time(row["total_ns"])
    count = "" if row["count"] is None else f"<br>{row['count']:,} in all"
    return f"{label(name)}<br>{row['pct'] or 0:.1f}%, {long}{count}"


def steps(name: str, unit: pl.DataFrame) -> tuple[Figure, int]:
    """The wall time of each step by phase, and below it how busy the GPU was.

    Args:
        name: Of the figure.
        unit: `STEP` of one unit.

    Returns:
        The figure, and of how many steps in a row the shortest and longest are drawn (1: all).
    """
    drawn, width = chart_tables.drawn_steps(unit)
    limit = chart_tables.usual_limit(unit)
    scale, word = unit_of(limit)
    about = _about(drawn)
    data: list[Trace] = []
    known = [*PHASES, *sorted(set(drawn["phase"].unique()) - set(PHASES))]
    for phase in known:
        mine = (drawn["phase"] == phase).arg_true()
        if len(mine):
            data.append(
                {
                    "type": "scatter", "mode": "markers", "name": label(phase),
                    "x": drawn["step"][mine].to_list(),
                    "y": (drawn["wall_ns"][mine] / scale).to_list(),
                    "customdata": about[mine].rows(),
                    "marker": {"color": f"--phase-{phase}", "size": 7 if len(drawn) < 300 else 5},
                    "hovertemplate": _HOVER.format(phase=label(phase)),
                }
            )  # fmt: skip
    data.append(
        {
            "type": "scatter", "mode": "lines", "name": "GPU busy", "showlegend": False,
            "x": drawn["step"].to_list(), "y": drawn["busy_util_pct"].round(2).to_list(),
            "customdata": about.rows(), "xaxis": "x", "yaxis": "y2",
            "line": {"color": "--part-kernels", "width": 1.5, "shape": "hvh"},
            "hovertemplate": "step %{x}: GPU busy %{y:.1f}%<extra></extra>",
        }
    )  # fmt: skip
    top = int(unit["wall_ns"].max())  # type: ignore[arg-type]
    usual = [0, 1.08 * limit / scale]
    views: dict[str, dict[str, Any]] = {"from 0": {"yaxis.type": "linear", "yaxis.range": usual}}
    if low := int(unit["wall_ns"].min()):  # type: ignore[arg-type]
        near = max(limit - low, limit // 50) * 0.08
        views["close"] = {
            "yaxis.type": "linear",
            "yaxis.range": [(low - near) / scale, (limit + near) / scale],
        }
    if top > limit:
        views["all"] = {"yaxis.type": "linear", "yaxis.range": [0, 1.08 * top / scale]}
        views["all, logarithmic"] = {"yaxis.type": "log", "yaxis.autorange": True}
    layout = {
        "xaxis": {"title": {"text": "step"}, "anchor": "y2"},
        "yaxis": {"title": {"text": f"step time, {word}"}, "domain": [0.34, 1], "range": usual},
        "yaxis2": {"title": {"text": "busy, %"}, "domain": [0, 0.24], "range": [0, 102]},
        "shapes": _runs(unit),
    }
    return Figure(name, "Wall time of each step by phase", data, layout, 420, views), width


_HOVER = (
    "step %{{customdata[0]}}, {phase}, run %{{customdata[3]}}<br>"
    "wall %{{customdata[4]}}, kernels %{{customdata[5]}} (%{{customdata[8]}})<br>"
    "idle %{{customdata[6]}}, longest gap %{{customdata[7]}}<br>"
    "GPU busy %{{customdata[9]:.1f}}%, launches %{{customdata[10]}}, "
    "waits %{{customdata[11]}}<br>at %{{customdata[12]}}<extra></extra>"
)


def _about(drawn: pl.DataFrame) -> pl.DataFrame:
    """What `_HOVER` and the links need of each step.

    Times are texts: an epoch in ns is more than JavaScript's numbers hold.
    """
    readable = dict(formats.readable(drawn.select("ts")))
    [(title, when)] = readable.items()
    return drawn.select(
        "step",
        pl.col("ts").cast(pl.String),
        "dur",
        "run",
        *(_time(name).alias(name) for name in ("wall_ns", "kernel_ns", "idle_ns")),
        _time("largest_gap_ns").alias("largest_gap_ns"),
        "kernel_count",
        "busy_util_pct",
        "launch_count",
        "sync_count",
        (when + f" {title.rsplit('_', 1)[1]}").alias("at"),
    )


def _time(column: str) -> pl.Expr:
    return pl.col(column).map_elements(formats.time, pl.String)


def _runs(unit: pl.DataFrame) -> list[dict[str, Any]]:
    """Lines where a run begins, save the first."""
    begins = unit.group_by("run").agg(pl.col("step").min())["step"].sort().to_list()[1:]
    line = {"color": "--grid", "width": 1, "dash": "dash"}
    return [
        {"type": "line", "x0": b - 0.5, "x1": b - 0.5, "yref": "paper", "y0": 0, "y1": 1,
         "line": line, "layer": "below"}
        for b in begins[:_MOST_RUNS]
    ]  # fmt: skip


def histogram(name: str, bins: pl.DataFrame) -> Figure:
    """Steps by wall time: `step_times.HISTOGRAM` of one unit."""
    [(title, start)] = formats.readable(bins.select("from_ns"))
    word = title.rsplit("_", 1)[1]
    upper = dict(formats.readable(bins.select("to_ns")))
    [(to_title, end)] = upper.items()
    trace = {
        "type": "bar", "name": "steps", "x": start.to_list(), "y": bins["steps"].to_list(),
        "customdata": (end + f" {to_title.rsplit('_', 1)[1]}").to_list(),
        "marker": {"color": "--phase-steady"},
        "hovertemplate": f"from %{{x}} {word} to %{{customdata}}: %{{y}} steps<extra></extra>",
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": f"step time from, {word}"}, "type": "category"},
        "yaxis": {"title": {"text": "steps"}},
        "bargap": 0.06,
    }
    return Figure(name, "Steady steps and outliers by wall time", [trace], layout, 240)


def gaps(name: str, sizes: pl.DataFrame) -> Figure:
    """Idle gaps by size, each size by cause: their time, and their number.

    Args:
        name: Of the figure.
        sizes: `chart_tables.GAP_SIZES` of one GPU.
    """
    highest = sizes.group_by("bucket").agg(pl.col("total_ns").sum())["total_ns"].max()
    scale, word = unit_of(int(highest or 0))  # type: ignore[arg-type]
    order = (
        sizes.group_by("cause")
        .agg(pl.col("total_ns").sum())
        .sort("total_ns", "cause", descending=[True, False])["cause"]
    )
    data = []
    for cause in order:
        mine = {r["bucket"]: r for r in sizes.filter(pl.col("cause") == cause).to_dicts()}
        present = [b for b in BUCKETS if b in mine]
        about = [
            f"{label(verdict.words(cause))}, {label(b)}<br>{mine[b]['count']:,} gaps, "
            f"{formats.time(mine[b]['total_ns'])}"
            for b in present
        ]
        for axis, values in (
            ("", [mine[b]["total_ns"] / scale for b in present]),
            ("2", [mine[b]["count"] for b in present]),
        ):
            data.append(
                {
                    "type": "bar", "name": label(verdict.words(cause)),
                    "x": list(map(label, present)), "y": values,
                    "customdata": about, "legendgroup": cause,
                    "showlegend": not axis, "xaxis": f"x{axis}", "yaxis": f"y{axis}",
                    "marker": {"color": f"--part-{cause}"},
                    "hovertemplate": "%{customdata}<extra></extra>",
                }
            )  # fmt: skip
    buckets = [label(b) for b in BUCKETS]
    categories: dict[str, Any] = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": buckets,
        "range": [-0.5, len(BUCKETS) - 0.5],
    }
    layout = {
        "barmode": "stack",
        "xaxis": {**categories, "domain": [0, 0.45]},
        "xaxis2": {**categories, "domain": [0.55, 1], "anchor": "y2"},
        "yaxis": {"title": {"text": f"time, {word}"}},
        "yaxis2": {"title": {"text": "gaps"}, "anchor": "x2"},
    }
    views = {
        "linear": {"yaxis.type": "linear", "yaxis2.type": "linear"},
        "logarithmic": {"yaxis.type": "log", "yaxis2.type": "log"},
    }
    return Figure(name, "Idle gaps by size and cause", data, layout, 330, views)


def shares(name: str, found: pl.DataFrame, what: str) -> Figure:
    """Kernel time of the steps by name: `chart_tables.SHARES` of one unit."""
    columns = found.group_by("column").agg(pl.col("total_ns").sum(), pl.col("steps").first())
    found = found.with_columns(
        pct=100 * pl.col("total_ns") / pl.col("total_ns").sum().over("column").clip(1),
        each=pl.col("total_ns") / pl.col("steps"),
    )
    typical = int((columns["total_ns"] / columns["steps"]).median() or 0)  # type: ignore[arg-type]
    scale, word = unit_of(typical)
    data = []
    for number, kernel in enumerate(found["name"].unique(maintain_order=True)):
        mine = found.filter(pl.col("name") == kernel)
        about = mine.select("last", pl.col("pct").round(2), _time("each")).rows()
        colour = (
            "--series-rest" if kernel == chart_tables.OTHERS else f"--series-{number % PALETTE}"
        )
        data.append(
            {
                "type": "bar", "name": label(kernel), "x": mine["first"].to_list(), "offset": -0.5,
                "width": (mine["last"] - mine["first"] + 1).to_list(),
                "y": (mine["each"] / scale).to_list(), "meta": label(kernel, 80),
                "customdata": about,
                "marker": {"color": colour, "line": {"width": 0}},
                "hovertemplate": "%{meta}<br>%{customdata[1]:.1f}% of the kernel time, "
                "%{customdata[2]} a step<br>step %{x} to %{customdata[0]}<extra></extra>",
            }
        )  # fmt: skip
    layout = {
        "barmode": "stack",
        "barnorm": "percent",
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"title": {"text": "kernel time, %"}, "range": [0, 100]},
    }
    views = {
        "shares": {
            "barnorm": "percent", "yaxis.title.text": "kernel time, %", "yaxis.range": [0, 100],
        },
        "times": {
            "barnorm": "", "yaxis.title.text": f"kernel time, {word}",
            "yaxis.range": [0, 1.5 * typical / scale],
        },
    }  # fmt: skip
    return Figure(name, what, data, layout, 320, views)


def unit_of(ns: int) -> tuple[float, str]:
    """What to divide by, and the unit, so that such a time has few digits."""
    units = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))
    return next(((scale, word) for scale, word in units if ns >= scale), (1.0, "ns"))
