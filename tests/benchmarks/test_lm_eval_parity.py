"""Parity with lm-eval on the same replies: its evaluator and ours over its own task files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.lm_eval_rows import PRO

pytest.importorskip("lm_eval")

from lm_eval.api.model import LM

from benchmarks.scoring.score import score
from benchmarks.tasks.base import Task
from benchmarks.tasks.lm_eval_task import yaml_files
from benchmarks.tasks.registry import load_task
from engines.base import Answer, Mode

Row = dict[str, Any]


class Parrot(LM):  # type: ignore[misc]
    """Gives the reply with the number of the document that is asked."""

    def __init__(self, replies: list[str]) -> None:
        super().__init__()
        self.replies = replies

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return [self.replies[request.doc_id] for request in requests]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def with_rows(folder: Path, name: str, rows: list[Row]) -> Path:
    """A task of lm-eval with its own files, and these rows instead of the hub's."""
    config = yaml_files()[name]
    for file in config.parent.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    splits = dict.fromkeys(("train", "validation", "dev", "test"), data.as_posix())
    kwargs = {"data_files": splits, "cache_dir": (folder / "cache").as_posix()}
    own = {"include": config.name, "task": "stub", "dataset_path": "json", "dataset_name": None}
    path = folder / "stub.yaml"
    path.write_text(yaml.safe_dump({**own, "dataset_kwargs": kwargs}), encoding="utf-8")
    return path


def theirs(path: Path, replies: list[str], metric: str, chosen: str) -> list[bool]:
    """What lm-eval says of each reply, by the filter of this name."""
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    loaded = TaskManager(include_defaults=False).load(str(path))["tasks"]
    for task in loaded.values():
        task.set_fewshot_seed(1234)
    found = evaluate(lm=Parrot(replies), task_dict=loaded, bootstrap_iters=0, log_samples=True)
    (samples,) = found["samples"].values()
    own = {s["doc_id"]: s[metric] for s in samples if s["filter"] == chosen}
    return [bool(own[number] == 1) for number in range(len(replies))]


def ours(task: Task, replies: list[str]) -> list[Any]:
    return [
        score(question, Answer(question.id, text=reply), Mode.GENERATE, task.scorer)
        for question, reply in zip(task.questions, replies, strict=True)
    ]


#: Replies that are awkward for any task.
AWKWARD = ["", " ", "\n\n", "[invalid]", "I cannot say.", "?", "\\", "(", "ﬁ Ｂ", "42 or 43"]
LETTERS = [
    *("The answer is (A).", "the answer is A", "The answer is (B).", "answer is a", "(A)", "A"),
    *("The answer is (B). No, the answer is (A).", "So the answer is (A) or (B).", "Answer: A."),
    *("The answer is (J).", "The final answer: (A).", "**The answer is (A)**", "(B) or (A)", "a."),
]
SUM = {"question": "How much?", "answer": "12\n#### 1,212"}
NUMBERS = [
    *("#### 1,212", "#### 1212", "####1212", "The answer is 1,212.", "The answer is $1212.00"),
    *("That makes $1212.", "1212 or 12", "#### -1212", "#### 1212.", "The answer is 1212 apples."),
    *(
        "The answer is 12. No: the answer is 1212.",
        "1 212",
        "1.212",
        "\\boxed{1212}",
        "#### 1,212,",
    ),
]
BBH = {"input": "Which?\nOptions:\n(A) carp\n(B) crow", "target": "(A)"}
BBH_LETTERS = [
    *LETTERS,
    "so the answer is (A).",
    "the answer is (A)",
    "It is a carp.",
    "carp",
    ": A",
]


def bbh(target: str, question: str = "not ( True ) is") -> Row:
    return {"input": question, "target": target}


