"""What a capture or a trace says in numbers: tables, reports made of them, and comparisons."""
