"""Train adapters in a workspace: rows and known material go in, published versions come out.

<workspace>/training/<adapter>-<digest>/   a training under way: its rows, checkpoints and logs
<workspace>/models/<adapter>-<digest>/     what a full training made
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError
from finetune.places import adapters_root, data_folder, model_folder, training_folder

if TYPE_CHECKING:
    from benchmarks.forgetting import Standing, Watch
    from benchmarks.watching import Surroundings
    from engines.transformers import TransformersEngine
    from finetune.adapters import Writer
    from finetune.base import Row
    from finetune.mixing import Mix
    from finetune.outcome import Notify, Trained
    from finetune.recipe import Recipe
    from finetune.settings import Training
    from finetune.watching import Validate
    from knowledge_bases.domains import Domain

_CURVES = "curves.json"
#: Called with the domains' standing at each validation.
Look = Callable[["Standing"], None]


@dataclass(frozen=True)
class Wish:
    """What is to be trained.

    `data` names the data set of a domain where it is not called like the domain; with `own` only
    the domains' own questions keep and watch what is known.
    """

    name: str
    recipe: Recipe
    settings: Training
    workspace: Path
    data: Mapping[str, str] = field(default_factory=dict)
    mirror: Path | None = None
    own: bool = False

    @property
    def learned(self) -> tuple[str, ...]:
        """The domains that the recipe names."""
        return tuple(self.recipe.proportions)


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


def surroundings(wish: Wish, domains: Mapping[str, Domain]) -> Surroundings:
    """The domains around a training."""
    from benchmarks.watching import Surroundings

    learned = tuple(name for name in wish.learned if not _strength(domains, name))
    return Surroundings(domains, learned, wish.mirror, wish.own)


def gather(wish: Wish, around: Surroundings, engine: TransformersEngine | None) -> Mix:
    """Mix prepared rows with known ones; without an engine, with as many as there would be."""
    from benchmarks.learning import hardness
    from benchmarks.watching import known_rows
    from finetune.mixing import mix, natural_size

    recipe = wish.recipe
    rows = prepared_rows(wish, around)
    known: list[Row] = []
    wanted = sum(map(len, rows.values())) * recipe.replay
    if wanted or any(name in around.domains and not rows.get(name) for name in recipe.proportions):
        known = known_rows(around, max(round(wanted), 1), recipe.seed, engine)
    every = {name: [*own] for name, own in rows.items()}
    for row in known:
        every.setdefault(row.domain, []).append(row)
    new = natural_size(every, replace(recipe, replay=0.0))
    size = round(new * (1 + recipe.replay)) if known else new
    if engine is None:
        return mix(every, replace(recipe, order="shuffled"), size)
    return mix(every, recipe, size, lambda rows: hardness(rows, engine))


def prepared_rows(wish: Wish, around: Surroundings) -> dict[str, list[Row]]:
    """The rows of each domain of the recipe; a strength may have none but known ones."""
    from finetune.rowfile import load_rows

    rows: dict[str, list[Row]] = {}
    for name in wish.learned:
        folder = data_folder(wish.workspace, wish.data.get(name, name))
        if not folder.is_dir() and _strength(around.domains, name):
            continue
        rows[name] = load_rows(folder)
    return rows


def train_adapter(
    wish: Wish,
    around: Surroundings,
    engine: TransformersEngine,
    notify: Notify,
    look: Look,
) -> Made:
    """Train, or go on with the training that was interrupted, and publish what came out.

    Raises BenchError where protected knowledge falls at once, so that nothing can be published.
    """
    from benchmarks.watching import watch_over
    from finetune.adapters import Adapters
    from finetune.training import train

    settings = wish.settings
    with Adapters(adapters_root(wish.workspace)).writing(wish.name) as writer:
        name = f"{wish.name}-{_digest(wish, around, engine)}"
        folder = training_folder(wish.workspace, name)
        rows = _rows(folder, wish, around, engine)
        # Trained prompts stand before a row and change no weights, so the scorer cannot see them.
        watching = bool(settings.eval_every) and not settings.prompts
        watch = watch_over(around, engine, wish.recipe.seed) if watching else None
        trained = train(
            rows,
            engine.model,
            engine.tokenizer,
            settings,
            checkpoint_folder=folder,
            adapter_folder=folder / "adapter",
            validate=_validation(watch, around, look) if watch is not None else None,
            notify=notify,
        )
        scores = _scores(trained, folder)
        made = _published(wish, engine, writer, folder, trained, scores)
    _tidy(folder)
    return made


def _strength(domains: Mapping[str, Domain], name: str) -> bool:
    return name in domains and domains[name].protected


def _rows(
    folder: Path, wish: Wish, around: Surroundings, engine: TransformersEngine
) -> Sequence[Row]:
    """The rows of the interrupted training, or those that are mixed now."""
    from domainlift.files import disk_errors, write_text
    from finetune.rowfile import load_rows, row_lines

    path = folder / "rows.jsonl"
    if path.is_file():
        return load_rows(path)
    rows = gather(wish, around, engine).rows
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(path, row_lines(rows))
    return rows


def _digest(wish: Wish, around: Surroundings, engine: TransformersEngine) -> str:
    """What makes this training the same one when the command is repeated."""
    from finetune.rowfile import row_lines

    rows = prepared_rows(wish, around)
    data = {name: _sha256(row_lines(own)) for name, own in rows.items()}
    parts = [wish.name, asdict(wish.recipe), asdict(wish.settings), data, wish.own]
    return _sha256(json.dumps([*parts, engine.info.digest], sort_keys=True, default=str))[:12]


def _validation(watch: Watch, around: Surroundings, look: Look) -> Validate:
    """Look at the live model, which answers through the engine that holds it."""
    from finetune.watching import Validation

    def validate(live: Any) -> Validation:
        standing = watch.look()
        look(standing)
        return Validation(_worth(standing, around), standing.fallen, _told(watch, standing))

    return validate


def _worth(standing: Standing, around: Surroundings) -> float:
    """The learned domains' mean accuracy and what the strengths lost or gained on average."""
    learned = [standing.accuracy[name] for name in around.learned if name in standing.accuracy]
    kept = [c.difference for name, c in standing.changes.items() if name in around.protected]
    return sum(learned) / len(learned) + (sum(kept) / len(kept) if kept else 0.0)


