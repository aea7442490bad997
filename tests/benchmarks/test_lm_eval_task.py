from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.tasks.base import Task
from benchmarks.tasks.lm_eval_task import read_config, yaml_files
from benchmarks.tasks.mmlu import MMLU, SUBJECTS
from benchmarks.tasks.registry import load_task
from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from domainlift.types import Split, Treatment
from engines.base import Mode

ROWS = [
    {"q": "Which is a mammal?", "options": ["cat", "carp", "crow"], "gold": 0},
    {"q": "Which one flies?", "options": ["cat", "carp", "crow"], "gold": 2},
    {"q": "Which one swims?", "options": ["cat", "carp", "crow"], "gold": 1},
]
CHOICE = """
output_type: multiple_choice
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_choice: "{{options}}"
doc_to_target: gold
"""
OPEN = """
output_type: generate_until
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_target: "It is so. #### {{gold}}"
generation_kwargs: {until: ["Question:"], max_gen_toks: 40}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    regexes_to_ignore: ["(?s).*#### "]
"""


def write(folder: Path, body: str, rows: list[dict[str, object]] | None = None) -> Path:
    """Write a task of lm-eval with its data; the form is in a file that it includes."""
    file = folder / "zoo.json"
    lines = [json.dumps(row) + "\n" for row in (ROWS if rows is None else rows)]
    file.write_text("".join(lines), encoding="utf-8")
    (folder / "_form").write_text(body, encoding="utf-8")
    files = {"train": file.as_posix(), "test": file.as_posix()}
    cache = (folder / "cache").as_posix()
    task = {
        "include": "_form",
        "task": "zoo",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files, "cache_dir": cache},
        "training_split": "train",
        "test_split": "test",
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
    }
    path = folder / "zoo.yaml"
    path.write_text(json.dumps(task), encoding="utf-8")
    return path


def load(path: Path, split: Split = "test") -> Task:
    return load_task(f"lm-eval:{path}", data=None, domains={}, split=split)


def test_multiple_choice(tmp_path: Path) -> None:
    task = load(write(tmp_path, CHOICE))
    assert task.questions[0].text == "Question: Which is a mammal?\nAnswer:"
    assert task.questions[0].options == (" cat", " carp", " crow")
    assert [q.answer for q in task.questions] == [0, 2, 1]
    assert (task.mode, task.modes) == (Mode.CLOZE, frozenset({Mode.CLOZE}))
    assert (task.prerendered, task.domain, task.shots) == (True, "general", 0)
    assert len({q.id for q in task.questions}) == 3


def test_the_examples_stand_in_the_text(tmp_path: Path) -> None:
    task = load(write(tmp_path, CHOICE + "num_fewshot: 1\ndescription: 'Animals.\n\n\n  '\n"))
    expected = "Question: Which is a mammal?\nAnswer: cat\n\nQuestion: Which one flies?\nAnswer:"
    assert task.questions[1].text.endswith(expected)
    assert task.questions[1].text.startswith("Animals.\n")
    assert (task.shots, task.examples) == (1, ())


def test_spaces_at_the_end_of_the_context_belong_to_the_options(tmp_path: Path) -> None:
    task = load(write(tmp_path, CHOICE.replace("Answer:", "Answer: ") + 'target_delimiter: ""\n'))
    assert task.questions[0].text.endswith("Answer:")
    assert task.questions[0].options == (" cat", " carp", " crow")


def test_generation(tmp_path: Path) -> None:
    task = load(write(tmp_path, OPEN))
    assert [q.answer for q in task.questions] == ["0", "2", "1"]
    assert task.questions[0].options == ()
    assert (task.mode, task.stop, task.max_tokens) == (Mode.GENERATE, ("Question:",), 40)


def test_splits(tmp_path: Path) -> None:
    path = write(tmp_path, CHOICE)
    assert {q.split for q in load(path, "train").questions} == {"train"}
    with pytest.raises(Misuse, match="has no validation split"):
        load(path, "validation")


def test_the_templates_are_lm_evals_again_afterwards(tmp_path: Path) -> None:
    from lm_eval.utils import env

    load(write(tmp_path, CHOICE))
    assert "from_string" not in vars(env)


