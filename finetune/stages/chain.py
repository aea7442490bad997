"""Chain of stages: each goes on from the checkpoint of the one before, and ends it if it is worse.

<training>/checkpoints/{initial,sft,dpo,rloo,…,final}/   PEFT's files of each
<training>/stages.json     the results of the stages that are done
<training>/steps-STAGE.json  how many steps of a stage fit into the budget
<training>/trl-STAGE/      TRL's checkpoints of the stage under way
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from peft import PeftModel

from domainlift.activity import activity
from domainlift.errors import BenchError, Misuse
from domainlift.files import atomic_folder, sha256, write_json
from domainlift.stats.intervals import wilson
from domainlift.stats.paired import paired, sign_test
from engines.base import TrainableEngine
from engines.local.loading import quiet_peft
from finetune.adapters.methods import attach, detach
from finetune.data.row_losses import row_losses
from finetune.data.rows import Row
from finetune.jobs import TrainingJob
from finetune.memory.estimate import peak_bytes
from finetune.rewards.judge import Judge
from finetune.stages.reward_model import RewardModel, new_reward_model, preferred
from finetune.stages.stage_budget import fit_steps
from finetune.stages.stage_rows import stage_rows
from finetune.stages.stage_settings import BY_MODEL, PREFERENCE, REINFORCEMENT, REWARD_MODEL, SFT
from finetune.stages.trainer_run import step_seconds, train
from finetune.stages.trainers import POLICY, StageJob, open_trainer, unchanged
from finetune.training.early_stopping import Validate
from finetune.training.train_output import OnProgress, TrainOutput
from finetune.validation import FORGETTING_ALPHA, MAX_QUESTIONS, Validator

INITIAL, FINAL = "initial", "final"
_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class StageResult:
    """What a stage did; figures of its log are means over the last tenth of its steps.

    `reward` is what was optimised (the margin between the sides of a pair for dpo), `format` and
    `accuracy` its parts, `length` the tokens of a reply. `reference` is the checkpoint whose
    weights the stage was held to, with their SHA-256; None where it was held to none. `worse`
    names what fell significantly, and `unfit` says why else no stage goes on from this one.
    `steps_asked` are those that the budget cut down to `steps`. `seconds` are those of its steps,
    and of a few more that measured how many fit.
    """

    checkpoint: str
    steps: int
    loss: float | None = None
    reward: float | None = None
    format: float | None = None
    accuracy: float | None = None
    length: float | None = None
    validation: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, str] | None = None
    worse: Sequence[str] = ()
    faults: Mapping[str, int] = field(default_factory=dict)
    log: Sequence[Mapping[str, Any]] = ()
    seconds: float = 0.0
    unfit: str = ""
    steps_asked: int | None = None

    @property
    def end(self) -> str:
        """Why the chain ends with the stage before; empty where it does not."""
        return f"made {', '.join(self.worse)} worse" if self.worse else self.unfit

    def as_json(self) -> dict[str, Any]:
        """The result without its log."""
        return {key: value for key, value in asdict(self).items() if key != "log"}


@dataclass(frozen=True)
class Chain:
    """The results of the stages by name, and the one whose weights are the adapter's."""

    stages: Mapping[str, StageResult]
    kept: str
    folder: Path

    def as_json(self) -> dict[str, Any]:
        """Stages and what is kept, as `bench train --json` says them."""
        return {"stages": {name: s.as_json() for name, s in self.stages.items()}, "kept": self.kept}


@dataclass(frozen=True)
class ChainJob:
    """A chain to run: the job, the engine that holds the model, and who watches."""

    job: TrainingJob
    engine: TrainableEngine
    folder: Path
    validator: Validator | None
    validate: Validate | None
    notify: OnProgress


def run_chain(chain: ChainJob, first: StageResult | None) -> Chain:
    """Run the stages that are not done; `first` is the result of `sft`, in `folder`/adapter.

    The weights that are kept are put there, with `checkpoints/final` beside. Raises BenchError
    where the first stage made things worse.
    """
    folder = chain.folder / "checkpoints"
    _keep(folder / INITIAL, lambda build: _save_initial(chain, build))
    results, kept = _done(chain.folder), INITIAL
    if first is not None:
        _keep(folder / SFT, lambda build: _copy(chain.folder / "adapter", build))
        results, kept = {SFT: first, **results}, SFT
    for stage in chain.job.recipe.stages:
        if stage == SFT:
            continue
        if stage not in results:
            spent = sum(result.seconds for result in results.values())
            with activity(f"stage {stage} of {chain.job.name}"):
                results[stage] = _run(chain, stage, kept, spent)
            stored = {name: asdict(result) for name, result in results.items() if name != SFT}
            write_json(chain.folder / "stages.json", stored)
            shutil.rmtree(chain.folder / f"trl-{stage}", ignore_errors=True)
        if results[stage].end:
            break
        # A reward model answers nothing, so the policy goes on from the stage before it.
        kept = kept if stage == REWARD_MODEL else stage
    if kept == INITIAL:
        raise BenchError(
            f"stage `{stage}` {results[stage].end}; nothing is published",
            "set its `learning_rate` lower, or its `beta` higher",
        )
    shutil.rmtree(folder / FINAL, ignore_errors=True)
    _keep(folder / FINAL, lambda build: _copy(folder / kept, build))
    _copy(folder / kept, chain.folder / "adapter")
    return Chain(results, kept, folder)


