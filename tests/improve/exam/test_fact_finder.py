"""Facts of documents, and the wordings made of them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from improve.exam.distractors import word_pairs, wrong_options
from improve.exam.fact_finder import KINDS_OF_FACTS, Fact, find_facts
from improve.exam.standalone import standing_sentences
from improve.exam.wordings import GAP, WORDINGS, wordings
from rag.base import Chunk

#: sentence -> kind, answer, and the wording that is examined
FACTS = [
    ("The side gate is locked at 17:25.", "time", "17:25", "What time is the side gate locked at?"),
    (
        "Wishes for the holidays must be handed in by 14 February.",
        "date",
        "14 February",
        "Which date must Wishes for the holidays be handed in by?",
    ),
    (
        "A lunch card for one month costs 58 euros.",
        "money",
        "58 euros",
        "A lunch card for one month costs how much?",
    ),
    (
        "The carrier collects parcels every Tuesday.",
        "day",
        "Tuesday",
        "The carrier collects parcels on which day?",
    ),
    (
        "The cooperative was founded in 1921.",
        "year",
        "1921",
        "Which year was the cooperative founded in?",
    ),
    (
        "The warranty of a rain gauge is seven years.",
        "number",
        "seven",
        "How many years is the warranty of a rain gauge?",
    ),
    ("The wind vane is sold as Heron.", "name", "Heron", "What is the wind vane sold as?"),
    (
        "The works council is led by Piet Valcourt.",
        "name",
        "Piet Valcourt",
        "Who is the works council led by?",
    ),
    (
        "Imke Sandoval looks after the computers.",
        "name",
        "Imke Sandoval",
        "Who or what looks after the computers?",
    ),
    (
        "The seal of the door is made of flannel.",
        "ending",
        "flannel",
        "What is the seal of the door made of?",
    ),
    (
        "The ship sails at 95 % of its speed.",
        "percentage",
        "95 %",
        "The ship sails at what percentage of its speed?",
    ),
]


def _chunk(text: str, heading: str = "") -> Chunk:
    return Chunk(text, "notes.md", heading)


@pytest.mark.parametrize(("sentence", "kind", "answer", "asked"), FACTS)
def test_a_sentence_is_asked_for_its_part(
    sentence: str, kind: str, answer: str, asked: str
) -> None:
    (fact,) = find_facts([_chunk(sentence)])
    assert (fact.kind, fact.answer) == (kind, answer)
    made = wordings(fact, {"the", "a"})
    assert list(made.values())[-1] == asked
    assert made[GAP] == sentence.replace(answer, "____")


@pytest.mark.parametrize(
    "sentence",
    [
        "Ensure the keys are stored in Lindfield.",
        "Set the limit of the Foo Server to ninety minutes.",
        "It was founded in 1921.",
        "These were planted by Tobias Wren.",
        "You are paid by Henrik Aalto.",
        "See the chapter about Korvath for more of it.",
        "Was the pump made by Korvath or by Zlatna?",
        "See https://example.org for the 14 February list of names.",
        "the cooperative was founded in 1921.",
        "The second mill was built by Tobias Wren nine years later.",
        "By the end of that year the mill of Tobias Wren had nine workers.",
        "Both towns were built by Tobias Wren in 1921.",
        "Henrik Aalto did so in 1921.",
        "The map of the Lindfield valley was drawn in 1921.",
        "An agency to keep the mill of the town at the expense of Henrik Aalto.",
        "A list of the mills of Henrik Aalto with their nine owners.",
        "The mill of the town was sold.See the deed of Henrik Aalto.",
        "Each one shows the mill of Henrik Aalto.",
    ],
)
def test_what_does_not_stand_alone_is_no_fact(sentence: str) -> None:
    assert list(find_facts([_chunk(sentence)])) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "Henrik Aalto led the mill from 1786 to 1787.",
        "The boycott of 1768–1769 was joined by the mill.",
        "The mill of the town works with version 1.6.6 sensors.",
        "The Beta 1 & 2 websites show the mill of the town.",
        "The murder of the scholar in 415 demonstrates the power of the mill.",
        "Shown is a wheel of the mill that was made of wood.",
    ],
)
def test_half_of_a_range_and_what_counts_nothing_is_no_answer(sentence: str) -> None:
    kinds = {fact.kind for fact in find_facts([_chunk(sentence), _chunk("Shown: a wheel.")])}
    assert kinds.isdisjoint({"year", "number", "definition"})


@pytest.mark.parametrize(
    ("sentence", "kept"),
    [
        ("The market lost 40 percent of its value.", False),
        ("The market of Lindfield lost 40 percent of its value.", True),
        ("The reach of the mill was limitless.", False),
    ],
)
def test_in_a_large_corpus_an_event_needs_a_name_beside_it(sentence: str, kept: bool) -> None:
    large = [_chunk(sentence), *(_chunk(f"n{n}") for n in range(500))]
    assert len(list(find_facts([_chunk(sentence)]))) == 1
    assert len(list(find_facts(large))) == kept


def test_a_noun_that_any_sentence_may_have_is_no_term() -> None:
    chunks = [_chunk(f"The {noun} of oil.") for noun in ("purpose", "purposes", "ratchet")]
    sentence = "The keeper of a mill must know the {} of each wheel that turns in the river."
    (fact,) = find_facts([_chunk(sentence.format("ratchet")), *chunks])
    assert (fact.kind, fact.answer) == ("term", "ratchet")
    for noun in ("purpose", "purposes"):
        assert list(find_facts([_chunk(sentence.format(noun)), *chunks])) == []


def test_a_term_that_stands_elsewhere_in_this_place_is_no_wrong_option() -> None:
    def fact(answer: str) -> Fact:
        sentence = f"The keeper of the mill must count positive {answer} of all the wheels."
        return Fact(sentence, answer, sentence.index(answer), "term", _chunk(sentence))

    own, *peers = map(fact, ("integers", "numbers", "ratchets", "shovels", "buckets"))
    pairs = word_pairs(["Only positive numbers."], {"numbers", "ratchets"})
    assert "numbers" in wrong_options(own, peers[:1], Random(0))
    assert set(wrong_options(own, peers, Random(0), pairs)) == {"ratchets", "shovels", "buckets"}


def test_a_pronoun_that_means_the_heading_is_given_its_name() -> None:
    chunk = _chunk("The rain gauge is sold as Plover. Its funnel is made of copper.", "Rain gauge")
    assert list(standing_sentences(chunk))[1] == "The rain gauge's funnel is made of copper."
    other = _chunk("The office closes at noon. Its funnel is made of copper.", "Rain gauge")
    assert len(list(standing_sentences(other))) == 1


def test_a_heading_of_which_a_sentence_has_no_word_is_told() -> None:
    (fact,) = find_facts([_chunk("Complaints are handled by Signe Abarca.", "Returns")])
    assert all(text.startswith("Returns: ") for text in wordings(fact, ()).values())


def test_a_name_of_many_chunks_is_no_answer() -> None:
    chunks = [_chunk(f"The valve {n} was made by Korvath in the town.") for n in "abcd"]
    assert "name" not in {fact.kind for fact in find_facts(chunks)}


@given(st.text(max_size=300), st.text(max_size=30))
def test_any_text_gives_facts_that_hold_their_answers(text: str, heading: str) -> None:
    for fact in find_facts([_chunk(text, heading)]):
        assert fact.before + fact.answer + fact.after == fact.sentence
        assert fact.kind in KINDS_OF_FACTS
        made = wordings(fact, ())
        assert made
        assert set(made) <= set(WORDINGS)


_SPOKEN = (
    "The the pump of was is built in by 1921 Korvath nine days made copper 14 May every Monday and"
    " , who It Its 50 %"
)


@given(st.lists(st.sampled_from(_SPOKEN.split()), min_size=5, max_size=18))
def test_sentences_of_such_words_never_fail(spoken: list[str]) -> None:
    text = " ".join(spoken) + "."
    for fact in find_facts([_chunk(text[0].upper() + text[1:], "Pump")]):
        assert all(fact.answer not in text for text in list(wordings(fact, ()).values())[:1])
