"""Shared by the tests of this room."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fake_shelf import Shelf


@pytest.fixture(scope="session")
def fake_shelf() -> ModuleType:
    """The module `fake_shelf`, which also runs as a program."""
    path = Path(__file__).with_name("fake_shelf.py")
    spec = importlib.util.spec_from_file_location("fake_shelf", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_shelf"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shelf(fake_shelf: ModuleType, tmp_path: Path) -> Shelf:
    """An empty folder of sources, and no knowledge base yet."""
    found: Shelf = fake_shelf.Shelf(tmp_path / "shelf")
    return found
