"""Reading nsys SQLite exports: the schema is probed once, tables and columns are optional.

One small module a kind of table turns rows into columns (Polars frames, NumPy arrays). Nothing here
knows of Perfetto.
"""
