"""The loop of an agent, against a model that says what a test tells it to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from domainlift.fields import InvalidRow
from traces.agent import AgentEnd, AgentLimits, run_agent
from traces.trace import TraceStatus

Json = dict[str, Any]
ASKED = [{"role": "user", "content": "1 + 2?"}]
DONE = AgentEnd(TraceStatus.DONE, answer="It is 3.")
SAID = {"role": "assistant", "content": "It is 3."}


class Model:
    """Says its replies in turn, the last one again and again."""

    def __init__(self, *messages: Json, finish: str = "stop") -> None:
        self.messages, self.finish = list(messages), finish
        self.asked: list[tuple[list[Json], Json]] = []

    def chat(self, messages: Sequence[Json], tools: Sequence[Json], asked: Json) -> Json:
        self.asked.append((list(messages), asked))
        message = self.messages.pop(0) if len(self.messages) > 1 else self.messages[0]
        return {"message": message, "finish_reason": self.finish}


class Adder:
    """One tool, which notes its calls."""

    def __init__(self) -> None:
        self.called: list[tuple[str, Mapping[str, Any]]] = []
        self.tools = ({"type": "function", "function": {"name": "add"}},)

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        self.called.append((name, arguments))
        return str(sum(arguments.values()))


def call(arguments: str = '{"a": 1, "b": 2}', name: str = "add", id_: str = "c1") -> Json:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def run(model: Model, tools: Adder, **limits: Any) -> tuple[AgentEnd, list[Json]]:
    told: list[Json] = []
    end = run_agent(model, tools, ASKED, AgentLimits(**limits), {"temperature": 0}, told.append)
    return end, told


def test_calls_are_made_in_order_and_their_results_are_sent_back() -> None:
    model = Model({"content": None, "tool_calls": [call(), call('{"a": 3}', id_="c2")]}, SAID)
    tools = Adder()
    end, told = run(model, tools, tokens=50)
    assert end == DONE
    assert tools.called == [("add", {"a": 1, "b": 2}), ("add", {"a": 3})]
    assert [each["role"] for each in told] == ["assistant", "tool", "tool", "assistant"]
    results = told[1:3]
    assert [(r["tool_call_id"], r["content"]) for r in results] == [("c1", "3"), ("c2", "3")]
    seen, asked = model.asked[1]
    assert asked == {"temperature": 0, "max_tokens": 50}
    assert seen[2:] == results
    assert seen[1]["tool_calls"] == [call(), call('{"a": 3}', id_="c2")]


THOUGHTS = [
    ({"reasoning_content": "Easy."}, "Easy."),
    ({"reasoning": "Easy."}, "Easy."),
    ({"content": "<think>Easy.</think>\nIt is 3."}, "Easy."),
    ({"reasoning": "Hm.", "content": "<think>\nEasy.</think>It is 3."}, "Hm.\n\nEasy."),
]


@pytest.mark.parametrize(("more", "thought"), THOUGHTS)
def test_thoughts_are_told_apart(more: Json, thought: str) -> None:
    end, [told] = run(Model({**SAID, **more}), Adder())
    assert end == DONE
    assert told == {**SAID, "reasoning_content": thought}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_a_server_gets_its_thoughts_back_as_it_wrote_them(field: str) -> None:
    model = Model({"content": "", field: "I call.", "tool_calls": [call()]}, SAID)
    run(model, Adder())
    sent = model.asked[1][0][1]
    assert sent == {"role": "assistant", "content": "", field: "I call.", "tool_calls": [call()]}


@pytest.mark.parametrize("arguments", ['{"a": 1', "[1]", "3", "x" * 5_000, '{"a": 1, "a": 2}'])
def test_arguments_that_are_no_object_are_told_to_the_model(arguments: str) -> None:
    model, tools = Model({"tool_calls": [call(arguments)]}, SAID), Adder()
    end, told = run(model, tools)
    assert end == DONE
    assert not tools.called
    assert told[0]["tool_calls"][0]["function"]["arguments"] == arguments
    assert told[1]["content"].startswith("error: the arguments are no JSON object: ")
    assert len(told[1]["content"]) < 300
    # What a server would refuse is not sent to it.
    assert json.loads(model.asked[1][0][1]["tool_calls"][0]["function"]["arguments"]) == {}


WRITTEN = [
    '{"name": "add", "arguments": {"a": 1, "b": 2}}',
    '```json\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n```',
    '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
]


@pytest.mark.parametrize("text", WRITTEN)
def test_calls_that_a_server_left_in_the_text_are_made(text: str) -> None:
    model, tools = Model({"content": text}, SAID), Adder()
    end, told = run(model, tools)
    assert end == DONE
    assert tools.called == [("add", {"a": 1, "b": 2})]
    assert told[0]["content"] == ""
    assert told[1]["tool_call_id"] == told[0]["tool_calls"][0]["id"] == "call_1_1"
    assert model.asked[1][0][1]["content"] == ""


ENDS = [
    ({"content": '{"name": "Ada", "age": 36}'}, {}, "done", ""),
    ({"content": 'I would say {"name": "add"}.'}, {}, "done", ""),
    ({"content": "<tool_call>{add 1 2}"}, {}, "error", "neither the server nor we can read"),
    ({"content": ""}, {}, "unfinished", "an empty reply"),
    ({"content": "<think>hm</think>"}, {}, "unfinished", "an empty reply"),
    ({"tool_calls": [call()]}, {"steps": 3}, "unfinished", "no answer within 3 replies"),
]


@pytest.mark.parametrize(("message", "limits", "status", "why"), ENDS)
def test_every_end_has_a_reason(message: Json, limits: Json, status: str, why: str) -> None:
    end, _ = run(Model(message), Adder(), **limits)
    assert (end.status, why in end.why) == (status, True)
    assert bool(end.answer) == (status == "done")


def test_a_reply_that_the_limit_cut_off_is_no_answer() -> None:
    end, told = run(Model(SAID, finish="length"), Adder())
    assert (end.status, end.why) == ("unfinished", "the limit of tokens cut a reply off")
    assert told == [SAID]


@pytest.mark.parametrize("message", [None, "x", {"tool_calls": "x"}, {"tool_calls": [{}]}])
def test_what_is_no_message_is_an_error_or_empty(message: Any) -> None:
    if isinstance(message, dict):
        with pytest.raises(InvalidRow):
            run(Model(message), Adder())
    else:
        assert run(Model(message), Adder())[0].status == "unfinished"
