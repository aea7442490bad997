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
from perf.lm_eval_tasks import lm_eval_task

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
    built: dict[str, str] = {}
    spent = 0.0
    for task in tasks:
        made = lm_eval_task(task, task.questions[:60])
        start = time.perf_counter()
        for document in made.test_docs():
            built[document["id"]] = made.fewshot_context(document, num_fewshot=5)
        spent += time.perf_counter() - start
        if spent > _SECONDS:
            break
    return built, spent


if __name__ == "__main__":
    main()