@pytest.mark.parametrize(
    ("body", "obstacle"),
    [
        ("output_type: loglikelihood_rolling", "has output type `loglikelihood_rolling`"),
        ("output_type: loglikelihood", "has output type `loglikelihood`"),
        ("class: !function task.Zoo", "is written as a Python class"),
        ("group: zoos", "is a group"),
        (CHOICE + "process_results: !function utils.mark", "is scored by Python code of its own"),
        (OPEN + "unsafe_code: true", "runs the model's code"),
        (CHOICE + "doc_to_image: image", "shows images or sounds"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_its_data_is_fetched(
    tmp_path: Path, body: str, obstacle: str
) -> None:
    path = write(tmp_path, body)
    (tmp_path / "zoo.json").unlink()
    with pytest.raises(Misuse) as caught:
        load(path)
    assert caught.value.what == f"lm-eval task `{path}` {obstacle}"
    assert "multiple_choice" in str(caught.value.hint)


def test_several_right_answers_are_refused(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{**row, "gold": [0, 1]} for row in ROWS]
    with pytest.raises(Misuse, match="has several answers per question"):
        load(write(tmp_path, CHOICE, rows))


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, CHOICE)
    (tmp_path / "zoo.json").unlink()
    with pytest.raises(BenchError, match="cannot load lm-eval task") as caught:
        load(path)
    assert "\n" not in caught.value.what


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text("task: zoo\noutput_type: [", encoding="utf-8")
    with pytest.raises(Malformed, match=r"zoo\.yaml:2: no valid YAML"):
        load(path)
    with pytest.raises(Malformed, match="cannot be read"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("include", "why"),
    [
        ("zoo.yaml", "includes `zoo.yaml`, which includes it again"),
        ("[other.yaml]", "includes `zoo.yaml`, which includes it again"),
        ("5", "`include` is neither a file nor a list of files"),
        ("[{a: b}]", "`include` is neither a file nor a list of files"),
        ("none.yaml", "cannot be read"),
    ],
)
def test_an_include_that_cannot_be_followed_is_named(
    include: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "other.yaml").write_text("include: zoo.yaml", encoding="utf-8")
    path = tmp_path / "zoo.yaml"
    path.write_text(f"task: zoo\ninclude: {include}", encoding="utf-8")
    with pytest.raises(Malformed, match=why):
        read_config(path)


def test_names_are_found_without_parsing() -> None:
    assert read_config(yaml_files()["arc_challenge"])["dataset_name"] == "ARC-Challenge"
    assert "group" in read_config(yaml_files()["mmlu"])
    with pytest.raises(NoSuch, match="no lm-eval task `arc_chalenge`") as caught:
        load_task("lm-eval:arc_chalenge", data=None, domains={})
    assert "did you mean `arc_challenge`?" in str(caught.value.hint)


def test_our_mmlu_descriptions_are_lm_evals() -> None:
    for subject in SUBJECTS:
        config = read_config(yaml_files()[f"mmlu_{subject}"])
        assert config["description"] == MMLU.header(subject)


def test_our_mmlu_prompts_are_lm_evals(tmp_path: Path) -> None:
    """The five examples and their order, the header and the texts, byte for byte."""
    template = yaml_files()["mmlu_anatomy"].parent / "_default_template_yaml"
    rows = [[f" {n} of\nsix? ", " a", "b ", "c", "d", "ABCD"[n % 4]] for n in range(6)]
    body = template.read_text(encoding="utf-8").replace("dataset_path: cais/mmlu", "")
    header = json.dumps(MMLU.header("anatomy"))
    docs: list[dict[str, object]] = [
        {"question": r[0], "choices": r[1:5], "answer": "ABCD".index(r[5])} for r in rows
    ]
    theirs = load(write(tmp_path, f"{body}\ndescription: {header}\nnum_fewshot: 5\n", docs))
    for split, part in (("dev", rows[:5]), ("test", rows)):
        file = tmp_path / "mmlu" / split / f"anatomy_{split}.csv"
        file.parent.mkdir(parents=True)
        with file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(part)
    ours = load_task("mmlu:anatomy", data=tmp_path, domains={})
    prompter = PromptBuilder(ours, PromptFormat(Mode.LETTER, shots=5, chat=False))
    for mine, other in zip(ours.questions, theirs.questions, strict=True):
        assert prompter.request(mine, Treatment()).prompt.text == other.text
