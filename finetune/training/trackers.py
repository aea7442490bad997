"""Trackers: where the curves of a training go, TensorBoard always and others on wish.

What a tracker cannot take, because its disk is full or its server is gone, ends its curves and not
the training; a tracker that was wished for and is not installed is an error before the first step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from domainlift.errors import BenchError, NoSuch
from domainlift.text.display import one_line


class Tracker(Protocol):
    """Takes figures by step."""

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures by name."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class Curves:
    """The trackers of one training; figures go to all of them."""

    def __init__(self, wished: str, folder: Path, step: int) -> None:
        """Go on after `step`; `wished` names trackers besides TensorBoard, with commas between."""
        self._trackers: dict[str, Tracker] = {}
        made = {name: TRACKERS[name] for name in tracker_names(wished)}
        if find_spec("tensorboard") is not None:
            made["tensorboard"] = TensorBoardTracker
        for name, make in made.items():
            with self._kept(name):
                self._trackers[name] = make(folder, step)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures by name."""
        for name, tracker in list(self._trackers.items()):
            with self._kept(name):
                tracker.add(step, figures)

    def close(self) -> None:
        """Write what is left."""
        for name, tracker in list(self._trackers.items()):
            with self._kept(name):
                tracker.close()

    @contextmanager
    def _kept(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a tracker raises
            self._trackers.pop(name, None)
            why = one_line(str(error), 200)
            print(f"note: {name} takes no more of the curves: {why}", file=sys.stderr)


def tracker_names(wished: str) -> list[str]:
    """The names in a list with commas; NoSuch for an unknown one, BenchError for a missing one."""
    names = [name.strip() for name in wished.split(",") if name.strip()]
    for name in names:
        if name not in TRACKERS:
            raise NoSuch("tracker", name, TRACKERS)
        if find_spec(name) is None:
            raise BenchError(f"`{name}` is not installed", f"pip install {name}")
    return names


class TensorBoardTracker:
    """Event files beside the checkpoints; what was written after `step` is hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures by name."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class MlflowTracker:
    """A run of MLflow, where its own settings say (`MLFLOW_TRACKING_URI`).

    The id of the run stands beside the checkpoints, so that a training goes on in its own run.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._client: Any = import_module("mlflow").MlflowClient()
        known = folder / "mlflow_run"
        if step and known.exists():
            self._run = known.read_text(encoding="utf-8")
            return
        experiment = self._client.get_experiment_by_name(_PROJECT)
        id_ = self._client.create_experiment(_PROJECT) if experiment is None else None
        run = self._client.create_run(
            id_ if id_ is not None else experiment.experiment_id, run_name=folder.name
        )
        self._run = str(run.info.run_id)
        known.write_text(self._run, encoding="utf-8")

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures by name."""
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """Say that the run has ended."""
        self._client.set_terminated(self._run)


class TrackioTracker:
    """A run of trackio, named after the training; one that was interrupted is gone on with."""

    def __init__(self, folder: Path, step: int) -> None:
        self._run: Any = import_module("trackio").init(
            project=_PROJECT, name=folder.name, resume="allow" if step else "never", embed=False
        )

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures by name."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


_PROJECT = "domainlift"
TRACKERS: Mapping[str, Callable[[Path, int], Tracker]] = {
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}
