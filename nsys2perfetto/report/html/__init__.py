"""The report as one HTML page: the same tables, with charts and links into the trace."""
