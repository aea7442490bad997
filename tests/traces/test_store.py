from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from domainlift.fields import InvalidRow
from traces.store import TraceStore
from traces.trace import Rating, Trace, TraceStatus, read_messages, read_trace_tools

USER = {"role": "user", "content": "How warm is it in Oslo?"}
CALL = {
    "role": "assistant",
    "content": "",
    "reasoning_content": "I have to ask.",
    "tool_calls": [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
        }
    ],
}
RESULT = {"role": "tool", "content": "4 degrees", "tool_call_id": "c1"}
SAID = {"role": "assistant", "content": "4 degrees."}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def trace(id_: str = "t1") -> Trace:
    messages = (USER, CALL, RESULT, SAID)
    return Trace(id_, "2026-11-27T10:00:00+00:00", "qwen", messages, (TOOL,), TraceStatus.DONE)


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.add(trace())
    found = store.get("t")
    assert found == trace()
    assert (found.turns, found.called) == (1, {"weather": 1})


def test_what_was_recorded_before_a_kill_is_there(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    recording = store.recording(Trace("t1", "", "qwen"))
    recorder = recording.__enter__()
    recorder.message(USER)
    recorder.message(CALL)
    recording.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with store.path("t1").open("a") as file:
        file.write('{"type": "message", "mess')
    found = store.get("t1")
    assert (found.messages, found.status) == ((USER, CALL), TraceStatus.UNFINISHED)
    store.rate("t1", Rating.BAD)
    assert store.get("t1").rating is Rating.BAD


def test_the_last_word_counts_and_nothing_is_lost(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.add(trace())
    store.rate("t1", Rating.GOOD)
    store.rate("t1", None)
    store.edit("t1", [USER, SAID])
    store.drop("t1")
    found = store.read("t1")
    assert (found.rating, found.messages, found.edited) == (None, (USER, SAID), True)
    assert list(store.all()) == []
    assert list(store.all(dropped=True)) == [found]
    assert "I have to ask." in store.path("t1").read_text()


def test_ids_stay_in_the_folder_and_are_unique(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.add(trace())
    with pytest.raises(BenchError, match="already"):
        store.add(trace())
    with pytest.raises(InvalidRow):
        store.add(trace("../t2"))
    for name in ("", "../t1", "t2"):
        with pytest.raises(NoSuch):
            store.get(name)
    store.add(trace("t12"))
    assert (store.get("t1").id, store.get("t12").id) == ("t1", "t12")
    with pytest.raises(Misuse, match="`t` is the beginning of 2 traces"):
        store.get("t")


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.add(trace())
    for line in ('{"type": "message", "message": {"role": "robot"}}', '{"type": "what"}', "[]"):
        with store.path("t1").open("r+") as file:
            kept = file.readlines()[:1]
            file.seek(0)
            file.truncate()
            file.writelines([*kept, line + "\n"])
        with pytest.raises(Malformed, match=":2"):
            store.read("t1")


def test_a_copied_file_is_a_trace_of_its_own(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.add(trace())
    copy = store.path("t2")
    copy.write_bytes(store.path("t1").read_bytes())
    assert [each.id for each in store.all()] == ["t1", "t2"]


def test_what_cannot_be_read_is_told_and_the_others_are_there(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    for id_ in ("a", "b", "c", "d"):
        store.add(trace(id_))
    store.path("a").write_bytes(b"\xff\xfe\n")
    store.path("c").unlink()
    store.path("c").mkdir()
    told: list[Malformed] = []
    assert [each.id for each in store.all(told.append)] == ["b", "d"]
    assert [error.what.removeprefix(str(tmp_path)) for error in told] == [
        "/traces/a.jsonl:1: not a line of a trace",
        "/traces/c.jsonl: cannot be read: Is a directory",
    ]
    # What is said to mend it does.
    for error in told:
        subprocess.run(["sh", "-c", str(error.hint).split("`")[1]], check=True)
    assert [each.id for each in store.all()] == ["b", "d"]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"role": "developer", "content": "Be short."}, {"role": "system", "content": "Be short."}),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"role": "user", "content": "ab"},
        ),
        (
            {"role": "assistant", "content": None, "reasoning": "hm"},
            {"role": "assistant", "content": "", "reasoning_content": "hm"},
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
            },
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"x": 1}'},
                    }
                ],
            },
        ),
    ],
)
def test_messages_of_others_get_one_form(given: dict[str, object], read: dict[str, object]) -> None:
    assert read_messages([given]) == (read,)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("hello", "not JSON"),
        (1, "must be a list"),
        ([1], "message 1"),
        ([{"role": "robot"}], "unknown role `robot`"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "something else than text"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "no `name`"),
    ],
)
def test_what_is_no_message_is_refused(given: object, why: str) -> None:
    with pytest.raises(InvalidRow, match=why):
        read_messages(given)


def test_bare_functions_are_tools() -> None:
    assert read_trace_tools([{"name": "f"}]) == ({"type": "function", "function": {"name": "f"}},)
    assert read_trace_tools("[]") == ()
    with pytest.raises(InvalidRow, match="tool 1"):
        read_trace_tools([{"type": "function"}])