def chain_result(chain: Chain, device: Any) -> TrainOutput:
    """The last kept stage as the result of a training that had no `sft`."""
    stage = chain.stages[chain.kept]
    losses = tuple(float(entry["loss"]) for entry in stage.log)
    tokens = int(stage.log[-1].get("num_tokens", 0))
    return TrainOutput(
        steps=stage.steps,
        tokens=tokens,
        tokens_per_second=tokens / max(stage.seconds, 1e-9),
        peak_bytes=peak_bytes(device),
        seconds=stage.seconds,
        losses=losses,
        best_step=stage.steps,
        stopped="done",
    )


def _done(folder: Path) -> dict[str, StageResult]:
    path = folder / "stages.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: StageResult(**result) for name, result in stored.items()}


def _run(chain: ChainJob, stage: str, before: str, spent: float) -> StageResult:
    """Run one stage in its share of what is left of the budget, and judge it."""
    settings = chain.job.recipe.settings_of(stage)
    rows = stage_rows(chain.job, stage not in REINFORCEMENT, "train", settings.reward)
    work = StageJob(stage, rows, settings, chain.job.settings, chain.folder / f"trl-{stage}")
    run = _run_reward_model if stage == REWARD_MODEL else _run_policy
    stages, budget = chain.job.recipe.stages, chain.job.budget.seconds
    if budget is None:
        return run(chain, work, before)
    share = max(0.0, budget - spent) / (len(stages) - stages.index(stage))
    with activity(f"measuring a step of stage {stage}"):
        fitted = fit_steps(work, share, lambda few: _probe(chain, few, before), chain.folder)
    if not fitted.steps and before == INITIAL:
        least = fitted.least_minutes(len(stages))
        raise Misuse(f"stage `{stage}` {fitted.lack}", f"`--budget-minutes {least:g}` suffices")
    if not fitted.steps:
        return StageResult("", 0, steps_asked=fitted.asked, unfit=fitted.lack)
    done = run(chain, fitted.job(work), before)
    asked = fitted.asked if fitted.steps < fitted.asked else None
    return replace(done, steps_asked=asked, seconds=done.seconds + fitted.measuring)


def _probe(chain: ChainJob, work: StageJob, before: str) -> list[float]:
    with _opened(chain, work, before) as (live, judge):
        return step_seconds(open_trainer(work, live, chain.engine.tokenizer, judge))


@contextmanager
def _opened(chain: ChainJob, work: StageJob, before: str) -> Iterator[tuple[Any, Any]]:
    """The model that a stage trains, and what judges its replies."""
    engine, folder, reward = chain.engine, chain.folder / "checkpoints", work.settings.reward
    with ExitStack() as stack:
        stack.enter_context(quiet_peft())
        if work.stage == REWARD_MODEL:
            stack.enter_context(unchanged(engine.model, engine.tokenizer))
            live, judge = stack.enter_context(new_reward_model(engine.model, work.training)), None
        else:
            live, judge = stack.enter_context(live_checkpoint(engine, folder / before)), None
        if work.stage in REINFORCEMENT:
            judge = (
                RewardModel(live, folder / REWARD_MODEL, engine.tokenizer)
                if reward == BY_MODEL
                else stack.enter_context(Judge(reward))
            )
        yield live, judge


def _run_policy(chain: ChainJob, work: StageJob, before: str) -> StageResult:
    """Run one stage from the checkpoint of the one before, and judge it against that."""
    stage, folder, engine = work.stage, chain.folder / "checkpoints", chain.engine
    is_pairs = stage in PREFERENCE
    pairs = stage_rows(chain.job, True, "validation")[:MAX_QUESTIONS] if is_pairs else []
    with _opened(chain, work, before) as (live, judge):
        old = _validated(chain, live)
        right = _preferred(chain, live, pairs)
        trainer = open_trainer(work, live, engine.tokenizer, judge)
        seconds = train(trainer, work, chain.validate, chain.notify)
        _keep_live(folder / stage, live)
        details, fallen = _validated(chain, live, old[2])[:2]
        preference, lost = _preference(right, _preferred(chain, live, pairs))
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    reference = None
    if work.settings.has_reference(stage):
        reference = {"checkpoint": before, "sha256": sha256(folder / before / _WEIGHTS)}
    return StageResult(
        f"checkpoints/{stage}",
        int(trainer.state.global_step),
        _late(log, "loss"),
        _late(log, "rewards/margins" if is_pairs else "reward"),
        _late(log, "rewards/format/mean"),
        _late(log, "rewards/accuracy/mean"),
        _late(log, "completions/mean_length"),
        {**details, **preference},
        reference,
        (*fallen, *lost),
        dict(judge.faults) if isinstance(judge, Judge) else {},
        log,
        seconds,
    )


