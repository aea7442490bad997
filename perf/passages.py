"""Effect of passages on `tiny` on the demo suite: ungated, gated, and with the right passage.

python -m perf.passages

Builds the demo domains' knowledge bases in a temporary workspace. Thresholds come from validation
questions; every figure is of test questions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from perf.commands import bench, bench_json, gain, rate

_DOMAINS = ("biology", "history", "security", "mathematics", "philosophy")
_WEAK = _DOMAINS[:3]
_K = 3


def main() -> None:
    """Print accuracy, paired difference and recall per domain."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bench(folder, "kb", "build", *_DOMAINS, "--own")
        outcomes = {
            "ungated, 3 passages": _run(folder, "--rag-gate", "off", "--passages", str(_K)),
            "gated": _run(folder),
        }
        oracle = _oracle()
        recall = {domain: _recall(folder, domain) for domain in _WEAK}
    base = outcomes["gated"]["base"]["domains"]
    print("|  | " + " | ".join(f"{d} (n {base[d]['n']})" for d in _DOMAINS) + " |")
    print("|---" * (len(_DOMAINS) + 1) + "|")
    print("| base | " + " | ".join(rate(base[d]) for d in _DOMAINS) + " |")
    for label, outcome in outcomes.items():
        scores, pairs = outcome["domains"], outcome["paired"]
        print(f"| {label} | " + " | ".join(rate(scores[d]) for d in _DOMAINS) + " |")
        print("| … difference | " + " | ".join(gain(pairs[d]) for d in _DOMAINS) + " |")
    print("| the right passage | " + " | ".join(oracle.get(d, "") for d in _DOMAINS) + " |")
    print(
        f"| recall@{_K} of its document | "
        + " | ".join(f"{recall[d]:.3f}" if d in recall else "" for d in _DOMAINS)
        + " |"
    )


def _run(folder: Path, *options: str) -> dict[str, Any]:
    asked = ("run", "--model", "tiny", "--suite", "demo", "--rag", *options)
    return bench_json(folder, *asked)


def _oracle() -> dict[str, str]:
    """Accuracy with exactly the section that holds the answer before the question."""
    from benchmarks.prompts import PromptFormat
    from benchmarks.runs.evaluate_task import evaluate_task
    from benchmarks.tasks.registry import load_task
    from domainlift.stats.intervals import wilson
    from domainlift.types import Treatment
    from engines.base import Mode
    from engines.registry import EngineOptions, open_engine
    from knowledge_bases.domains import load_domains

    engine = open_engine("tiny", EngineOptions())
    domains = load_domains()
    found = {}
    for domain in _WEAK:
        task = load_task(f"own:{domain}", data=None, domains=domains)
        sections = _sections(domain)
        treated = [(q, Treatment(passages=(sections[q.support],))) for q in task.questions]
        records = list(
            evaluate_task(task, PromptFormat(Mode.CLOZE, 0, chat=False), treated, engine)
        )
        right, n = sum(bool(r.correct) for r in records), len(records)
        interval = wilson(right, n)
        found[domain] = f"{right / n:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    engine.close()
    return found


def _sections(domain: str) -> dict[str, Any]:
    """The sections of a domain's own documents, as passages, by the name that questions use."""
    from dataclasses import replace

    from knowledge_bases.domains import load_domains
    from rag.base import Chunk, Hit
    from rag.corpus.documents import read_documents
    from rag.corpus.source_files import domain_sources, find_files
    from rag.treatment import as_passage

    own = replace(load_domains()[domain], sources=())
    files = find_files(domain_sources(own), folder=own.folder, data=None).files
    made = {}
    for file in files:
        for document in read_documents(file):
            meta = document.metadata
            chunk = Chunk(document.page_content, meta["source"], meta["heading"])
            made[meta["source"]] = as_passage(Hit(chunk, 1, 1.0))
    return made


def _recall(workspace: Path, domain: str) -> float:
    """The share of test questions whose supporting section is among the first three."""
    from benchmarks.tasks.registry import load_task
    from knowledge_bases.domains import load_domains
    from rag.library import library

    questions = load_task(f"own:{domain}", data=None, domains=load_domains()).questions
    with library(workspace) as shelves:
        found = shelves.open(domain).search([q.text for q in questions], _K)
    hits = [
        any(hit.chunk.source == q.support for hit in each)
        for q, each in zip(questions, found, strict=True)
    ]
    return sum(hits) / len(hits)


if __name__ == "__main__":
    main()
