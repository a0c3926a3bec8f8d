"""Track families: columns of nsys events become Perfetto packets, one module a family."""
