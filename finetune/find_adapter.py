"""Search for a published adapter that a training would make again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from domainlift.errors import Misuse
from domainlift.workspace import Workspace
from finetune.adapters.registry import Adapter, AdapterRegistry
from finetune.jobs import TrainingJob
from finetune.training.settings import TrainingBudget

#: Key of a card's recipe that says which weights were trained.
OWN_WEIGHTS = "weights"


def find_existing(job: TrainingJob, model: str, digest: str) -> Adapter | None:
    """The newest published adapter of the same rows, settings and base model; None without one."""
    registry = AdapterRegistry(Workspace(job.workspace).adapters)
    names = [name for name in registry.list() if name.split("/")[0] == job.name]
    recipe, data = result_recipe(job), dataset_cards(job)
    for name in reversed(names):
        card = registry.show(name)
        same = (_without_execution_settings(card.recipe, job), card.data) == (recipe, data)
        if same and _fits_budget(card.budget, job.budget):
            adapter = registry.open(name)
            with suppress(Misuse):  # it was trained on another model
                adapter.check_base(model, digest)
                return adapter
    return None


def _fits_budget(made: Mapping[str, Any], budget: TrainingBudget) -> bool:
    """Whether an adapter is what this budget gives; one of all rows and passes is never less."""
    if not made or (made["rows_chosen"] == made["rows_available"] and made["passes"] is None):
        return budget.rows is None
    return (made["budget_seconds"], made["rows_asked"]) == (budget.seconds, budget.rows)


def result_recipe(job: TrainingJob) -> dict[str, Any]:
    """The recipe as JSON, with the settings that decide the result."""
    recipe = {**job.recipe.as_json(), "training": job.settings.result_settings()}
    return dict(json.loads(json.dumps(recipe)))


def _without_execution_settings(recipe: Mapping[str, Any], job: TrainingJob) -> dict[str, Any]:
    ignored = job.settings.execution_settings()
    training = {name: value for name, value in recipe["training"].items() if name not in ignored}
    # A GGUF file's own weights are the base model's, by which an adapter is compared apart.
    wanted = {name: value for name, value in recipe.items() if name != OWN_WEIGHTS}
    return {**wanted, "training": training}


def dataset_cards(job: TrainingJob) -> dict[str, Any]:
    """The data cards of the recipe's domains: counts, licences, sources, digests."""
    cards = {}
    for name in job.recipe.proportions:
        path = job.dataset(name) / "card.json"
        if path.is_file():
            cards[name] = json.loads(path.read_text(encoding="utf-8"))
    return cards
