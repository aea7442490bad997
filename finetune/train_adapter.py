"""Training of an adapter in a workspace: prepare the rows, train, publish a version.

<workspace>/training/<adapter>-<digest>/   a training under way: its rows, checkpoints and logs
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from domainlift.activity import activity
from domainlift.errors import BenchError
from domainlift.files import text_sha256, write_json, write_text
from domainlift.workspace import Workspace
from engines.base import EngineInfo, TrainableEngine
from finetune.adapters.registry import AdapterDraft, AdapterRegistry, AdapterWriter
from finetune.budget import Machine, RowPlan, former_speed, plan_rows, replay_seconds
from finetune.data.replay import OnReplay, ReplayWatch
from finetune.data.row_io import load_rows, read_rows, row_lines
from finetune.data.rows import Row
from finetune.distributed.process_group import from_environment, join_group
from finetune.distributed.rank_zero import run_on_rank_zero
from finetune.find_adapter import OWN_WEIGHTS, dataset_cards, result_recipe
from finetune.held_out_text import HeldOutText
from finetune.jobs import TrainingJob, build_mix, prepared_rows
from finetune.stages.chain import (
    Chain,
    ChainJob,
    StageResult,
    chain_result,
    live_checkpoint,
    run_chain,
)
from finetune.stages.stage_rows import check_chain
from finetune.stages.stage_settings import SFT
from finetune.training.early_stopping import Validate, ValidationResult
from finetune.training.settings import NO_BUDGET, TrainingArguments
from finetune.training.train import train_rows
from finetune.training.train_output import OnProgress, TrainOutput
from finetune.validation import Validator, open_validator

_WORK = {"adapter", "checkpoints", "stages.json"}
_CURVES, _ROWS, _PLAN = "curves.json", "rows.jsonl", "plan.json"
#: Called with each validation's result and the number of steps; what it raises ends the training.
OnValidation = Callable[[ValidationResult, int], None]


@dataclass(frozen=True)
class TrainingResult:
    """A finished training, and its adapter's name and version."""

    name: str
    version: str
    path: Path
    base: str
    trained: TrainOutput
    scores: Mapping[str, Mapping[str, Any]]
    plan: RowPlan
    perplexity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    chain: Chain | None = None

    def as_json(self) -> dict[str, Any]:
        """The same for JSON."""
        trained = self.trained
        return {
            "adapter": self.name,
            "version": self.version,
            "path": str(self.path),
            "steps": trained.steps,
            "best_step": trained.best_step,
            "stopped": trained.stopped,
            "tokens_per_second": trained.tokens_per_second,
            "peak_bytes": trained.peak_bytes,
            "seconds": trained.seconds,
            "final_loss": trained.losses[-1],
            "truncated": list(trained.truncated),
            **self.plan.as_json(),
            "validation": dict(self.scores),
            "perplexity": dict(self.perplexity),
            **(self.chain.as_json() if self.chain is not None else {}),
        }


def train_adapter(
    job: TrainingJob,
    engine: TrainableEngine,
    on_progress: OnProgress,
    on_validation: OnValidation,
    on_replay: OnReplay = lambda progress: None,
) -> TrainingResult:
    """Train an adapter, or resume an interrupted training, and publish a version.

    Of several processes under a launcher rank 0 publishes, and the others' version is "". Raises
    BenchError where a protected domain regressed at every validation: nothing is published then.
    """
    check_chain(job)
    writing: AbstractContextManager[AdapterWriter | None] = nullcontext()
    if from_environment().is_main:
        writing = AdapterRegistry(Workspace(job.workspace).adapters).writing(job.name)
    with writing as writer:
        prepared = prepare_training(job, engine, on_replay)
        chain = None
        if job.recipe.stages == (SFT,):
            trained = run_training(prepared, on_progress, on_validation)
        else:
            trained, chain = run_stages(prepared, on_progress, on_validation)
        if writer is None:
            model, plan = engine.info.model, prepared.plan
            return TrainingResult(job.name, "", prepared.folder, model, trained, {}, plan)
        result = publish(prepared, writer, trained, chain)
    clean_up(prepared.folder)
    return result


# --- prepare


@dataclass(frozen=True)
class PreparedTraining:
    """A training that is ready to run: its rows in order, and the validator of its model."""

    job: TrainingJob
    engine: TrainableEngine
    folder: Path
    rows: Sequence[Row]
    validator: Validator | None
    plan: RowPlan
    texts: HeldOutText | None = None

    @property
    def settings(self) -> TrainingArguments:
        """The settings of the job with the passes that fit into its budget."""
        return self.plan.settings(self.job.settings)


