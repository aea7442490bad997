from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError, Malformed, Misuse
from domainlift.text.contamination import QuestionIndex
from domainlift.text.ngrams import jaccard, ngrams
from domainlift.text.normalise import words_and_signs
from domainlift.types import Question
from engines.base import Message
from finetune.data.cleaning import clean_row, clean_rows, join, open_layout, reject_reason
from finetune.data.duplicates import SIZE, without_near_duplicates
from finetune.data.prepare import prepare_rows, split_of
from finetune.data.row_io import SPLITS, load_rows, row_lines
from finetune.data.rows import Row

FILES = ("card.json", "held_out.jsonl", "train.jsonl", "validation.jsonl")


def row(number: int, kind: str = "question", **changes: str) -> Row:
    word = hashlib.sha256(str(number).encode()).hexdigest()
    asked = f"Question: Which colour does {word[:9]} have near {word[9:18]}?\nAnswer:"
    return replace(Row(asked, f" {word[18:25]}", "biology", kind), **changes)


def rows(count: int, kind: str = "question") -> list[Row]:
    return [row(number, kind) for number in range(count)]


def benchmark(*texts: str) -> QuestionIndex:
    questions = [Question(text, "biology", "task", text, (), "") for text in texts]
    return QuestionIndex(questions, short=True)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- the whole


def test_what_is_written_and_what_is_returned(tmp_path: Path) -> None:
    made = prepare_rows("biology", rows(200), folder=tmp_path / "set")
    read = {split: load_rows(tmp_path / "set", split) for split in SPLITS}
    assert (made.train, made.validation, made.held_out) == tuple(map(len, read.values()))
    assert sorted(str(each) for found in read.values() for each in found) == sorted(
        map(str, rows(200))
    )
    assert tuple(content(tmp_path / "set")) == FILES
    assert 160 < made.train < 195
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert list(made.as_json()) == [
        *("domain", "path", "train", "validation", "held_out", "duplicates", "leaked", "sha256")
    ]


def test_the_card_tells_all(tmp_path: Path) -> None:
    given = [
        *rows(60),
        *(row(n, "cloze", source="book.md#1", licence="CC0") for n in range(100, 110)),
        row(0),
        row(1, completion=" "),
        row(2, completion="x" * 50_000),
        Row("", "ok", "biology"),
    ]
    question = row(5).prompt.removeprefix("Question: ").removesuffix("\nAnswer:")
    made = prepare_rows(
        "biology", given, folder=tmp_path / "set", seed=3, benchmark=benchmark(question, "no")
    )
    card = json.loads((tmp_path / "set" / "card.json").read_text(encoding="utf-8"))
    assert (made.duplicates, made.leaked) == (1, 1)
    assert card["taken out"] == {
        **{"empty answer": 1, "too long": 1, "too short": 1},
        **{
            "exact copies": 1,
            "near copies": 0,
            "questions of a benchmark": 1,
            "beyond the size": 0,
        },
    }
    assert card["benchmark questions compared"] == 2
    assert card["licences"] == {"unknown": 59, "CC0": 10}
    assert card["sources"] == {"unknown": 59, "book.md": 10}
    assert sum(card["kinds"]["cloze"].values()) == 10
    assert max(card["kinds"]["cloze"].values()) == 10  # one source, one split
    for name, sha in card["files"].items():
        assert hashlib.sha256((tmp_path / "set" / name).read_bytes()).hexdigest() == sha
    assert card["taken out"]["questions of a benchmark"] == 1
    assert card["sha256"] == made.sha256
    assert card["characters"]["answer"]["all"] == sum(
        len(each.completion) for split in SPLITS for each in load_rows(tmp_path / "set", split)
    )


def test_the_same_input_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from finetune.data.rows import Row;"
        "from finetune.data.prepare import prepare_rows;"
        "rows = [Row(f'{n * n} is the square of which number?', f' {n}', 'd') for n in range(99)];"
        "prepare_rows('d', rows * 2, size=50, seed=1, folder=Path(sys.argv[1]))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", script, str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        root = Path(__file__).parents[2]
        subprocess.run(command, env=environment, check=True, cwd=root)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    card = json.loads((tmp_path / "1" / "card.json").read_text(encoding="utf-8"))
    assert sum(card["rows"].values()) == 50


