"""Versions in MLflow's registry of models, with their states as aliases.

A version is copied there once: its files become artifacts of a run, whose metrics are its evidence.
Its state may change later, and the aliases `champion` and `challenger` follow it. MLflow's own
settings (`MLFLOW_TRACKING_URI`) say where the registry is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from domainlift.errors import BenchError
from domainlift.files import safe_join
from improve.versions.version import State, Version
from improve.versions.version_files import check_version_files

_PROJECT, _TAG = "domainlift", "domainlift.version"
_ALIASES = (State.CHAMPION, State.CHALLENGER)


def export_versions(versions: Sequence[Version], workspace: Path) -> dict[str, str]:
    """Copy versions that MLflow lacks, and set the aliases of each model; name -> MLflow's number.

    Raises BenchError where MLflow is not installed or refuses, Malformed where a file of a version
    is not as it was registered.
    """
    try:
        client: Any = import_module("mlflow").MlflowClient()
    except ImportError as error:
        raise BenchError("`mlflow` is not installed", "pip install mlflow-skinny") from error
    for version in versions:
        check_version_files(version.files, workspace)
    try:
        return dict(_exported(client, versions, workspace))
    except Exception as error:  # MLflow raises its own, and whatever its store does
        first = " ".join(str(error).split())[:300]
        raise BenchError(f"MLflow refuses: {first}", "`MLFLOW_TRACKING_URI` says where") from error


def _exported(
    client: Any, versions: Sequence[Version], workspace: Path
) -> Iterator[tuple[str, str]]:
    for model in dict.fromkeys(version.model for version in versions):
        own = [version for version in versions if version.model == model]
        name = registered_name(model)
        there = _there(client, name)
        for version in own:
            if version.name not in there:
                there[version.name] = _copy(client, name, version, workspace)
            yield version.name, there[version.name]
        for state in _ALIASES:
            fitting = [there[each.name] for each in own if each.state is state]
            if fitting:
                client.set_registered_model_alias(name, state.value, fitting[-1])
            elif state.value in client.get_registered_model(name).aliases:
                client.delete_registered_model_alias(name, state.value)


def registered_name(model: str) -> str:
    """The name of a model in the registry, which takes no `/` and no `:`."""
    return f"{_PROJECT}-{re.sub(r'[^A-Za-z0-9._-]+', '-', model).strip('-')}"


def _there(client: Any, name: str) -> dict[str, str]:
    """MLflow's numbers of the versions that it has; the registered model is made where missing."""
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    found = client.search_model_versions(f"name='{name}'", max_results=10_000)
    return {each.tags[_TAG]: str(each.version) for each in found if _TAG in each.tags}


def _copy(client: Any, name: str, version: Version, workspace: Path) -> str:
    experiment = client.get_experiment_by_name(_PROJECT)
    id_ = experiment.experiment_id if experiment else client.create_experiment(_PROJECT)
    run = client.create_run(id_, run_name=version.name)
    run_id, evidence = run.info.run_id, version.evidence
    for file in version.files:
        target = str(PurePosixPath(file).parent)
        client.log_artifact(run_id, str(safe_join(workspace, file)), target)
    if evidence.accuracy is not None:
        low, high = evidence.interval or (evidence.accuracy, evidence.accuracy)
        measured = {"accuracy": evidence.accuracy, "low": low, "high": high, "n": evidence.n}
        for key, value in measured.items():
            client.log_metric(run_id, key, value)
    client.set_terminated(run_id)
    tags = {_TAG: version.name, "plan": version.plan, "base": version.digest}
    made = client.create_model_version(name, run.info.artifact_uri, run_id, tags=tags)
    return str(made.version)
