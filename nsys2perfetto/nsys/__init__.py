"""Reading nsys SQLite exports: the schema is probed once, every table and most columns are optional.

One small module a kind of table turns rows into columns (Polars frames, NumPy arrays). Nothing here
knows of Perfetto.
"""