def test_an_existing_data_set_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    made = prepare_rows("biology", rows(30), folder=folder)
    before = content(folder)
    assert prepare_rows("biology", rows(30), folder=folder) == made
    with pytest.raises(Misuse, match="holds another data set") as error:
        prepare_rows("biology", rows(31), folder=folder)
    assert "name another folder" in str(error.value.hint)
    assert content(folder) == before
    (folder / "train.jsonl").unlink()
    with pytest.raises(Misuse, match=r"`train\.jsonl` differs"):
        prepare_rows("biology", rows(30), folder=folder)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    prepare_rows("biology", rows(30), folder=tmp_path / "set")
    assert tuple(content(tmp_path / "set")) == FILES


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no row is left to learn from in `biology`") as error:
        prepare_rows("biology", [row(1, completion="")] * 3, folder=tmp_path / "set")
    assert error.value.hint == "taken out: empty answer 3"
    assert list(tmp_path.iterdir()) == []


# --- what may happen while it is written


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BenchError, match="the disk is full"):
        prepare_rows("biology", rows(30), folder=tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "fsync", synced)
    assert prepare_rows("biology", rows(30), folder=tmp_path / "set").train


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("moment", [1, 3, 5])
def test_a_kill_leaves_nothing_half(moment: int, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from finetune.data.rows import Row;"
        "from finetune.data.prepare import prepare_rows\n"
        "calls = []\n"
        "def fsync(handle):\n"
        "    calls.append(handle)\n"
        f"    if len(calls) == {moment}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.fsync = fsync\n"
        "rows = [Row(f'What is {n} squared?', f' {n * n}', 'd') for n in range(99)]\n"
        "prepare_rows('d', rows, folder=Path(sys.argv[1]))"
    )
    folder = tmp_path / "set"
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not folder.exists()
    made = prepare_rows("biology", rows(30), folder=folder)
    assert made.train + made.validation + made.held_out == 30
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


# --- splits


@given(st.sets(st.integers(0, 10_000), min_size=1), st.sets(st.integers(0, 10_000)))
def test_a_row_never_changes_its_split(some: set[int], more: set[int]) -> None:
    before = {number: split_of(row(number)) for number in some}
    after = {number: split_of(row(number)) for number in some | more}
    assert before == {number: after[number] for number in some}


def test_splits_hold_what_they_should(tmp_path: Path) -> None:
    splits = [split_of(row(number)) for number in range(4000)]
    shares = [splits.count(split) / len(splits) for split in SPLITS]
    assert shares == pytest.approx([0.9, 0.05, 0.05], abs=0.015)


def test_rows_of_one_place_stay_together() -> None:
    for number in range(50):
        together = {split_of(row(n, source=f"book.md#{number}")) for n in range(20)}
        assert len(together) == 1
    assert len({split_of(row(1, source=f"book.md#{number}")) for number in range(99)}) == 3


def test_what_a_size_leaves_out_does_not_move_the_rest(tmp_path: Path) -> None:
    prepare_rows("biology", rows(300), folder=tmp_path / "few", size=100, seed=1)
    prepare_rows("biology", rows(310), folder=tmp_path / "more", size=110, seed=1)
    for split in SPLITS:
        few = {each.id for each in load_rows(tmp_path / "few", split)}
        others = {
            each.id
            for other in SPLITS
            if other != split
            for each in load_rows(tmp_path / "more", other)
        }
        assert few.isdisjoint(others)


# --- copies


LONG = " ".join(f"word{n}" for n in range(59))
CASES = [
    ("another case and other marks", ("Which metal is it, then?", " Iron"), True),
    ("another answer", ("which metal is it then", " Zinc"), False),
    ("another question", ("Which metal is that one now?", " Iron"), False),
]


@pytest.mark.parametrize(("_", "other", "copy"), CASES, ids=[case[0] for case in CASES])
def test_near_copies(_: str, other: tuple[str, str], copy: bool) -> None:
    first = Row("Which metal is it then?", " iron", "d")
    kept, exact, near = without_near_duplicates(
        [first, Row(*other, "d"), replace(first, source="elsewhere")]
    )
    assert (kept[0], exact, near) == (first, 1, int(copy))


def test_one_other_word_in_sixty_is_a_near_copy_and_two_are_not() -> None:
    far = Row(LONG, " iron", "d")
    near = replace(far, prompt=LONG.replace("word20", "other"))
    assert without_near_duplicates([far, near])[2] == 1
    assert (
        without_near_duplicates(
            [far, replace(near, prompt=near.prompt.replace("word9 ", "another "))]
        )[2]
        == 0
    )


def test_questions_on_one_passage_are_no_copies() -> None:
    passage = " ".join(f"word{n}" for n in range(500))
    asked = [
        Row(f"{passage}\nHow high above the sea is the mountain?", " 3", "d"),
        Row(f"{passage}\nHow many people lived there in that year?", " 3", "d"),
    ]
    assert without_near_duplicates(asked) == (asked, 0, 0)


