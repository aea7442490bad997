"""Search the settings of a training, judged on validation questions only.

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
from finetune.train_adapter import (
    OnValidation,
    TrainingResult,
    clean_up,
    prepare_training,
    publish,
    run_training,
)
from finetune.training.divergence import Diverged

if TYPE_CHECKING:
    import optuna

    from engines.base import TrainableEngine
    from finetune.jobs import TrainingJob
    from finetune.replay_questions import TrainingDomains
    from finetune.train_adapter import PreparedTraining
    from finetune.training.early_stopping import Validation
    from finetune.training.train_result import OnProgress

RANKS, EPOCHS, TARGETS = (4, 8, 16, 32), (5, 10, 20), ("all", "attention", "mlp")
#: Times the rate that would be taken without a search.
_RATES = (0.2, 3.0)
#: Trials that are never pruned, so that there is something to compare with.
_FIRST = 3

#: Called with the number and the settings of each trial before it.
Begin = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class SearchTrial:
    """One setting that was tried; `value` is what validation said of its best step.

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
    wish: TrainingJob,
    around: TrainingDomains,
    engine: TrainableEngine,
    trials: int,
    notify: OnProgress,
    look: OnValidation,
    begin: Begin,
) -> SearchResult:
    """Try settings until so many trials are done, and publish the adapter of the best.

    An interrupted search goes on: what was tried is not tried again, and the trial that was cut
    off goes on from its checkpoint.
    """
    import optuna

    from finetune.adapters.registry import AdapterRegistry

    with AdapterRegistry(Workspace(wish.workspace).adapters).writing(wish.name) as writer:
        lesson = prepare_training(wish, around, engine, "search-")
        if lesson.eye is None:
            raise BenchError(
                f"`{wish.name}` has no validation questions or rows to judge settings by",
                "train without `--search`, or prepare more rows",
            )
        study = _study(lesson)
        while (done := len(_done(study))) < trials:
            # A sampler that always began with one seed would repeat its first suggestions.
            study.sampler = optuna.samplers.TPESampler(seed=wish.recipe.seed + done)
            _try(study, lesson, notify, look, begin)
        best = _lesson(lesson, _best(study).params)
        made = publish(best, writer, run_training(best, notify, look))
    for trial in study.trials:
        clean_up(_lesson(lesson, trial.params).folder)
    return SearchResult(tuple(map(_told, _done(study))), study.best_trial.number, made)


def _study(lesson: PreparedTraining) -> optuna.Study:
    """The study, where a trial that was cut off is the next one to be tried."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{(lesson.folder / 'study.db').as_posix()}",
        study_name="search",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(
            _FIRST, n_warmup_steps=2 * lesson.wish.settings.eval_every
        ),
    )
    for each in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(each.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(each.params)
    return study


def _try(
    study: optuna.Study,
    lesson: PreparedTraining,
    notify: OnProgress,
    look: OnValidation,
    begin: Begin,
) -> None:
    """One trial, from its checkpoint where one is."""
    import optuna

    trial = study.ask()
    own = _lesson(lesson, _suggest(trial, lesson))
    begin(trial.number, trial.params)
    step = 0

    def judge(found: Validation) -> None:
        nonlocal step
        step += lesson.wish.settings.eval_every
        trial.report(found.accuracy, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        done = run_training(own, notify, look, judge)
    except (optuna.TrialPruned, Diverged) as error:
        trial.set_user_attr("ended", "diverged" if isinstance(error, Diverged) else "pruned")
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    good = [v["accuracy"] for v in done.validations if not v["fallen"]]
    # A training that did harm from the beginning is worse than none.
    study.tell(trial, max(good, default=0.0))


def _suggest(trial: optuna.Trial, lesson: PreparedTraining) -> Mapping[str, Any]:
    usual = lesson.wish.settings.rate(lesson.engine.model.config.get_text_config().hidden_size)
    trial.suggest_categorical("rank", RANKS)
    trial.suggest_categorical("targets", TARGETS)
    trial.suggest_categorical("epochs", EPOCHS)
    low, high = (usual * times for times in _RATES)
    trial.suggest_float("learning_rate", low, high, log=True)
    return trial.params


def _lesson(lesson: PreparedTraining, params: Mapping[str, Any]) -> PreparedTraining:
    """The lesson with a trial's settings, in a folder that belongs to these settings."""
    wish = lesson.wish
    targets = () if params["targets"] == "all" else (params["targets"],)
    settings = replace(wish.settings, **{**params, "targets": targets})
    told = json.dumps([lesson.folder.name, settings.result_settings()], sort_keys=True)
    name = f"{wish.name}-trial-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    folder = Workspace(wish.workspace).training(name)
    return replace(lesson, wish=replace(wish, settings=settings), folder=folder)


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


def _told(trial: optuna.trial.FrozenTrial) -> SearchTrial:
    values = trial.intermediate_values.values()
    value = trial.value if trial.value is not None else max(values, default=None)
    state = trial.user_attrs.get("ended", "complete")
    return SearchTrial(trial.number, dict(trial.params), value, state)
