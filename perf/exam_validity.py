"""Whether an exam made of a textbook ranks models and subjects as MMLU does.

    BENCH_DATA=... python -m perf.exam_validity --models tiny smollm2 FILE.gguf

Of each textbook the questions are made by rules alone, as `bench improve --docs` makes them, and
nothing is set aside as known. Each model answers them and MMLU's test questions of the subject,
both as cloze without examples. Printed are the accuracies, how often two models stand in the same
order on both (and how often where MMLU tells them apart), and Spearman's correlation over the
subjects of each model.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from domainlift.files import write_text
from domainlift.jsonl import json_lines
from domainlift.sampling import hash_order
from domainlift.stats.intervals import wilson
from improve.exam.exam import TEST, VALIDATION
from improve.exam.make import make_exam
from perf.commands import bench_json, heading, line, rate
from rag.base import Chunk

#: MMLU's subject -> the textbook of it.
BOOKS = {
    "anatomy": "anatomy-physiology",
    "high_school_biology": "biology-book",
    "high_school_government_and_politics": "american-government",
    "high_school_psychology": "psychology",
    "high_school_us_history": "us-history",
    "high_school_world_history": "world-history",
    "philosophy": "introduction-philosophy",
}
_FORM = ("--scoring", "cloze", "--shots", "0")
Score = Mapping[str, Any]


def main() -> None:
    """Print a table of accuracies, and what they agree in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["tiny", "smollm2"])
    parser.add_argument("--subjects", nargs="+", default=list(BOOKS), choices=list(BOOKS))
    parser.add_argument("--limit", type=int, default=150, help="questions of each set")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    chosen = parser.parse_args()
    print(
        heading("subject", *(f"{each}, {of}" for each in _names(chosen) for of in ("exam", "MMLU")))
    )
    found: dict[str, list[tuple[Score, Score]]] = {}
    for subject in chosen.subjects:
        file = _write_exam(chosen.workspace, subject, BOOKS[subject], chosen.limit)
        pairs = [
            (_score(chosen, model, str(file)), _score(chosen, model, f"mmlu:{subject}"))
            for model in chosen.models
        ]
        found[subject] = pairs
        print(line(subject, *(rate(each) for pair in pairs for each in pair)), flush=True)
    print()
    print("\n".join(_agreement(found, _names(chosen))))


def _agreement(
    found: Mapping[str, Sequence[tuple[Score, Score]]], names: Sequence[str]
) -> list[str]:
    from scipy.stats import spearmanr

    same = {"all pairs": [0, 0], "pairs that MMLU tells apart": [0, 0]}
    for pairs in found.values():
        for one, two in combinations(pairs, 2):
            exam, mmlu = (one[i]["accuracy"] - two[i]["accuracy"] for i in (0, 1))
            low, high = sorted((one[1], two[1]), key=lambda each: each["accuracy"])
            apart = low["interval"][1] < high["interval"][0]
            for name, counts in (("all pairs", True), ("pairs that MMLU tells apart", apart)):
                same[name][0] += counts and exam * mmlu > 0
                same[name][1] += counts
    told = []
    for name, (agreeing, n) in same.items():
        share = wilson(agreeing, n)
        bounds = f"[{share.low:.3f}, {share.high:.3f}]"
        told.append(f"{name} of models ranked alike: {agreeing} of {n} {bounds}")
    for place, name in enumerate(names):
        columns = [[pairs[place][i]["accuracy"] for pairs in found.values()] for i in (0, 1)]
        rho = spearmanr(*columns).statistic
        told.append(f"{name}: Spearman over {len(found)} subjects {rho:+.2f}")
    return told


def _score(chosen: argparse.Namespace, model: str, task: str) -> Score:
    words = ("run", "--model", model, "--task", task, *_FORM, "--limit", str(chosen.limit))
    return dict(bench_json(chosen.workspace, *words)["overall"])


def _write_exam(workspace: Path, subject: str, book: str, most: int) -> Path:
    """The examined wordings of a book's facts, as a file of questions."""
    path = Path(os.environ["BENCH_DATA"]) / "textbooks" / f"{book}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(each) for each in file]
    chunks = [
        Chunk(row["text"], row["module"], f"{row['title']} > {row['section']}") for row in rows
    ]
    exam = make_exam(subject, "", chunks)
    asked = [each for each in exam.questions if each.split in (TEST, VALIDATION)]
    asked = sorted(asked, key=lambda each: hash_order(each.id))[:most]
    target = workspace / f"{subject}.jsonl"
    keys = ("id", "question", "options", "answer")
    told = [{key: getattr(each, key) for key in keys} for each in asked]
    write_text(target, json_lines({**row, "split": "test", "domain": subject} for row in told))
    return target


def _names(chosen: argparse.Namespace) -> list[str]:
    return [Path(model).stem for model in chosen.models]


if __name__ == "__main__":
    main()
