"""MMLU: 57 subjects, four options each, five examples per subject."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.tasks.base import ALL_MODES, Example, Task, TaskRequest, data_digest, with_ids
from benchmarks.tasks.hub_or_mirror import hub_split, mirror_file
from benchmarks.tasks.readers import csv_rows
from domainlift.errors import Malformed, NoSuch
from domainlift.types import Question, Split
from engines.base import Mode

HUB = "cais/mmlu"
LETTERS = "ABCD"
SHARED_PASSAGE = 200
# Our name of a split -> (the mirror's, the hub's); the five examples are all there is to train on.
SPLITS: dict[Split, tuple[str, str]] = {
    "train": ("dev", "dev"),
    "validation": ("val", "validation"),
    "test": ("test", "test"),
}
SUBJECTS = (
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge",
    "college_biology", "college_chemistry", "college_computer_science", "college_mathematics",
    "college_medicine", "college_physics", "computer_security", "conceptual_physics",
    "econometrics", "electrical_engineering", "elementary_mathematics", "formal_logic",
    "global_facts", "high_school_biology", "high_school_chemistry",
    "high_school_computer_science", "high_school_european_history", "high_school_geography",
    "high_school_government_and_politics", "high_school_macroeconomics",
    "high_school_mathematics", "high_school_microeconomics", "high_school_physics",
    "high_school_psychology", "high_school_statistics", "high_school_us_history",
    "high_school_world_history", "human_aging", "human_sexuality", "international_law",
    "jurisprudence", "logical_fallacies", "machine_learning", "management", "marketing",
    "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios", "nutrition",
    "philosophy", "prehistory", "professional_accounting", "professional_law",
    "professional_medicine", "professional_psychology", "public_relations", "security_studies",
    "sociology", "us_foreign_policy", "virology", "world_religions",
)  # fmt: skip


def load_mmlu(want: TaskRequest) -> Task:
    """Load one subject; its five dev questions, in file order, are the examples."""
    if want.rest not in SUBJECTS:
        raise NoSuch("MMLU subject", want.rest, SUBJECTS)
    questions = cluster_by_passage(_questions(want, want.split))
    dev = () if want.split == "train" else _questions(want, "train")
    examples = tuple(Example(question) for question in dev)
    return Task(
        name=want.name,
        domain=want.domain,
        questions=questions,
        examples=examples,
        description=description(want.rest),
        mode=Mode.LETTER,
        modes=ALL_MODES,
        shots=5 if examples else 0,
        digest=data_digest(questions, examples),
    )


def description(subject: str) -> str:
    """Return the header of a subject's prompts."""
    spoken = subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {spoken}.\n\n"


def cluster_by_passage(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Mark the questions that share a long passage as one cluster."""
    passages = [_passage(question.text) for question in questions]
    count = Counter(passages)
    return tuple(
        replace(question, cluster=_short_hash(passage)) if _shared(passage, count) else question
        for question, passage in zip(questions, passages, strict=True)
    )


def _passage(text: str) -> str:
    return text.rpartition("\n")[0].rstrip()


def _shared(passage: str, count: Counter[str]) -> bool:
    return len(passage) >= SHARED_PASSAGE and count[passage] > 1


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _questions(want: TaskRequest, split: Split) -> tuple[Question, ...]:
    drafts = (
        Question("", want.domain, want.name, text.strip(), options, answer, split=split)
        for text, options, answer in _rows(want.data, want.rest, split)
    )
    return with_ids(want.name, drafts)


def _rows(
    data: Path | None, subject: str, split: Split
) -> Iterator[tuple[str, tuple[str, ...], int]]:
    short, name = SPLITS[split]
    file = f"{subject}_{short}.csv"
    path = mirror_file(data, "mmlu", short, file)
    if path is not None:
        return _from_csv(path)
    return map(_from_hub, hub_split(HUB, subject, name, layout=f"mmlu/{short}/{file}"))


def _from_csv(path: Path) -> Iterator[tuple[str, tuple[str, ...], int]]:
    for line, cells in csv_rows(path, strict=False):
        if len(cells) != 6:
            raise Malformed(path, f"row has {len(cells)} cells instead of 6", line=line)
        letter = cells[5].strip()
        if letter not in tuple(LETTERS):
            raise Malformed(path, f"answer `{letter}` is not A, B, C or D", line=line)
        yield cells[0], tuple(cells[1:5]), LETTERS.index(letter)


def _from_hub(row: dict[str, Any]) -> tuple[str, tuple[str, ...], int]:
    return row["question"], tuple(row["choices"]), int(row["answer"])
