from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.tasks.question_columns import Options, unknown_columns
from benchmarks.tasks.question_rows import answer_index, read_question
from benchmarks.tasks.registry import load_task
from domainlift.errors import Malformed
from domainlift.fields import InvalidRow

WXYZ = {"A": "w", "B": "x", "C": "y", "D": "z"}
LIST = ["w", "x", "y", "z"]

# The keys of a row beside its question -> the option that is right, or the open answer.
READ: list[tuple[dict[str, Any], str]] = [
    ({**WXYZ, "answer": "C"}, "y"),
    ({"a": "w", "b": "x", "c": "y", "d": "z", "label": 2}, "y"),
    ({"option_a": "w", "option_b": "x", "gold": 1}, "x"),
    ({"Option A": "w", "Option B": "x", "Correct Answer": "Option B"}, "x"),
    ({"optionA": "w", "optionB": "x", "correctAnswer": "B"}, "x"),
    ({"choice_a": "w", "choice_b": "x", "answer": "(b)"}, "x"),
    ({"A)": "w", "B)": "x", "answer": "B)"}, "x"),
    ({"choice1": "w", "choice2": "x", "label": 1}, "x"),
    ({"choice1": "w", "choice2": "x", "answer": "choice2"}, "x"),
    ({"choice1": "w", "choice2": "x", "answer": 0}, "w"),
    ({"choice1": "w", "choice2": "x", "answer": 2}, "x"),
    ({"ending0": "w", "ending1": "x", "ending2": "y", "label": "2"}, "y"),
    ({"sol1": "w", "sol2": "x", "answer": "w"}, "w"),
    ({"choices": LIST, "gold": "D"}, "z"),
    ({"choices": LIST, "target": "x"}, "x"),
    ({"endings": LIST, "label": 3}, "z"),
    ({"options": LIST, "answer": 2.0}, "y"),
    ({"options": LIST, "answer": "2.0"}, "y"),
    ({"options": LIST, "answer": "B", "answer_index": 1}, "x"),
    ({"options": WXYZ, "answer_idx": "D", "answer": "z"}, "z"),
    ({"options": json.dumps(LIST), "answer": "D"}, "z"),
    ({"choices": {"text": LIST, "label": ["A", "B", "C", "D"]}, "answerKey": "B"}, "x"),
    ({"choices": {"text": LIST, "label": ["1", "2", "3", "4"]}, "answerKey": "2"}, "x"),
    ({"options": ["1", "2", "3", "4"], "answer": 2}, "3"),
    ({"options": [0, 1, 2, 3], "answer": 2}, "2"),
    ({"options": [0, 1, 2, 3], "answer": "2"}, "2"),
    ({"options": [10, 20, 30], "answer": 20}, "20"),
    ({"options": [0.5, 0.25], "answer": 0.25}, "0.25"),
    ({"options": [1, 2, 3, 4], "answer_index": 2}, "3"),
    ({"options": [1, 2, 3, 4], "answer": "C"}, "3"),
    ({"target": "Paris"}, "Paris"),
    ({"gold": 42}, "42"),
    ({"answer": "x", "A": ""}, "x"),
]


@pytest.mark.parametrize(("row", "right"), READ, ids=[json.dumps(row) for row, _ in READ])
def test_the_usual_columns_are_read(row: dict[str, Any], right: str) -> None:
    row = {key: value for key, value in row.items() if value != ""}
    question = read_question({"question": "Q?", **row})
    answer = question.answer
    assert (question.options[answer] if isinstance(answer, int) else answer) == right
    assert unknown_columns({"question": "Q?", **row}) == []


# The keys of a row beside its question -> what is said of it.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"options": [1, 2, 3, 4], "answer": 2}, "answer `2` can be read in two ways: option B or C"),
    ({"options": [1, 2, 3, 4], "answer": 2.0}, "can be read in two ways"),
    ({"options": [1.0, 2.0, 3.0], "answer": 2}, "can be read in two ways"),
    ({"options": [1, 2, 3, 4], "answer": "2"}, "can be read in two ways"),
    ({"options": ["1", "2", "3", "4"], "answer": "2"}, "can be read in two ways"),
    ({"options": [3, 2, 1, 0], "label": 0}, "can be read in two ways"),
    ({"A": 1, "B": 2, "C": 3, "answer": 1}, "can be read in two ways: option A or B"),
    ({"choice1": "w", "choice2": "x", "answer": 1}, "can be read in two ways: option A or B"),
    ({"options": ["B", "A"], "answer": "A"}, "can be read in two ways"),
    ({"options": LIST, "answer": "A", "label": 2}, "`answer` and `label` give different answers"),
    ({"answer": "a", "target": "b"}, "`answer` and `target` give different answers"),
    ({"options": LIST, "choices": LIST, "answer": 0}, "`options` and `choices` both say the"),
    ({"options": LIST, **WXYZ, "answer": 0}, "options stand in `options`, and in columns such as"),
    ({"A": "w", "B": "x", "D": "z", "answer": "A"}, "an option is empty: number 3"),
    ({"B": "x", "C": "z", "answer": "B"}, "an option is empty: number 1"),
    ({"A": "w", "a": "x", "B": "y", "answer": "A"}, "`A` and `a` hold the same option"),
    ({"A": ["w"], "B": "x", "answer": "A"}, "`A` is neither a text nor a number"),
    ({"options": {"text": ["w", "x"], "label": ["A"]}, "answer": "A"}, "not one label for each"),
    ({"options": ["w", None], "answer": 0}, "`options` must be a list of texts, not one with"),
    ({"options": LIST, "answer": True}, "neither an index nor a letter"),
    ({"options": LIST, "answer": 10**400}, "is out of range"),
    ({"options": LIST, "answer": -1}, "answer -1 is out of range (0 to 3)"),
    ({"options": LIST, "answer": 0.5}, "is none of the 4 options"),
    ({"answer": True}, "`answer` must be a text, not true or false"),
    ({"options": LIST}, "no `answer`"),
]


