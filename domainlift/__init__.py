"""What every room needs: errors, words as types, files that are never half written."""

__version__ = "0.1.0"
