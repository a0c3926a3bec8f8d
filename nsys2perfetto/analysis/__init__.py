"""Pure functions over numpy columns: nesting, projection, occupancy. No I/O, no protobuf."""
