"""Parts of the loop that decide what counts."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.held_out.gate import GateCriteria, MinGain
from benchmarks.held_out.split import split_tasks
from benchmarks.runs.store import Record
from benchmarks.tasks.registry import load_task
from ensemble.plan import DomainTreatment
from ensemble.router.keywords import SHIPPED, Keywords, read_keywords
from improve.notes import Notes
from improve.options import RunOptions
from improve.prove import Candidate, keyword_routing
from improve.retrieve import build_knowledge_bases
from improve.route import learnable
from improve.select import without_contaminated
from knowledge_bases.domains import load_domains
from rag.retrieval_gate import Gate


def record(name: str, domain: str, leak: str = "") -> Record:
    return Record(name, domain, "t", "ok", chosen=0, correct=True, leak=leak)


def test_a_question_that_stands_in_the_knowledge_base_counts_in_no_treatment() -> None:
    plain = [record("q1", "history"), record("q2", "history"), record("q3", "law")]
    helped = [record("q1", "history", leak="chunk"), record("q2", "history"), record("q3", "law")]
    found = without_contaminated({"base": plain, "rag": helped}, {"rag": ["history"]})
    assert {name: [r.id for r in own] for name, own in found["history"].items()} == {
        "base": ["q2"],
        "rag": ["q2"],
    }
    assert set(found["law"]) == {"base"}


def test_a_router_is_known_by_its_words_and_not_by_its_day(tmp_path: Path) -> None:
    keywords = read_keywords(SHIPPED, load_domains(None))
    later = replace(keywords, fitted={**keywords.fitted, "date": "2031-01-01"})
    fewer = {name: found for name, found in keywords.domains.items() if name != "law"}
    other = replace(keywords, domains=fewer)
    targets = ("biology", "history")

    def name(of: Keywords, *to: str) -> str:
        return keyword_routing(of, to, tmp_path).name

    assert name(keywords, *targets) == name(later, *targets)
    assert name(keywords, *targets) != name(other, *targets)
    assert name(keywords, *targets) != name(keywords, "biology")


def test_a_router_for_one_domain_learns_to_tell_it_from_the_built_in_ones(tmp_path: Path) -> None:
    path = tmp_path / "garden.jsonl"
    rows = [{"question": f"When is rose number {n} pruned?", "answer": "late"} for n in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    domains = load_domains(None)
    split = split_tasks([load_task(str(path), data=None, domains=domains)], None, domains)
    found = learnable(split, domains, None)
    own = [row.text for row in found if row.domain == "garden"]
    assert own == [q.text for task in split.selection for q in task.questions]
    assert len({row.domain for row in found}) > 3


def test_what_cannot_be_built_is_noted_with_the_way_on(tmp_path: Path) -> None:
    domain = replace(load_domains(None)["law"], sources=())
    context: Any = SimpleNamespace(domains={"law": domain}, run_options=RunOptions(tmp_path))
    notes = Notes()
    assert build_knowledge_bases(context, ["law"], notes) == {}
    (note,) = notes.lines
    assert note.startswith("no knowledge base for law: ")
    assert "; " in note


def test_a_candidate_of_version_0_1_keeps_its_digest() -> None:
    """Its use of held-out questions was recorded under this digest: it is no second use."""
    gate = Gate(
        float("-inf"), 1.0, 1, n=84, n_opened=84, gains=63, losses=0, p=1.0842021724855044e-19
    )
    treatments = {"history": DomainTreatment("rag", knowledge_base="g0001-156b70b1", gate=gate)}
    keywords = read_keywords(SHIPPED, load_domains(None))
    candidate = Candidate(treatments, keywords, RunOptions(Path()), GateCriteria(MinGain(0.05)), {})
    parts = repr((sorted(treatments.items()), replace(keywords, fitted={}).digest))
    old = parts.replace("DomainTreatment(", "Care(")
    assert "let_in=84" in old
    assert candidate.digest == sha256(old.encode()).hexdigest()[:12]
