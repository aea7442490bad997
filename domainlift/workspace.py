"""Where data sets, trainings and adapters lie in a workspace."""

from __future__ import annotations

from pathlib import Path

from domainlift.files import safe_join


def data_folder(workspace: Path, name: str) -> Path:
    """Where a prepared data set is; Misuse for a name that leads elsewhere."""
    return safe_join(workspace / "data", name)


def adapters_root(workspace: Path) -> Path:
    """The folder of all adapters."""
    return workspace / "adapters"


def training_folder(workspace: Path, name: str) -> Path:
    """Where a training under way keeps its rows, checkpoints and logs."""
    return safe_join(workspace / "training", name)


def model_folder(workspace: Path, name: str) -> Path:
    """Where a model lies that was trained whole."""
    return safe_join(workspace / "models", name)
