"""The command `nsys2perfetto`: one thin file a subcommand; what they print is made elsewhere.

Nothing here imports numpy, polars or perfetto before a command's body runs, so that `--help` and
wrong usage answer at once.
"""
