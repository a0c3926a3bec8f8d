"""Benchmarks: generated captures and the converters to compare with. Run `python -m bench`."""
