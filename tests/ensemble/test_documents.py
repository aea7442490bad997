"""Routes by the sentences of a user's own documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domainlift.errors import Malformed
from domainlift.sampling import hash_order
from ensemble.fit.documents import fit_sentences, questions_elsewhere
from ensemble.fit.training_data import Labelled
from ensemble.router.decision import BASE
from ensemble.router.documents import FARTHER, sentences_bytes, sentences_from_bytes
from ensemble.router.keywords import DomainTerms, Keywords, read_keywords, write_keywords
from ensemble.router.router import Router

MODEL = "words"
SENTENCES = [
    "The ferry is blue.",
    "The mail bags are grey.",
    "Odd Brekke made the safe.",
    "The pier is swept on Wednesday.",
]
ELSEWHERE = [
    Labelled(f"What is number {n} of the {word}?", (), "general", "train")
    for n in range(50)
    for word in ("moon", "river", "opera", "harvest")
]


def embed(texts: Sequence[str], model: str) -> Any:
    """Vectors of the words of texts, one direction each; the model's name is checked."""
    assert model == MODEL
    vectors = np.zeros((len(texts), 512), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().strip(".?").split():
            vectors[row, int.from_bytes(hash_order(word)) % 512] += 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def others(rows: Sequence[Labelled], *names: str) -> dict[str, list[str]]:
    """The questions that belong elsewhere, for each of these domains."""
    return {name: questions_elsewhere(name, rows) for name in names}


def keywords(elsewhere: Sequence[Labelled] = ELSEWHERE) -> Keywords:
    """A file that knows one word of the ferry and one of the law, and sentences of the ferry."""
    return Keywords(
        {"ferry": DomainTerms(terms={"ferry": 9.0}), "law": DomainTerms(terms={"statute": 9.0})},
        sentences=fit_sentences(MODEL, {"ferry": SENTENCES}, others(elsewhere, "ferry"), embed),
    )


@pytest.mark.parametrize(
    ("question", "domain", "by"),
    [
        ("Which ferry is blue?", "ferry", "keywords"),
        ("What colour are the mail bags?", "ferry", "documents"),
        ("Who made the safe?", "ferry", "documents"),
        ("Which day is the pier swept on?", "ferry", "documents"),
        ("Why ferry?", None, BASE),
        ("Which planet has rings?", None, BASE),
        ("What is number 7 of the moon?", None, BASE),
        ("", None, BASE),
        ("   ", None, BASE),
    ],
)
def test_a_question_that_words_miss_goes_to_documents_that_hold_something_near(
    question: str, domain: str | None, by: str
) -> None:
    decision = Router(keywords(), ["ferry"], embed=embed).route(question)
    assert (decision.domain, decision.decided_by) == (domain, by)
    if by == "documents":
        ((where, sentence),) = decision.nearest
        assert where == "ferry"
        assert sentence in decision.reason
        assert [term for term, _ in decision.matched] == [sentence]
        assert sentence in SENTENCES
        assert decision.probability >= FARTHER


def test_documents_of_what_is_no_target_get_nothing() -> None:
    decision = Router(keywords(), ["law"], embed=embed).route("Who made the safe?")
    assert decision.domain is None


def test_without_a_model_only_words_decide() -> None:
    assert Router(keywords(), ["ferry"]).route("Who made the safe?").domain is None


def test_few_questions_of_elsewhere_route_nothing() -> None:
    router = Router(keywords(ELSEWHERE[:40]), ["ferry"], embed=embed)
    assert router.route("Who made the safe?").domain is None


def test_at_most_two_in_a_hundred_of_what_is_elsewhere_is_sent() -> None:
    near = [Labelled(f"Who made the safe {n}?", (), "general", "train") for n in range(600)]
    router = Router(keywords(near), ["ferry"], embed=embed)
    assert sum(router.route(row.text).domain == "ferry" for row in near) <= 12


def test_questions_of_the_domain_itself_are_not_elsewhere() -> None:
    own = [Labelled("Who made the safe?", (), "ferry", "train")] * 300
    shared = [Labelled("Who made the safe?", (), "law", "train", also=("ferry",))] * 300
    router = Router(keywords([*ELSEWHERE, *own, *shared]), ["ferry"], embed=embed)
    assert router.route("Who made the safe?").domain == "ferry"


def test_of_two_domains_the_one_that_is_nearer_for_itself_is_taken() -> None:
    sentences = {"ferry": SENTENCES, "mill": ["The mill grinds oats.", "Runar Eide owns the mill."]}
    made = Keywords(
        {name: DomainTerms() for name in sentences},
        sentences=fit_sentences(MODEL, sentences, others(ELSEWHERE, *sentences), embed),
    )
    router = Router(made, embed=embed)
    assert router.route("Who owns the mill?").domain == "mill"
    assert router.route("Who made the safe?").domain == "ferry"


def test_the_file_keeps_what_it_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    written = keywords()
    write_keywords(path, written)
    found = read_keywords(path)
    assert found == written
    assert found.digest == written.digest != Keywords(written.domains).digest
    held = sentences_from_bytes(found.sentences)
    assert held.sentences == tuple(SENTENCES)
    assert held.domains == ("ferry",) * 4
    assert len(held.elsewhere["ferry"]) == len(ELSEWHERE)
    assert set(held.questions["ferry"]) == {row.text for row in ELSEWHERE}


def test_without_documents_there_is_no_file(tmp_path: Path) -> None:
    assert fit_sentences(MODEL, {}, {}, embed) == b""
    assert fit_sentences(MODEL, {"ferry": []}, others(ELSEWHERE, "ferry"), embed) == b""


@pytest.mark.parametrize("keep", [0, 40, -40])
def test_a_damaged_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "routes.yaml"
    write_keywords(path, keywords())
    (beside,) = tmp_path.glob("*.npz")
    beside.write_bytes(beside.read_bytes()[:keep])
    with pytest.raises(Malformed, match=r"`sentences` names `routes-.*npz`, which is not there"):
        read_keywords(path)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    asked = {"ferry": ["Who?"]}
    content = sentences_bytes(
        MODEL, {"ferry": SENTENCES}, np.zeros((2, 4)), asked, {"ferry": [0.1]}
    )
    with pytest.raises(ValueError, match="belong together"):
        sentences_from_bytes(content)
