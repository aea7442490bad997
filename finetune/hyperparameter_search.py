"""Hyperparameter search, judged on validation questions only.

<workspace>/training/<adapter>-search-<digest>/study.db   optuna's record of the trials
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError
from domainlift.workspace import Workspace
from engines.base import TrainableEngine
from finetune.adapters.registry import AdapterRegistry
from finetune.data.replay import OnReplay, no_replay_progress
from finetune.jobs import TrainingJob
from finetune.train_adapter import (
    OnValidation,
    PreparedTraining,
    TrainingResult,
    clean_up,
    prepare_training,
    publish,
    run_training,
)
from finetune.training.divergence import Diverged
from finetune.training.early_stopping import ValidationResult
from finetune.training.train_result import OnProgress

if TYPE_CHECKING:
    import optuna


RANKS, EPOCHS, TARGETS = (4, 8, 16, 32), (5, 10, 20), ("all", "attention", "mlp")
#: Times the rate that would be taken without a search.
_RATES = (0.2, 3.0)
#: Trials that are never pruned, so that there is something to compare with.
_FIRST = 3

#: Called with the number and the settings of each trial before it.
OnTrial = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class SearchTrial:
    """One trial; `value` is the objective of its best step.

    `state` is `complete`, `pruned` (worse than the median at the same step) or `diverged`.
    """

    number: int
    settings: Mapping[str, Any]
    value: float | None
    state: str


@dataclass(frozen=True)
class SearchResult:
    """All trials, and the adapter of the best one."""

    trials: tuple[SearchTrial, ...]
    best: int
    made: TrainingResult

    def as_json(self) -> dict[str, Any]:
        """The same for JSON."""
        trials = [asdict(trial) for trial in self.trials]
        return {**self.made.as_json(), "trials": trials, "best_trial": self.best}


def search_hyperparameters(
    job: TrainingJob,
    engine: TrainableEngine,
    trials: int,
    on_progress: OnProgress,
    on_validation: OnValidation,
    on_trial: OnTrial,
    on_replay: OnReplay = no_replay_progress,
) -> SearchResult:
    """Try settings until so many trials are done, and publish the adapter of the best.

    An interrupted search goes on: what was tried is not tried again, and the trial that was cut
    off goes on from its checkpoint.
    """
    import optuna

    with AdapterRegistry(Workspace(job.workspace).adapters).writing(job.name) as writer:
        prepared = prepare_training(job, engine, "search-", on_replay=on_replay)
        if prepared.validator is None:
            raise BenchError(
                f"`{job.name}` has no validation questions or rows to judge settings by",
                "train without `--search`, or prepare more rows",
            )
        study = _study(prepared)
        while (done := len(_done(study))) < trials:
            # A sampler that always began with one seed would repeat its first suggestions.
            study.sampler = optuna.samplers.TPESampler(seed=job.recipe.seed + done)
            _try(study, prepared, on_progress, on_validation, on_trial)
        best = _with_settings(prepared, _best(study).params)
        made = publish(best, writer, run_training(best, on_progress, on_validation))
    for trial in study.trials:
        clean_up(_with_settings(prepared, trial.params).folder)
    return SearchResult(tuple(map(_trial_result, _done(study))), study.best_trial.number, made)


def _study(prepared: PreparedTraining) -> optuna.Study:
    """The study; a trial that was cut off is the next one to be tried."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{(prepared.folder / 'study.db').as_posix()}",
        study_name="search",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(
            _FIRST, n_warmup_steps=2 * prepared.job.settings.eval_every
        ),
    )
    for each in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(each.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(each.params)
    return study


def _try(
    study: optuna.Study,
    prepared: PreparedTraining,
    on_progress: OnProgress,
    on_validation: OnValidation,
    on_trial: OnTrial,
) -> None:
    """Run one trial, from its checkpoint where there is one."""
    import optuna

    trial = study.ask()
    own = _with_settings(prepared, _suggest(trial, prepared))
    on_trial(trial.number, trial.params)

    def report(result: ValidationResult, step: int) -> None:
        on_validation(result, step)
        trial.report(result.objective, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        trained = run_training(own, on_progress, report)
    except (optuna.TrialPruned, Diverged) as error:
        trial.set_user_attr("ended", "diverged" if isinstance(error, Diverged) else "pruned")
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    good = [v["accuracy"] for v in trained.validations if not v["fallen"]]
    # A training that did harm from the beginning is worse than none.
    study.tell(trial, max(good, default=0.0))


def _suggest(trial: optuna.Trial, prepared: PreparedTraining) -> Mapping[str, Any]:
    usual = prepared.job.settings.rate(prepared.engine.model.config.get_text_config().hidden_size)
    trial.suggest_categorical("rank", RANKS)
    trial.suggest_categorical("targets", TARGETS)
    trial.suggest_categorical("epochs", EPOCHS)
    low, high = (usual * times for times in _RATES)
    trial.suggest_float("learning_rate", low, high, log=True)
    return trial.params


def _with_settings(prepared: PreparedTraining, params: Mapping[str, Any]) -> PreparedTraining:
    """The training with a trial's settings, in a folder that belongs to these settings."""
    job = prepared.job
    targets = () if params["targets"] == "all" else (params["targets"],)
    settings = replace(job.settings, **{**params, "targets": targets})
    key = json.dumps([prepared.folder.name, settings.result_settings()], sort_keys=True)
    name = f"{job.name}-trial-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    folder = Workspace(job.workspace).training(name)
    plan = replace(prepared.plan, passes=None)  # a trial has passes of its own
    return replace(prepared, job=replace(job, settings=settings), folder=folder, plan=plan)


def _done(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that came to an end; one that was cut off is tried again as another one."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _best(study: optuna.Study) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState

    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise BenchError(
            "every trial diverged", "set `learning_rate` lower, from which the search starts"
        )
    return study.best_trial


def _trial_result(trial: optuna.trial.FrozenTrial) -> SearchTrial:
    values = trial.intermediate_values.values()
    value = trial.value if trial.value is not None else max(values, default=None)
    state = trial.user_attrs.get("ended", "complete")
    return SearchTrial(trial.number, dict(trial.params), value, state)
