"""Tests in a real browser with the real UI; they are skipped where one of them is missing."""
