"""What every room needs: errors, the words of the field as types, files that are never half written."""

__version__ = "0.1.0"
