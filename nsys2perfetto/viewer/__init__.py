"""Shows traces: served on the loopback, to a tab of Perfetto's UI that a link opens."""
