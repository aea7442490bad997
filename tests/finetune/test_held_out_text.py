"""Perplexity of held-out text before and after a training."""

import math
from pathlib import Path

import pytest

from domainlift.workspace import Workspace
from engines.base import Answer
from finetune.data.recipe import Recipe
from finetune.data.row_io import row_lines
from finetune.data.rows import Row
from finetune.held_out_text import HeldOutText
from finetune.jobs import TrainingJob
from finetune.training.settings import TrainingArguments
from knowledge_bases.domains import load_domains


class Reader:
    """Gives each word `bits` bits."""

    bits = 3.0

    def answer(self, requests):
        for request in requests:
            words = len(request.options[0].split())
            yield Answer(request.id, logprobs=(-self.bits * math.log(2) * words,))

    def close(self):
        pass


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    folder = Workspace(tmp_path).data_set("biology")
    folder.mkdir(parents=True)
    rows = [Row(f"Question {n}?", " two words", "biology") for n in range(7)]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text(row_lines(rows), encoding="utf-8")
    recipe = Recipe({"biology": 1.0})
    return TrainingJob("biology", recipe, TrainingArguments(), tmp_path, load_domains())


def test_both_kinds_of_text_are_measured_before_and_after(job: TrainingJob) -> None:
    engine = Reader()
    texts = HeldOutText(job, engine)
    engine.bits = 2.0
    texts.measure()
    assert texts.changes.keys() == {"domain", "general"}
    for change in texts.changes.values():
        assert (change["baseline"], change["candidate"]) == pytest.approx((8, 4))
        assert change["interval"] == pytest.approx([-4, -4])
    assert texts.changes["domain"]["n"] == 7


def test_general_text_is_of_other_domains(job: TrainingJob) -> None:
    asked = [r.id for r in HeldOutText(job, Reader())._requests["general"]]
    assert asked
    assert not any(name.startswith("biology/") for name in asked)
    assert not any(name.startswith("handbook/") for name in asked)
