"""What goes into a generated capture: its parameters, tables, names, launches and times."""
