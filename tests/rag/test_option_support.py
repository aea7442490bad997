"""The solver without a language model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.types import Question
from rag.base import Chunk, Hit
from rag.index.bm25 import BM25Index, write_bm25
from rag.quality.option_support import option_support

FACTS = {
    "Which organelle makes ATP?": ("mitochondrion", "The mitochondrion makes ATP for the cell."),
    "Which vessel carries blood from the heart?": ("artery", "An artery carries blood away."),
    "Where does a plant catch light?": ("chloroplast", "Light is caught in the chloroplast."),
    "Which cell fights bacteria?": ("phagocyte", "A phagocyte eats and fights bacteria."),
    "What copies a gene into RNA?": ("polymerase", "To copy genes into RNA is polymerase's task."),
}
ANSWERS = [answer for answer, _ in FACTS.values()]


def by_words(folder: Path, texts: Sequence[str]) -> Callable[[Sequence[str], int], list[list[Hit]]]:
    """Search texts by BM25."""
    chunks = [Chunk(text, f"{number}.md") for number, text in enumerate(texts)]
    write_bm25(folder, [chunk.indexed for chunk in chunks])
    index = BM25Index.open(folder)

    def search(queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [
            [Hit(chunks[row], rank, score) for rank, (row, score) in enumerate(found, 1)]
            for found in index.query(queries, k)
        ]

    return search


def nothing(queries: Sequence[str], k: int) -> list[list[Hit]]:
    return [[] for _ in queries]


def question(id_: str, text: str, options: Sequence[str], answer: int | str = 0) -> Question:
    return Question(id_, "biology", "task", text, tuple(options), answer)


def asked(seed: int = 0) -> list[Question]:
    rng = random.Random(seed)
    made = []
    for text, (answer, _) in FACTS.items():
        options = rng.sample(ANSWERS, len(ANSWERS))
        made.append(question(text, text, options, options.index(answer)))
    return made


def test_a_corpus_that_knows_the_answers(tmp_path: Path) -> None:
    found = option_support(asked(), by_words(tmp_path, [fact for _, fact in FACTS.values()]))
    assert (found.n, found.correct, found.chance) == (5, 5, 0.2)
    assert [guess.question for guess in found.guesses] == list(FACTS)
    assert all(guess.correct and guess.margin > 0 for guess in found.guesses)


def test_a_probe_repeats_itself(tmp_path: Path) -> None:
    search = by_words(tmp_path, [fact for _, fact in FACTS.values()])
    assert option_support(asked(), search) == option_support(asked(), search)


@given(st.integers(0, 1000))
def test_the_order_of_the_options_does_not_matter(seed: int) -> None:
    one, other = (option_support(asked(s), overlap) for s in (0, seed))
    for a, b, q, r in zip(one.guesses, other.guesses, asked(0), asked(seed), strict=True):
        if a.margin > 1e-6:
            assert q.options[a.chosen] == r.options[b.chosen]
            assert a.margin == pytest.approx(b.margin)


def overlap(queries: Sequence[str], k: int) -> list[list[Hit]]:
    """Search the facts by how many words they share with a query."""
    chunks = [Chunk(fact, f"{n}.md") for n, (_, fact) in enumerate(FACTS.values())]

    def shared(query: str, chunk: Chunk) -> int:
        return len(set(query.lower().split()) & set(chunk.text.lower().rstrip(".").split()))

    return [
        [
            Hit(chunk, rank, 1.0)
            for rank, chunk in enumerate(sorted(chunks, key=lambda c: -shared(query, c)), 1)
            if shared(query, chunk)
        ][:k]
        for query in queries
    ]


@pytest.mark.parametrize("search", [nothing, overlap])
def test_ties_favour_no_letter(search) -> None:
    alike = [question(f"q{n}", f"Which {n}?", ["xyzzy"] * 4) for n in range(800)]
    found = option_support(alike, search)
    counts = [sum(guess.chosen == letter for guess in found.guesses) for letter in range(4)]
    assert all(151 < count < 249 for count in counts)  # 200, four standard deviations
    assert {guess.margin for guess in found.guesses} == {0.0}


def test_without_questions_nothing_is_searched() -> None:
    def refuse(queries: Sequence[str], k: int) -> list[list[Hit]]:
        raise AssertionError(queries)

    found = option_support([question("open", "Why?", (), "because")], refuse)
    assert (found.n, found.correct, found.chance, found.guesses) == (0, 0, 0.0, ())


def test_chance_is_the_mean_over_questions() -> None:
    two = [question("a", "A?", ["x", "y"]), question("b", "B?", ["x", "y", "z", "w"])]
    assert option_support(two, nothing).chance == pytest.approx(0.375)


@pytest.mark.parametrize("text", ["", "?!", "Is it?", "日本の首都は？"])
def test_any_question_is_survived(text: str) -> None:
    found = option_support([question("a", text, ["", "All of the above", text])], overlap)
    assert found.n == 1


LENGTHS = {
    "the right one is longest": ((5, 8), (1, 3)),
    "the right one is shortest": ((1, 1), (4, 8)),
    "all are alike": ((3, 3), (3, 3)),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_on_unrelated_text_it_only_guesses(case: str, tmp_path: Path) -> None:
    """However right options differ from wrong ones, which is what a naive overlap falls for."""
    right, wrong = LENGTHS[case]
    rng = random.Random(case)
    syllables = [a + b + c for a in "bdfgklmn" for b in "aeiou" for c in "rstvz"]
    known = ["".join(rng.sample(syllables, 2)) for _ in range(3000)]
    weights = [1 / (rank + 5) for rank in range(3000)]

    def said(length: int) -> str:
        return " ".join(rng.choices(known, weights, k=length))

    def option(is_right: bool) -> str:
        return said(rng.randint(*(right if is_right else wrong)))

    answers = [rng.randrange(4) for _ in range(400)]
    questions = [
        question(f"q{n}", said(12), [option(letter == answer) for letter in range(4)], answer)
        for n, answer in enumerate(answers)
    ]
    found = option_support(questions, by_words(tmp_path, [said(120) for _ in range(500)]))
    assert abs(found.correct - 100) < 35  # four standard deviations
