"""Core of the project: types, errors, safe files, the workspace, statistics, text, YAML."""

__version__ = "0.1.0"
