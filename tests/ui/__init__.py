"""Tests in the real Perfetto UI, in a real browser; see docs/development.md."""
