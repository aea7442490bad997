"""What a training is made of: prepared rows, and what the model knows already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.workspace import Workspace

if TYPE_CHECKING:
    from engines.base import TrainableEngine
    from finetune.data.mixing import Mix
    from finetune.data.recipe import Recipe
    from finetune.data.rows import Row
    from finetune.replay_questions import TrainingDomains
    from finetune.training.settings import TrainingArguments
    from knowledge_bases.domains import Domain


@dataclass(frozen=True)
class TrainingJob:
    """What is to be trained.

    `data` names the data set of a domain where it is not called like the domain; with `own` only
    the domains' own questions keep and watch what is known.
    """

    name: str
    recipe: Recipe
    settings: TrainingArguments
    workspace: Path
    data: Mapping[str, str] = field(default_factory=dict)
    mirror: Path | None = None
    own: bool = False

    @property
    def learned(self) -> tuple[str, ...]:
        """The domains that the recipe names."""
        return tuple(self.recipe.proportions)


def training_domains(wish: TrainingJob, domains: Mapping[str, Domain]) -> TrainingDomains:
    """The domains around a training."""
    from finetune.replay_questions import TrainingDomains

    learned = tuple(name for name in wish.learned if not _strength(domains, name))
    return TrainingDomains(domains, learned, wish.mirror, wish.own)


def build_mix(wish: TrainingJob, around: TrainingDomains, engine: TrainableEngine | None) -> Mix:
    """Mix prepared rows with known ones; without an engine, with as many as there would be."""
    from finetune.data.mixing import mix, natural_size
    from finetune.data.question_rows import row_losses
    from finetune.replay_questions import replay_rows_of

    recipe = wish.recipe
    rows = prepared_rows(wish, around)
    known: list[Row] = []
    wanted = sum(map(len, rows.values())) * recipe.replay
    if wanted or any(name in around.domains and not rows.get(name) for name in recipe.proportions):
        known = replay_rows_of(around, max(round(wanted), 1), recipe.seed, engine)
    every = {name: [*own] for name, own in rows.items()}
    for row in known:
        every.setdefault(row.domain, []).append(row)
    new = natural_size(every, replace(recipe, replay=0.0))
    size = round(new * (1 + recipe.replay)) if known else new
    if engine is None:
        return mix(every, replace(recipe, order="shuffled"), size)
    return mix(every, recipe, size, lambda rows: row_losses(rows, engine))


def prepared_rows(
    wish: TrainingJob, around: TrainingDomains, split: str = "train"
) -> dict[str, list[Row]]:
    """The rows of each domain of the recipe; a strength may have none but known ones."""
    from finetune.data.row_io import load_rows

    rows: dict[str, list[Row]] = {}
    for name in wish.learned:
        folder = Workspace(wish.workspace).data_set(wish.data.get(name, name))
        if not folder.is_dir() and _strength(around.domains, name):
            continue
        rows[name] = load_rows(folder, split)
    return rows


def validation_rows(wish: TrainingJob, around: TrainingDomains) -> dict[str, list[Row]]:
    """Rows to judge by where a learned domain has no validation questions, at most 200 each."""
    from finetune.replay_questions import MAX_QUESTIONS

    bare = [name for name in around.learned if not around.tasks(name, "validation")]
    every = prepared_rows(wish, around, "validation") if bare else {}
    return {name: every[name][:MAX_QUESTIONS] for name in bare if every.get(name)}


def _strength(domains: Mapping[str, Domain], name: str) -> bool:
    return name in domains and domains[name].protected
