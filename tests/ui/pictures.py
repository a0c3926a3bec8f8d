"""The pictures of the documentation: `make pictures` writes docs/pictures from the samples.

The UI is the one of the tests, with the test engine beside it, so that kernels have their launch
configuration and arrows.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nsys2perfetto
from tests.engine.locate import REPOSITORY
from tests.ui import screen
from tests.ui.place import UiMissingError

CAPTURE = REPOSITORY / "samples" / "decode_eager.sqlite"
FOLDER = REPOSITORY / "docs" / "pictures"
GROUPS = "^(GPU|Render Stage|Hardware Queues|bench_decode \\d+)$"
"""What is opened to see kernels and calls below steps and gaps."""
STEADY = "category = 'nsys.step' and name like '%step%' and name not like '%prefill%'"


def main() -> int:
    """Writes all pictures; exit status 1 with one line where they cannot be made."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            trace = Path(scratch) / "decode_eager.pftrace"
            nsys2perfetto.convert(CAPTURE, trace)
            _draw(trace)
    except UiMissingError as error:
        print(f"cannot make pictures: {error}", file=sys.stderr)
        return 1
    return 0


def _draw(trace: Path) -> None:
    with screen.browser(1400, 760) as browser, browser.ui(with_engine=True) as ui:
        ui.page.set_viewport_size({"width": 1400, "height": 400})
        ui.drag_in(trace)
        ui.sidebar()
        _save(ui, "first-screen")

        ui.page.set_viewport_size({"width": 1400, "height": 1000})
        # Kernels and calls in the same look: what happened in a step, or in a gap.
        ui.command("dev.perfetto.PinTracksByRegex", "^(Decode steps|GPU idle gaps)$", "name")
        ui.command("dev.perfetto.ExpandTracksByRegex", GROUPS, "name")
        [step] = ui.ask(
            f"select id, ts, dur from slice where {STEADY} order by ts limit 1 offset 9"
        )
        ui.select(step["id"])
        ui.show(step["ts"] - 2 * step["dur"], step["ts"] + 3 * step["dur"])
        _save(ui, "step")

        [gap] = ui.ask(
            f"select g.id, g.ts, g.dur from slice g where g.category = 'nsys.gap'"
            f" and g.ts > (select min(ts) from slice where {STEADY})"
            f" and exists (select 1 from slice s where {STEADY.replace('name', 's.name')}"
            f"   and s.ts <= g.ts and g.ts + g.dur <= s.ts + s.dur)"
            f" order by g.dur desc limit 1"
        )
        ui.select(gap["id"])
        ui.show(gap["ts"] - gap["dur"] // 2, gap["ts"] + 3 * gap["dur"] // 2)
        _save(ui, "gap")

        [kernel] = ui.ask(
            "select s.id, s.ts, s.dur from slice s join track t on t.id = s.track_id"
            f" where t.type = 'gpu_render_stage' and s.ts > {step['ts']}"
            " and s.name not like 'Mem%' order by s.dur desc limit 1"
        )
        ui.select(kernel["id"])
        ui.show(kernel["ts"] - 2 * kernel["dur"], kernel["ts"] + 2 * kernel["dur"])
        _save(ui, "kernel")


def _save(ui: screen.Screen, name: str) -> None:
    if name != "first-screen":  # the panel has more to say than fits
        arguments = ui.page.get_by_text("Arguments", exact=True).first
        arguments.evaluate("(heading) => heading.scrollIntoView()")
    path = ui.picture(FOLDER / f"{name}.png")
    print(f"{path.relative_to(REPOSITORY)} ({path.stat().st_size // 1000} kB)", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
