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
from domainlift.workspace import adapters_root, data_folder, model_folder, training_folder
from finetune.distributed.process_group import launched
from finetune.jobs import Wish, gather, prepared_rows

if TYPE_CHECKING:
    from engines.local.engine import TransformersEngine
    from finetune.adapters.registry import Adapter, Draft, Writer
    from finetune.data.rows import Row
    from finetune.replay_questions import Surroundings
    from finetune.training.early_stopping import Validate, Validation
    from finetune.training.train_result import Notify, Trained
    from finetune.validation import Eye, Seen

_CURVES, _ROWS = "curves.json", "rows.jsonl"
#: Called with what each validation saw, and after how many steps.
Look = Callable[["Seen", int], None]
#: Called with each validation's result; raises to end the training.
Judge = Callable[["Validation"], None]


@dataclass(frozen=True)
class Made:
    """A finished training: its adapter's name and version, or the model of a full training."""

    name: str
    version: str
    path: Path
    base: str
    trained: Trained
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
class Lesson:
    """A training laid out: the rows in their order, and the questions that watch it."""

    wish: Wish
    around: Surroundings
    engine: TransformersEngine
    folder: Path
    rows: Sequence[Row]
    eye: Eye | None


def made_before(wish: Wish, model: str, digest: str) -> Adapter | None:
    """The newest published adapter of the same rows, settings and base model; None without one."""
    from finetune.adapters.registry import Adapters

    known = Adapters(adapters_root(wish.workspace))
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


def lay_out(wish: Wish, around: Surroundings, engine: TransformersEngine, part: str = "") -> Lesson:
    """Mix the rows, or take those of the interrupted training, and ask the base model.

    Of several processes the first one does, and tells the others, which have no eye.
    """
    from finetune.data.row_io import read_rows, row_lines
    from finetune.distributed.process_group import team
    from finetune.distributed.rank_zero import led
    from finetune.validation import open_eye

    name = f"{wish.name}-{part}{_digest(wish, around, engine)}"
    folder = training_folder(wish.workspace, name)
    eye: Eye | None = None

    def prepare() -> str:
        nonlocal eye
        rows = _rows(folder, wish, around, engine)
        eye = open_eye(wish, around, engine) if wish.settings.eval_every else None
        return row_lines(rows)

    told = led(team(engine.model.device), engine.model, prepare)
    rows = read_rows(told, folder / _ROWS)
    return Lesson(wish, around, engine, folder, rows, eye)


def run_lesson(lesson: Lesson, notify: Notify, look: Look, judge: Judge | None = None) -> Trained:
    """Train from the last checkpoint, where one is; `judge` may end it by raising."""
    from finetune.training.train import train

    return train(
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
    wish: Wish, around: Surroundings, engine: TransformersEngine, notify: Notify, look: Look
) -> Made:
    """Train, or go on with the training that was interrupted, and publish what came out.

    Of several processes under a launcher the first one publishes, and the others' version is "".
    Raises BenchError where protected knowledge falls at once, so that nothing can be published.
    """
    with writing(wish) as writer:
        lesson = lay_out(wish, around, engine)
        trained = run_lesson(lesson, notify, look)
        if writer is None:
            return Made(wish.name, "", lesson.folder, engine.info.model, trained, {})
        made = publish(lesson, writer, trained)
    tidy(lesson.folder)
    return made


@contextmanager
def writing(wish: Wish) -> Iterator[Writer | None]:
    """Be the only one who trains this adapter; of a launcher's processes the first is asked."""
    from finetune.adapters.registry import Adapters

    if launched().leads:
        with Adapters(adapters_root(wish.workspace)).writing(wish.name) as writer:
            yield writer
    else:
        yield None


def publish(lesson: Lesson, writer: Writer, trained: Trained) -> Made:
    """Make a finished training the newest version; BenchError where it did harm."""
    scores = _scores(trained, lesson.folder)
    model = lesson.engine.info.model
    if lesson.wish.settings.method == "full":
        path = _model(lesson)
        version = path.name.rpartition("-")[2]
        return Made(lesson.wish.name, version, path, model, trained, scores)
    adapter = writer.publish(_draft(lesson, scores))
    return Made(lesson.wish.name, adapter.card.version, adapter.folder, model, trained, scores)


def tidy(folder: Path) -> None:
    """Keep the log and the rows of a finished training; the rest is published."""
    for path in folder.iterdir():
        if path.name == "adapter" or path.name.startswith(("checkpoint-", "best-")):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _rows(
    folder: Path, wish: Wish, around: Surroundings, engine: TransformersEngine
) -> Sequence[Row]:
    """The rows of the interrupted training, or those that are mixed now."""
    from domainlift.files import disk_errors, write_text
    from finetune.data.row_io import load_rows, row_lines

    path = folder / _ROWS
    if path.is_file():
        return load_rows(path)
    rows = gather(wish, around, engine).rows
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(path, row_lines(rows))
    return rows


def _deciding(wish: Wish) -> dict[str, Any]:
    """The recipe as JSON, with those settings that decide the result."""
    made = {**asdict(wish.recipe), "training": wish.settings.deciding()}
    return dict(json.loads(json.dumps(made)))


def _without_ways(recipe: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    """The same of a recipe that was published."""
    training = {k: v for k, v in recipe["training"].items() if k not in wish.settings.ways()}
    return {**recipe, "training": training}


def _digest(wish: Wish, around: Surroundings, engine: TransformersEngine) -> str:
    """What makes this training the same one when the command is repeated."""
    from finetune.data.row_io import row_lines

    rows = prepared_rows(wish, around)
    data = {name: _sha256(row_lines(own)) for name, own in rows.items()}
    parts = [wish.name, _deciding(wish), data, wish.own]
    return _sha256(json.dumps([*parts, engine.info.digest], sort_keys=True, default=str))[:12]


def validation(lesson: Lesson, look: Look, judge: Judge | None = None) -> Validate | None:
    """Look at the live model, which answers through the engine that holds it."""
    from finetune.training.early_stopping import Validation

    eye = lesson.eye
    if eye is None:
        return None

    def validate(live: Any, step: int) -> Validation:
        with lesson.engine.look_through(live):
            seen = eye.look()
        look(seen, step)
        found = Validation(seen.worth, seen.fallen, seen.told)
        if judge is not None:
            judge(found)
        return found

    return validate


def _scores(trained: Trained, folder: Path) -> Mapping[str, Any]:
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


def _draft(lesson: Lesson, scores: Mapping[str, Any]) -> Draft:
    from finetune.adapters.registry import Draft

    wish, info = lesson.wish, lesson.engine.info
    _name_base(lesson.folder / "adapter" / "adapter_config.json", info.model)
    return Draft(
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


def _model(lesson: Lesson) -> Path:
    """Move a fully trained model to its place."""
    from domainlift.files import new_folder

    path = model_folder(lesson.wish.workspace, lesson.folder.name)
    with new_folder(path) as build:
        shutil.copytree(lesson.folder / "adapter", build, dirs_exist_ok=True)
    return path


def _name_base(path: Path, model: str) -> None:
    """Name the base as the user does: where it lay on this machine says nothing elsewhere."""
    from domainlift.files import write_json

    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**config, "base_model_name_or_path": model})


def _data_cards(wish: Wish) -> dict[str, Any]:
    """What is known of the rows, by domain: counts, licences, sources, digest."""
    cards = {}
    for name in wish.learned:
        path = data_folder(wish.workspace, wish.data.get(name, name)) / "card.json"
        if path.is_file():
            cards[name] = json.loads(path.read_text(encoding="utf-8"))
    return cards


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
