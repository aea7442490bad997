"""Import of the packages that only some extras install."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from domainlift.errors import BenchError


def need(name: str, extra: str = "rag") -> ModuleType:
    """Import a package of an extra; where it is missing, say how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise BenchError(
            f"`{name}` cannot be imported: {error}",
            f'install it: `pip install "domainlift[{extra}]"`',
        ) from error
