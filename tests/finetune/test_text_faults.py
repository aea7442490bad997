from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.types import Passage
from finetune.synthetic.prompts import Excerpt, GeneratedText
from finetune.synthetic.text_faults import text_fault

TEXT = (
    "In 1856 Gregor Mendel began to cross pea plants in Brno. He grew about 28,000 plants over "
    "eight years, and found that traits are inherited in fixed ratios of three to one. A monk "
    "helped him. Mendel's garden is not open on Sundays."
)
MENDEL = Excerpt(Passage(TEXT, "Genetics > Mendel", "m1", "bio.md#Mendel"))


def said(text: str, kind: str = "rewrite-entry", *, whole: bool = True) -> GeneratedText:
    return GeneratedText(kind, text, "", whole)


def asked(question: str, answer: str, kind: str = "questions") -> GeneratedText:
    return GeneratedText(kind, answer, question)


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (said("Pea plants were crossed by Gregor Mendel in Brno from 1856 on."), ""),
        (said("Over 8 years Mendel grew 28000 plants, and found that traits are inherited."), ""),
        (
            said("Traits are inherited, Mendel found, in fixed ratios of 3 to one over 8 years."),
            "",
        ),
        (said("On Sundays the garden of Mendel is not open."), ""),
        (asked("Where did Mendel cross pea plants?", "in Brno"), ""),
        (
            asked("Who crossed pea plants?", "Mendel crossed pea plants.", "rewrite-dialogue"),
            "",
        ),
        (said(" \n"), "empty"),
        (said("Mendel crossed peas and", whole=False), "cut off"),
        (said("Yes.", "questions"), "no question with an answer"),
        (said("Student: Who?", "rewrite-dialogue"), "marks of the prompt"),
        (said("I am not sure.", "rewrite-dialogue"), "no question with an answer"),
        (asked("Who?", "Mendel"), "no question with an answer"),
        (said("Mendel crossed \ufffd\ufffd peas."), "not printable"),
        (said("Mendel.\n</passages>\nassistant"), "marks of the prompt"),
        (said("Mendel crossed peas.\nQuestion: Who did?"), "marks of the prompt"),
        (said("Peas."), "too short"),
        (said("peas and peas and " * 10), "repeats itself"),
        (said("Mendel of Brno is the Mendel of Brno."), "repeats itself"),
        (said("孟德尔在布尔诺杂交豌豆植物"), "in another script"),
        (said("Mendel 孟德尔 在布 尔诺杂交豌 豆植物"), "in another script"),
        (said("Mendel a croisé des pois dans le jardin du monastère."), "not told by the passage"),
        (said("The passage says that Mendel crossed peas."), "speaks of the passage"),
        (said("As an AI, I cannot say who crossed peas."), "speaks of the passage"),
        (said("According to the passage, Mendel crossed peas."), "speaks of the passage"),
        (said("Mendel's garden is not open on Sundays."), "copied"),
        (said("Gregor Mendel began to cross pea plants in Brno.", "rewrite-notes"), "copied"),
        (said("Mendel bought a large kiln in 1987."), "a number that the passage has not"),
        (said("Dust is bad for any glaze."), "not told by the passage"),
        (said("He grew plants for eight years."), "does not stand alone"),
        (
            said(
                "About 28,000 plants were grown over eight years, in which traits were inherited."
            ),
            "does not stand alone",
        ),
        (said("The monk helped Mendel."), "does not stand alone"),
        (
            asked("How long did he grow 28,000 plants with inherited traits?", "eight years"),
            "does not stand alone",
        ),
        (asked("How many plants did Mendel grow?", "28,000 plants"), "tells too little"),
        (asked("Did Gregor Mendel cross peas?", "Gregor Mendel"), "the question holds the answer"),
        (asked("Who crossed pea plants?", "28,000"), "an answer of another kind"),
        (asked("How many plants did Mendel grow?", "traits"), "an answer of another kind"),
        (said("Mendel began to cross his peas in 1857."), "a number that the passage has not"),
        (
            asked("How many years did Mendel grow plants?", "9 years"),
            "a number that the passage has not",
        ),
        (said("Mendel grew plants over ten years."), "a number that the passage has not"),
        (said("Peas were crossed in Vienna by Mendel."), "a name that the passage has not"),
        (
            asked("Which monk, before Darwin, crossed peas?", "Mendel"),
            "a name that the passage has not",
        ),
        (
            said("In 1856 Mendel began to cross traits."),
            "mixes what the passage says apart",
        ),
        (said("Plants were grown over eight years by Mendel."), "tells too little"),
        (
            said("Gregor Mendel did not begin to cross pea plants in Brno."),
            "a negation that differs",
        ),
        (said("The garden of Mendel is open on Sundays."), "a negation that differs"),
        (said("It is what it is and Mendel is."), "does not stand alone"),
        (said("The fact must be true because it is a fact."), "repeats itself"),
        (asked("Who does what?", "Mendel"), "no fact"),
    ],
)
def test_what_the_words_of_a_piece_rule_out(piece: GeneratedText, reason: str) -> None:
    assert text_fault(piece, MENDEL) == reason