def test_sums_are_told_apart_by_their_signs() -> None:
    sums = [Row(f"What is 6 {sign} 3?", " 9", "d") for sign in "+-*/"]
    assert without_near_duplicates(sums) == (sums, 0, 0)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=14), max_size=12))
def test_the_search_finds_what_comparing_all_finds(texts: list[list[str]]) -> None:
    given = [Row(" ".join(text), " yes", f"{n}") for n, text in enumerate(texts)]
    expected: list[Row] = []
    for one in {each.id: each for each in given}.values():
        sets = [ngrams([*words_and_signs(other.prompt), "yes"], SIZE) for other in expected]
        own = ngrams([*words_and_signs(one.prompt), "yes"], SIZE)
        if all(jaccard(own, other) < 0.8 for other in sets):
            expected.append(one)
    assert [each.prompt for each in without_near_duplicates(given)[0]] == [
        each.prompt for each in expected
    ]


# --- contamination


def test_rows_that_hold_most_of_a_question_are_removed(tmp_path: Path) -> None:
    changed = LONG.replace("word20", "other")
    given = [*rows(30), Row(f"{changed} And then?", " iron", "biology")]
    made = prepare_rows("biology", given, folder=tmp_path / "set", benchmark=benchmark(LONG))
    assert made.leaked == 1


# --- texts


def test_texts_in_one_form() -> None:
    assert clean_rows("e\u0301\r\na\x00b\u2028c\ud800\tz\r") == "é\nab\nc\tz\n"


@given(st.text(), st.text())
def test_cleaning_twice_changes_nothing(prompt: str, completion: str) -> None:
    once = clean_row(Row(prompt, completion, "d", messages=(Message("user", prompt),)))
    assert clean_row(once) == once
    assert unicodedata.is_normalized("NFC", once.completion)
    once.completion.encode("utf-8")


def test_a_chat_row_is_trimmed_and_a_plain_one_keeps_its_seam() -> None:
    assert clean_row(Row(" a ", " b ", "d")) == Row("a ", " b", "d")
    chat = Row("", " b ", "d", messages=(Message("user", " a "),))
    assert clean_row(chat) == replace(chat, completion="b", messages=(Message("user", "a"),))


@pytest.mark.parametrize(
    ("prompt", "completion", "why"),
    [("Why?", " ", "empty answer"), ("a", "b", "too short"), ("a" * 50_000, "b", "too long")],
)
def test_what_is_no_row(prompt: str, completion: str, why: str) -> None:
    assert reject_reason(Row(prompt, completion, "d")) == why
    assert reject_reason(Row("Why is it?", " so", "d")) == ""


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("it is", "so", " so"),
        ("it is ", "so", "so"),
        ("Why?", "so", " so"),
        ("f(", "x)", "x)"),
        ("为什么?", "因为", "因为"),
        ("", "so", "so"),
    ],
)
def test_words_do_not_stick_together(prompt: str, completion: str, expected: str) -> None:
    assert join(prompt, completion) == expected


# --- the file


MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["user", "tool"]), st.text().map(clean_rows))
)
ROWS = st.builds(
    Row,
    prompt=st.text().map(clean_rows),
    completion=st.text().map(clean_rows),
    domain=st.sampled_from(["a", "b"]),
    source=st.text().map(clean_rows),
    messages=MESSAGES.map(tuple),
    tools=st.just("") | st.just("[]"),
)


@given(st.lists(ROWS))
def test_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, given: list[Row]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    path.write_bytes(row_lines(given).encode("utf-8"))
    assert load_rows(path) == given


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not a prepared row"),
        ("[]", "not keys with values"),
        ('{"prompt": "a", "completion": "b"}', "keys that a row does not have"),
        ('{"prompt": "a", "completion": 1, "domain": "d"}', "has otherwise"),
        ('{"prompt": "a", "completion": "b", "domain": "d", "x": ""}', "unknown key `x`"),
        ('{"prompt": "a", "completion": "b", "domain": "d", "messages": [1]}', "has otherwise"),
    ],
)
def test_lines_that_are_no_rows(line: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(row_lines(rows(1)) + line + "\n", encoding="utf-8")
    with pytest.raises(Malformed, match=r"train\.jsonl:2: .*" + what):
        load_rows(tmp_path)


def test_a_data_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="is no prepared data set"):
        load_rows(tmp_path)


def test_plain_questions_read_as_they_are_asked() -> None:
    assert open_layout(" Sky? ", "blue ") == ("Question: Sky?\nAnswer:", " blue")
