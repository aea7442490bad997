"""Benchmark questions in a knowledge base."""

from __future__ import annotations

import itertools
import random
import re
import string
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.text.normalise import words
from domainlift.types import Question
from rag.base import Chunk
from rag.contamination import Leak, find_leaks
from tests.helpers.tolerance import cosine_tolerance

ASKED = "Which organelle of the cell makes most of the ATP that it needs?"
OPTIONS = ("The ribosome", "The mitochondrion", "The vacuole", "The nucleus")
LONG = (
    "A farmer crosses two tall pea plants that both carry one allele for short stems, and sows "
    "one hundred and twenty of the seeds that come of it in the same field. How many of the plants "
    "that grow there should he expect to be short, if every seed germinates?"
)


def question(text: str = ASKED, options: tuple[str, ...] = OPTIONS, id_: str = "q") -> Question:
    return Question(id_, "biology", "task", text, options, 1)


def chunk(text: str, source: str = "book.md", offset: int = 0, heading: str = "") -> Chunk:
    return Chunk(text, source, heading, offset=offset)


def leaks(asked: Question, *texts: str) -> list[Leak]:
    return find_leaks([asked], [chunk(text, f"{n}.md") for n, text in enumerate(texts)])


# --- exact


@pytest.mark.parametrize(
    "text",
    [
        ASKED,
        f"Exercise 12. {ASKED} Think before you answer.",
        ASKED.upper().replace(" ", "\n"),
        ASKED.replace(" ", ", "),
        ASKED.replace("organelle", "organ\u00adelle"),
        ASKED.replace("A", "\uff21"),  # full width
        f"**{ASKED}**",
    ],
)
def test_a_question_that_stands_there(text: str) -> None:
    (leak,) = leaks(question(), "Peas are green.", text)
    assert (leak.question, leak.source, leak.kind, leak.overlap) == ("q", "1.md", "exact", 1.0)
    assert leak.chunk == chunk(text, "1.md").id


@pytest.mark.parametrize(
    "listed",
    [
        "One of these is prime: 4, 7, 9, 15",
        "One of these is prime: A. 4 B. 7 C. 9 D. 15",
        "One of these is prime\n1) 4\n2) 7\n3) 9\n4) 15",
    ],
)
def test_a_short_question_with_its_options(listed: str) -> None:
    short = question("One of these is prime", ("4", "7", "9", "15"))
    assert [leak.kind for leak in leaks(short, listed)] == ["exact"]
    assert leaks(short, "One of these is prime, and it is small") == []


@pytest.mark.parametrize(
    "text",
    ["What is it?", "Which of the following statements is true?", "", "???", "Photosynthesis"],
)
def test_what_says_nothing_matches_nothing(text: str) -> None:
    corpus = f"{text} And then some more. {text} Which of the following statements is not true?"
    assert leaks(question(text, ()), corpus) == []
    assert leaks(question(text, ("a", "b")), corpus) == []


def test_the_topic_that_a_stem_names_is_no_leak() -> None:
    stem = question("The Voting Rights Act of 1965", ("ended poll taxes", "made schools free"))
    assert leaks(stem, "The Voting Rights Act of 1965 was signed by Johnson.") == []


def test_a_question_as_heading() -> None:
    (leak,) = find_leaks([question()], [chunk("Mitochondria do.", heading=f"Cells > {ASKED}")])
    assert (leak.kind, leak.heading) == ("exact", f"Cells > {ASKED}")


def test_the_places_are_counted() -> None:
    (leak,) = leaks(question(), ASKED, "nothing here", f"Again: {ASKED}")
    assert (leak.places, leak.source) == (2, "0.md")


def test_leaks_come_in_the_order_of_the_questions() -> None:
    asked = [question(LONG, (), "long"), question("What?", (), "none"), question(id_="short")]
    found = find_leaks(asked, [chunk(ASKED), chunk(LONG, "other.md")])
    assert [leak.question for leak in found] == ["long", "short"]


# --- the end of a chunk


def cut(text: str, places: list[int], overlap: int, *, strip: bool) -> list[Chunk]:
    edges = [0, *sorted(places), len(text)]
    chunks = []
    for start, stop in itertools.pairwise(edges):
        start = max(0, start - overlap)
        piece = text[start:stop]
        lead = len(piece) - len(piece.lstrip()) if strip else 0
        chunks.append(chunk(piece.strip() if strip else piece, offset=start + lead))
    return chunks