TRIVIA = {
    "question": "Who wrote it",
    "answer": {"aliases": ["George Orwell", "Eric Blair", "Orwell, George"], "value": "x"},
}
NAMES = [
    *(
        "George Orwell",
        " george orwell ",
        "George Orwell!",
        "Orwell",
        "ERIC BLAIR",
        "Orwell George",
    ),
    *("The George Orwell", "George Orwell\n", "George  Orwell", "“George Orwell”", "Eric Blair."),
]
DROP = {
    "section_id": "s",
    "query_id": "q",
    "passage": "They won 12 games.",
    "question": "How many?",
    "answer": {
        "number": "12",
        "date": {"day": "", "month": "", "year": ""},
        "spans": [],
        "worker_id": "",
        "hit_id": "",
    },
    "validated_answers": {"number": [], "date": [], "spans": [], "worker_id": [], "hit_id": []},
}
MMLU = {"question": "Which one swims?", "choices": ["carp", "crow", "cat", "cow"], "answer": 0}
MATH = {
    "problem": "What?",
    "level": "1",
    "type": "Algebra",
    "solution": "So $\\boxed{\\frac{3}{4}}$.",
}
FORMULAS = [
    *("$\\frac{3}{4}$", "\\frac34", "3/4", "$0.75$", "$\\frac{3}{4}.$", "x = $\\dfrac{3}{4}$"),
    *("$ \\frac{3} {4} $", "\\boxed{\\frac{3}{4}}", "$$", "$1$ and $\\frac{3}{4}$", "\\frac{3"),
]
GPQA = {
    "Question": "Which one swims?",
    "Correct Answer": "carp",
    **{f"Incorrect Answer {n}": f"bird {n}" for n in (1, 2, 3)},
}

TASKS: list[tuple[str, Row, list[str], str, str]] = [
    # name, row, replies, metric, filter that is scored
    ("mmlu_pro_biology", PRO, LETTERS, "exact_match", "custom-extract"),
    ("gsm8k", SUM, NUMBERS, "exact_match", "flexible-extract"),
    ("gsm8k_cot", SUM, NUMBERS, "exact_match", "flexible-extract"),
    ("gsm8k_cot_zeroshot", SUM, NUMBERS, "exact_match", "flexible-extract"),
    ("bbh_cot_fewshot_date_understanding", BBH, BBH_LETTERS, "exact_match", "get-answer"),
    (
        "bbh_cot_fewshot_formal_fallacies",
        bbh("invalid"),
        ["the answer is invalid.", "the answer is valid.", "invalid", "the answer is Invalid."],
        "exact_match",
        "get-answer",
    ),
    ("bbh_cot_zeroshot_date_understanding", BBH, BBH_LETTERS, "exact_match", "flexible-extract"),
    (
        "bbh_cot_zeroshot_formal_fallacies",
        bbh("invalid"),
        ["It is valid. No: invalid.", "INVALID", "The answer is invalid."],
        "exact_match",
        "flexible-extract",
    ),
    (
        "bbh_cot_zeroshot_word_sorting",
        bbh("apple pear", "Sort the following words alphabetically: List: pear apple"),
        [
            "apple pear",
            "apple, pear",
            "pear apple",
            "The answer is apple pear.",
            "1. apple 2. pear",
        ],
        "exact_match",
        "flexible-extract",
    ),
    (
        "bbh_zeroshot_object_counting",
        bbh("12", "How many?"),
        ["12", "There are 12.", "twelve", "12 or 13", "The answer is 12 things."],
        "exact_match",
        "flexible-extract",
    ),
    (
        "bbh_zeroshot_boolean_expressions",
        bbh("True"),
        ["True", "true", "TRUE.", "False", "It is not False, it is True", "untrue"],
        "exact_match",
        "flexible-extract",
    ),
    ("triviaqa", TRIVIA, NAMES, "exact_match", "remove_whitespace"),
    (
        "nq_open",
        {"question": "who wrote it", "answer": ["the Times", "Orwell"]},
        ["Times", "the times", "The Times!", "a Times", "Orwell", "orwell the", "An Orwell"],
        "exact_match",
        "remove_whitespace",
    ),
    ("drop", DROP, ["12", "12.0", "twelve", " 12 games", "12 12"], "em", "none"),
    (
        "mgsm_direct_en",
        {"question": "How many?", "answer": None, "answer_number": 12, "equation_solution": ""},
        ["12", "12.", "$12", "It is 12 or 13", "1,2", "-12", "12 = 3 * 4"],
        "exact_match",
        "flexible-extract",
    ),
    (
        "agieval_gaokao_mathcloze",
        {"query": "?", "answer": "$\\frac{3}{4}$"},
        ["The answer is $\\frac{3}{4}$", "\\boxed{\\frac{3}{4}}", "答案是3/4", "0.75", "x=3/4"],
        "acc",
        "none",
    ),
    (
        "aime24",
        {"ID": "1", "Problem": "?", "Solution": "", "Answer": 42},
        ["42", "$42$", "so $x = 42$", "\\boxed{042}", "\\boxed{42}", "$1$ then $42$", "42.0"],
        "exact_match",
        "none",
    ),
    ("mmlu_flan_cot_zeroshot_anatomy", MMLU, BBH_LETTERS, "exact_match", "flexible-extract"),
    ("gpqa_main_cot_zeroshot", GPQA, LETTERS, "exact_match", "flexible-extract"),
    ("hendrycks_math_algebra", MATH, FORMULAS, "exact_match", "none"),
]


