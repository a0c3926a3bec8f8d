"""Links from the page into the Perfetto UI: where, and at which time.

The UI fetches the trace from `nsys2perfetto open --stay`, which serves it under its name.
`visStart` and `visEnd` are what the UI shows, `ts` and `dur` select a slice (Perfetto,
docs/visualization/deep-linking-to-perfetto-ui.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from nsys2perfetto.viewer.link import PORT, UI, link, served_name


@dataclass(frozen=True)
class Links:
    """Links into one trace.

    Attributes:
        trace: File name of the trace.
        kernels: How many it has, which decides on plugins of the UI.
        shift: What the trace adds to every time of the capture, ns.
        first, last: Of the events that are linked to, ns as the capture counts. The UI ignores a
            view that goes beyond the trace.
    """

    trace: str
    kernels: int
    shift: int
    first: int
    last: int

    @property
    def base(self) -> str:
        """The link without a time."""
        return link(UI, f"http://127.0.0.1:{PORT}/{served_name(self.trace)}", self.kernels)

    def to(self, ts: int, dur: int) -> str:
        """A link that shows what begins at `ts` and lasts `dur` ns, with some time around it."""
        margin = dur // 2
        start = max(min(self.first, ts), ts - margin) + self.shift
        end = min(max(self.last, ts + dur), ts + dur + margin) + self.shift
        return f"{self.base}&visStart={start}&visEnd={end}&ts={ts + self.shift}&dur={dur}"
