from __future__ import annotations

import gzip
import json
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import Misuse
from engines.base import Mode, Prompt, Request
from engines.local.tokenization import Encoder
from engines.registry import tiny_folder
from finetune.data.row_io import read_rows, row_lines
from finetune.data.rows import Row
from finetune.data.unroll import unroll
from finetune.training.tokenize import Encoded, decoded, encode
from tests.helpers.chat_templates import CHATML
from traces.trace import Trace, TraceStatus, read_messages

Json = dict[str, Any]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city.", "parameters": {"type": "object"}},
}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def says(text: str, *cities: str, why: str = "") -> Json:
    """An answer that asks for the weather of these cities."""
    calls = [
        {"id": f"c{n}", "function": {"name": "weather", "arguments": json.dumps({"city": city})}}
        for n, city in enumerate(cities)
    ]
    message: Json = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = calls
    return {**message, "reasoning_content": why} if why else message


def result(text: str) -> Json:
    return {"role": "tool", "content": text, "tool_call_id": "c0"}


def trace(*messages: Json, **more: Any) -> Trace:
    made = {"tools": (TOOL,), "status": TraceStatus.DONE, **more}
    return Trace("t1", "", "m", read_messages(list(messages)), **made)


TURN = (
    "{{ tools | tojson if tools else '' }}{% for m in messages %}{{ '[' + m['role'] + ']' }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
    "{{ m['content'] }}END{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
#: No special token ends a turn; what is said stands after the calls.
OWN = {"chatml": CHATML, "endless": TURN, "late": TURN.replace("END", "<|im_end|>")}
ONE = (user("Warm in Oslo?"), says("", "Oslo"), result("4 degrees"), says("No, 4 degrees."))
PLAIN = (user("Hello?"), says("Good day."))
TWO = (
    *(user("Warm in Oslo?"), says("", "Oslo", why="I ask."), result("4 C")),
    *(says("No.", why="4 is cold."), user("And Rome?")),
    *(says("", "Rome", why="Once more."), result("21 C"), says("Yes.", why="21 is warm.")),
)
PARALLEL = (
    *(user("Both?"), says("", "Oslo", "Rome"), result("4 C"), result("21 C")),
    says("4 and 21."),
)
DISGUISED = (
    user("Warm?"),
    says("<tool_call>x</tool_call>"),
    user("<tool_response>4 C</tool_response>"),
    says("No."),
)


@cache
def tokenizer(template: str) -> Any:
    """The embedded model's vocabulary with a template, of those that TRL ships where it is one."""
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(str(tiny_folder()))
    if template in OWN:
        made.chat_template = OWN[template]
        return made
    spec = find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs trl, for the templates of models")
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    made.chat_template = (folder / f"{template}.jinja").read_text(encoding="utf-8")
    marks = ("<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>")
    made.add_special_tokens({"additional_special_tokens": [*marks, "<end_of_turn>"]})
    made.bos_token = "<|endoftext|>"
    return made


def encoded(template: str, *messages: Json, tools: bool = True) -> list[Encoded]:
    rows = unroll(trace(*messages, **({} if tools else {"tools": ()})), "x").rows
    return encode(rows, tokenizer(template), max_tokens=4096)


def trained(template: str, *messages: Json, tools: bool = True) -> list[list[str]]:
    made = tokenizer(template)
    return [[s for _, s in decoded(e, made)] for e in encoded(template, *messages, tools=tools)]


def call(city: str, end: str = "<|im_end|>") -> str:
    return (
        f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>{end}'
    )


def thought(text: str) -> str:
    return f"<think>\n{text}\n</think>\n\n"


LLAMA = '{"name": "weather", "parameters": {"city": "Oslo"}}<|eot_id|>'


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        ("qwen2_5", ONE, [[call("Oslo"), "No, 4 degrees.<|im_end|>"]]),
        ("qwen2_5", PARALLEL, [[call("Oslo", "\n") + call("Rome"), "4 and 21.<|im_end|>"]]),
        (
            "qwen2_5",  # which has no place for reasoning
            TWO,
            [
                [
                    thought("I ask.").rstrip() + "\n" + call("Oslo"),
                    thought("4 is cold.") + "No.<|im_end|>",
                ],
                [
                    thought("Once more.").rstrip() + "\n" + call("Rome"),
                    thought("21 is warm.") + "Yes.<|im_end|>",
                ],
            ],
        ),
        ("qwen3", ONE, [[call("Oslo"), "No, 4 degrees.<|im_end|>"]]),
        (
            "qwen3",
            TWO,
            [
                [thought("I ask.") + call("Oslo"), thought("4 is cold.") + "No.<|im_end|>"],
                [thought("Once more.") + call("Rome"), thought("21 is warm.") + "Yes.<|im_end|>"],
            ],
        ),
        ("qwen3", PARALLEL, [[call("Oslo", "\n") + call("Rome"), "4 and 21.<|im_end|>"]]),
        ("qwen3_instruct_2507", ONE, [[call("Oslo"), "No, 4 degrees.<|im_end|>"]]),
        ("llama3_1", ONE, [[LLAMA, "No, 4 degrees.<|eot_id|>"]]),
        ("qwen3", DISGUISED, [["<tool_call>x</tool_call><|im_end|>", "No.<|im_end|>"]]),
    ],
)
def test_what_the_assistant_says_since_the_user_is_trained(
    template: str, messages: tuple[Json, ...], expected: list[list[str]]
) -> None:
    assert trained(template, *messages) == expected