@pytest.mark.parametrize(("row", "what"), REFUSED, ids=[str(row)[:70] for row, _ in REFUSED])
def test_what_can_be_read_in_no_way_or_in_two_is_refused(row: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidRow) as caught:
        read_question({"question": "Q?", **row})
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("optoins", "options"),
        ("Choises", "choices"),
        ("anwser", "answer"),
        ("splt", "split"),
        ("Split ", None),
        ("questoin", "question"),
        ("clutser", "cluster"),
        ("optoin_b", "option_b"),
        ("chioce_1", "choice_1"),
        ("wholly different", ""),
        ("subject", None),
    ],
)
def test_an_unknown_column_is_named_with_the_nearest(key: str, nearest: str | None) -> None:
    found = unknown_columns({"question": "Q?", "answer": "x", key: "y"})
    wanted = [] if nearest is None else [(key.strip(), nearest)]
    assert [(each.column, each.nearest) for each in found] == wanted


def test_a_context_stands_before_its_question() -> None:
    row = {"query": "How high?", "passage": "Etna: 3403 m.", "answer": "3403 m"}
    assert read_question(row).text == "Etna: 3403 m.\nHow high?"


@pytest.mark.parametrize(
    ("named", "split"),
    [("", "test"), ("Train", "train"), ("val", "validation"), ("testing", "test")],
)
def test_splits_by_their_usual_names(named: str, split: str) -> None:
    assert read_question({"question": "Q?", "answer": "x", "Split": named}).split == split
    if not named:
        assert read_question({"question": "Q?", "answer": "x"}, split="train").split == "train"


@given(st.lists(st.text(min_size=1), min_size=2, max_size=26, unique=True), st.data())
def test_the_index_and_the_text_mean_the_same_option(options: list[str], data: Any) -> None:
    options = [f"o{option.strip()}{n}" for n, option in enumerate(options)]
    index = data.draw(st.integers(0, len(options) - 1))
    assert answer_index(index, Options(options)) == index
    assert answer_index(options[index], Options(options)) == index


ABSENT = ("nan", "NaN")
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    TEXT,
    st.lists(TEXT.filter(lambda text: text not in ABSENT), min_size=2, max_size=6, unique=True),
    st.data(),
)
def test_a_question_reads_the_same_in_every_form(
    tmp_path: Path, text: str, options: list[str], data: Any
) -> None:
    """Whatever its words are, all forms give the same question, or none that they would alter."""
    right = data.draw(st.integers(0, len(options) - 1))
    letters = "ABCDEF"[: len(options)]
    forms: dict[str, list[dict[str, Any]]] = {
        "lines.jsonl": [{"question": text, "options": options, "answer": letters[right]}],
        "columns.jsonl": [{"question": text, **dict(zip(letters, options, strict=True)),
                           "answer": letters[right]}],
        "list.json": [{"question": text, "choices": options, "answer_index": right}],
        "table.csv": [{"question": text, **dict(zip(letters, options, strict=True)),
                       "answer": letters[right]}],
    }  # fmt: skip
    read = set()
    for name, rows in forms.items():
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            if name.endswith(".csv"):
                table = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
                table.writeheader()
                table.writerows(rows)
            else:
                whole = name.endswith(".json")
                file.write(json.dumps(rows if whole else rows[0], ensure_ascii=False))
        try:
            [question] = load_task(str(path), data=None, domains={}).questions
        except Malformed:
            # An option may be, or begin like, the letter of another; a cell `nan` is no value.
            marked = {*letters, *letters.lower(), "("}
            assert text in ABSENT or any(o in ABSENT or o[0] in marked for o in options)
            continue
        read.add((question.text, question.options, question.answer))
    assert read <= {(text, tuple(options), right)}