def prepare_training(
    job: TrainingJob, engine: TrainableEngine, on_replay: OnReplay
) -> PreparedTraining:
    """Validate the base model, and choose and mix the rows, or read those of before.

    Rank 0 does this and broadcasts plan and rows; other ranks have no validator.
    """
    folder = Workspace(job.workspace).training(f"{job.name}-{_digest(job, engine)}")
    validator: Validator | None = None

    def prepare() -> str:
        nonlocal validator
        with activity(f"asking the validation questions of {job.name}"):
            validator = open_validator(job, engine) if job.settings.eval_every else None
        missed = validator.missed if validator is not None else None
        with activity(f"choosing and mixing the rows of {job.name}"):
            plan, rows = _plan_and_rows(folder, job, engine, missed, on_replay)
        return json.dumps(asdict(replace(plan, rows=None))) + "\n" + row_lines(rows)

    team = join_group(engine.model.device)
    told, _, lines = run_on_rank_zero(team, engine.model, prepare).partition("\n")
    plan, rows = RowPlan(**json.loads(told)), read_rows(lines, folder / _ROWS)
    # Where several processes share a model, no pass is possible without all of them.
    is_measured = team.size == 1 and bool(job.settings.eval_every)
    with activity(f"measuring the perplexity of held-out text of {job.name}"):
        texts = HeldOutText(job, engine) if is_measured else None
    return PreparedTraining(job, engine, folder, rows, validator, plan, texts)


def _plan_and_rows(
    folder: Path,
    job: TrainingJob,
    engine: TrainableEngine,
    missed: Mapping[str, Sequence[str]] | None,
    on_replay: OnReplay,
) -> tuple[RowPlan, Sequence[Row]]:
    """Plan and rows of the interrupted training, or new ones, which are stored."""
    path = folder / _ROWS
    if path.is_file():
        stored = folder / _PLAN
        plan = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
        rows = load_rows(path)
        return RowPlan(**{"available": len(rows), "chosen": len(rows), **plan}), rows
    if job.recipe.stages[0] != SFT:  # later stages take the prepared rows as they are
        count = sum(map(len, prepared_rows(job).values()))
        return RowPlan(count, count), []
    model, device = engine.model, engine.model.device.type
    speed = former_speed(job, engine.info.model, device)
    machine = Machine(model.config, engine.tokenizer, device, speed)
    plan = plan_rows(job, prepared_rows(job), machine, missed)
    watch = ReplayWatch(replay_seconds(job, machine, plan), on_replay)
    mixed = build_mix(job, engine, plan.rows, watch).rows
    write_json(folder / _PLAN, asdict(replace(plan, rows=None)))
    write_text(path, row_lines(mixed))
    return plan, mixed


def _digest(job: TrainingJob, engine: TrainableEngine) -> str:
    """Fingerprint of job, rows and base model: equal when the command is repeated."""
    data = {name: text_sha256(row_lines(rows)) for name, rows in prepared_rows(job).items()}
    parts = [job.name, result_recipe(job), data, job.own, engine.info.digest]
    parts += [asdict(job.budget)] if job.budget != NO_BUDGET else []
    undeclared = [name for name in job.strengths if not job.domains[name].protected]
    parts += [undeclared] if undeclared else []
    parts += [job.mode.value] if job.mode is not None else []
    return text_sha256(json.dumps(parts, sort_keys=True, default=str))[:12]


# --- train


def run_training(
    prepared: PreparedTraining, on_progress: OnProgress, on_validation: OnValidation
) -> TrainOutput:
    """Train, from the last checkpoint where there is one."""
    with activity(f"training {prepared.job.name}"):
        return train_rows(
            prepared.rows,
            prepared.engine.model,
            prepared.engine.tokenizer,
            prepared.settings,
            checkpoint_folder=prepared.folder,
            adapter_folder=prepared.folder / "adapter",
            validate=validation_of(prepared, on_validation),
            notify=on_progress,
            on_best=_perplexity_of(prepared),
        )


def _perplexity_of(prepared: PreparedTraining) -> Callable[[Any], None] | None:
    """Measurement of the weights that were saved, where there is text to measure on."""
    texts = prepared.texts
    if texts is None:
        return None

    def measure(live: Any) -> None:
        with prepared.engine.answering_with(live):
            texts.measure()

    return measure


def validation_of(prepared: PreparedTraining, on_validation: OnValidation) -> Validate | None:
    """Validation of the live model, which answers through the engine that holds it."""
    validator = prepared.validator
    if validator is None:
        return None

    def validate(live: Any, step: int) -> ValidationResult:
        name = prepared.job.name
        with activity(f"validating {name}"), prepared.engine.answering_with(live):
            result = validator.evaluate()
        on_validation(result, step)
        return result

    return validate


