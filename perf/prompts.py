"""Prompts built per second, for all of 5-shot MMLU: lm-eval's task code against ours, in one run.

    BENCH_DATA=FOLDER python -m perf.prompts

lm-eval builds the prompts of as many questions as it can in 20 s, ours those of all questions.
The prompts of the questions that both have built are compared.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.tasks.mmlu import SUBJECTS
from benchmarks.tasks.registry import load_task
from domainlift.types import Treatment
from engines.base import Mode
from knowledge_bases.domains import load_domains
from perf import shapes

_SECONDS = 20.0


def main() -> None:
    """Time both and print one table."""
    logging.disable(logging.WARNING)
    domains = load_domains()
    tasks = [load_task(f"mmlu:{s}", data=shapes.mirror(), domains=domains) for s in SUBJECTS]
    start = time.perf_counter()
    ours = {}
    for task in tasks:
        prompter = PromptBuilder(task, PromptFormat(Mode.LETTER, 5, chat=False))
        for question in task.questions:
            ours[question.id] = prompter.request(question, Treatment()).prompt.text
    seconds = time.perf_counter() - start
    built, spent = _theirs(tasks)
    same = sum(ours[key] == text for key, text in built.items())
    a, b = len(built) / spent, len(ours) / seconds
    print("|  | lm-eval | ours | ratio |\n|---|---|---|---|")
    print(f"| prompts per second | {a:,.0f} | {b:,.0f} | {b / a:,.0f} |")
    print(f"| prompts built | {len(built):,} | {len(ours):,} | |")
    print(f"\nequal byte for byte: {same} of {len(built)}")


def _theirs(tasks: list[Any]) -> tuple[dict[str, str], float]:
    """lm-eval's own template and few-shot code on the same questions, until the time is up."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    built: dict[str, str] = {}
    spent = 0.0
    for task in tasks:
        rows = [_row(q) for q in task.questions[:60]]
        shots = [_row(e.question) for e in task.examples]
        made = ConfigurableTask(
            config={
                "task": task.name.replace(":", "_"),
                "custom_dataset": lambda rows=rows, shots=shots, **_: {
                    "test": Dataset.from_list(rows),
                    "dev": Dataset.from_list(shots),
                },
                "test_split": "test",
                "fewshot_split": "dev",
                "fewshot_config": {"sampler": "first_n"},
                "output_type": "multiple_choice",
                "doc_to_text": "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\n"
                "C. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:",
                "doc_to_choice": ["A", "B", "C", "D"],
                "doc_to_target": "answer",
                "description": task.description,
                "num_fewshot": 5,
            }
        )
        start = time.perf_counter()
        for row, doc in zip(rows, made.test_docs(), strict=True):
            built[row["id"]] = made.fewshot_context(doc, num_fewshot=5)
        spent += time.perf_counter() - start
        if spent > _SECONDS:
            break
    return built, spent


def _row(question: Any) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.text,
        "choices": list(question.options),
        "answer": question.answer,
    }


if __name__ == "__main__":
    main()
