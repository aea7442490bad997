"""Shared by the tests of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fake_shelf import Shelf


@pytest.fixture(scope="session")
def fake_shelf(module: Callable[[str], ModuleType]) -> ModuleType:
    """The module `fake_shelf`, which also runs as a program."""
    return module("rag/fake_shelf.py")


@pytest.fixture
def shelf(fake_shelf: ModuleType, tmp_path: Path) -> Shelf:
    """An empty folder of sources, and no knowledge base yet."""
    found: Shelf = fake_shelf.Shelf(tmp_path / "shelf")
    return found
