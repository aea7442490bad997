"""Tasks: what each benchmark is, as data, and the registry that loads them by name."""
