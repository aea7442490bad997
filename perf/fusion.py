"""nDCG@10 of vectors, BM25 and both fused, on judged sets of different kinds.

BENCH_DATA=FOLDER python -m perf.fusion --workspace FOLDER scifact review cloze scripts

review    review questions of four chapters of a microbiology textbook; their section is right
cloze     sentences of these chapters, a name or year asked for, a third of the words dropped
scripts   36 questions in Chinese, Japanese and Thai, written for this project

Each becomes a folder in BEIR layout and goes through `bench kb eval`'s code. The last column is
the difference of both fused to the better half, in pairs, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from perf.shapes import mirror

_SEED = 7
_CHAPTERS = (
    "Mechanisms of Microbial Genetics",
    "Adaptive Specific Host Defenses",
    "Respiratory System Infections",
    "Nervous System Infections",
)
_SCRIPTS = Path(__file__).parents[1] / "tests" / "fixtures" / "three_scripts.jsonl"

#: Documents by id, (title, text), and questions with the id of the right document.
Made = tuple[dict[str, tuple[str, str]], list[tuple[str, str]]]


def main() -> None:
    """Print one row per set."""
    parser = argparse.ArgumentParser(description="fusion against its halves")
    parser.add_argument("sets", nargs="+", choices=["scifact", *SETS])
    parser.add_argument("--workspace", type=Path, required=True)
    settings = parser.parse_args()
    print("| set | chunks | n | dense | BM25 | fused | fused − better half |")
    print("|---|---|---|---|---|---|---|")
    for name in settings.sets:
        folder = mirror() / name if name == "scifact" else settings.workspace / f"{name}-set"
        if name != "scifact":
            write_set(folder, *SETS[name]())
        print(_row(name, folder, settings.workspace), flush=True)


def _row(name: str, folder: Path, workspace: Path) -> str:
    import numpy as np

    from rag.index.index import open_index
    from rag.library import open_cached
    from rag.quality.beir import evaluate_retrieval, read_set, search_set
    from rag.quality.metrics import ndcg

    model, root = open_cached("all-MiniLM-L6-v2", workspace), workspace / f"{name}-index"
    evaluate_retrieval(folder, model, root=root)
    judged = read_set(folder)
    with open_index(root, "beir") as index:
        found = search_set(index, model, judged.queries)
        chunks, weight = len(index.chunks), index.manifest.weight
    values = {
        method: np.array([ndcg(judged.qrels[q], found[method][q], 10) for q in judged.queries])
        for method in ("dense", "bm25", "hybrid")
    }
    better = max(("dense", "bm25"), key=lambda method: values[method].mean())
    apart = values["hybrid"] - values[better]
    half = 1.96 * apart.std(ddof=1) / len(apart) ** 0.5
    own = "" if weight is None else f" (weight {weight})"
    means = " | ".join(f"{each.mean():.3f}" for each in values.values())
    between = f"{apart.mean() - half:+.3f} to {apart.mean() + half:+.3f}"
    return (
        f"| {name}{own} | {chunks:,} | {len(apart)} | {means} | {apart.mean():+.3f} [{between}] |"
    )


def write_set(
    folder: Path, documents: Mapping[str, tuple[str, str]], asked: list[tuple[str, str]]
) -> None:
    """Write documents and questions in BEIR layout."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    rows = [{"_id": i, "title": t, "text": text} for i, (t, text) in documents.items()]
    queries = [{"_id": f"q{n}", "text": text} for n, (text, _) in enumerate(asked)]
    for name, lines in (("corpus", rows), ("queries", queries)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    judged = "".join(f"q{n}\t{right}\t1\n" for n, (_, right) in enumerate(asked))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")


def _sections() -> Iterator[tuple[str, str, list[str], list[str]]]:
    """The id, heading, lines and review questions of each section of the chapters."""
    with gzip.open(mirror() / "textbooks" / "microbiology.jsonl.gz", "rt") as file:
        rows: list[dict[str, Any]] = [json.loads(line) for line in file]
    for row in rows:
        if not set(_CHAPTERS).isdisjoint(row["path"]):
            lines = row["text"].split("\n")
            asked = [x for x in lines if x.strip().endswith("?") and len(x) < 200]
            heading = " > ".join(part for part in (row["title"], row["section"]) if part)
            kept = [line for line in lines if line not in asked]
            yield f"{row['module']}|{row['section']}", heading, kept, asked


def review() -> Made:
    """Questions at the end of sections; those of case studies, "Part 2", need the whole case."""
    documents, asked = {}, []
    for id_, heading, lines, questions in _sections():
        documents[id_] = (heading, "\n".join(lines))
        asked += [(q.strip(), id_) for q in questions if "Part " not in id_ and any(lines)]
    return documents, asked


def cloze() -> Made:
    """Three hundred sentences that ask for a name or a year in them."""
    draw = random.Random(_SEED)
    documents, _ = review()
    sentences = [
        (sentence.rstrip(".!?").split(), id_)
        for id_, (_, text) in documents.items()
        for sentence in re.split(r"(?<=[.!?])\s+", text)
    ]
    draw.shuffle(sentences)
    asked = []
    for words, id_ in sentences:
        names = [n for n, w in enumerate(words) if n and re.fullmatch(r"[A-Z][a-z]+|\d{4}", w)]
        if names and len(words) in range(10, 31):
            gap = draw.choice(names)
            kept = [w for n, w in enumerate(words) if n != gap and draw.random() > 1 / 3]
            asked.append((f"who or what {' '.join(kept)}?", id_))
    return documents, asked[:300]


def scripts() -> Made:
    """A text and a question each."""
    rows = [json.loads(line) for line in _SCRIPTS.read_text(encoding="utf-8").splitlines()]
    documents = {f"d{n}": ("", row["text"]) for n, row in enumerate(rows)}
    return documents, [(row["question"], f"d{n}") for n, row in enumerate(rows)]


SETS: Mapping[str, Callable[[], Made]] = {"review": review, "cloze": cloze, "scripts": scripts}


if __name__ == "__main__":
    main()
