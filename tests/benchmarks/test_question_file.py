from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import load_task
from domainlift.errors import Malformed, Misuse
from domainlift.types import Split
from engines.base import Mode
from knowledge_bases.domains import Domain

ROW: dict[str, Any] = {"question": "Which is a mammal?", "options": ["cat", "carp"], "answer": 0}
OPEN: dict[str, Any] = {"question": "What is 6 times 7?", "answer": 42}


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(path: Path, split: Split = "test") -> Task:
    return load_task(str(path), data=None, domains={}, split=split)


def domain(folder: Path, *tasks: str) -> Domain:
    return Domain(folder.name, folder.name.title(), "", (), tasks, (), False, folder)


def test_a_file_without_splits_is_all_test(tmp_path: Path) -> None:
    task = load(jsonl(tmp_path / "zoo.jsonl", ROW, {**ROW, "question": "Which one swims?"}))
    assert [q.text for q in task.questions] == ["Which is a mammal?", "Which one swims?"]
    assert task.questions[0].options == ("cat", "carp")
    assert task.domain == task.questions[0].domain == "zoo"
    assert (task.mode, task.modes, task.shots) == (Mode.CLOZE, frozenset(Mode), 0)
    assert task.examples == ()


def test_the_split_is_asked_for_and_train_rows_are_the_examples(tmp_path: Path) -> None:
    rows = [{**ROW, "split": s, "question": s} for s in ("train", "validation", "test", "train")]
    path = jsonl(tmp_path / "zoo.jsonl", *rows)
    assert [q.text for q in load(path).questions] == ["test"]
    assert [e.question.text for e in load(path).examples] == ["train", "train"]
    assert [q.split for q in load(path, "validation").questions] == ["validation"]
    # Nothing is shown as an example and asked at once.
    assert len(load(path, "train").questions) == 2
    assert load(path, "train").examples == ()


def test_an_absent_split_is_said(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "zoo.jsonl", {**ROW, "split": "train"})
    with pytest.raises(Misuse, match="no question of the split `test`") as caught:
        load(path)
    assert caught.value.hint == "it has `train`"


def test_open_answers_are_generated(tmp_path: Path) -> None:
    task = load(jsonl(tmp_path / "sums.jsonl", OPEN, {**OPEN, "split": "train"}))
    assert task.questions[0].answer == "42"
    assert task.questions[0].options == ()
    assert (task.mode, task.modes) == (Mode.GENERATE, frozenset({Mode.GENERATE}))
    assert task.examples[0].reply == "42"
    assert task.max_tokens > 0


def test_every_key_is_kept(tmp_path: Path) -> None:
    row = {**ROW, "support": "documents/a.md#Cat", "cluster": 7, "domain": "zoology", "id": 12}
    question = load(jsonl(tmp_path / "zoo.jsonl", row)).questions[0]
    assert (question.support, question.cluster) == ("documents/a.md#Cat", "7")
    assert (question.domain, question.id) == ("zoology", "zoo.jsonl/12")


def test_ids_stay_when_the_file_moves(tmp_path: Path) -> None:
    before = load(jsonl(tmp_path / "zoo.jsonl", ROW, ROW))
    (tmp_path / "sub").mkdir()
    after = load(jsonl(tmp_path / "sub" / "zoo.jsonl", ROW, ROW))
    assert [q.id for q in before.questions] == [q.id for q in after.questions]
    assert len({q.id for q in before.questions}) == 2
    assert before.digest == after.digest


