"""Shared by the tests of this room."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module `fake_engine`, which scripts outside of pytest import as well."""
    path = Path(__file__).with_name("fake_engine.py")
    spec = importlib.util.spec_from_file_location("fake_engine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_engine"] = module
    spec.loader.exec_module(module)
    return module