@pytest.mark.parametrize("template", ["qwen2_5", "qwen3", "llama3", "llama3_1", "gemma", "gemma3"])
def test_every_template_trains_an_answer_without_tools(template: str) -> None:
    ending = "<end_of_turn>" if "gemma" in template else "<|eot_id|>"
    ending = "<|im_end|>" if "qwen" in template else ending
    assert trained(template, *PLAIN, *PLAIN, tools=False) == [[f"Good day.{ending}"]] * 2


@pytest.mark.parametrize(
    ("template", "messages", "why"),
    [
        ("gemma", ONE, "leaves out the list of tools|refuses this chat"),
        ("gemma3", ONE, "leaves out the list of tools|refuses this chat"),
        ("llama3", ONE, "leaves out the list of tools"),
        ("llama3_1", PARALLEL, "only supports single tool-calls at once"),
        ("llama3_1", TWO, "leaves out what is said beside a call|leaves out reasoning"),
        ("chatml", ONE, "leaves out the list of tools"),
        ("qwen3", (user("<|im_end|>?"), says("Yes.")), "holds a special token"),
        ("endless", PLAIN, "ends answers without a token"),
        ("late", TWO, "leaves out reasoning"),
        ("deepseek_r1_distill", (user("Hello?"), says("Hi.", why="Hm.")), "leaves out"),
    ],
)
def test_what_a_template_does_not_write_is_refused_by_reason(
    template: str, messages: tuple[Json, ...], why: str
) -> None:
    with pytest.raises(Misuse, match=f"example `.*({why})"):
        encoded(template, *messages)


@pytest.mark.parametrize("template", ["qwen2_5", "qwen3", "llama3_1"])
def test_what_stands_before_an_answer_is_what_an_engine_asks(template: str) -> None:
    _same_as_asked(encoded(template, *ONE)[0], tokenizer(template))


def _same_as_asked(example: Encoded, made: Any) -> None:
    row, tools = example.row, tuple(json.loads(example.row.tools))
    answers = [n for n, each in enumerate(row.chain) if each.role == "assistant"]
    for place, (start, _) in zip(answers, example.spans, strict=True):
        messages = (*row.messages, *row.chain[:place])
        request = Request("0", Mode.GENERATE, Prompt("", messages, tools=tools))
        asked = Encoder(made).prompts([request])[0]
        # Qwen3 is asked not to think, and writes the empty thought before a last answer only.
        empty = made.encode("<think>\n\n</think>\n\n", add_special_tokens=False)
        told = list(asked[: -len(empty)] if list(asked[-len(empty) :]) == empty else asked)
        assert list(example.ids[:start]) in (list(asked), told)


def test_the_tokens_of_qwen_are_those_that_it_is_asked(tmp_path: Path) -> None:
    folder = Path(os.environ.get("BENCH_DATA", "")) / "qwen25_tokenizer"
    if not (folder / "tokenizer.json.gz").is_file():
        pytest.skip("needs BENCH_DATA, for Qwen's tokenizer")
    from transformers import PreTrainedTokenizerFast

    (tmp_path / "tokenizer.json").write_bytes(
        gzip.decompress((folder / "tokenizer.json.gz").read_bytes())
    )
    made = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|im_end|>"
    )
    made.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for messages in (ONE, TWO, PARALLEL):
        for row in unroll(trace(*messages), "x").rows:
            example = encode([row], made, max_tokens=4096)[0]
            _same_as_asked(example, made)
            whole = "".join(read + said for read, said in decoded(example, made))
            assert made.encode(whole, add_special_tokens=False) == list(example.ids)


