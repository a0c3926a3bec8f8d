"""Tests of nsys2perfetto."""
