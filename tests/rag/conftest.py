"""Shared by the tests of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.helpers.fake_shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty folder of sources, and no knowledge base yet."""
    from tests.helpers.fake_shelf import Shelf  # needs numpy

    return Shelf(tmp_path / "shelf")