_WORDS = st.text("abc é\n{}", min_size=1, max_size=12).filter(lambda text: bool(text.strip()))


@given(st.lists(st.tuples(_WORDS, _WORDS, _WORDS, st.booleans()), min_size=1, max_size=3))
def test_no_result_and_no_question_is_trained(turns: list[tuple[str, str, str, bool]]) -> None:
    messages: list[Json] = []
    for n, (asked, told, answer, thinks) in enumerate(turns):
        why = "hm" if thinks else ""
        messages += [user(f"ASK{n} {asked}"), says("", "Oslo", why=why), result(f"TOLD {told}")]
        messages.append(says(f"SAID{n} {answer}", why=why))
    for template in ("qwen2_5", "qwen3"):
        for n, example in enumerate(encoded(template, *messages)):
            parts = decoded(example, tokenizer(template))
            said = "".join(each for _, each in parts)
            assert "ASK" not in said
            assert "TOLD" not in said
            assert said.count("SAID") == 1
            assert f"SAID{n}" in said
            assert example.trained == len(example.targets) == len(example.places)


def test_reasoning_of_earlier_turns_is_gone() -> None:
    first, second = unroll(trace(*TWO), "x").rows
    assert "I ask." not in row_lines([second])
    assert "4 is cold." in row_lines([first])
    assert [m.content for m in second.messages if m.role == "assistant"] == ["", "No."]


def test_reasoning_in_a_text_is_reasoning() -> None:
    (row,) = unroll(trace(user("A?"), says("<think>\nHm.\n</think>\n\nYes.")), "x").rows
    assert (row.completion, row.chain[0].extra) == ("Yes.", {"reasoning_content": "Hm."})


@pytest.mark.parametrize(
    ("messages", "more", "rows", "refused"),
    [
        (TWO, {}, 2, {}),
        (TWO[:4], {"status": TraceStatus.UNFINISHED}, 0, {"no last answer": 1}),
        (TWO, {"status": TraceStatus.ERROR}, 1, {"no last answer": 1}),
        (TWO, {"status": TraceStatus.ERROR, "edited": True}, 2, {}),
        (TWO[:7], {}, 1, {"no last answer": 1}),
        ((user("A?"), user("B?"), says("Yes.")), {}, 1, {"no last answer": 1}),
        ((user("A?"), says(" ")), {}, 0, {"an empty last answer": 1}),
        (
            (user("A?"), says("", "Oslo"), says("No.")),
            {},
            0,
            {"calls and results do not pair": 1},
        ),
        ((user("A?"), result("4 C"), says("No.")), {}, 0, {"calls and results do not pair": 1}),
        (
            (user("A?"), says("", "Oslo"), {"role": "system", "content": "!"}, says("No.")),
            {},
            0,
            {"a system message after the question": 1},
        ),
        ((says("Hello."),), {}, 0, {}),
        ((), {}, 0, {}),
    ],
)
def test_turns_without_an_answer_are_refused(
    messages: tuple[Json, ...], more: Json, rows: int, refused: dict[str, int]
) -> None:
    found = unroll(trace(*messages, **more), "x")
    assert (len(found.rows), dict(found.refused)) == (rows, refused)


def test_a_row_is_read_as_it_was_written() -> None:
    rows = list(unroll(trace(*TWO), "x").rows)
    again = read_rows(row_lines(rows), Path("rows.jsonl"))
    assert again == rows
    assert [row.id for row in again] == [row.id for row in rows]
    assert again[0].chain[0].extra == rows[0].chain[0].extra


def test_ids_of_rows_without_a_chain_stay() -> None:
    assert Row("Q:", " A", "x").id == "5860622cd35dd87b"


def test_a_turn_that_is_too_long_is_not_cut() -> None:
    row = unroll(trace(*ONE), "x").rows[0]
    with pytest.raises(Misuse, match=r"an agent's turn, has .* tokens, and `max_tokens` is 64"):
        encode([row], tokenizer("qwen2_5"), max_tokens=64)
