"""Models of a command: the engine that answers."""

from __future__ import annotations

from dataclasses import dataclass

from domainlift.activity import activity
from engines.base import Engine
from engines.registry import EngineOptions, open_engine


@dataclass(frozen=True)
class ModelSpec:
    """Which model is loaded, and how."""

    model: str
    device: str
    dtype: str


class LazyEngine:
    """An engine that is opened when it is needed, and closed while others need its memory."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The open engine."""
        if self._engine is None:
            spec = self.spec
            with activity(f"loading `{spec.model}`"):
                self._engine = open_engine(spec.model, EngineOptions(spec.device, spec.dtype))
        return self._engine

    def close(self) -> None:
        """Close the engine, and free the memory of a model in this process."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None
