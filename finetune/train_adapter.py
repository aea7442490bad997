"""Train adapters in a workspace: rows and known material go in, published versions come out.

<workspace>/training/<adapter>-<digest>/   a training under way: its rows, checkpoints and logs
<workspace>/models/<adapter>-<digest>/     what a full training made
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError, Misuse
from domainlift.workspace import Workspace
from finetune.distributed.process_group import from_environment
from finetune.jobs import TrainingJob, build_mix, prepared_rows

if TYPE_CHECKING:
    from engines.base import TrainableEngine
    from finetune.adapters.registry import Adapter, AdapterDraft, AdapterWriter
    from finetune.data.rows import Row
    from finetune.replay_questions import TrainingDomains
    from finetune.training.early_stopping import Validate, Validation
    from finetune.training.train_result import OnProgress, TrainResult
    from finetune.validation import ValidationScores, Validator

_CURVES, _ROWS = "curves.json", "rows.jsonl"
#: Called with what each validation saw, and after how many steps.
OnValidation = Callable[["ValidationScores", int], None]
#: Called with each validation's result; raises to end the training.
Judge = Callable[["Validation"], None]


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: its adapter's name and version, or the model of a full training."""

    name: str
    version: str
    path: Path
    base: str
    trained: TrainResult
    scores: Mapping[str, Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The same for JSON."""
        done = self.trained
        return {
            "adapter": self.name,
            "version": self.version,
            "path": str(self.path),
            "steps": done.steps,
            "best_step": done.best_step,
            "stopped": done.stopped,
            "tokens_per_second": done.tokens_per_second,
            "peak_bytes": done.peak_bytes,
            "seconds": done.seconds,
            "final_loss": done.losses[-1],
            "truncated": list(done.truncated),
            "validation": dict(self.scores),
        }


@dataclass(frozen=True)
class PreparedTraining:
    """A training laid out: the rows in their order, and the questions that watch it."""

    wish: TrainingJob
    around: TrainingDomains
    engine: TrainableEngine
    folder: Path
    rows: Sequence[Row]
    eye: Validator | None


def find_existing(wish: TrainingJob, model: str, digest: str) -> Adapter | None:
    """The newest published adapter of the same rows, settings and base model; None without one."""
    from finetune.adapters.registry import AdapterRegistry

    known = AdapterRegistry(Workspace(wish.workspace).adapters)
    names = [name for name in known.list() if name.split("/")[0] == wish.name]
    recipe, data = _deciding(wish), _data_cards(wish)
    for name in reversed(names):
        card = known.show(name)
        if (_without_ways(card.recipe, wish), card.data) == (recipe, data):
            found = known.open(name)
            with suppress(Misuse):  # it was trained on another model
                found.check_base(model, digest)
                return found
    return None


def prepare_training(
    wish: TrainingJob, around: TrainingDomains, engine: TrainableEngine, part: str = ""
) -> PreparedTraining:
    """Mix the rows, or take those of the interrupted training, and ask the base model.

    Of several processes the first one does, and tells the others, which have no eye.
    """
    from finetune.data.row_io import read_rows, row_lines
    from finetune.distributed.process_group import join_group
    from finetune.distributed.rank_zero import run_on_rank_zero
    from finetune.validation import open_validator

    name = f"{wish.name}-{part}{_digest(wish, around, engine)}"
    folder = Workspace(wish.workspace).training(name)
    eye: Validator | None = None

    def prepare() -> str:
        nonlocal eye
        rows = _rows(folder, wish, around, engine)
        eye = open_validator(wish, around, engine) if wish.settings.eval_every else None
        return row_lines(rows)

    told = run_on_rank_zero(join_group(engine.model.device), engine.model, prepare)
    rows = read_rows(told, folder / _ROWS)
    return PreparedTraining(wish, around, engine, folder, rows, eye)


def run_training(
    lesson: PreparedTraining, notify: OnProgress, look: OnValidation, judge: Judge | None = None
) -> TrainResult:
    """Train from the last checkpoint, where one is; `judge` may end it by raising."""
    from finetune.training.train import train_rows

    return train_rows(
        lesson.rows,
        lesson.engine.model,
        lesson.engine.tokenizer,
        lesson.wish.settings,
        checkpoint_folder=lesson.folder,
        adapter_folder=lesson.folder / "adapter",
        validate=validation(lesson, look, judge),
        notify=notify,
    )


def train_adapter(
    wish: TrainingJob,
    around: TrainingDomains,
    engine: TrainableEngine,
    notify: OnProgress,
    look: OnValidation,
) -> TrainingResult:
    """Train, or go on with the training that was interrupted, and publish what came out.

    Of several processes under a launcher the first one publishes, and the others' version is "".
    Raises BenchError where protected knowledge falls at once, so that nothing can be published.
    """
    with adapter_writer(wish) as writer:
        lesson = prepare_training(wish, around, engine)
        trained = run_training(lesson, notify, look)
        if writer is None:
            return TrainingResult(wish.name, "", lesson.folder, engine.info.model, trained, {})
        made = publish(lesson, writer, trained)
    clean_up(lesson.folder)
    return made


@contextmanager
def adapter_writer(wish: TrainingJob) -> Iterator[AdapterWriter | None]:
    """Be the only one who trains this adapter; of a launcher's processes the first is asked."""
    from finetune.adapters.registry import AdapterRegistry

    if from_environment().is_main:
        with AdapterRegistry(Workspace(wish.workspace).adapters).writing(wish.name) as writer:
            yield writer
    else:
        yield None


def publish(
    lesson: PreparedTraining, writer: AdapterWriter, trained: TrainResult
) -> TrainingResult:
    """Make a finished training the newest version; BenchError where it did harm."""
    scores = _scores(trained, lesson.folder)
    model = lesson.engine.info.model
    if lesson.wish.settings.method == "full":
        path = _model(lesson)
        version = path.name.rpartition("-")[2]
        return TrainingResult(lesson.wish.name, version, path, model, trained, scores)
    adapter = writer.publish(_draft(lesson, scores))
    return TrainingResult(
        lesson.wish.name, adapter.card.version, adapter.folder, model, trained, scores
    )


def clean_up(folder: Path) -> None:
    """Keep the log and the rows of a finished training; the rest is published."""
    for path in folder.iterdir():
        if path.name == "adapter" or path.name.startswith(("checkpoint-", "best-")):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _rows(
    folder: Path, wish: TrainingJob, around: TrainingDomains, engine: TrainableEngine
) -> Sequence[Row]:
    """The rows of the interrupted training, or those that are mixed now."""
    from domainlift.files import disk_errors, write_text
    from finetune.data.row_io import load_rows, row_lines

    path = folder / _ROWS
    if path.is_file():
        return load_rows(path)
    rows = build_mix(wish, around, engine).rows
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(path, row_lines(rows))
    return rows


def _deciding(wish: TrainingJob) -> dict[str, Any]:
    """The recipe as JSON, with those settings that decide the result."""
    made = {**asdict(wish.recipe), "training": wish.settings.result_settings()}
    return dict(json.loads(json.dumps(made)))


def _without_ways(recipe: Mapping[str, Any], wish: TrainingJob) -> dict[str, Any]:
    """The same of a recipe that was published."""
    training = {
        k: v for k, v in recipe["training"].items() if k not in wish.settings.execution_settings()
    }
    return {**recipe, "training": training}


def _digest(wish: TrainingJob, around: TrainingDomains, engine: TrainableEngine) -> str:
    """What makes this training the same one when the command is repeated."""
    from finetune.data.row_io import row_lines

    rows = prepared_rows(wish, around)
    data = {name: _sha256(row_lines(own)) for name, own in rows.items()}
    parts = [wish.name, _deciding(wish), data, wish.own]
    return _sha256(json.dumps([*parts, engine.info.digest], sort_keys=True, default=str))[:12]


def validation(
    lesson: PreparedTraining, look: OnValidation, judge: Judge | None = None
) -> Validate | None:
    """Look at the live model, which answers through the engine that holds it."""
    from finetune.training.early_stopping import Validation

    eye = lesson.eye
    if eye is None:
        return None

    def validate(live: Any, step: int) -> Validation:
        with lesson.engine.answering_with(live):
            seen = eye.evaluate()
        look(seen, step)
        found = Validation(seen.objective, seen.regressed, seen.details)
        if judge is not None:
            judge(found)
        return found

    return validate


def _scores(trained: TrainResult, folder: Path) -> Mapping[str, Any]:
    """What validation said of the weights that were kept; BenchError where all were harmful."""
    good = [each for each in trained.validations if not each["fallen"]]
    if trained.validations and not good:
        names = ", ".join(f"`{name}`" for name in trained.fallen)
        raise BenchError(
            f"the training lowered {names} before it lifted anything; nothing is published",
            "set `replay` in the recipe higher, `learning_rate` lower, or `eval_every` lower; "
            f"the curves are in `{folder}`",
        )
    best = next((each for each in good if each["step"] == trained.best_step), None)
    return dict(best["detail"]) if best is not None else {}


def _draft(lesson: PreparedTraining, scores: Mapping[str, Any]) -> AdapterDraft:
    from finetune.adapters.registry import AdapterDraft

    wish, info = lesson.wish, lesson.engine.info
    _name_base(lesson.folder / "adapter" / "adapter_config.json", info.model)
    return AdapterDraft(
        wish.name,
        lesson.folder / "adapter",
        wish.settings.method,
        info.model,
        info.digest,
        recipe={**asdict(wish.recipe), "training": asdict(wish.settings)},
        data=_data_cards(wish),
        scores=scores,
        curves=_CURVES,
    )


def _model(lesson: PreparedTraining) -> Path:
    """Move a fully trained model to its place."""
    from domainlift.files import atomic_folder

    path = Workspace(lesson.wish.workspace).model(lesson.folder.name)
    with atomic_folder(path) as build:
        shutil.copytree(lesson.folder / "adapter", build, dirs_exist_ok=True)
    return path


def _name_base(path: Path, model: str) -> None:
    """Name the base as the user does: where it lay on this machine says nothing elsewhere."""
    from domainlift.files import write_json

    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**config, "base_model_name_or_path": model})


def _data_cards(wish: TrainingJob) -> dict[str, Any]:
    """What is known of the rows, by domain: counts, licences, sources, digest."""
    cards = {}
    for name in wish.learned:
        path = Workspace(wish.workspace).data_set(wish.data.get(name, name)) / "card.json"
        if path.is_file():
            cards[name] = json.loads(path.read_text(encoding="utf-8"))
    return cards


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