def _run_reward_model(chain: ChainJob, work: StageJob, before: str) -> StageResult:
    """Train a reward model, and judge it on held-out pairs against chance."""
    pairs = stage_rows(chain.job, True, "validation")[:MAX_QUESTIONS]
    with _opened(chain, work, before) as (live, _):
        trainer = open_trainer(work, live, chain.engine.tokenizer, None)
        seconds = train(trainer, work, None, chain.notify)
        _keep_live(chain.folder / "checkpoints" / work.stage, live)
        right = preferred(live, pairs, chain.engine.tokenizer, work.training)
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    share, bounds = fmean(right), wilson(sum(right), len(right))
    found = f"{share:.2f} [{bounds.low:.2f}, {bounds.high:.2f}]"
    chance = f"is not shown to be better than chance on {len(right)} held-out pairs ({found})"
    told = {
        "n": len(right),
        "accuracy": share,
        "interval": list(bounds),
        "measure": "accuracy on held-out pairs",
    }
    return StageResult(
        f"checkpoints/{work.stage}",
        int(trainer.state.global_step),
        _late(log, "loss"),
        _late(log, "margin"),
        accuracy=_late(log, "accuracy"),
        validation={"pairs": told},
        unfit=chance if sign_test(sum(right), len(right) - sum(right)) >= FORGETTING_ALPHA else "",
        log=log,
        seconds=seconds,
    )


# --- what a stage is judged by


def _validated(
    chain: ChainJob, live: Any, before: Any = None
) -> tuple[Mapping[str, Any], Sequence[str], Any]:
    """Details of the validation, what fell since the records `before`, and the new records."""
    validator = chain.validator
    if validator is None:
        return {}, (), None
    with chain.engine.answering_with(live):
        result = validator.evaluate()
    worse = validator.worse_than(before) if before is not None else ()
    return result.details, tuple(dict.fromkeys((*result.regressed, *worse))), validator.latest


def _preferred(chain: ChainJob, live: Any, pairs: Sequence[Row]) -> list[bool]:
    """For each pair whether the better side has the higher mean log-probability per token."""
    if not pairs:
        return []
    worse = [replace(row, completion=row.rejected) for row in pairs]
    with chain.engine.answering_with(live):
        better, other = (row_losses(rows, chain.engine) for rows in (pairs, worse))
    return [one < two for one, two in zip(better, other, strict=True)]


def _preference(before: Sequence[bool], after: Sequence[bool]) -> tuple[dict[str, Any], list[str]]:
    """Preference accuracy on validation pairs, and its name where it fell significantly."""
    if not before:
        return {}, []
    change = paired(before, after, [str(place) for place in range(len(before))])
    told = {
        "n": change.n,
        "base": change.baseline,
        "adapter": change.candidate,
        "interval": list(change.interval),
        "gains": change.gains,
        "losses": change.losses,
        "measure": "preference accuracy",
    }
    fell = change.losses > change.gains and change.p < 2 * FORGETTING_ALPHA
    return {"preference": told}, ["preference"] if fell else []


def _late(log: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [float(entry[key]) for entry in log if key in entry]
    return fmean(values[-max(1, len(values) // 10) :]) if values else None


# --- adapters on the disk and on the model


@contextmanager
def live_checkpoint(engine: TrainableEngine, checkpoint: Path) -> Iterator[Any]:
    """The model with the adapter of a checkpoint; afterwards it is as it was."""
    model = engine.model
    with unchanged(model, engine.tokenizer):
        with quiet_peft():
            live = PeftModel.from_pretrained(model, str(checkpoint), is_trainable=True)
        try:
            yield live.eval()
        finally:
            detach(live)


def _save_initial(chain: ChainJob, build: Path) -> None:
    live = attach(chain.engine.model, chain.job.settings)
    try:
        _save(live, build)
    finally:
        detach(live)


def _save(live: Any, build: Path) -> None:
    live.save_pretrained(str(build), selected_adapters=[POLICY])
    (build / "README.md").unlink(missing_ok=True)


def _keep_live(path: Path, live: Any) -> None:
    """Have the weights of a trained stage as its checkpoint, in place of what a kill left."""
    live.eval()
    shutil.rmtree(path, ignore_errors=True)
    _keep(path, lambda build: _save(live, build))


def _keep(path: Path, fill: Callable[[Path], None]) -> None:
    """Have a checkpoint, whole; one that is there stays."""
    if not path.is_dir():
        with atomic_folder(path) as build:
            fill(build)


def _copy(source: Path, build: Path) -> None:
    build.mkdir(exist_ok=True)
    for name in (_WEIGHTS, "adapter_config.json"):
        shutil.copyfile(source / name, build / name)
