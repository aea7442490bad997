from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from domainlift.errors import BenchError, Misuse
from finetune.data.prepare import split_of
from finetune.data.sources.agent_traces import TraceSource, trace_rows
from recipes.shop_agent.shop import shop_traces
from tests.finetune.test_unroll import ONE, TWO, tokenizer, trace
from traces.choose import TraceCriteria, WantedRating
from traces.trace import Rating, Trace, TraceStatus


def source(**more: Any) -> TraceSource:
    made = {"criteria": TraceCriteria(), "tokenizer": tokenizer("qwen2_5"), "max_tokens": 2048}
    return TraceSource(**{**made, **more})


def named(name: str, *messages: Any, **more: Any) -> Trace:
    return replace(trace(*messages), id=name, **more)


def test_every_turn_is_a_row_or_refused_or_held_out() -> None:
    traces = [
        *shop_traces(20),
        named("cut", *TWO, status=TraceStatus.ERROR),
        named("bad", *ONE, rating=Rating.BAD),
    ]
    made = trace_rows(traces, "shop", source(hold_out=0.3))
    refused = made.refused.total()
    assert made.refused == {"no last answer": 1}
    assert made.left_out == {"rated bad": 1}
    told = json.loads(json.dumps(made.as_json()))
    assert (told["refused"], told["left_out"]) == ({"no last answer": 1}, {"rated bad": 1})
    assert made.turns == len(made.rows) + made.held_out_turns + refused
    assert made.turns == sum(each.turns for each in traces[:-1])
    assert {row.domain for row in made.rows} == {"shop"}
    assert made.tokens_trained > 10 * len(made.rows)


def test_a_task_is_on_one_side() -> None:
    traces = [
        named(f"{n}-{again}", *ONE, task=f"task {n}") for n in range(30) for again in range(3)
    ]
    made = trace_rows(traces, "x", source(hold_out=0.4))
    trained = {row.source for row in made.rows}
    asked = {question["cluster"] for question in made.questions}
    assert trained.isdisjoint(asked)
    assert (len(trained), len(asked)) == (len(made.rows) / 3, len(made.questions) / 6)
    more = [*traces, *(named(f"new {n}", *ONE, task=f"new {n}") for n in range(30))]
    again = trace_rows(more, "x", source(hold_out=0.4))
    assert asked < {question["cluster"] for question in again.questions}
    assert {split_of(row) for row in again.rows} == {"train", "validation", "held_out"}


def test_traces_of_one_question_are_on_one_side() -> None:
    made = trace_rows([named(str(n), *ONE) for n in range(9)], "x", source())
    assert len({row.source for row in made.rows}) == 1
    with pytest.raises(BenchError, match=r"of 9 traces would be held out"):
        trace_rows([named(str(n), *ONE) for n in range(9)], "x", source(hold_out=0.5))


def test_what_is_asked_is_the_next_step_given_all_before() -> None:
    made = trace_rows(
        [named(str(n), *TWO, task=str(n)) for n in range(9)], "x", source(hold_out=0.5)
    )
    first, second, third, fourth = made.questions[:4]
    assert first["answer"] == [{"name": "weather", "arguments": {"city": "Oslo"}}]
    assert [each["role"] for each in first["messages"]] == ["user"]
    assert [each["role"] for each in second["messages"]] == ["user", "assistant", "tool"]
    assert second["messages"][1]["reasoning_content"] == "I ask."
    assert (second["answer"], second["question"]) == ("No.", "Warm in Oslo?")
    assert "reasoning_content" not in str(third["messages"])
    assert [each["role"] for each in fourth["messages"][-3:]] == ["user", "assistant", "tool"]
    assert len({question["id"] for question in made.questions}) == len(made.questions)


def test_secrets_are_masked_and_long_turns_left_out() -> None:
    key = "hf_" + "aB3" * 12
    told = [*ONE[:2], {**ONE[2], "content": f"token {key}"}, ONE[3]]
    made = trace_rows([named("a", *told)], "x", source())
    assert key not in repr(made)
    assert made.masked.total() == 1
    with pytest.raises(BenchError, match=r"none of the 1 turns .*: longer than 50 tokens 1"):
        trace_rows([named("a", *ONE)], "x", source(max_tokens=50))
    with pytest.raises(Misuse, match="no traces"):
        trace_rows([], "x", source())


def test_a_model_without_a_chat_template_cannot_learn_traces() -> None:
    bare = tokenizer.__wrapped__("chatml")
    bare.chat_template = None
    with pytest.raises(Misuse, match="no chat template"):
        trace_rows([trace(*ONE)], "x", source(tokenizer=bare))


def test_only_what_is_chosen_is_used() -> None:
    traces = [named("a", *ONE), named("b", *ONE, rating=Rating.GOOD)]
    good = TraceCriteria(WantedRating.GOOD)
    assert len(trace_rows(traces, "x", source(criteria=good)).rows) == 1


def test_what_the_agent_of_the_shop_says_is_what_its_tools_said() -> None:
    for made in shop_traces(30):
        said = [each for each in made.messages if each["role"] in ("tool", "assistant")]
        for before, answer in pairwise(said):
            calls = [json.loads(c["function"]["arguments"]) for c in before.get("tool_calls", ())]
            if calls and "a" in calls[0]:
                assert answer["content"] == str(calls[0]["a"] * calls[0]["b"])
    assert [*shop_traces(3)] == [*shop_traces(3)]
    goods = [set(str(each.messages).split()) for each in shop_traces(2, seed=1)]
    assert goods[0] != goods[1]
