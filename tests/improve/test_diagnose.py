"""The parts of the loop that decide what counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.runs.store import Record
from ensemble.router.keywords import SHIPPED, read_keywords
from improve.diagnose import without_contaminated
from improve.prove import router
from improve.score import RunOptions
from improve.train import TreatmentBuilder
from knowledge_bases.domains import load_domains


def record(name: str, domain: str, leak: str = "") -> Record:
    return Record(name, domain, "t", "ok", chosen=0, correct=True, leak=leak)


def test_a_question_that_stands_in_the_knowledge_base_counts_in_no_treatment() -> None:
    plain = [record("q1", "history"), record("q2", "history"), record("q3", "law")]
    helped = [record("q1", "history", leak="chunk"), record("q2", "history"), record("q3", "law")]
    found = without_contaminated({"base": plain, "rag": helped}, {"rag": ["history"]})
    assert {arm: [r.id for r in own] for arm, own in found["history"].items()} == {
        "base": ["q2"],
        "rag": ["q2"],
    }
    assert set(found["law"]) == {"base"}


def test_a_router_is_known_by_its_words_and_not_by_its_day() -> None:
    keywords = read_keywords(SHIPPED, load_domains(None))
    later = replace(keywords, fitted={**keywords.fitted, "date": "2031-01-01"})
    fewer = {name: found for name, found in keywords.domains.items() if name != "law"}
    other = replace(keywords, domains=fewer)
    targets = ("biology", "history")
    assert router(keywords, targets).name == router(later, targets).name
    assert router(keywords, targets).name != router(other, targets).name
    assert router(keywords, targets).name != router(keywords, ("biology",)).name


def test_what_cannot_be_built_is_noted_with_the_way_on(tmp_path: Path) -> None:
    domain = load_domains(None)["law"]
    notes: list[str] = []
    place = RunOptions(tmp_path)
    lifter = TreatmentBuilder({"law": replace(domain, sources=())}, place, own=True, notes=notes)
    assert lifter.build(["law"]) == {}
    (note,) = notes
    assert note.startswith("no knowledge base for law: ")
    assert "; " in note
