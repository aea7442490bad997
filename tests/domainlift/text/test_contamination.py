from __future__ import annotations

import pytest

pytest.importorskip("numpy")

from domainlift.text.contamination import QuestionIndex, contaminated_rows
from domainlift.types import Question

ASKED = "Which organelle of the cell makes most of the ATP that it needs?"
OPTIONS = ("The ribosome", "The mitochondrion", "The vacuole", "The nucleus")
LONG = " ".join(f"word{n}" for n in range(40)) + "?"


def contaminated(text: str, *questions: str, options: tuple[str, ...] = ()) -> bool:
    asked = [Question(q, "biology", "task", q, options, 0) for q in questions]
    return contaminated_rows([text], QuestionIndex(asked, short=True))[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Question: Which planet is nearest to the sun?\nAnswer: Mercury", True),
        ("which planet — is NEAREST to the sun", True),
        ("They asked: which planet is nearest to the sun now?", True),
        ("Which planet is nearest to the moon?", False),
        ("Question: What is DNS?\nAnswer: a protocol", True),
        ("Tell me what is DNS and what is not", False),
        ("", False),
    ],
)
def test_a_row_holds_a_question_word_for_word(text: str, expected: bool) -> None:
    questions = ("Which planet is nearest to the sun?", "What is DNS?", "…")
    assert contaminated(text, *questions) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So, which is true of it? All.", True),  # four words, none of which is distinctive
        ("Which is true, then, of it?", False),
        ("So, what is 3 + 4? Seven.", True),
        ("So, what is 3 - 4? Minus one.", False),
        ("What is 3 4?", False),
    ],
)
def test_a_short_question_is_compared_with_its_signs(text: str, expected: bool) -> None:
    assert contaminated(text, "Which is true of it?", "What is 3 + 4?") is expected


@pytest.mark.parametrize("words", [28, 29])
def test_a_row_that_holds_seven_tenths_of_the_ngrams_is_contaminated(words: int) -> None:
    part = " ".join(LONG.split()[: words + 3])  # words - 9 of 28 n-grams
    assert contaminated(part, LONG) is (words == 29)


def test_a_short_question_with_its_options_is_found() -> None:
    listed = "One of these is prime: A. 4 B. 7 C. 9 D. 15"
    assert contaminated(f"Say which. {listed}", "One of these", options=("x",)) is False
    assert contaminated(listed, "One of these is prime", options=("4", "7", "9", "15"))


def test_an_index_without_short_questions_ignores_them() -> None:
    question = Question("q", "biology", "task", "What is DNS?", (), "")
    assert contaminated_rows(["What is DNS?"], QuestionIndex([question])) == [False]
    assert contaminated_rows(["What is DNS?"], QuestionIndex([question], short=True)) == [True]


def test_nothing_is_found_without_questions_or_texts() -> None:
    assert contaminated_rows([], QuestionIndex([])) == []
    assert contaminated_rows(["text"], QuestionIndex([], short=True)) == [False]


def test_matches_of_an_index_name_question_share_and_places() -> None:
    asked = [Question("0", "d", "t", LONG, (), ""), Question("1", "d", "t", ASKED, OPTIONS, 1)]
    text = f"see {ASKED}".lower().replace("?", "").split()
    ((item, (match,)),) = QuestionIndex(asked).search([("here", text)])
    assert (item, match.question, match.kind) == ("here", 1, "exact")
    assert (match.overlap, match.places, match.wording) == (1.0, (1,), tuple(text[1:]))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("光合作用在植物的哪个细胞器里进行？", "练习：请问光合作用在植物的哪个细胞器里进行呢"),
        ("細胞のエネルギーを作る小器官は何ですか。", "問題。細胞のｴﾈﾙｷﾞｰを作る小器官は何ですか答え"),
        ("หัวใจของมนุษย์มีกี่ห้อง", "คำถามคือหัวใจของมนุษย์มีกี่ห้องตอบสี่"),
        (
            "Which oﬃce of a café is fine?",
            "Q: which office of a cafe\u0301 is ﬁne? A: one",
        ),
    ],
)
def test_questions_are_found_in_scripts_without_spaces_and_in_every_form(
    asked: str, text: str
) -> None:
    index = QuestionIndex([Question("1", "d", "t", asked, (), "x")])
    assert contaminated_rows([text, text[: len(text) // 2], ""], index) == [True, False, False]
