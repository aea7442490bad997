"""Runs: selection of tasks, the runner, and the store of answers."""
