from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from recipes import shop_agent

pytest.importorskip("numpy")

KEYS = {"domain", "path", "train", "validation", "held_out", "duplicates", "leaked", "sha256"}


def lines(path: str, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(path) / f"{split}.jsonl").read_text().splitlines()]


def test_a_domain_is_prepared_in_the_form_in_which_it_is_asked(bench: Any) -> None:
    said = bench("data", "prepare", "biology", "--own", "--json")
    assert said.code == 0, said.err
    assert set(said.json) == KEYS
    assert said.json["train"] + said.json["validation"] + said.json["held_out"] == 249
    rows = lines(said.json["path"], "train")
    assert all(row["prompt"].startswith("Question: ") for row in rows)
    assert all(row["prompt"].endswith("\nAnswer:") for row in rows)
    assert all(row["completion"].startswith(" ") for row in rows)
    assert {row["licence"] for row in rows} == {"Apache-2.0"}
    again = bench("data", "prepare", "biology", "--own", "--json")
    assert again.json == said.json


def test_rows_of_ones_own_are_taken_and_leaks_are_not(bench: Any, tmp_path: Path) -> None:
    from benchmarks.tasks.registry import load_task
    from knowledge_bases.domains import load_domains

    tested = load_task("own:biology", data=None, domains=load_domains()).questions[0]
    right = tested.options[int(tested.answer)]
    rows = [
        {"instruction": "Name the organ that pumps blood.", "input": "", "output": "The heart."},
        {"prompt": f"Question: {tested.text}\nAnswer:", "completion": f" {right}"},
        {"prompt": "Which organ pumps the blood?", "completion": " the heart"},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = bench("data", "prepare", "biology", "--own", "--file", path, "--json")
    assert said.code == 0, said.err
    assert said.json["leaked"] == 1
    everything = [
        row
        for split in ("train", "validation", "held_out")
        for row in lines(said.json["path"], split)
    ]
    assert any("pumps" in json.dumps(row) for row in everything)
    assert not any(tested.text in row["prompt"] for row in everything)


def test_another_data_set_is_never_overwritten(bench: Any) -> None:
    assert bench("data", "prepare", "biology", "--own").code == 0
    said = bench("data", "prepare", "biology", "--own", "--size", "20")
    assert said.code == 2
    assert bench("data", "prepare", "biology", "--own", "--size", "20", "--name", "few").code == 0


def test_a_check_names_every_line_that_is_wrong(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": " b"}\nnot json\n{"prompt": "a"}\n')
    said = bench("data", "check", path, "--json")
    assert said.code == 1
    assert [each["line"] for each in said.json["problems"]] == [2, 3]
    path.write_text('{"prompt": "a", "completion": " b"}\n')
    assert bench("data", "check", path).code == 0


def test_a_check_shows_how_questions_are_understood(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "exam.csv"
    path.write_text("question,a,b,label,splt\nSky?,red,blue,1,train\nSea?,red,blue,1,\n")
    said = bench("data", "check", path, "--json")
    assert said.code == 1
    assert said.json["problems"] == [
        {"line": 1, "what": "unknown key `splt`; did you mean `split`?", "column": "splt",
         "nearest": "split"}
    ]  # fmt: skip
    [second] = said.json["understood"]
    assert (second["line"], second["options"], second["letter"]) == (3, ["red", "blue"], "B")
    refused = bench("run", "--model", "tiny", "--task", path)
    assert refused.code == 2
    assert "unknown key `splt`; did you mean `split`?" in refused.err
    assert "bench data check" in refused.err
    path.write_text(path.read_text().replace("splt", "split"))
    said = bench("data", "check", path)
    assert said.code == 0
    assert "  answer: blue\n  letter: B\n  split: train\n" in said.out


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("data", "prepare", "bilogy"), "no domain `bilogy`"),
        (("data", "prepare", "economics", "--own"), "nothing to learn from"),
        (("data", "prepare", "biology", "--own", "--name", "../out"), "leads out"),
    ],
)
def test_misuse_is_told(bench: Any, argv: tuple[str, ...], what: str) -> None:
    said = bench(*argv)
    assert said.code in (1, 2)
    assert what in said.err


def test_traces_become_rows_and_held_out_questions(bench: Any, tmp_path: Path) -> None:
    from engines.registry import tiny_folder
    from recipes.shop_agent.shop import shop_traces
    from traces.store import TraceStore

    model = tmp_path / "model"
    shutil.copytree(tiny_folder(), model)
    for trace in shop_traces(30):
        TraceStore(tmp_path / "workspace").add(trace)
    command = ("data", "prepare", "--traces", "--out", "shop", "--model", model)
    assert bench("data", "prepare", "biology", "--hold-out", "0.2").code == 2
    assert bench("data", "prepare").code == 2
    refused = bench(*command, "--json")
    assert refused.code == 1
    assert "leaves out the list of tools" in refused.err
    shutil.copy(Path(shop_agent.__file__).with_name("chat_template.jinja"), model)
    (tmp_path / "workspace" / "traces" / "torn.jsonl").write_text('{"type": "se\n')
    said = bench(*command, "--hold-out", "0.3", "--json")
    assert said.code == 0, said.err
    found = said.json
    assert (found["left_out"], "torn.jsonl:1" in said.err) == ({"damaged": 1}, True)
    assert set(found) >= {*KEYS, "rows", "turns", "refused", "tokens_trained", "questions_file"}
    assert found["turns"] == found["rows"] + found["held_out_turns"]
    assert found["rows"] == found["train"] + found["validation"] + found["held_out"]
    assert len(Path(found["questions_file"]).read_text().splitlines()) == found["questions"]
    checked = bench("data", "check", found["questions_file"])
    assert checked.code == 0, checked.out
    assert "split: test" in checked.out
    recipe = tmp_path / "shop.yaml"
    recipe.write_text("proportions: {shop: 1}\nreplay: 0\ntraining: {steps: 2, eval_every: 2}\n")
    train = ("train", "shop", "--model", model, "--recipe", recipe, "--json")
    shown = bench(*train, "--dry-run")
    assert shown.code == 0, shown.err
    assert any(len(each["turns"]) > 1 for each in shown.json["examples"])
    assert "tool_response" not in "".join(each["trained"] for each in shown.json["examples"])
    made = bench(*train)
    assert made.code == 0, made.err
    assert made.json["validation"]["shop"]["n"] == found["validation"]
    task = ("--task", found["questions_file"], "--chat", "--limit", "4", "--json")
    asked = bench("run", "--model", model, *task, "--adapter", "shop")
    assert asked.code == 0, asked.err
    assert "arguments" in asked.json["overall"]["metrics"]