def test_one_option_may_begin_like_another(tmp_path: Path) -> None:
    row = {"question": "How many?", "options": ["1", "12", "123"], "answer": "123"}
    assert load(jsonl(tmp_path / "n.jsonl", row)).questions[0].answer == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, "no `question`"),
        ({"question": "  "}, "`question` is only white space"),
        ({"options": ["cat"]}, "1 option, where 2 to 26 are needed"),
        ({"options": [str(n) for n in range(27)]}, "27 options"),
        ({"options": ["cat", "cat"]}, "option `cat` stands there twice"),
        ({"options": ["cat", " cat "]}, "option `cat` stands there twice"),
        ({"options": ["cat", ""]}, "an option is empty"),
        ({"options": "cat"}, "`options` is a text, but not JSON"),
        ({"options": ["cat", None]}, "`options` must be a list of texts"),
        ({"answer": 2}, "answer 2 is out of range (0 to 1)"),
        ({"answer": -1}, "answer -1 is out of range (0 to 1)"),
        ({"answer": True}, "answer is neither an index nor a letter"),
        ({"answer": [0]}, "answer is neither an index nor a letter"),
        ({"answer": "C"}, "answer `C` is none of the 2 options"),
        ({"answer": "dog"}, "answer `dog` is none of the 2 options"),
        ({"answer": None}, "no `answer`"),
        ({"split": "dev"}, "split `dev` is none of train, validation, test"),
        ({"domain": ["a"]}, "`domain` must be a text, not a list"),
        ({"options": ["B", "A"], "answer": "A"}, "answer `A` can be read in two ways"),
        ({"options": None, "answer": [1]}, "`answer` must be a text, not a list"),
        ({"answer": float("nan")}, "no `answer`"),
        ({"optoins": ["cat", "carp"]}, "unknown key `optoins`; did you mean `options`?"),
        ({"splt": "train"}, "unknown key `splt`; did you mean `split`?"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = jsonl(tmp_path / "zoo.jsonl", ROW, {**ROW, **change})
    with pytest.raises(Malformed) as caught:
        load(path)
    assert caught.value.what.startswith(f"{path}:2: {message}")
    assert caught.value.hint


def test_missing_keys_and_double_ids_are_found(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=":1: no `question`"):
        load(jsonl(tmp_path / "a.jsonl", {"options": ["a", "b"], "answer": 0}))
    with pytest.raises(Malformed, match=":1: no `answer`"):
        load(jsonl(tmp_path / "b.jsonl", {"question": "?", "options": ["a", "b"]}))
    with pytest.raises(Malformed, match=":2: id `x` stands already on line 1"):
        load(jsonl(tmp_path / "c.jsonl", {**ROW, "id": "x"}, {**ROW, "id": "x"}))


def csv_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8-sig", newline="")
    return path


@pytest.mark.parametrize(
    ("text", "options", "answer"),
    [
        ("question,A,B,C,D,answer\r\nQ?,w,x,y,z,C\r\n", ("w", "x", "y", "z"), 2),
        ('question,A,B,answer\n"Q\nR?",w,x,x\n', ("w", "x"), 1),
        ("question,A,B,C,D,answer\nQ?,w,x,y,,1\n", ("w", "x", "y"), 1),
        ('question,options,answer\nQ?,"[""w"", ""x""]",A\n', ("w", "x"), 0),
        ("answer,question\n42,Q?\n", (), "42"),
        ("question,A,B,answer,split\nQ?,,,42,test\n", (), "42"),
        ("Question;Option A;Option B;Correct\nQ?;w;x;B\n", ("w", "x"), 1),
        (",question,a,b,c,d,label\n0,Q?,w,x,y,,2.0\n", ("w", "x", "y"), 2),
    ],
)
def test_csv_in_both_forms(
    tmp_path: Path, text: str, options: tuple[str, ...], answer: int | str
) -> None:
    question = load(csv_file(tmp_path / "exam.csv", text)).questions[0]
    assert (question.options, question.answer) == (options, answer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,A,B\nQ?,a,b\n", ":2: no `answer`"),
        ("question;A;B;anwser\nQ?;a;b;A\n", ":2: unknown key `anwser`; did you mean `answer`?"),
        ("question,A,A,answer\n", ":1: column `A` stands there twice"),
        ("question,A,B,answer\nQ?,a,b,A,x\n", ":2: has 5 cells, the header 4"),
        ("question,A,B,answer\nQ?,a,b,C\n", ":2: answer `C` is none of the 2 options"),
        ("question,A,B,C,answer\nQ?,a,,b,A\n", ":2: an option is empty"),
        ("question,A,B,answer\nQ?,a,,A\n", ":2: 1 option,"),
        ("question,A,B,answer\n,a,b,A\n", ":2: no `question`"),
        ("question,A,B,answer\nQ?,a,b,\n", ":2: no `answer`"),
        ("question,options,answer\nQ?,a|b,A\n", ":2: `options` is a text, but not JSON"),
        ("question,A,B,answer\n", ": holds no question"),
    ],
)
def test_a_bad_csv_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = csv_file(tmp_path / "exam.csv", text)
    with pytest.raises(Malformed) as caught:
        load(path)
    assert caught.value.what.startswith(f"{path}{message}")
    assert caught.value.hint


def test_both_forms_give_the_same_questions(tmp_path: Path) -> None:
    one = load(jsonl(tmp_path / "zoo.jsonl", ROW)).questions[0]
    other = load(csv_file(tmp_path / "zoo.csv", "question,A,B,answer\n" + ",".join(
        [ROW["question"], *ROW["options"], "A"]))).questions[0]  # fmt: skip
    assert (one.text, one.options, one.answer) == (other.text, other.options, other.answer)


def test_own_questions_belong_to_their_domain(tmp_path: Path) -> None:
    folder = tmp_path / "zoology"
    folder.mkdir()
    jsonl(folder / "questions.jsonl", {**ROW, "id": "cat"}, {**ROW, "domain": "elsewhere"})
    task = load_task("own:zoology", data=None, domains={"zoology": domain(folder)})
    assert task.name == "own:zoology"
    assert {task.domain, *(q.domain for q in task.questions)} == {"zoology"}
    assert task.questions[0].id == "zoology/cat"


def test_a_domain_lists_files_in_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "zoology"
    folder.mkdir()
    jsonl(folder / "exam.jsonl", ROW)
    task = load_task("exam.jsonl", data=None, domains={"zoology": domain(folder, "exam.jsonl")})
    assert (task.domain, len(task.questions)) == ("zoology", 1)
    outside = domain(folder, "../other.jsonl")
    with pytest.raises(Misuse, match="leads out of"):
        load_task("../other.jsonl", data=None, domains={"zoology": outside})
