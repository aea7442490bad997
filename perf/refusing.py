"""How well an assistant refuses: questions with and without an answer in its documents.

    bench demo && python -m perf.refusing

By the newest plan of the workspace, as `bench ask`. Questions with an answer are those of the
built-in handbook, questions without one those of `perf/unanswered.txt`. The rule of
`serving/support.py` was fitted on one half (`--half fit`: training questions, and the first ones of
the file); the figures are of the other (test questions, and the rest). No answer is written: the
rule looks at what was found.
"""

from __future__ import annotations

import argparse
import json
import random
from contextlib import closing
from pathlib import Path

from domainlift.stats.intervals import wilson
from engines.base import Message
from serving.asked import asked_in_chat
from serving.assistant import Assistant, open_assistant
from serving.support import LEAST, support

N = 50
HANDBOOK = Path("knowledge_bases/handbook/questions.jsonl")
UNANSWERED = Path("perf/unanswered.txt")


def main() -> None:
    """Print both kinds of errors with their intervals."""
    parser = argparse.ArgumentParser(description="answers that the documents do not hold")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--half", choices=("fit", "report"), default="report")
    settings = parser.parse_args()
    with closing(open_assistant(settings.workspace)) as assistant:
        answered = [_support(assistant, text) for text in _answered(settings.half)]
        without = [_support(assistant, text) for text in _unanswered(settings.half)]
    if settings.half == "fit":
        print(f"least sum with fewest errors: {_fitted(answered, without):.2f} (kept: {LEAST})")
    _tell("answered though nothing supports it", sum(each >= LEAST for each in without))
    _tell("refused though a passage holds it", sum(each < LEAST for each in answered))


def _support(assistant: Assistant, text: str) -> float:
    prepared = assistant.prepare(asked_in_chat([Message("user", text)]))
    found = support(prepared.treatment)
    return -1.0 if found is None else found


def _answered(half: str) -> list[str]:
    rows = [json.loads(line) for line in HANDBOOK.read_text(encoding="utf-8").splitlines()]
    split = {"fit": "train", "report": "test"}[half]
    texts = [row["question"] for row in rows if row["split"] == split]
    return random.Random(0).sample(texts, N)


def _unanswered(half: str) -> list[str]:
    lines = UNANSWERED.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if line and not line.startswith("#")]
    return texts[:N] if half == "fit" else texts[N : 2 * N]


def _fitted(answered: list[float], without: list[float]) -> float:
    """The least sum that makes fewest errors of both kinds together."""
    return min(
        sorted({*answered, *without}),
        key=lambda t: sum(each < t for each in answered) + sum(each >= t for each in without),
    )


def _tell(what: str, count: int) -> None:
    interval = wilson(count, N)
    print(f"{what}: {count} of {N} ({interval.low:.2f} to {interval.high:.2f})")


if __name__ == "__main__":
    main()