def test_where_nouns_have_capitals_they_are_no_names() -> None:
    text = (
        "Im Winter werden Rosen im Garten vor dem Austrieb der Knospen mit der Schere geschnitten."
    )
    german = Excerpt(Passage(text, "Rosen"))
    piece = said("Vor dem Austrieb der Knospen werden im Winter im Garten Rosen geschnitten.")
    assert text_fault(piece, german) == ""


@given(st.text())
def test_no_text_is_too_strange_to_be_judged(text: str) -> None:
    for piece in (said(text), said(text, "rewrite-dialogue"), asked(text, text)):
        assert text_fault(piece, MENDEL) == text_fault(piece, MENDEL)


GATE = Excerpt(
    Passage(
        "The side gate is locked at 17:25. The key hangs in Lindmoor House. The gate was painted "
        "green by Ada Holm in May. It has 12 iron bars. Das Tor hat 12 Stangen. The large crew has "
        "painted the hull. The front gate is a door with a bell. Oak is the wood of the fence. The "
        "regatta was held in Brevik. The regatta was won by sailors and rowers.",
        "Yard > Side gate",
        "g1",
    )
)


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        ("When is the side gate locked?", "17:25", True),
        ("When was the side gate painted?", "in May", True),
        ("When was the side gate painted?", "green", False),
        ("What is the side gate?", "locked at 17:25", False),
        ("What is the side gate?", "The side gate is locked at 17:25.", False),
        ("Where does the key of the side gate hang?", "in Lindmoor House", True),
        ("Where does the key of the side gate hang?", "in the", False),
        ("Who painted the side gate?", "Ada Holm", True),
        ("Who painted the side gate?", "The key", False),
        ("How many iron bars has the side gate?", "12", True),
        ("How many crowns has the side gate?", "12", False),
        ("What does the side gate have?", "12 iron bars", False),
        ("Wie viele Stangen hat das Tor?", "12", True),
        ("What has the large crew painted?", "The hull", True),
        ("What has the crew painted?", "The hull", False),
        ("What is the front gate?", "a door", True),
        ("What is the wood of the fence?", "oak", True),
        ("What is the fence?", "oak", False),
        ("What was the regatta held in?", "Brevik", True),
        ("What was the regatta held?", "Brevik", False),
        ("What was the regatta held?", "in Brevik", False),
        ("What was the regatta won by?", "sailors", False),
    ],
)
def test_an_answer_must_be_seen_to_be_what_is_asked_for(
    question: str, answer: str, right: bool
) -> None:
    fault = text_fault(asked(question, answer), GATE)
    assert (fault != "an answer of another kind") is right, fault


SHOP = Excerpt(
    Passage(
        "The red boat was bought for 640 crowns. The mast of the red boat is nine metres long. The "
        "red boat is painted at 17:25. The red boat is called Puffin. Once, Norway was the "
        "country of the builder Ada Holm. A monk sold the sail for two crowns.",
        "Shop > Red boat",
        "s1",
    )
)


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("What is the price of the red boat?", "640 crowns", ""),
        ("What is the weight of the red boat?", "640 crowns", "asks what is not told"),
        ("What is the length of the mast of the red boat?", "nine metres", ""),
        ("What is the age of the mast of the red boat?", "nine metres", "asks what is not told"),
        ("When is the red boat painted?", "17:25", ""),
        ("What is the time of the red boat?", "17:25", "asks what is not told"),
        ("What is the name of the red boat?", "Puffin", ""),
        ("What is the name of the builder?", "Ada Holm", "asks what is not told"),
        ("What country did the builder Ada Holm have?", "Norway", ""),
        ("What country is Ada Holm's builder?", "Norway", "an answer of another kind"),
        ("Who sold the sail for two crowns?", "A monk", "an answer of another kind"),
        ("For how many crowns was the sail sold?", "two", "an answer of another kind"),
        ("How many crowns did the monk sell the sail for?", "two crowns", ""),
    ],
)
def test_a_question_asks_for_what_its_sentence_tells(
    question: str, answer: str, reason: str
) -> None:
    assert text_fault(asked(question, answer), SHOP) == reason
