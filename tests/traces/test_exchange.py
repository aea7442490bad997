from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domainlift.errors import Misuse
from domainlift.fields import Problem
from tests.helpers.made_traces import TOOL, call, made_trace, result, said, user
from traces.export_files import export_traces
from traces.formats.registry import FORMATS, read_traces
from traces.import_files import ImportedTraces, import_traces
from traces.store import TraceStore
from traces.trace import Rating, Trace, TraceStatus

SYSTEM = {"role": "system", "content": "Be short."}
NAMED = {**result("12 degrees", "c2"), "name": "weather"}
LONG = made_trace(
    SYSTEM, user(), said("", reasoning="Both?") | {"tool_calls": [
        *call()["tool_calls"], *call({"city": "Rome"}, id_="c2")["tool_calls"]]},
    result(), NAMED, said("4 and 12.", reasoning="Easy."), user("Thanks \u2028 <b>"), said("Ok."),
    id_="long",
)  # fmt: skip
PASSWORD = "hunt" + "er2x"


def imported(store: TraceStore, path: Path) -> ImportedTraces:
    return import_traces(store, path)


def written(tmp_path: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def problems(path: Path) -> list[tuple[int, str]]:
    return [(each.line, each.what) for each in read_traces(path) if isinstance(each, Problem)]


def content(trace: Trace) -> tuple[object, ...]:
    return trace.messages, trace.tools, trace.model, trace.status


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "trace",
    [
        made_trace(),
        LONG,
        made_trace(user(), said(), tools=()),
        made_trace(user(), status=TraceStatus.UNFINISHED),
        made_trace(user(), call(), status=TraceStatus.UNFINISHED),
        made_trace(user(), call(), result(), status=TraceStatus.UNFINISHED),
        made_trace(user(), call('{"broken'), result("error: no"), said()),
        made_trace(user(), call('{"b":1,  "a":2.50}'), result('{"json": [1]}'), said()),
        made_trace(user(""), said(" é\ud7ff\n")),
    ],
)
def test_a_trace_comes_back_as_it_went(tmp_path: Path, format_: str, trace: Trace) -> None:
    out = tmp_path / "out"
    export_traces([trace], out, format_)
    store = TraceStore(tmp_path / "other")
    found = imported(store, out)
    if format_ == "otel" and trace.messages == (user(),):
        assert found.ids == ()  # without a call of the model there is no span with messages
        return
    assert (found.ids, found.there, found.refused) == ((trace.id,), 0, ())
    assert content(store.read(trace.id)) == content(trace)
    assert store.read(trace.id).timestamp == trace.timestamp
    assert imported(store, out) == ImportedTraces((), 1, ())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(
    lambda text: "\ufeff" not in text
)
TURNS = st.one_of(
    st.builds(lambda text: [user(text)], TEXTS),
    st.builds(lambda text, thought: [said(text, thought)], TEXTS, TEXTS),
    st.builds(lambda given, text: [call({"x": given}), result(text)], st.integers() | TEXTS, TEXTS),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(TURNS, max_size=6), st.sampled_from(list(FORMATS)))
def test_any_messages_come_back(
    tmp_path_factory: pytest.TempPathFactory, turns: list[list[dict[str, Any]]], format_: str
) -> None:
    folder = tmp_path_factory.mktemp("traces")
    trace = made_trace(user("Go."), *(each for turn in turns for each in turn), said("Done."))
    export_traces([trace, made_trace(id_="other")], folder / "out", format_)
    found = [each for file in sorted((folder / "out").rglob("*")) or [folder / "out"]
             for each in read_traces(file)]  # fmt: skip
    assert [each.messages for each in found if isinstance(each, Trace)] == sorted(
        ([trace.messages, made_trace().messages]), key=lambda m: m == trace.messages,
        reverse=format_ != "sessions",
    )  # fmt: skip


def test_what_a_person_said_goes_along_in_sessions(tmp_path: Path) -> None:
    trace = made_trace(rating=Rating.GOOD, solved=True, task="How warm?", why="")
    export_traces([trace], tmp_path / "out", "sessions")
    header = json.loads((tmp_path / "out" / "t1.jsonl").read_text().splitlines()[0])
    assert (header["type"], header["harness"], header["id"]) == ("session", "bench", "t1")
    (found,) = read_traces(tmp_path / "out" / "t1.jsonl")
    assert found == trace


def test_own_files_are_sessions_too(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "a")
    store.add(made_trace(solved=False))
    store.rate("t1", Rating.GOOD)
    store.rate("t1", None)
    store.edit("t1", [user(), said("3 degrees.")])
    other = TraceStore(tmp_path / "b")
    assert imported(other, tmp_path / "a" / "traces").ids == ("t1",)
    assert other.read("t1").messages == (user(), said("3 degrees."))
    assert (other.read("t1").rating, other.read("t1").solved) == (None, False)


