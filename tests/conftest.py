"""What every test stands on: no setting of the person who runs it, and no haste."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Time limits of single examples fail on a busy machine and say nothing about the code.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's settings, but for the place of the data sets."""
    for name in os.environ:
        if name.startswith("BENCH_") and name != "BENCH_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
