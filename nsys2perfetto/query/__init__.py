"""Asking a trace with SQL: the trace processor as a process of ours, and sessions with it."""