@given(
    st.lists(st.integers(0, 3 * len(LONG)), max_size=8),
    st.integers(0, 30),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_no_cut_hides_a_question(places, overlap, strip, rng) -> None:
    text = f"{'Peas are green. ' * 16}{LONG} {'Beans are brown. ' * 16}"
    chunks = cut(text, [place for place in places if place < len(text)], overlap, strip=strip)
    rng.shuffle(chunks)
    assert [leak.kind for leak in find_leaks([question(LONG, ())], chunks)] == ["exact"]


def test_a_question_across_the_end_of_a_run_of_chunks() -> None:
    filler = [chunk(f"Filler {n}.", offset=20 * n) for n in range(60)]
    cuts = enumerate(re.findall(r".{1,30}(?= |$)", LONG))
    parts = [chunk(part, offset=1200 + 90 * n) for n, part in cuts]
    assert len(filler) + len(parts) > 64
    assert [leak.kind for leak in find_leaks([question(LONG, ())], filler + parts)] == ["exact"]


def test_chunks_of_two_documents_are_not_joined() -> None:
    half = len(ASKED) // 2
    assert leaks(question(), ASKED[:half], ASKED[half:]) == []


def test_the_chunk_that_holds_most_is_named() -> None:
    found = find_leaks([question(LONG, ())], cut(f"{LONG} {LONG[:80]}", [20], 0, strip=False))
    assert [leak.chunk for leak in found] == [chunk(LONG[:20]).id]  # where it begins
    changed = LONG.replace("farmer", "grower")
    (leak,) = find_leaks([question(LONG, ())], cut(changed, [20], 0, strip=False))
    assert (leak.kind, leak.chunk) == ("n-gram", chunk(changed[20:], offset=20).id)


# --- n-grams


def test_most_of_a_question_is_a_leak() -> None:
    given, total = LONG.replace("farmer", "grower"), len(words(LONG))
    (leak,) = leaks(question(LONG, ()), f"{given} Now think.")
    assert leak.kind == "n-gram"
    assert leak.overlap == pytest.approx((total - 12 - 2) / (total - 12))
    assert 0 < leak.jaccard < leak.overlap


def test_a_long_chunk_keeps_jaccard_low_and_containment_high() -> None:
    """The published threshold on Jaccard's index would not fire."""
    filler = " ".join(f"word{n}" for n in range(300))
    (leak,) = leaks(question(LONG, ()), f"{filler} {LONG.replace('farmer', 'grower')} {filler}")
    assert leak.overlap > 0.9
    assert leak.jaccard < 0.2


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_several_matches_the_strongest_is_named(order: tuple[int, ...]) -> None:
    words_changed = [(), ("farmer",), ("farmer", "expect")]
    texts = []
    for changed in (words_changed[place] for place in order):
        texts.append(LONG)
        for word in changed:
            texts[-1] = texts[-1].replace(word, "other")
    (leak,) = leaks(question(LONG, ()), *texts)
    assert (leak.kind, leak.source, leak.places) == ("exact", f"{order.index(0)}.md", 3)
    (leak,) = leaks(question(LONG, ()), *(text for text in texts if text != LONG))
    weaker = [place for place in order if place]
    assert (leak.kind, leak.source) == ("n-gram", f"{weaker.index(1)}.md")


def test_a_shared_quotation_is_not_enough() -> None:
    quoted = " ".join(LONG.split()[:20])
    assert leaks(question(LONG, ()), f"As the story goes: {quoted}.") == []
    assert leaks(question(LONG, ()), LONG.replace("crosses", "mates")) != []


def test_a_document_that_states_the_fact_is_no_leak() -> None:
    fact = "Most of the ATP that a cell needs is made by an organelle, the mitochondrion."
    assert leaks(question(), fact) == []


# --- near


def nearest(chunk_vectors: np.ndarray):
    def dense(vectors: np.ndarray, k: int) -> list[list[tuple[int, float]]]:
        rows = [np.argsort(-(chunk_vectors @ v), kind="stable")[:k] for v in vectors]
        return [
            [(int(r), float(chunk_vectors[r] @ v)) for r in found]
            for found, v in zip(rows, vectors, strict=True)
        ]

    return dense


def unit(*degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_a_paraphrase_is_found_by_its_vector() -> None:
    asked = [question(), question("Why is the sky blue at noon?", (), "sky")]
    chunks = [chunk("Peas.", "a.md"), chunk("The cell's ATP: by which organelle?", "b.md")]
    dense = nearest(unit(90, 10))
    (leak,) = find_leaks(asked, chunks, question_vectors=unit(0, 130), dense=dense)
    assert (leak.question, leak.kind, leak.source) == ("q", "near", "b.md")
    assert leak.overlap == pytest.approx(np.cos(np.radians(10)), rel=0, abs=cosine_tolerance(2))
    assert find_leaks(asked, chunks) == []
    far = nearest(unit(90, 20))
    assert find_leaks(asked, chunks, question_vectors=unit(0, 130), dense=far) == []


def test_the_stronger_kind_counts() -> None:
    dense = nearest(unit(0))
    (leak,) = find_leaks([question()], [chunk(ASKED)], question_vectors=unit(0), dense=dense)
    assert leak.kind == "exact"


def test_vectors_must_belong_to_the_questions() -> None:
    with pytest.raises(ValueError, match="1 vectors for 2 questions"):
        find_leaks([question(), question()], [], question_vectors=unit(0), dense=nearest(unit(0)))


# --- what holds for any text

letters = string.ascii_lowercase
word = st.text(letters, min_size=2, max_size=9)
texts = st.lists(word, min_size=9, max_size=60)
marks = st.sampled_from([" ", "  ", "\n", ", ", " - ", "; ", "\t", ".\n\n", " (", "\u00a0"])


@given(texts, st.lists(word, max_size=80), st.data())
def test_a_planted_question_is_always_found(asked, filler, data) -> None:
    place = data.draw(st.integers(0, len(filler)))
    cased = [data.draw(st.sampled_from([w, w.upper(), w.title()])) for w in asked]
    planted = "".join(w + data.draw(marks) for w in cased)
    text = f"{' '.join(filler[:place])} {planted} {' '.join(filler[place:])}"
    given = question(" ".join(asked), ())
    assert [leak.kind for leak in leaks(given, "Peas are green.", text)] == ["exact"]


@given(st.lists(st.text(max_size=80), max_size=5), st.lists(st.text(max_size=200), max_size=5))
def test_any_text_is_survived(asked, texts) -> None:
    find_leaks(
        [question(text, ("one", text), str(n)) for n, text in enumerate(asked)],
        [chunk(text, "same.md", offset=3 * n) for n, text in enumerate(texts)],
    )


@given(texts, st.lists(st.text(string.digits, min_size=1, max_size=4), max_size=120))
def test_text_of_other_words_is_never_found(asked, other) -> None:
    assert leaks(question(" ".join(asked), ()), " ".join(other)) == []


@given(texts, st.randoms(use_true_random=False))
def test_the_same_words_in_another_order_are_not_the_question(asked, rng) -> None:
    own = [f"{w}{n}" for n, w in enumerate(asked)]  # no word twice
    shuffled = rng.sample(own, len(own))
    grams = {tuple(own[i : i + 13]) for i in range(max(1, len(own) - 12))}
    kept = {tuple(shuffled[i : i + 13]) for i in range(max(1, len(own) - 12))}
    if len(grams & kept) / len(grams) < 0.7:
        assert leaks(question(" ".join(own), ()), " ".join(shuffled)) == []


def test_thousands_of_questions_against_thousands_of_chunks_take_seconds() -> None:
    rng = random.Random(0)
    known = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20_000)]

    def said(length: int) -> str:
        return " ".join(rng.choices(known, k=length))

    asked = [question(said(25), tuple(said(5) for _ in range(4)), str(n)) for n in range(2_000)]
    chunks = [chunk(said(120), f"{n // 8}.md", offset=1000 * (n % 8)) for n in range(5_000)]
    chunks[777] = chunk(f"{said(20)} {asked[123].text} {said(50)}", chunks[777].source, 1000)
    start = time.monotonic()
    found = find_leaks(asked, chunks)
    assert time.monotonic() - start < 15
    assert [leak.question for leak in found] == ["123"]