def _told(watch: Watch, standing: Standing) -> dict[str, Any]:
    return {
        name: {
            "base": watch.base.get(name),
            "adapter": standing.accuracy.get(name),
            "interval": [change.interval.low, change.interval.high],
            "n": change.n,
            "gains": change.gains,
            "losses": change.losses,
        }
        for name, change in standing.changes.items()
        if name
    }


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


def _published(
    wish: Wish,
    engine: TransformersEngine,
    writer: Writer,
    folder: Path,
    trained: Trained,
    scores: Mapping[str, Any],
) -> Made:
    from finetune.adapters import Draft

    if wish.settings.method == "full":
        path = _model(wish, folder)
        version = path.name.rpartition("-")[2]
        return Made(wish.name, version, path, engine.info.model, trained, scores)
    _name_base(folder / "adapter" / "adapter_config.json", engine.info.model)
    draft = Draft(
        wish.name,
        folder / "adapter",
        wish.settings.method,
        engine.info.model,
        engine.info.digest,
        recipe={**asdict(wish.recipe), "training": asdict(wish.settings)},
        data=_data_cards(wish),
        scores=scores,
        curves=_CURVES,
    )
    adapter = writer.publish(draft)
    version = adapter.card.version
    return Made(wish.name, version, adapter.folder, engine.info.model, trained, scores)


def _model(wish: Wish, folder: Path) -> Path:
    """Move a fully trained model to its place."""
    from domainlift.files import new_folder

    path = model_folder(wish.workspace, folder.name)
    with new_folder(path) as build:
        shutil.copytree(folder / "adapter", build, dirs_exist_ok=True)
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


def _tidy(folder: Path) -> None:
    """Keep the log and the rows of a finished training; the rest is published."""
    for path in folder.iterdir():
        if path.name == "adapter" or path.name.startswith(("checkpoint-", "best-")):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
