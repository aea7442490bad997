"""lm-eval's own tasks on questions of ours: its templates, examples and scores, without the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from benchmarks.tasks.base import Task
from domainlift.types import Question


def lm_eval_task(task: Task, questions: Sequence[Question], *, cloze: bool = False) -> Any:
    """lm-eval's task of that benchmark, by letters or `cloze`, on these questions.

    MMLU has both in lm-eval, ARC cloze only. Examples are the first, as ours.
    """
    import lm_eval
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    benchmark, subject = task.name.split(":")
    files = {
        "mmlu": f"mmlu/default/mmlu_{subject}.yaml",
        "mmlu cloze": f"mmlu/continuation/mmlu_{subject}.yaml",
        "arc cloze": f"arc/arc_{subject}.yaml",
    }
    config = load_yaml(
        Path(lm_eval.__file__).parent / "tasks" / files[benchmark + " cloze" * cloze]
    )
    splits = {
        "test": [_row(benchmark, question) for question in questions],
        "dev": [_row(benchmark, example.question) for example in task.examples],
    }
    own = {
        "custom_dataset": lambda **_: {k: Dataset.from_list(rows) for k, rows in splits.items()},
        "test_split": "test",
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "first_n"},
    }
    unwanted = ("dataset_path", "dataset_name", "training_split", "validation_split")
    return ConfigurableTask(config={k: v for k, v in config.items() if k not in unwanted} | own)


def lm_eval_scores(lm: Any, task: Any, shots: int) -> Mapping[str, bool]:
    """Whether each question of a task is right by lm-eval's metric: acc_norm where it has that."""
    documents = list(task.test_docs())
    instances = []
    for document in documents:
        context = task.fewshot_context(document, num_fewshot=shots)
        instances.append(task.construct_requests(document, context, metadata=("", 0, 1)))
    answers = iter(lm.loglikelihood([one for own in instances for one in own], disable_tqdm=True))
    scores = {}
    for document, own in zip(documents, instances, strict=True):
        found = task.process_results(document, [next(answers) for _ in own])
        scores[document["id"]] = bool(found.get("acc_norm", found["acc"]))
    return scores


def _row(benchmark: str, question: Question) -> dict[str, Any]:
    """A question in the form in which the hub has it."""
    row = {"id": question.id, "question": question.text}
    if benchmark == "mmlu":
        return {**row, "choices": list(question.options), "answer": question.answer}
    labels = list(ascii_uppercase[: len(question.options)])
    choices = {"text": list(question.options), "label": labels}
    return {**row, "choices": choices, "answerKey": labels[int(question.answer)]}
