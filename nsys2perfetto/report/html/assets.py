"""The shell of the page: style, script, Plotly, and the policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources

from nsys2perfetto.report.html.figures import Figure
from nsys2perfetto.report.html.links import Links
from nsys2perfetto.report.html.tables import text


def document(title: str, body: str, figures: Sequence[Figure], links: Links) -> str:
    """The whole page.

    Args:
        title: Of the browser's tab.
        body: HTML.
        figures: The charts of the body, which has an element with the name of each.
        links: Into the trace, for clicks on charts.
    """
    scripts = [_plotly(), _file("page.js")] if figures else [_file("page.js")]
    policy = "; ".join(
        [
            "default-src 'none'",
            "style-src 'unsafe-inline'",  # Plotly makes style sheets of its own
            "img-src data: blob:",  # a chart saved as a picture
            f"script-src {' '.join(map(_hash, scripts))}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    data = json.dumps({f.name: _plain(f) for f in figures}, allow_nan=False).replace("<", "\\u003c")
    run = "\n".join(f"<script>{script}</script>" for script in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>\n{_file('page.css')}</style>\n</head>\n"
        f'<body data-link="{text(links.base)}" data-shift="{links.shift}">\n{body}'
        "<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>\n"
        f'<script type="application/json" id="charts">{data}</script>\n{run}\n</body>\n</html>\n'
    )


def _plain(figure: Figure) -> dict[str, object]:
    return {"data": figure.data, "layout": figure.layout, "views": figure.views}


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _file(name: str) -> str:
    return (resources.files(__package__) / "files" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Plotly's script, as its Python package has it."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - a fifth of a second

    script: str = get_plotlyjs()
    # What would end the element early is only ever inside of texts there.
    return script.replace("</script", "<\\/script").replace("\r\n", "\n").replace("\r", "\n")
