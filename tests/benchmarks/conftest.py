"""Shared by the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def fake(module: Callable[[str], ModuleType]) -> ModuleType:
    """The module `fake_engine`, which scripts outside of pytest import as well."""
    return module("benchmarks/fake_engine.py")
