"""Links from the page into the Perfetto UI: where, and at which time.

The UI fetches the trace from `nsys2perfetto open`, which serves it on 127.0.0.1:9001: the only
foreign address that its content security policy lets it read. `visStart` and `visEnd` are what it
shows, `ts` and `dur` select a slice (Perfetto, docs/visualization/deep-linking-to-perfetto-ui.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

UI = "https://ui.perfetto.dev"
SERVER = "http://127.0.0.1:9001"


@dataclass(frozen=True)
class Links:
    """Links into one trace.

    Attributes:
        trace: File name of the trace.
        shift: What the trace adds to every time of the capture, ns.
        first, last: Of the events that are linked to, ns as the capture counts. The UI ignores a
            view that goes beyond the trace.
    """

    trace: str
    shift: int
    first: int
    last: int

    @property
    def base(self) -> str:
        """The link without a time."""
        name = quote(self.trace, safe="", errors="surrogateescape")
        return f"{UI}/#!/?url={quote(f'{SERVER}/{name}', safe='')}"

    def to(self, ts: int, dur: int) -> str:
        """A link that shows what begins at `ts` and lasts `dur` ns, with some time around it."""
        margin = dur // 2
        start = max(min(self.first, ts), ts - margin) + self.shift
        end = min(max(self.last, ts + dur), ts + dur + margin) + self.shift
        return f"{self.base}&visStart={start}&visEnd={end}&ts={ts + self.shift}&dur={dur}"
