"""GSM8K: school mathematics with a worked solution that ends in `#### number`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tasks.question_answer import OpenItem, QuestionAnswer


def final_number(solution: str) -> str:
    """Return the number after the last `####`, without thousands separators; "" if none."""
    _, mark, number = solution.rpartition("####")
    return number.strip().replace(",", "").removeprefix("$").rstrip(".") if mark else ""


def _solved(row: Mapping[str, Any]) -> OpenItem:
    for key in ("question", "answer"):
        if not isinstance(row.get(key), str):
            raise ValueError(f"no text under `{key}`")
    number = final_number(row["answer"])
    if not number:
        raise ValueError("answer does not end in `#### number`")
    # The solution is kept raw, calculator marks included, as other harnesses show it.
    return row["question"], row["answer"], number


GSM8K = QuestionAnswer(
    name="gsm8k",
    hub="openai/gsm8k",
    config="main",
    splits={"train": ("train", "gsm8k/train.jsonl"), "test": ("test", "gsm8k/test.jsonl")},
    reader=_solved,
    shots=5,
)
