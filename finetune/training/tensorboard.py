"""Curves for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class TensorBoardLog:
    """Writes figures by step; does nothing where tensorboard is not installed.

    A disk that takes no more ends the curves, not the training.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """Go on after `step`: what an interrupted training wrote beyond it is hidden."""
        self._writer: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            with suppress(OSError):
                self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures by name."""
        if self._writer is not None:
            with suppress(OSError):
                for name, value in figures.items():
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
