from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.lm_eval_rows import PRO

pytest.importorskip("lm_eval")

from benchmarks.prompts import PromptFormat
from benchmarks.scoring.score import Score, score
from benchmarks.tasks.base import Task
from benchmarks.tasks.lm_eval_scorer import apply_filters
from benchmarks.tasks.registry import load_task
from domainlift.errors import BenchError, Misuse
from engines.base import Answer, Mode, Status
from tests.benchmarks.test_lm_eval_parity import with_rows
from tests.benchmarks.test_lm_eval_task import OPEN, write


def load(path: Path) -> Task:
    return load_task(f"lm-eval:{path}", data=None, domains={})


def reply(task: Task, text: str, number: int = 0) -> Score:
    return score(task.questions[number], Answer("q", text=text), Mode.GENERATE, task.scorer)


def shipped(folder: Path, name: str, rows: list[dict[str, Any]]) -> Task:
    """Load a task of lm-eval from its own configuration, with these rows instead of the hub's."""
    return load(with_rows(folder, name, rows))


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


def applied(steps: list[dict[str, Any]], doc: dict[str, Any], text: str) -> Any:
    from lm_eval.filters import build_filter_ensemble

    parts = [dict(step) for step in steps]
    return apply_filters(
        build_filter_ensemble("x", [(each.pop("function"), each) for each in parts]), doc, text
    )


def test_filters_are_applied_in_their_order() -> None:
    mapping = {"function": "map", "mapping_dict": {"yes": "1"}}
    assert applied([REGEX, {"function": "lowercase"}, FIRST], {}, "It is YES") == "yes"
    assert applied([REGEX], {}, "It is YES") == ["YES"]
    assert applied([REGEX, {"function": "uppercase"}, FIRST], {}, "is no") == "NO"
    lowered = [REGEX, {"function": "lowercase"}, mapping, FIRST]
    assert applied(lowered, {}, "It is YES") == "1"
    assert applied(lowered, {}, "It is NO") is None


def test_the_choices_of_the_document_are_known_to_its_filter() -> None:
    step = {"function": "multi_choice_regex", "group_select": -1, "regex_pattern": "(\\([A-Z]\\))"}
    doc = {"choices": ["carp", "crow"]}
    assert applied([step, FIRST], doc, "I think of (A), so (B)") == "(B)"
    assert applied([step, FIRST], doc, "It is a crow") == "(B)"
    # A document without choices: the filter fails, and nothing is extracted.
    assert applied([step, FIRST], {}, "It is a crow") is None


GRADED = OPEN.replace("exact_match", "bleu").replace('regexes_to_ignore: ["(?s).*#### "]', "")
DRAWN = OPEN.replace("max_gen_toks: 40", "do_sample: true, temperature: 0.2") + "repeats: 64\n"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (GRADED, "is scored by `bleu`, which say neither right nor wrong of one reply"),
        (DRAWN, "draws 64 replies to a question at random"),
        (OPEN + "unsafe_code: true\n", "runs the model's code"),
    ],
)
def test_what_cannot_be_scored_here_is_refused_by_name(
    tmp_path: Path, body: str, what: str
) -> None:
    path = write(tmp_path, body)
    (tmp_path / "zoo.json").unlink()
    with pytest.raises(Misuse) as caught:
        load(path)
    assert caught.value.what == f"lm-eval task `{path}` {what}"


def test_a_metric_that_grades_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    code = "def exact_match(references, predictions, **_):\n    return 0.5\n"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    body = OPEN.replace("metric: exact_match", "metric: !function own.exact_match")
    with pytest.raises(Misuse, match="has metric `exact_match`, which says neither right nor"):
        load(write(tmp_path, body))


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("return {'exact_match': (results[0] == '12') * 2 / 3}", "says neither right nor wrong"),
        ("return {'exact_match': float(results[0] == '12')}", ""),
    ],
)
def test_a_metric_that_grades_only_right_replies_is_refused_too(
    tmp_path: Path, code: str, what: str
) -> None:
    """As that of CoQA, which leaves each reference out in turn."""
    code = f"def process_results(doc, results):\n    {code}\n"
    gold = "def gold(doc):\n    return ['x', '12']\n"
    (tmp_path / "own.py").write_text(code + gold, encoding="utf-8")
    body = re.sub("doc_to_target: .*", "doc_to_target: !function own.gold", OPEN)
    path = write(tmp_path, body + "process_results: !function own.process_results\n")
    with pytest.raises(Misuse, match=what) if what else nullcontext():
        load(path)


def test_a_task_whose_code_needs_what_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import no_such_module\n", encoding="utf-8")
    path = write(tmp_path, OPEN + "process_results: !function own.process_results\n")
    with pytest.raises(Misuse, match="needs the module `no_such_module`, which is not there"):
        load(path)


def test_code_of_the_task_that_fails_is_named_and_not_guessed(tmp_path: Path) -> None:
    code = "def process_results(doc, results):\n    import no_such_module\n"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    body = OPEN + "process_results: !function own.process_results\n"
    with pytest.raises(BenchError, match=r"cannot be scored .*no_such_module"):
        load(write(tmp_path, body))


def test_a_reply_is_compared_as_it_is_where_the_task_has_no_filter(tmp_path: Path) -> None:
    body = OPEN.replace("It is so. #### ", "")
    task = load(write(tmp_path, body, [{"q": "Which?", "gold": "carp"}]))
    scores = [reply(task, text) for text in ("carp", " carp", "Carp", "It is so. #### carp")]
    assert [each.correct for each in scores] == [True, False, False, True]
    assert scores[0].extracted_by == "lm-eval:none"


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