def test_the_example_of_the_hub_is_read(tmp_path: Path) -> None:
    asks = {"id": "t1", "function": {"name": "clock", "arguments": "{}"}}
    path = written(
        tmp_path,
        {"type": "session", "harness": "my-agent", "id": "abc123", "name": "the time"},
        {"type": "message", "message": {"role": "user", "content": "What time is it?"}},
        {"type": "message", "message": {"role": "assistant", "content": "", "toolCalls": [asks],
                                        "reasoningContent": "Look.", "model": "m"}},
        {"type": "note", "text": "of another kind"},
        {"type": "message", "message": {"role": "tool", "toolCallId": "t1", "content": "15:00"}},
        {"type": "message", "message": {"role": "assistant", "content": "It is 15:00."}},
    )  # fmt: skip
    (found,) = read_traces(path)
    assert isinstance(found, Trace)
    assert (found.id, found.harness, found.model, found.task) == (
        "abc123",
        "my-agent",
        "m",
        "the time",
    )
    assert (found.status, found.turns, found.called) == (TraceStatus.DONE, 1, {"clock": 1})
    assert found.messages[1]["reasoning_content"] == "Look."


def span(operation: str, at: int, **attributes: object) -> dict[str, Any]:
    named = {"gen_ai.operation.name": operation} | {
        "gen_ai." + key.replace("__", "."): value for key, value in attributes.items()
    }
    return {
        "traceId": "ab" * 16,
        "startTimeUnixNano": str(at),
        "attributes": [{"key": key, "value": otlp(value)} for key, value in named.items()],
    }


def otlp(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [otlp(each) for each in value]}}
    if isinstance(value, dict):
        pairs = [{"key": key, "value": otlp(each)} for key, each in value.items()]
        return {"kvlistValue": {"values": pairs}}
    return {"stringValue": value}


