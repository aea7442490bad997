"""Shared by the tests of this room."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The module `made_runs`, which writes runs."""
    return _module("made_runs")


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A tab of a real browser; the test is skipped where there is none."""
    browser = _module("browser")
    program = browser.find()
    if program is None:
        pytest.skip("no browser: install Chromium (`apt-get install chromium`)")
    pytest.importorskip("websockets", reason="drives the browser")
    with browser.started(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
