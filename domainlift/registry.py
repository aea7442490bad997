"""Objects that a registry names as "module:name", so that its table imports none of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_object(path: str) -> Any:
    """Import a module and return what it calls `name`; `path` is "module:name"."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