def request(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def parts(role: str, *given: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"role": role, "parts": list(given), **more}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


ASKS = {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}
TOLD = {"type": "tool_call_response", "id": "c1", "response": "4 degrees"}


def test_spans_of_one_conversation_become_one_trace(tmp_path: Path) -> None:
    question = parts("user", text("How warm?"))
    thought = parts("assistant", {"type": "reasoning", "content": "Ask."}, ASKS)
    given = {"system_instructions": [text("Be short.")], "input__messages": [question]}
    first = span("chat", 1, request__model="m", **given, output__messages=[thought])
    # The thought is not sent back; the results came in a message of the user, as with Anthropic.
    later = [question, parts("assistant", ASKS), parts("user", TOLD)]
    cut = parts("assistant", text("4."), finish_reason="length")
    second = span(
        "chat",
        3,
        system_instructions=json.dumps(given["system_instructions"]),
        input__messages=json.dumps(later),
        output__messages=json.dumps([cut]),
    )
    helper = span("chat", 2, input__messages=[parts("user", text("Summarise."))],
                  output__messages=[parts("assistant", text("Short."))])  # fmt: skip
    tool = span("execute_tool", 2, tool__name="weather")
    path = written(tmp_path, request(second, tool), request(helper, first))
    conversation, other = (each for each in read_traces(path) if isinstance(each, Trace))
    asked = said("", reasoning="Ask.") | {"tool_calls": call()["tool_calls"]}
    assert conversation.messages == (SYSTEM, user("How warm?"), asked, result(), said("4."))
    assert (conversation.status, conversation.id) == (TraceStatus.UNFINISHED, "ab" * 16)
    assert other.id == "ab" * 16 + "-2"
    assert other.messages == (user("Summarise."), said("Short."))


def test_spans_without_messages_or_with_images_are_named(tmp_path: Path) -> None:
    image = parts("user", {"type": "blob", "modality": "image", "content": "AAAA"})
    path = tmp_path / "spans.json"
    path.write_text(
        json.dumps(request(span("chat", 1), span("chat", 2, input__messages=[image])), indent=1)
    )
    first, second = problems(path)
    assert "were they recorded" in first[1]
    assert "neither text, thought, call nor result" in second[1]


@pytest.mark.parametrize(
    ("odd", "start"),
    [
        ({"system_instructions": 5}, 1),
        ({"system_instructions": "5"}, 1),
        ({"input__messages": [parts("user", {"type": ["text"], "content": "How warm?"})]}, 1),
        ({}, 10**30),
    ],
)
def test_a_span_that_cannot_be_read_is_named(tmp_path: Path, odd: Any, start: int) -> None:
    given: dict[str, Any] = {
        "input__messages": [parts("user", text("How warm?"))],
        "output__messages": [parts("assistant", text("4."))],
    }
    path = written(
        tmp_path, request(span("chat", start, **given | odd)), request(span("chat", 2, **given))
    )
    broken, whole = read_traces(path)
    assert isinstance(broken, Problem)
    assert "left out" in broken.what
    assert isinstance(whole, Trace)


@pytest.mark.parametrize("told", ["{not JSON", '{"t": 4, "t": 5}', "4 degrees"])
def test_the_result_of_a_last_call_may_be_any_text(tmp_path: Path, told: str) -> None:
    asked = {
        "input__messages": [parts("user", text("How warm?"))],
        "output__messages": [parts("assistant", ASKS)],
    }
    tool = span("execute_tool", 2, tool__call__id="c1", tool__call__result=told)
    (found,) = read_traces(written(tmp_path, request(span("chat", 1, **asked), tool)))
    assert isinstance(found, Trace)
    assert found.messages[-1]["content"] == told


def test_rows_of_tables_hold_messages_as_json(tmp_path: Path) -> None:
    row = {"messages": json.dumps(made_trace().messages), "tools": json.dumps([TOOL])}
    (found,) = read_traces(written(tmp_path, row))
    assert isinstance(found, Trace)
    assert (found.messages, found.tools) == (made_trace().messages, (TOOL,))


GOOD = {"messages": [user(), said()]}
DEEP: Any = json.loads("[" * 150 + "]" * 150)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "broken JSON"),
        ("[1]", "must be keys with values"),
        ('{"messages": []}', "is empty"),
        ('{"messages": [{"role": "robot"}]}', "unknown role"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "else than text"),
        ('{"messages": "no JSON"}', "not JSON"),
        (json.dumps({**GOOD, "tools": DEEP}), "nested too deeply"),
        (json.dumps({**GOOD, "tools": 3}), "must be a list of tools"),
        ("[" * 100_000, "nested too deeply"),
        ('{"id": 1, "id": 2}', "stands there twice"),
        ('{"messages": "\udcff"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_taken(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "rows.jsonl"
    lines = (json.dumps(GOOD), line, json.dumps({"messages": [user("b"), said()]}))
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    store = TraceStore(tmp_path)
    found = imported(store, path)
    assert len(found.ids) == 2
    ((file, problem),) = found.refused
    assert (file, problem.line) == (path, 2)
    assert why in problem.what


def test_a_damaged_session_is_left_out_as_a_whole(tmp_path: Path) -> None:
    header = {"type": "session", "harness": "x"}
    message = {"type": "message", "message": user()}
    path = written(
        tmp_path,
        {**header, "id": "a"}, message,
        {**header, "id": "b"}, message, {"type": "message", "message": {"role": "robot"}}, message,
        {**header, "id": "c"}, message, {"type": "message"},
        {**header, "id": "../d"}, {"type": "message", "message": user("d")},
    )  # fmt: skip
    assert [line for line, _ in problems(path)] == [5, 9]
    assert imported(TraceStore(tmp_path), path).ids == ("a", "d")


@pytest.mark.parametrize("given", ["", "hello\n", '{"question": "What?"}\n', "\n\n", "\0\0"])
def test_a_file_that_holds_no_traces_is_said_to(tmp_path: Path, given: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(given)
    assert len(problems(path)) == 1


def test_ids_are_made_where_they_cannot_name_a_file(tmp_path: Path) -> None:
    rows = [{**GOOD, "id": id_, "model": str(n)} for n, id_ in enumerate(("a/b c", "", "x", "x"))]
    found = imported(TraceStore(tmp_path), written(tmp_path, *rows))
    assert found.ids[0] == "a-b-c"
    assert found.ids[1].startswith("rows-")
    assert found.ids[2] == "x"
    assert found.ids[3].startswith("x-")


def test_a_folder_is_read_and_what_is_there_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    written(folder, GOOD)
    written(folder / "deep", GOOD, {"messages": [user("b"), said()]}, name="more.json")
    (folder / "notes.txt").write_text("no traces")
    store = TraceStore(tmp_path)
    found = imported(store, folder)
    assert (len(found.ids), found.there, found.refused) == (2, 1, ())
    store.drop(found.ids[0])
    assert imported(store, folder) == ImportedTraces((), 3, ())
    with pytest.raises(Misuse, match="no files"):
        imported(store, tmp_path / "missing")


def test_a_file_that_cannot_be_opened_is_one_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    closed = written(folder, GOOD, name="a.jsonl")
    written(folder, GOOD, name="b.jsonl")
    opened = Path.open

    def refuse(path: Path, *more: Any, **named: Any) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return opened(path, *more, **named)

    monkeypatch.setattr(Path, "open", refuse)
    found = imported(TraceStore(tmp_path), folder)
    assert (len(found.ids), found.refused) == (
        1,
        ((closed, Problem(1, "cannot be read: Permission denied")),),
    )


def test_secrets_are_masked_and_the_export_is_known_again(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.add(
        made_trace(user(f"password={PASSWORD}"), call({"password": PASSWORD}), result(), said())
    )
    for format_ in FORMATS:
        out = tmp_path / format_
        done = export_traces(list(store.all()), out, format_)
        assert (done.traces, done.masked) == (1, {"password": 1})
        files = [out] if out.is_file() else list(out.iterdir())
        assert all(PASSWORD not in file.read_text() for file in files)
        assert imported(store, out) == ImportedTraces((), 1, ())


def test_nothing_is_written_over_unasked(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("mine")
    with pytest.raises(Misuse, match="exists"):
        export_traces([made_trace()], path, "openai")
    assert path.read_text() == "mine"
    with pytest.raises(Misuse, match="no folder"):
        export_traces([made_trace()], path, "sessions", force=True)
    export_traces([made_trace()], path, "openai", force=True)
    assert json.loads(path.read_text())["id"] == "t1"
    with pytest.raises(Misuse, match="no trace"):
        export_traces([], tmp_path / "x", "openai")
