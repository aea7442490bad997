"""ARC: school science questions with three to five options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tasks.multiple_choice import Choice, MultipleChoice, choice_columns
from engines.base import Mode


def _from_hub(row: Mapping[str, Any]) -> Choice:
    choices = row["choices"]
    return row["question"], choices["text"], choices["label"].index(row["answerKey"])


ARC = MultipleChoice(
    name="arc",
    hub="allenai/ai2_arc",
    subjects={"easy": "ARC-Easy", "challenge": "ARC-Challenge"},
    splits={
        "train": ("train", "arc/{}/train.jsonl"),
        "validation": ("validation", "arc/{}/validation.jsonl"),
        "test": ("test", "arc/{}/test.jsonl"),
    },
    from_hub=_from_hub,
    from_mirror=choice_columns(options="choices", answer="answer"),
    mode=Mode.CLOZE,
    pool=25,
)
