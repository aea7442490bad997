from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from domainlift.errors import BenchError
from domainlift.hints import copyable, name_workspace


@pytest.fixture(autouse=True)
def _nothing_named() -> Iterator[None]:
    yield
    name_workspace(None)


def test_commands_stay_as_they_are_where_no_workspace_was_named() -> None:
    assert copyable("make it anew: `bench kb build x`") == "make it anew: `bench kb build x`"
    assert BenchError("it failed", "bench runs list").hint == "bench runs list"
    assert BenchError("it failed").hint is None


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("bench trace list", ["bench trace list"]),
        ("build it: `bench kb build x --source y`, then repeat", ["bench kb build x --source y"]),
        ("`bench versions list` or `bench demo`", ["bench versions list", "bench demo"]),
    ],
)
def test_every_command_names_the_workspace_that_the_user_named(
    text: str, commands: list[str]
) -> None:
    name_workspace(Path("my notes"))
    told = copyable(text)
    for command in commands:
        assert f"{command} --workspace 'my notes'" in told
    assert told.replace(" --workspace 'my notes'", "") == text
    assert shlex.split("x --workspace 'my notes'")[-1] == "my notes"


@pytest.mark.parametrize(
    "text",
    [
        "`bench data check 'rows.jsonl'` shows every line that is wrong",
        "`bench kb list --workspace other` shows all",
        "`ollama pull qwen` or `--data FOLDER`",
        "the bench stands in `the bench press room`",
        "bench and `press`",
    ],
)
def test_what_takes_no_workspace_or_is_no_command_is_left_alone(text: str) -> None:
    name_workspace(Path("w"))
    assert copyable(text) == text


def test_a_hint_that_is_handed_on_names_the_workspace_once() -> None:
    name_workspace(Path("w"))
    inner = BenchError("inner", "`bench kb list`")
    assert BenchError("outer", inner.hint).hint == "`bench kb list --workspace w`"
