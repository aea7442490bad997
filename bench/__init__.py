"""The command line: one module per verb, without logic of its own."""
