"""Shared by the tests of this package: a small random base model, and adapters for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.random_models import make_adapter, make_base

Make = Callable[..., Path]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:.*deprecated.*:FutureWarning")


@pytest.fixture(scope="session")
def random_base() -> Make:
    """Make a folder with a random model of an architecture and the embedded tokenizer."""
    return make_base


@pytest.fixture(scope="session")
def base_folder(random_base: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of two layers."""
    return random_base(tmp_path_factory.mktemp("base") / "qwen2")


@pytest.fixture(scope="session")
def random_adapter() -> Make:
    """Make a folder with a random adapter for a base, as PEFT writes it."""
    return make_adapter


@pytest.fixture
def base_model(base_folder: Path) -> tuple[Any, Any]:
    """A small random model and its tokenizer, for one test."""
    from engines.local.loading import load_model

    return load_model(str(base_folder), device="cpu")
