// The page's script: draws the charts in the colours of the style sheet, sorts tables, copies times.
"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const drawn = new Map(); // name of a chart to the name of the view that it shows

  // Values of keys that end in "color" are names of CSS variables.
  function coloured(value, key, style) {
    if (Array.isArray(value)) return value.map((v) => coloured(v, key, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([k, v]) => [k, coloured(v, k, style)]),
      );
    }
    const named = typeof value === "string" && /color$/i.test(key) && value.startsWith("--");
    if (!named) return value;
    return style.getPropertyValue(value).trim() || style.getPropertyValue("--part-unknown").trim();
  }

  function axes(layout) {
    return Object.keys(layout).filter((k) => /^[xy]axis\d*$/.test(k));
  }

  function layoutOf(name, element) {
    const style = getComputedStyle(document.documentElement);
    const narrow = element.clientWidth < 700;
    // A legend below the chart needs room of its own.
    const named = charts[name].data.filter((t) => t.showlegend !== false);
    const line = named.some((t) => t.name.length > 24) ? 22 : 12;
    element.style.height = `${+element.dataset.height + (narrow ? line * named.length : 0)}px`;
    const layout = coloured(charts[name].layout, "", style);
    const colour = (variable) => style.getPropertyValue(variable).trim();
    for (const axis of axes(layout)) {
      layout[axis] = {
        gridcolor: colour("--grid"), zerolinecolor: colour("--grid"), linecolor: colour("--grid"),
        automargin: true, ...layout[axis],
      };
    }
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.fontFamily, size: 12, color: colour("--text") },
      margin: { l: 16, r: 24, t: 8, b: 8 },
      hoverlabel: {
        bgcolor: colour("--panel"), bordercolor: colour("--grid"), align: "left",
        font: { color: colour("--text"), family: style.fontFamily },
      },
      dragmode: narrow ? false : "zoom",
      ...layout,
      legend: narrow || layout.legend
        ? { orientation: "h", x: 0, y: -0.28, yanchor: "top", itemwidth: 30, ...layout.legend }
        : { x: 1.01, y: 1 },
    };
  }

  function changed(layout, changes) {
    for (const [path, value] of Object.entries(changes || {})) {
      const keys = path.split(".");
      const last = keys.pop();
      let inner = layout;
      for (const key of keys) inner = inner[key] ??= {};
      inner[last] = value;
      if (last === "range") delete inner.autorange;
      if (last === "autorange") delete inner.range;
    }
    return layout;
  }

  function draw(name) {
    const element = document.getElementById(name);
    const view = drawn.get(name) ?? Object.keys(charts[name].views)[0];
    const isNew = !drawn.has(name);
    drawn.set(name, view ?? "");
    const style = getComputedStyle(document.documentElement);
    const data = coloured(charts[name].data, "", style);
    const layout = changed(layoutOf(name, element), charts[name].views[view]);
    Plotly.react(element, data, layout, {
      responsive: true, displaylogo: false, displayModeBar: false, doubleClick: "autosize",
    });
    if (!isNew) return;
    if (view) element.before(buttons(name));
    element.on("plotly_click", (event) => {
      const link = linkTo(event.points[0].customdata);
      if (link) window.open(link, "_blank", "noopener");
    });
  }

  function buttons(name) {
    const bar = document.createElement("div");
    bar.className = "views";
    for (const view of Object.keys(charts[name].views)) {
      const button = document.createElement("button");
      button.textContent = view;
      button.setAttribute("aria-pressed", String(view === drawn.get(name)));
      button.onclick = () => {
        drawn.set(name, view);
        for (const other of bar.children) {
          other.setAttribute("aria-pressed", String(other === button));
        }
        draw(name);
      };
      bar.append(button);
    }
    return bar;
  }

  // A point of a chart of steps knows its time; the page's links know the rest.
  function linkTo(about) {
    const base = document.body.dataset.link;
    if (!base || !Array.isArray(about) || about.length < 12) return null;
    const start = BigInt(about[1]) + BigInt(document.body.dataset.shift);
    return `${base}&visStart=${start}&visEnd=${start + BigInt(about[2])}&ts=${start}` +
      `&dur=${about[2]}`;
  }

  // Charts are drawn when they come into sight: those in folded parts only when unfolded.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target.id);
    }
  }, { rootMargin: "400px" });
  for (const name of Object.keys(charts)) seen.observe(document.getElementById(name));

  const redraw = () => [...drawn.keys()].forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  matchMedia("(max-width: 700px)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("print");
    document.querySelectorAll("details").forEach((d) => { d.open = true; });
    Object.keys(charts).forEach(draw);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("print");
    redraw();
  });

  // Tables

  function valueOf(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.classList.contains("n") ? null : cell.textContent;
  }

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" ? a - b : a.localeCompare(b);
  }

  function sort(heading) {
    const table = heading.closest("table");
    const [column, body] = [heading.cellIndex, table.tBodies[0]];
    const before = heading.getAttribute("aria-sort");
    const number = heading.classList.contains("n");
    const falling = before === "none" ? number : before === "ascending";
    const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
    const sign = (a) => (a[0] === null ? 1 : falling ? -1 : 1);
    rows.sort((a, b) => (a[0] === null || b[0] === null ? 1 : sign(a)) * compare(a[0], b[0]));
    for (const other of heading.parentNode.cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    body.append(...rows.map(([, row]) => row));
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.parentNode.matches("th[aria-sort]")) return sort(button.parentNode);
    if (button.dataset.copy === undefined) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    } catch {
      prompt("Copy this:", button.dataset.copy); // where a page may not write the clipboard
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
})();