def run_stages(
    prepared: PreparedTraining, on_progress: OnProgress, on_validation: OnValidation
) -> tuple[TrainOutput, Chain]:
    """Run all stages; the result is that of `sft`, or else of the stage that is kept."""
    folder, first, trained = prepared.folder, None, None
    if prepared.job.recipe.stages[0] == SFT:
        trained = run_training(prepared, on_progress, on_validation)
        scores = _best_scores(trained, folder)
        first = StageResult(
            "checkpoints/sft",
            trained.steps,
            trained.losses[-1],
            validation=scores,
            seconds=trained.tokens / max(trained.tokens_per_second, 1e-9),
        )
    validate = validation_of(prepared, on_validation)
    job, engine, validator = prepared.job, prepared.engine, prepared.validator
    chain = run_chain(ChainJob(job, engine, folder, validator, validate, on_progress), first)
    curves = folder / "adapter" / _CURVES
    before = json.loads(curves.read_text(encoding="utf-8")) if curves.is_file() else {}
    logs = {name: stage.log for name, stage in chain.stages.items() if stage.log}
    write_json(curves, {**before, "stages": logs})
    measure = _perplexity_of(prepared)
    if measure is not None and chain.kept != SFT:  # that of `sft` is measured
        with live_checkpoint(engine, chain.folder / chain.kept) as live:
            measure(live)
    for path in chain.folder.glob("*/adapter_config.json"):
        _set_base_name(path, engine.info.model)
    return (trained if trained is not None else chain_result(chain, engine.model.device)), chain


# --- publish


def publish(
    prepared: PreparedTraining,
    writer: AdapterWriter,
    trained: TrainOutput,
    chain: Chain | None = None,
) -> TrainingResult:
    """Publish a finished training as the newest version; BenchError where it did only harm."""
    job, model = prepared.job, prepared.engine.info.model
    scores = _best_scores(trained, prepared.folder)
    if chain is not None:
        scores = chain.stages[chain.kept].validation or scores
    draft = _draft(prepared, scores, trained)
    folder = chain.folder if chain is not None else None
    adapter = writer.publish(replace(draft, checkpoints=folder))
    version, path = adapter.card.version, adapter.folder
    perplexity = prepared.texts.changes if prepared.texts is not None else {}
    return TrainingResult(
        job.name, version, path, model, trained, scores, prepared.plan, perplexity, chain
    )


def clean_up(folder: Path) -> None:
    """Delete checkpoints and weights of a published training; its log and rows stay."""
    for path in folder.iterdir():
        if path.name in _WORK or path.name.startswith(("checkpoint-", "best-", "trl-", "steps-")):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _best_scores(trained: TrainOutput, folder: Path) -> Mapping[str, Any]:
    """The validation of the weights that were kept; BenchError where all were harmful."""
    good = [each for each in trained.validations if not each["fallen"]]
    if trained.validations and not good:
        names = ", ".join(f"`{name}`" for name in trained.regressed)
        raise BenchError(
            f"the training lowered {names} at every step that was validated; nothing is published",
            "set `replay` in the recipe higher, `learning_rate` lower, or `eval_every` lower; "
            f"the curves are in `{folder}`",
        )
    best = next((each for each in good if each["step"] == trained.best_step), None)
    return dict(best["detail"]) if best is not None else {}


def _weights(info: EngineInfo) -> dict[str, str]:
    """Which weights were trained, where they are not the model's own."""
    return {OWN_WEIGHTS: info.versions[OWN_WEIGHTS]} if OWN_WEIGHTS in info.versions else {}


def _speed(prepared: PreparedTraining, trained: TrainOutput) -> dict[str, Any]:
    """How fast `sft` went, by which others are planned; other stages tell nothing of it."""
    if prepared.job.recipe.stages[0] != SFT:
        return {}
    device = prepared.engine.model.device.type
    return {"device": device, "tokens_per_second": trained.tokens_per_second}


def _draft(
    prepared: PreparedTraining, scores: Mapping[str, Any], trained: TrainOutput
) -> AdapterDraft:
    job, info = prepared.job, prepared.engine.info
    _set_base_name(prepared.folder / "adapter" / "adapter_config.json", info.model)
    return AdapterDraft(
        job.name,
        prepared.folder / "adapter",
        job.settings.method,
        info.model,
        info.digest,
        recipe={**job.recipe.as_json(), **_weights(info), "training": asdict(job.settings)},
        data=dataset_cards(job),
        scores=scores,
        perplexity=prepared.texts.changes if prepared.texts is not None else {},
        curves=_CURVES,
        budget={**prepared.plan.as_json(), "rows_asked": job.budget.rows},
        speed=_speed(prepared, trained),
    )


def _set_base_name(path: Path, model: str) -> None:
    """Name the base as the user does: a path of this machine means nothing elsewhere."""
    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**config, "base_model_name_or_path": model})