@pytest.mark.parametrize(
    ("name", "row", "replies", "metric", "chosen"), TASKS, ids=[task[0] for task in TASKS]
)
def test_a_reply_is_right_where_lm_eval_says_so(
    tmp_path: Path, name: str, row: Row, replies: list[str], metric: str, chosen: str
) -> None:
    every = [*replies, *AWKWARD]
    path = with_rows(tmp_path, name, [row] * max(6, len(every)))
    expected = theirs(path, every, metric, chosen)
    task = load_task(f"lm-eval:{path}", data=None, domains={})
    scores = ours(task, every)
    assert [s.correct for s in scores] == expected
    assert 0 < sum(expected) < len(every)
    assert {s.extracted_by for s in scores} <= {f"lm-eval:{chosen}", "nothing"}


OWN = """
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{gold}}"
generation_kwargs: {until: [], do_sample: false}
"""
VOTE = [
    {"function": "take_first_k", "k": 3},
    {"function": "regex", "regex_pattern": "is (\\w+)", "group_select": -1},
    {"function": "lowercase"},
    {"function": "map", "mapping_dict": {"yes": "Oui, 1 fois.", "no": "non"}, "default_value": "?"},
    {"function": "majority_vote"},
    {"function": "take_first"},
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"ignore_case": True},
    {"ignore_punctuation": True},
    {"ignore_numbers": True},
    {"regexes_to_ignore": ["fois", "\\\\s"]},
    {"ignore_case": True, "ignore_punctuation": True, "ignore_numbers": True},
]
SAID = ["It is yes", "It is YES, is no", "It is no, is Yes", "yes", "It is perhaps"]
LOOSE = [
    "Oui, 1 fois.",
    "oui 1 fois",
    "OUI, 22 FOIS!",
    "Oui,1",
    " Oui, 1 fois. ",
    "non",
    "Oui, 1 .",
]


@pytest.mark.parametrize("options", OPTIONS, ids=[",".join(o) or "none" for o in OPTIONS])
@pytest.mark.parametrize("filtered", [True, False])
def test_the_options_of_exact_match_and_a_vote_count(
    tmp_path: Path, options: dict[str, Any], filtered: bool
) -> None:
    replies = [*(SAID if filtered else LOOSE), *AWKWARD]
    rows = [{"q": f"Is it {n}?", "gold": "Oui, 1 fois."} for n in range(len(replies))]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    kwargs = {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "cache")}
    task = {
        **yaml.safe_load(OWN),
        **{"task": "own", "dataset_path": "json", "dataset_kwargs": kwargs, "test_split": "test"},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", **options}],
        **({"filter_list": [{"name": "vote", "filter": VOTE}], "repeats": 3} if filtered else {}),
    }
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(task), encoding="utf-8")
    expected = theirs(path, replies, "exact_match", "vote" if filtered else "none")
    scores = ours(load_task(f"lm-eval:{path}", data=None, domains={}), replies)
    assert [s.correct for s in scores] == expected
    assert sum(expected) > 0
