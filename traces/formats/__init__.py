"""Forms in which others keep traces: each a module that reads and writes it."""
