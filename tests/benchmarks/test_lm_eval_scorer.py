from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("lm_eval")

from benchmarks.prompts import PromptFormat
from benchmarks.scoring.score import Score, score
from benchmarks.scoring.scorer import BY_REFERENCE
from benchmarks.tasks.base import Task
from benchmarks.tasks.lm_eval_scorer import apply_filters
from benchmarks.tasks.lm_eval_task import yaml_files
from benchmarks.tasks.registry import load_task
from domainlift.errors import Misuse
from engines.base import Answer, Mode, Status
from tests.benchmarks.test_lm_eval_task import OPEN, write


def load(path: Path) -> Task:
    return load_task(f"lm-eval:{path}", data=None, domains={})


def reply(task: Task, text: str, number: int = 0) -> Score:
    return score(task.questions[number], Answer("q", text=text), Mode.GENERATE, task.scorer)


def shipped(folder: Path, name: str, rows: list[dict[str, Any]]) -> Task:
    """Load a task of lm-eval from its own configuration, with these rows instead of the hub's."""
    config = yaml_files()[name]
    for file in config.parent.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    splits = dict.fromkeys(("train", "validation", "test"), data.as_posix())
    kwargs = {"data_files": splits, "cache_dir": (folder / "cache").as_posix()}
    own = {"include": config.name, "task": "stub", "dataset_path": "json", "dataset_name": None}
    path = folder / "stub.yaml"
    path.write_text(yaml.safe_dump({**own, "dataset_kwargs": kwargs}), encoding="utf-8")
    return load(path)


PRO = {
    "question": "Which one swims?",
    "options": ["carp", *(f"bird {n}" for n in range(9))],
    "answer": "A",
    "answer_index": 0,
    "cot_content": "A: Let's think step by step. Fish swim. The answer is (A).",
    "category": "biology",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A carp is a fish. The answer is (A).", Score(Status.OK, True, "A")),
        ("Birds fly. The answer is (J).", Score(Status.OK, False, "J")),
        ("I cannot say.", Score(Status.UNPARSED, False)),
        ("", Score(Status.UNPARSED, False)),
    ],
)
def test_mmlu_pro_is_scored_by_its_own_filter(tmp_path: Path, text: str, expected: Score) -> None:
    rows = [*([PRO] * 5), {**PRO, "category": "law"}]
    task = shipped(tmp_path, "mmlu_pro_biology", rows)
    assert (len(task.questions), task.questions[0].answer, task.shots) == (5, "A", 5)
    assert task.questions[0].text.endswith("J. bird 8\nAnswer: Let's think step by step.")
    assert reply(task, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 * 4 = 12 and 1200 more.\n#### 1,212", Score(Status.OK, True, "1,212")),
        # Its flexible filter counts, which takes the last number.
        ("That makes $1212.", Score(Status.OK, True, "$1212.")),
        ("1212 or 12", Score(Status.OK, False, "12")),
        ("I cannot say", Score(Status.UNPARSED, False)),
    ],
)
def test_gsm8k_is_scored_by_its_flexible_filter(tmp_path: Path, text: str, expected: Score) -> None:
    rows = [{"question": f"How much {n}?", "answer": "12\n#### 1,212"} for n in range(6)]
    assert reply(shipped(tmp_path, "gsm8k", rows), text) == expected


def filtered(*filters: dict[str, Any], name: str = "extract") -> str:
    return "filter_list: " + json.dumps([{"name": name, "filter": list(filters)}]) + "\n"


REGEX = {"function": "regex", "regex_pattern": "is (\\w+)"}
FIRST = {"function": "take_first"}


def test_filters_are_applied_in_their_order() -> None:
    mapping = {"function": "map", "mapping_dict": {"yes": "1"}}
    steps = [REGEX, {"function": "lowercase"}, FIRST]
    assert apply_filters({"filter": steps}, {}, "It is YES") == "yes"
    assert apply_filters({"filter": [REGEX]}, {}, "It is YES") == "YES"
    assert apply_filters({"filter": [REGEX, {"function": "uppercase"}]}, {}, "is no") == "NO"
    lowered = [REGEX, {"function": "lowercase"}, mapping, FIRST]
    assert apply_filters({"filter": lowered}, {}, "It is YES") == "1"
    assert apply_filters({"filter": lowered}, {}, "It is NO") is None


def test_the_choices_of_the_document_are_known_to_its_filter() -> None:
    step = {"function": "multi_choice_regex", "group_select": -1, "regex_pattern": "(\\([A-Z]\\))"}
    doc = {"choices": ["carp", "crow"]}
    assert apply_filters({"filter": [step, FIRST]}, doc, "I think of (A), so (B)") == "(B)"
    assert apply_filters({"filter": [step, FIRST]}, doc, "It is a crow") == "(B)"


@pytest.mark.parametrize(
    ("filters", "name"),
    [
        ([REGEX, {"function": "majority_vote"}, FIRST], "majority_vote"),
        ([{"function": "take_first_k", "k": 8}], "take_first_k"),
        ([{"function": "custom", "filter_fn": "x"}], "custom"),
    ],
)
def test_filters_that_need_more_than_a_reply_are_refused(
    tmp_path: Path, filters: list[dict[str, Any]], name: str
) -> None:
    path = write(tmp_path, OPEN + filtered(*filters))
    (tmp_path / "zoo.json").unlink()
    with pytest.raises(Misuse) as caught:
        load(path)
    what = f"lm-eval task `{path}` has filter `{name}`, which cannot be applied to one reply"
    assert caught.value.what == what


@pytest.mark.parametrize("filters", [[FIRST], [{"function": "remove_whitespace"}, FIRST]])
def test_filters_that_change_nothing_leave_the_scorer_and_the_fingerprint(
    tmp_path: Path, filters: list[dict[str, Any]]
) -> None:
    plain = load(write(tmp_path, OPEN))
    task = load(write(tmp_path, OPEN + filtered(*filters)))
    form = PromptFormat(Mode.GENERATE, 0, chat=False)
    assert task.scorer is BY_REFERENCE
    assert form.digest(task) == form.digest(plain)


def test_a_filter_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    form = PromptFormat(Mode.GENERATE, 0, chat=False)
    digests = {
        form.digest(load(write(tmp_path, OPEN + body)))
        for body in ("", filtered(REGEX, FIRST), filtered({**REGEX, "group_select": -1}, FIRST))
    }
    assert len(digests) == 3


def test_of_several_filters_the_flexible_one_counts_or_the_first(tmp_path: Path) -> None:
    last = {**REGEX, "group_select": -1}
    pipelines = [{"name": "a", "filter": [REGEX]}, {"name": "b", "filter": [last]}]
    body = "It is 0, or is 2"
    task = load(write(tmp_path, OPEN + "filter_list: " + json.dumps(pipelines) + "\n"))
    assert reply(task, body).chosen == "0"
    pipelines[1]["name"] = "flexible-extract"
    task = load(write(tmp_path, OPEN + "filter_list: " + json.dumps(pipelines) + "\n"))
    assert reply(task, body).chosen == "2"


def test_what_lm_evals_exact_match_ignores_is_ignored(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"q": "Which?", "gold": "A carp."}]
    body = OPEN.replace('regexes_to_ignore: ["(?s).*#### "]', "ignore_case: true")
    body = body.replace("It is so. #### ", "") + "    ignore_punctuation: true\n"
    pattern = {"function": "regex", "regex_pattern": "is (.*)"}
    task = load(write(tmp_path, body + filtered(pattern, FIRST), rows))
    assert reply(task, "It is a CARP!").correct
    assert reply(task, "It is a crow").correct is False
