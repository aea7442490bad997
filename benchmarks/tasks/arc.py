"""ARC: school science questions with three to five options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.tasks.base import ALL_MODES, Example, Task, TaskRequest, data_digest, with_ids
from benchmarks.tasks.hub_or_mirror import hub_split, mirror_file
from benchmarks.tasks.readers import jsonl_rows
from domainlift.errors import Malformed, NoSuch
from domainlift.types import Question, Split
from engines.base import Mode

HUB = "allenai/ai2_arc"
SETS = {"easy": "ARC-Easy", "challenge": "ARC-Challenge"}
POOL = 25


def load_arc(want: TaskRequest) -> Task:
    """Load one of the two sets; the first training items are the pool of the few-shot block."""
    if want.rest not in SETS:
        raise NoSuch("ARC set", want.rest, SETS)
    questions = _questions(want, want.split)
    train = _questions(want, "train")[:POOL] if _has_pool(want) else ()
    examples = tuple(Example(question) for question in train)
    return Task(
        name=want.name,
        domain=want.domain,
        questions=questions,
        examples=examples,
        description="",
        mode=Mode.CLOZE,
        modes=ALL_MODES,
        shots=0,
        digest=data_digest(questions, examples),
    )


def _has_pool(want: TaskRequest) -> bool:
    """Tell whether examples come along; a mirror that holds only the questions serves as well."""
    folder = SETS[want.rest]
    mirrored = mirror_file(want.data, "arc", folder, f"{want.split}.jsonl") is not None
    pool = mirror_file(want.data, "arc", folder, "train.jsonl")
    return want.split != "train" and (pool is not None or not mirrored)


def _questions(want: TaskRequest, split: Split) -> tuple[Question, ...]:
    drafts = (
        Question("", want.domain, want.name, text.strip(), options, answer, split=split)
        for text, options, answer in _rows(want.data, SETS[want.rest], split)
    )
    return with_ids(want.name, drafts)


def _rows(data: Path | None, name: str, split: Split) -> Iterator[tuple[str, tuple[str, ...], int]]:
    layout = f"arc/{name}/{split}.jsonl"
    path = mirror_file(data, "arc", name, f"{split}.jsonl")
    if path is None:
        return map(_from_hub, hub_split(HUB, name, split, layout=layout))
    return (_from_mirror(path, line, row) for line, row in jsonl_rows(path))


def _from_mirror(path: Path, line: int, row: dict[str, Any]) -> tuple[str, tuple[str, ...], int]:
    match row:
        case {"question": str(text), "choices": list(choices), "answer": int(answer)} if all(
            isinstance(choice, str) for choice in choices
        ) and 0 <= answer < len(choices):
            return text, tuple(choices), answer
    hint = "a row has `question`, `choices` (a list of texts) and `answer` (an index into it)"
    raise Malformed(path, "row is no ARC question", line=line, hint=hint)


def _from_hub(row: dict[str, Any]) -> tuple[str, tuple[str, ...], int]:
    choices = row["choices"]
    return row["question"], tuple(choices["text"]), choices["label"].index(row["answerKey"])
