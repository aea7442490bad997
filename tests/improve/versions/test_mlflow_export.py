"""Against a registry in memory; where MLflow is installed, against its own on SQLite, too."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from domainlift.errors import BenchError, Malformed
from improve.versions.mlflow_export import export_versions, registered_name
from improve.versions.version import State
from improve.versions.version_log import VersionRegistry
from tests.improve.versions.test_version_log import plan

NAME = registered_name("tiny")


class Client:
    """What is used of MLflow's client."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {}
        self.made: list[Any] = []
        self.artifacts: list[str] = []

    def search_registered_models(self, wanted: str) -> list[Any]:
        return [m for name, m in self.models.items() if wanted == f"name='{name}'"]

    def create_registered_model(self, name: str) -> None:
        self.models[name] = SimpleNamespace(aliases={})

    def get_registered_model(self, name: str) -> Any:
        return self.models[name]

    def search_model_versions(self, wanted: str, max_results: int) -> list[Any]:
        del max_results
        return [each for each in self.made if wanted == f"name='{each.name}'"]

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name)

    def create_run(self, experiment: str, run_name: str) -> Any:
        uri = f"memory:/{experiment}/{run_name}"
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name, artifact_uri=uri))

    def log_artifact(self, run: str, path: str, folder: str) -> None:
        assert Path(path).is_file()
        self.artifacts.append(f"{run}:{folder}")

    def log_metric(self, *_: Any) -> None: ...

    def set_terminated(self, run: str) -> None: ...

    def create_model_version(self, name: str, uri: str, run: str, tags: dict[str, str]) -> Any:
        own = sum(each.name == name for each in self.made) + 1
        self.made.append(SimpleNamespace(name=name, version=own, source=uri, run=run, tags=tags))
        return self.made[-1]

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.models[name].aliases[alias] = version

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        del self.models[name].aliases[alias]


@pytest.fixture(params=["memory", "mlflow"])
def client(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "memory":
        made = Client()
        monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: made))
        return made
    if find_spec("mlflow") is None:
        pytest.skip("needs mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    from mlflow import MlflowClient

    return MlflowClient()


def aliases(client: Any) -> dict[str, str]:
    return {key: str(value) for key, value in client.get_registered_model(NAME).aliases.items()}


def test_versions_are_copied_once_and_aliases_follow_their_states(
    client: Any, tmp_path: Path
) -> None:
    registry = VersionRegistry(tmp_path)
    registry.register(plan(tmp_path, "one"), State.CHAMPION, "improve", "better")
    registry.register(plan(tmp_path, "two"), State.CHALLENGER, "watch", "on trial")
    made = export_versions(registry.versions(), tmp_path)
    assert made == {"v0001": "1", "v0002": "2"}
    assert aliases(client) == {"champion": "1", "challenger": "2"}
    registry.move("v0002", State.CHAMPION, "person", "good")
    assert export_versions(registry.versions(), tmp_path) == made
    assert aliases(client) == {"champion": "2"}
    assert len(client.search_model_versions(f"name='{NAME}'", max_results=9)) == 2


def test_a_changed_file_is_not_exported(client: Any, tmp_path: Path) -> None:
    registry = VersionRegistry(tmp_path)
    one = registry.register(plan(tmp_path, "one"), State.CHAMPION, "improve", "better")
    (tmp_path / one.plan).write_text("model: other\n")
    with pytest.raises(Malformed):
        export_versions([one], tmp_path)
    assert not client.search_registered_models(f"name='{NAME}'")


def test_what_mlflow_says_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = VersionRegistry(tmp_path)
    registry.register(plan(tmp_path, "one"), State.CHAMPION, "improve", "better")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BenchError, match="not installed"):
        export_versions(registry.versions(), tmp_path)
    refusing = SimpleNamespace(search_registered_models=lambda _: 1 / 0)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: refusing))
    with pytest.raises(BenchError, match="MLflow refuses: division by zero"):
        export_versions(registry.versions(), tmp_path)
