from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from domainlift.errors import Misuse
from engines.base import Mode
from finetune.data.mixing import REPLAY
from finetune.data.recipe import Recipe
from finetune.jobs import TrainingJob, build_mix, in_mode, prepared_rows, training_arguments
from finetune.training.settings import TrainingArguments
from knowledge_bases.domains import load_domains


def job(workspace: Path, own: bool = True) -> TrainingJob:
    recipe, domains = Recipe({"biology": 1.0}), load_domains()
    return TrainingJob(
        "biology", recipe, TrainingArguments(), workspace, domains, {"biology": "mine"}, own=own
    )


def test_strengths_of_a_recipe_are_protected_and_not_learned(tmp_path: Path) -> None:
    made = job(tmp_path)
    assert made.learned == ("biology",)
    assert set(made.protected) == {"mathematics", "philosophy", "reasoning"}
    mixed = replace(
        made, recipe=replace(made.recipe, proportions={"biology": 0.5, "mathematics": 0.5})
    )
    assert mixed.learned == ("biology",)
    handbook = replace(made, recipe=Recipe({"handbook": 1.0}))
    assert set(handbook.protected) == {"everyday", "language"}


def test_without_other_sources_only_the_domains_own_questions_are_used(tmp_path: Path) -> None:
    assert [task.name for task in job(tmp_path).tasks("biology", "train")] == ["own:biology"]
    assert job(tmp_path).tasks("of nobody", "train") == []


def test_replay_rows_are_counted_without_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    rows = [{"prompt": f"{n}?", "completion": " yes", "domain": "biology"} for n in range(40)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    made = job(tmp_path)
    assert {name: len(own) for name, own in prepared_rows(made).items()} == {"biology": 40}
    mix = build_mix(made, None)
    assert mix.new == {"biology": 40}
    assert set(mix.replay) == {"mathematics", "philosophy"}
    assert sum(row.kind == REPLAY for row in mix.rows) == sum(mix.replay.values()) > 0


def test_changes_win_over_the_settings_of_a_recipe() -> None:
    recipe = replace(Recipe({"biology": 1.0}), training={"rank": 4, "batch": 2})
    settings = training_arguments(recipe, ["rank=8"])
    assert (settings.rank, settings.batch) == (8, 2)
    with pytest.raises(Misuse, match="no setting `rnak`"):
        training_arguments(recipe, ["rnak=8"])


def test_tasks_are_asked_in_the_mode_of_the_training_where_they_can_be(tmp_path: Path) -> None:
    made = job(tmp_path)
    [own] = made.tasks("biology", "train")
    assert own.mode is Mode.CLOZE
    [lettered] = replace(made, mode=Mode.LETTER).tasks("biology", "train")
    assert (lettered.mode, lettered.questions) == (Mode.LETTER, own.questions)
    assert in_mode(replace(own, modes=frozenset({Mode.CLOZE})), Mode.LETTER).mode is Mode.CLOZE
