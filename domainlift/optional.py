"""Packages that only some extras install: their import, and their versions."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module, metadata
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


def installed_versions(*names: str) -> dict[str, str]:
    """The versions of those of these packages that are installed."""
    versions = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
