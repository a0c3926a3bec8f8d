"""`python -m nsys2perfetto` is the command `nsys2perfetto`."""

from __future__ import annotations

from nsys2perfetto.cli.main import main

if __name__ == "__main__":
    main()
