"""The command `nsys2perfetto`: one file a subcommand, thin; what it prints is made in files of its own.

Nothing here imports numpy, polars or perfetto before a command's body runs, so that `--help` and
wrong usage answer at once.
"""
