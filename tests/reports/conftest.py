"""Shared by the tests of this package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers import browser


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A tab of a real browser; the test is skipped where there is none."""
    program = browser.find()
    if program is None:
        pytest.skip("no browser: install Chromium (`apt-get install chromium`)")
    pytest.importorskip("websockets", reason="drives the browser")
    with browser.started(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab
