from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.tasks.base import ALL_MODES, Task
from domainlift.errors import Malformed
from domainlift.row_files import LONGEST_LINE
from engines.base import Message, Mode
from finetune.data.formats import FORMATS, Problem, check_rows, read_training_rows
from finetune.data.formats.chat import MOST_TURNS
from finetune.data.prepare import prepare_rows
from finetune.data.row_io import load_rows
from finetune.data.rows import Row


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def chat(*turns: str) -> list[dict[str, str]]:
    """Turns written as `user: text`."""
    pairs = (turn.split(": ", 1) for turn in turns)
    return [{"role": role, "content": content} for role, content in pairs]


def said(*turns: str) -> tuple[Message, ...]:
    return tuple(Message(**turn) for turn in chat(*turns))


def spoken(*turns: str) -> list[dict[str, str]]:
    return [{"from": turn["role"], "value": turn["content"]} for turn in chat(*turns)]


TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
CALL = {"type": "function", "function": {"name": "look_up", "arguments": '{"name": "Etna"}'}}
CALL_TEXT = '<tool_call>\n{"name": "look_up", "arguments": {"name": "Etna"}}\n</tool_call>'
ALPACA = "### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n"

UNLEARNED: list[dict[str, Any]] = [
    *({"train": False}, {"training": False}, {"trainable": False}, {"loss": False}),
    *({"weight": "0"}, {"weight": 0.0}, {"weight": False}, {"loss_weight": 0}, {"loss_mask": 0}),
    *({"train": "False"}, {"train": "no"}, {"mask": True}, {"masked": 1}, {"learn": 0}),
]
LEARNED: list[dict[str, Any]] = [
    *({"train": True}, {"weight": 1}, {"weight": "1.0"}, {"loss": True}, {"mask": False}),
    *({"weight": 1, "mask": 0}, {"id": 7, "timestamp": "noon"}),
]
# What stands in the file -> prompt, completion, messages, tools of each row.
GOOD: dict[str, tuple[dict[str, Any], list[tuple[str, str, tuple[Message, ...], str]]]] = {
    "Alpaca": (
        {"instruction": "Add.", "input": "1 and 2", "output": "3\n"},
        [(ALPACA, "3", said("user: Add.\n\n1 and 2"), "")],
    ),
    "Alpaca without input": (
        {"instruction": "Greet.", "input": "", "output": "Hello"},
        [("### Instruction:\nGreet.\n\n### Response:\n", "Hello", said("user: Greet."), "")],
    ),
    "Alpaca with history": (
        {"instruction": "And 2?", "output": "4", "system": "Double.", "history": [["1?", "2"]]},
        [("", "4", said("system: Double.", "user: 1?", "assistant: 2", "user: And 2?"), "")],
    ),
    "ShareGPT": (
        {"conversations": spoken("human: Hi", "gpt: Hello"), "system": "Be kind."},
        [("", "Hello", said("system: Be kind.", "user: Hi"), "")],
    ),
    "ShareGPT with the keys of messages": (
        {"conversations": chat("user: Hi", "assistant: Hello")},
        [("", "Hello", said("user: Hi"), "")],
    ),
    "ShareGPT with tools": (
        {
            "conversations": [
                {"from": "human", "value": "Etna?"},
                {"from": "function_call", "value": json.dumps(CALL["function"])},
                {"from": "observation", "value": "3403 m"},
                {"from": "gpt", "value": "3403 metres"},
            ],
            "tools": json.dumps(TOOLS),
        },
        [
            ("", CALL_TEXT, said("user: Etna?"), json.dumps(TOOLS)),
            (
                "",
                "3403 metres",
                (
                    Message("user", "Etna?"),
                    Message("assistant", CALL_TEXT),
                    Message("tool", "3403 m"),
                ),
                json.dumps(TOOLS),
            ),
        ],
    ),
    "messages, one row per answer": (
        {"messages": chat("system: S", "user: A", "assistant: B", "user: C", "assistant: D")},
        [
            ("", "B", said("system: S", "user: A"), ""),
            ("", "D", said("system: S", "user: A", "assistant: B", "user: C"), ""),
        ],
    ),
    "messages that end with a call": (
        {
            "messages": [
                *chat("user: Etna?"),
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
            ],
            "tools": TOOLS,
        },
        [("", CALL_TEXT, said("user: Etna?"), json.dumps(TOOLS))],
    ),
    "messages in parts": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                *chat("assistant: Hello"),
            ]
        },
        [("", "Hello", said("user: Hi"), "")],
    ),
    "an answer of weight 0 is only context": (
        {
            "messages": [
                *chat("user: A"),
                {"role": "assistant", "content": "B", "weight": 0},
                *chat("user: C", "assistant: D"),
            ]
        },
        [("", "D", said("user: A", "assistant: B", "user: C"), "")],
    ),
    **{
        f"an answer of {flag} is only context": (
            {
                "messages": [
                    *chat("user: A"),
                    {"role": "assistant", "content": "B", **flag},
                    *chat("user: C", "assistant: D"),
                ]
            },
            [("", "D", said("user: A", "assistant: B", "user: C"), "")],
        )
        for flag in UNLEARNED
    },
    **{
        f"an answer of {flag} is learned": (
            {"messages": [*chat("user: A"), {"role": "assistant", "content": "B", **flag}]},
            [("", "B", said("user: A"), "")],
        )
        for flag in LEARNED
    },
    "a flag of a ShareGPT turn": (
        {
            "conversations": [
                *spoken("human: A"),
                {"from": "gpt", "value": "B", "train": False},
                *spoken("human: C", "gpt: D"),
            ]
        },
        [("", "D", said("user: A", "assistant: B", "user: C"), "")],
    ),
    "a thought is learned with its answer": (
        {
            "messages": [
                *chat("user: A"),
                {"role": "assistant", "content": "B", "reasoning_content": "Hm.\n"},
            ]
        },
        [("", "<think>\nHm.\n</think>\n\nB", said("user: A"), "")],
    ),
    "a thought whose beginning a prompt held": (
        {"messages": chat("user: A", "assistant: Hm.\n</think>\n\nB")},
        [("", "<think>\nHm.\n</think>\n\nB", said("user: A"), "")],
    ),
    "a thought whose mark has an attribute": (
        {"messages": chat("user: A", 'assistant: <think id="1">Hm.</think>B')},
        [("", '<think id="1">Hm.</think>B', said("user: A"), "")],
    ),
    "a call as it stood before there were lists of them": (
        {
            "messages": [
                *chat("user: Etna?"),
                {"role": "assistant", "content": None, "function_call": CALL["function"]},
                {"role": "function", "name": "look_up", "content": "3403 m"},
                *chat("assistant: 3403 metres"),
            ]
        },
        [
            ("", CALL_TEXT, said("user: Etna?"), ""),
            (
                "",
                "3403 metres",
                (
                    Message("user", "Etna?"),
                    Message("assistant", CALL_TEXT),
                    Message("tool", "3403 m"),
                ),
                "",
            ),
        ],
    ),
    "what lists of objects leave empty": (
        {
            "messages": [
                {"role": "user", "content": "A", "name": None, "tool_calls": [], "images": []},
                {"role": "assistant", "content": "B", "weight": float("nan"), "thinking": ""},
            ]
        },
        [("", "B", said("user: A"), "")],
    ),
    "instruction and response, with the keys of another form missing": (
        {"instruction": "Greet.", "context": "Bob", "response": "Hello", "question": None},
        [
            (
                "### Instruction:\nGreet.\n\n### Input:\nBob\n\n### Response:\n",
                "Hello",
                said("user: Greet.\n\nBob"),
                "",
            )
        ],
    ),
    "prompt and response": ({"prompt": "Sky?", "response": "blue"}, [("Sky?", " blue", (), "")]),
    "a question under other names": (
        {"query": "Sky?", "a": "red", "b": "blue", "label": 1},
        [("Question: Sky?\nAnswer:", " blue", (), "")],
    ),
    "prompt and completion stay as they are": (
        {"prompt": "def add(", "completion": "a, b):"},
        [("def add(", "a, b):", (), "")],
    ),
    "a space where words would stick together": (
        {"prompt": "The capital of France is", "completion": "Paris"},
        [("The capital of France is", " Paris", (), "")],
    ),
    "no space where there is one": (
        {"prompt": "Capital of France?", "completion": " Paris"},
        [("Capital of France?", " Paris", (), "")],
    ),
    "no space in a script without them": (
        {"prompt": "法国的首都是", "completion": "巴黎"},
        [("法国的首都是", "巴黎", (), "")],
    ),
    "prompt and completion as turns": (
        {"prompt": chat("user: Hi"), "completion": chat("assistant: Hello")},
        [("", "Hello", said("user: Hi"), "")],
    ),
    "question and answer": (
        {"question": "What is 1 + 2?", "answer": 3},
        [("Question: What is 1 + 2?\nAnswer:", " 3", (), "")],
    ),
    "question with context": (
        {"question": "How high?", "answer": "3403 m", "context": "Etna: 3403 m."},
        [("Question: Etna: 3403 m.\nHow high?\nAnswer:", " 3403 m", (), "")],
    ),
    "question with options, by index": (
        {"question": "Sky?", "options": ["red", "blue"], "answer": 1},
        [("Question: Sky?\nAnswer:", " blue", (), "")],
    ),
    "question with options, by letter": (
        {"question": "Sky?", "choices": ["red", "blue"], "answer": "b"},
        [("Question: Sky?\nAnswer:", " blue", (), "")],
    ),
    "question with options, by text": (
        {"question": "Sky?", "options": ["red", "blue"], "answer": "blue"},
        [("Question: Sky?\nAnswer:", " blue", (), "")],
    ),
    "a question that is kept for measuring": (
        {"question": "Sky?", "answer": "blue", "split": "test"},
        [],
    ),
    "preference as text": (
        {"prompt": "Sky?", "chosen": "blue", "rejected": "red"},
        [("Sky?", " blue", (), "", " red")],
    ),
    "preference as whole conversations": (
        {
            "prompt": "Sky?",
            "chosen": chat("user: Sky?", "assistant: blue"),
            "rejected": chat("user: Sky?", "assistant: red"),
        },
        [("", "blue", said("user: Sky?"), "", "red")],
    ),
    "preference as UltraFeedback has it": (
        {
            "prompt": "Sky?",
            "prompt_id": "1",
            "messages": chat("user: Sky?", "assistant: blue"),
            "chosen": chat("user: Sky?", "assistant: blue"),
            "rejected": chat("user: Sky?", "assistant: red"),
            "score_chosen": 8.5,
            "score_rejected": 2.0,
        },
        [("", "blue", said("user: Sky?"), "", "red")],
    ),
    "preference as turns after the prompt": (
        {
            "prompt": chat("user: Sky?"),
            "chosen": chat("assistant: blue"),
            "rejected": chat("assistant: red"),
        },
        [("", "blue", said("user: Sky?"), "", "red")],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_each_form_becomes_rows(name: str, tmp_path: Path) -> None:
    fields, expected = GOOD[name]
    path = write(tmp_path / "mine.jsonl", fields)
    rows = [
        Row(prompt, completion, "biology", "file", "mine.jsonl#1", "", messages, tools, *rejected)
        for prompt, completion, messages, tools, *rejected in expected
    ]
    assert list(read_training_rows(path, "biology")) == rows
    assert check_rows(path).problems == []


def told(**keys: Any) -> dict[str, Any]:
    """A conversation whose answer has further keys."""
    return {"messages": [*chat("user: a"), {"role": "assistant", "content": "b", **keys}]}


def asked(**keys: Any) -> dict[str, Any]:
    """A conversation whose question has further keys."""
    return {"messages": [{"role": "user", "content": "a", **keys}, *chat("assistant: b")]}


CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
# A line -> what is said of it.
BAD: list[tuple[Any, str]] = [
    ('{"prompt": "a", ', "broken JSON: expecting property name enclosed in double quotes"),
    ("[" * 100_000, "broken JSON: nested too deeply"),
    ('"text"', "must be keys with values, not a text"),
    ('{"prompt": ' + "9" * 5000 + "}", "broken JSON: a number has too many digits"),
    ({"prompt": "a", "completion": "b", "comment": "c"}, "unknown key `comment`"),
    (
        {"instruction": "a", "inptu": "b", "output": "c"},
        "unknown key `inptu`; did you mean `input`?",
    ),
    ({"instrution": "a", "output": "c"}, "unknown key `instrution`; did you mean `instruction`"),
    ({"instruction": "a"}, "no `output` (Alpaca)"),
    ({"text": "a"}, "no known format: rows have `chosen`, `rejected`; `messages`;"),
    ({"prompt": "a", "completion": ""}, "`completion` is empty"),
    ({"prompt": "a", "completion": " \n"}, "`completion` is only white space"),
    ({"prompt": "a", "completion": "\u0000\u0007"}, "the answer holds nothing but control"),
    ({"prompt": "a", "completion": {"b": 1}}, "`completion` must be a text, not keys with values"),
    ({"question": "a", "answer": None}, "no `answer` (question/answer)"),
    ({"question": "a", "answer": 2, "options": ["x", "y"]}, "answer 2 is out of range (0 to 1)"),
    ({"question": "a", "answer": "z", "options": ["x", "y"]}, "is none of the 2 options"),
    ({"question": "a", "answer": "A", "options": ["B", "A"]}, "can be read in two ways"),
    ({"question": "a", "answer": 0, "options": ["x"]}, "1 option, where 2 to 26 are needed"),
    ({"question": "a", "answer": 0, "options": ["x", " "]}, "an option is empty"),
    ({"question": "a", "answer": 0, "options": "x, y"}, "`options` is a text, but not JSON"),
    ({"prompt": "a", "chosen": "", "rejected": "b"}, "`chosen` is empty"),
    ({"prompt": "a", "chosen": "b", "rejected": ""}, "`rejected` is empty"),
    (
        {
            "chosen": chat("user: Sky?", "assistant: blue"),
            "rejected": chat("user: Sea?", "assistant: red"),
        },
        "answer different prompts",
    ),
    ({"messages": []}, "`messages` is empty"),
    ({"messages": 3}, "`messages` must be a list of turns, not a number"),
    ({"messages": ["a"]}, "turn 1 must be keys with values, not a text"),
    ({"messages": [{"role": "user"}]}, "turn 1 has no `content`"),
    ({"messages": [{"content": "a"}]}, "turn 1 has no `role`"),
    ({"messages": chat("teacher: a")}, "turn 1 has the unknown role `teacher`"),
    ({"messages": chat("user: a")}, "roles out of order: the last turn is `user`"),
    ({"messages": chat("assistant: a")}, "turn 1 is `assistant`, where `system` or `user`"),
    ({"messages": chat("user: a", "user: b")}, "turn 2 is `user`, where `assistant` must stand"),
    ({"messages": chat("user: a", "system: b")}, "roles out of order: turn 2 is `system`"),
    ({"messages": chat("user: a", "assistant:  ")}, "turn 2 (`assistant`) is empty"),
    ({"messages": chat("user: a", "assistant: b", "tool: c")}, "no tool was called before it"),
    ({"messages": chat("user: a", "assistant: <tool_call>{}")}, "unclosed tool call in turn 2"),
    ({"messages": chat("user: a", "assistant: <think>Hm.")}, "unclosed thought in turn 2"),
    (
        {"messages": [*chat("user: a"), CALLING, *chat("user: b", "assistant: c")]},
        "unclosed tool call: turn 3 is `user`, where `tool` must give its result",
    ),
    (
        {"messages": [*chat("user: a"), {**CALLING, "tool_calls": [{"function": {}}]}]},
        "a tool call of turn 2 has no `name`",
    ),
    (
        {
            "messages": [
                *chat("user: a"),
                {**CALLING, "tool_calls": [{"name": "f", "arguments": "{"}]},
            ]
        },
        "`arguments` of turn 2 is a text, but not JSON",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "turn 1 holds a part of type `image_url`, and only `text` can be learned",
    ),
    ({"messages": chat("user: a", "assistant: b"), "tools": {}}, "`tools` must be a list of tools"),
    (
        {"messages": chat(*["user: a", "assistant: b"] * MOST_TURNS)},
        f"`messages` has {2 * MOST_TURNS} turns, and at most {MOST_TURNS} are read",
    ),
    (told(wieght=0), "unknown key `wieght` in turn 2; did you mean `weight`?"),
    (told(trian=False), "unknown key `trian` in turn 2; did you mean `train`?"),
    (told(reasonning="c"), "unknown key `reasonning` in turn 2; did you mean `reasoning`?"),
    (told(weight=0.5), "`weight` of turn 2 is `0.5`, and only 0 or 1 can be obeyed"),
    (told(train="maybe"), "`train` of turn 2 is `maybe`, and only 0 or 1 can be obeyed"),
    (told(weight=[0]), "`weight` of turn 2 is `[0]`, and only 0 or 1 can be obeyed"),
    (told(weight=1, train=False), "turn 2 says that it is learned, and that it is not"),
    (told(name="Bob"), "turn 2 (`assistant`) has a `name`, which no model would read"),
    (told(reasoning="c", thinking="d"), "turn 2 holds two thoughts"),
    (told(thinking="c", content="<think>d</think>e"), "turn 2 holds two thoughts"),
    (told(function_call={"name": "f"}, tool_calls=[CALL]), "has `tool_calls` and `function_call`"),
    (told(function_call={"nmae": "f"}), "a tool call of turn 2 has no `name`"),
    (asked(images=["cat.png"]), "turn 1 holds `images`, and only text can be learned"),
    (asked(name="Bob"), "turn 1 (`user`) has a `name`"),
    (asked(weight=1), "turn 1 (`user`) is to be learned, and only answers can be"),
    (asked(thinking="c"), "turn 1 (`user`) has `thinking`, as only an answer may"),
    (asked(tool_calls=[CALL]), "turn 1 (`user`) has `tool_calls`, as only an answer may"),
    ({**told(), "train": False}, "unknown key `train`"),
    ('{"prompt": "a", "completion": NaN}', "no `completion` (prompt/completion)"),
    ('{"prompt": "a", "prompt": "b", "completion": "c"}', "key `prompt` stands there twice"),
    ({"question": "a", "answer": 2, "options": [1, 2, 3, 4]}, "can be read in two ways"),
    ({"question": "a", "answer": 0, "optoins": ["b"]}, "unknown key `optoins`; did you mean"),
    ({"question": "a", "answer": "b", "splt": "test"}, "unknown key `splt`; did you mean `split`"),
    ({"question": "a", "answer": "b", "split": "tets"}, "split `tets` is none of train,"),
    ({"conversations": spoken("human: a")}, "roles out of order: the last turn is `user`"),
    ({"conversations": spoken("narrator: a")}, "turn 1 has the unknown role `narrator`"),
    ({"prompt": "a" * LONGEST_LINE, "completion": "b"}, "is over 1 MB"),
]


@pytest.mark.parametrize(("row", "what"), BAD, ids=[what[:40] for _, what in BAD])
def test_each_fault_is_said_and_the_next_line_is_read(row: Any, what: str, tmp_path: Path) -> None:
    good = {"prompt": "Sky?", "completion": "blue"}
    path = write(tmp_path / "mine.jsonl", good, row, good)
    problems = check_rows(path).problems
    assert [problem.line for problem in problems] == [2]
    assert what in problems[0].what
    with pytest.raises(Malformed, match=r"mine\.jsonl:2: ") as error:
        list(read_training_rows(path, "biology"))
    assert "bench data check" in str(error.value.hint)
    assert len(check_rows(path).understood) == 2


def test_one_line_may_have_several_problems(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "a", "completion": "", "x": 1, "y": 2})
    assert len(check_rows(path).problems) == 3


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"prompt": "a", "completion": "b"}\n'
        b'{"prompt": "caf\xe9", "completion": "b"}\r\n\n'
        b'{"prompt": "a\x01\xc2\x85", "completion": "b"}'
    )
    assert check_rows(path).problems == [Problem(2, "is not UTF-8 (byte 0xe9)")]
    understood = [(each["line"], each["rows"][0]["prompt"]) for each in check_rows(path).understood]
    assert understood == [(1, "a"), (4, "a\n")]
    path.write_text('{"prompt": "a"}', encoding="utf-16")
    assert check_rows(path).problems == [
        Problem(1, "is UTF-16 or no text at all; save the file as UTF-8")
    ]


def test_halves_of_characters_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"prompt": "a\\ud83d\\u0000?", "completion": "b"}')
    assert [row.prompt for row in read_training_rows(path, "d")] == ["a?"]


def test_a_pair_of_equal_sides_is_a_problem_and_is_counted(tmp_path: Path) -> None:
    good = {"prompt": "What is the sky?", "chosen": "blue", "rejected": "red"}
    path = write(tmp_path / "mine.jsonl", good, {**good, "rejected": "blue "})
    told = [(problem.line, problem.what) for problem in check_rows(path).problems]
    assert told == [(2, "`chosen` and `rejected` are equal: nothing is preferred")]
    made = prepare_rows("d", read_training_rows(path, "d"), folder=tmp_path / "d", all_trained=True)
    assert made.train == 1
    card = json.loads((made.path / "card.json").read_text(encoding="utf-8"))
    assert card["taken out"]["equal sides"] == 1
    assert load_rows(made.path)[0].rejected == " red"


@pytest.mark.parametrize("text", ["", "\n\n", "[]"])
def test_a_file_without_rows(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    assert check_rows(path).problems == [Problem(1, "is empty")]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="cannot be read"):
        check_rows(tmp_path / "a.jsonl")


def test_a_json_list_has_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows: list[Any] = [{"prompt": f"{n}?", "completion": "yes"} for n in range(3)]
    rows[1]["completion"] = ""
    path.write_text(json.dumps([*rows, 7], indent=1), encoding="utf-8")
    problems = [
        Problem(6, "`completion` is empty", "completion"),
        Problem(14, "must be keys with values, not a number"),
    ]
    assert check_rows(path).problems == problems
    assert [each["line"] for each in check_rows(path).understood] == [2, 10]


@pytest.mark.parametrize(
    ("end", "what"),
    [(',\n{"a', "the rest of the list"), ("", "by `,` or"), (' {"a": 1}', "by `,` or")],
)
def test_a_json_list_that_breaks_off(end: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"prompt": "a", "completion": "b"}' + end, encoding="utf-8")
    assert [what in problem.what for problem in check_rows(path).problems] == [True]
    assert len(check_rows(path).understood) == 1


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "A", "B", "C", "answer"])
        table.writerow(["Sky,\nby day?", "red", "blue", "", "B"])
        table.writerow(["Grass?", "green", "blue", "red", ""])
        table.writerow(["Grass?", "green"])
        table.writerow(["Open?", "", "", "", "yes"])
        file.write('"Sky" x,red,blue,green,A\n')
        table.writerow(["Snow?", "white", "blue", "red", "0"])
    check = check_rows(path)
    assert check.problems == [
        Problem(4, "no `answer` (question/answer)", "answer"),
        Problem(5, "has 2 cells, the header 5"),
        Problem(7, "broken CSV: ',' expected after '\"'"),
    ]
    assert [each["answer"] for each in check.understood] == ["blue", "yes", "white"]
    assert check.understood[0]["question"] == "Sky,\nby day?"


def test_a_table_of_conversations_and_one_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    turns = json.dumps(chat("user: a", "assistant: b")).replace('"', '""')
    path.write_text(f'messages\n"{turns}"\n', encoding="utf-8")
    assert [row.completion for row in read_training_rows(path, "d")] == ["b"]
    path.write_bytes(b"prompt,completion\ncaf\xe9,b\n")
    assert check_rows(path).problems == [Problem(2, "is not UTF-8 (byte 0xe9)")]
    path.write_text("prompt,prompt\na,b\n", encoding="utf-8")
    assert check_rows(path).problems == [Problem(1, "column `prompt` stands there twice")]


def test_questions_are_asked_as_the_task_asks_its_own(tmp_path: Path) -> None:
    lettered = Task("own:d", "d", (), (), "", Mode.LETTER, ALL_MODES, 0, "")
    path = write(tmp_path / "a.jsonl", {"question": "Sky?", "options": ["r", "b"], "answer": 1})
    [row] = read_training_rows(path, "d", task=lettered)
    assert (row.prompt, row.completion) == ("Sky?\nA. r\nB. b\nAnswer:", " B")


def test_where_rows_come_from(tmp_path: Path) -> None:
    pair = {"prompt": "a", "completion": "b"}
    path = write(
        tmp_path / "a.jsonl",
        pair,
        {**pair, "source": "wiki", "license": "MIT"},
        {**pair, "source": "wiki#Etna", "licence": "CC0"},
    )
    rows = read_training_rows(path, "d")
    assert [(row.source, row.licence) for row in rows] == [
        ("a.jsonl#1", ""),
        ("wiki#2", "MIT"),
        ("wiki#Etna", "CC0"),
    ]


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"])).map(
    lambda text: f"x{text}x"
)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_a_conversation_reads_the_same_in_every_form(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    turns = [turn for asked, told in pairs for turn in (("user", asked), ("assistant", told))]
    *earlier, (instruction, output) = pairs
    path = write(
        tmp_path_factory.mktemp("forms") / "a.jsonl",
        {"messages": [{"role": role, "content": content} for role, content in turns]},
        {"conversations": [{"from": role, "value": content} for role, content in turns]},
        {"instruction": instruction, "output": output, "history": earlier},
    )
    rows = list(read_training_rows(path, "d"))
    n = len(pairs)
    for row in (rows[n - 1], rows[2 * n - 1], rows[2 * n]):
        again = [*((m.role, m.content) for m in row.messages), ("assistant", row.completion)]
        assert [text.split() for _, text in again] == [_nfc(text).split() for _, text in turns]
    assert [row.completion for row in rows[:n]] == [row.completion for row in rows[n : 2 * n]]


def _nfc(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", text)


@given(st.binary(max_size=300))
def test_no_bytes_stop_the_check(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    for ending in ("jsonl", "json", "csv"):
        path = tmp_path_factory.mktemp("bytes") / f"a.{ending}"
        path.write_bytes(content)
        assert check_rows(path).problems or list(read_training_rows(path, "d")) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"]) | JSON, "content": JSON},
        optional={
            "tool_calls": st.lists(st.dictionaries(st.sampled_from(["name"]), JSON)) | JSON,
            **dict.fromkeys(("weight", "train", "mask", "thinking", "name", "function_call"), JSON),
        },
    ),
    max_size=4,
)
VALUES = JSON | TURNS | TURNS.map(json.dumps)


def fields_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    form = FORMATS[name]
    optional = dict.fromkeys((*form.may, "source", "licence"), VALUES)
    return st.fixed_dictionaries(dict.fromkeys(form.needs, VALUES), optional=optional)


@given(st.sampled_from(sorted(FORMATS)).flatmap(fields_of))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_values_stop_the_check(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]
) -> None:
    path = write(tmp_path_factory.mktemp("values") / "a.jsonl", json.dumps(row))
    problems = check_rows(path).problems
    assert problems or all(found.completion.strip() for found in read_training_rows(path, "d"))
